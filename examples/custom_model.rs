//! Your own candle `Module` under attack, through the library.
//!
//! `cargo run --release --example custom_model`
//!
//! The adapter checks the gradient at start-up: candle 0.11's own `max_pool2d` is wrong by a factor and its fused
//! `softmax_last_dim` and `layer_norm` cut the graph silently, which would make any model look robust. The second model
//! below has that fault and is refused.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use candle_core::{DType, Device, IndexOp, Module, Result as CandleResult, Tensor};
use robust::benchmarks::data;
use robust::benchmarks::subset::Pick;
use robust::core::{Input, Kind, Output, Result, View};
use robust::engine::ModuleModel;
use robust::eval::{Evaluation, Models, Quiet};
use robust::report::is_worst;
use std::sync::Arc;

/// Nearest class mean in pixel space: z_k = 2 m_k x - |m_k|^2, a linear model made from a few images.
struct NearestMean {
    means: Tensor,
}

impl NearestMean {
    fn fit(x: &Tensor, labels: &[u32]) -> CandleResult<Self> {
        let flat = x.flatten_from(1)?;
        let mean_of = |class: u32| {
            let rows: Vec<u32> = (0..labels.len() as u32).filter(|&i| labels[i as usize] == class).collect();
            flat.index_select(&Tensor::new(rows, x.device())?, 0)?.mean(0)
        };
        Ok(Self { means: Tensor::stack(&(0..10).map(mean_of).collect::<CandleResult<Vec<_>>>()?, 0)? })
    }
}

impl Module for NearestMean {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let scores = x.flatten_from(1)?.matmul(&self.means.t()?)?.affine(2., 0.)?;
        scores.broadcast_sub(&self.means.sqr()?.sum(1)?)
    }
}

/// The same model behind a layer that cuts candle's graph.
struct Masked(NearestMean);

impl Module for Masked {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        candle_nn::ops::softmax_last_dim(&self.0.forward(x)?)?.log()
    }
}

fn main() -> Result<()> {
    let input = Input::image(1, 28, 28);
    let view = View::from(input.clone());
    let digits = data::open("builtin:mnist")?;
    let load = |ids: std::ops::Range<u64>| digits.load(&ids.collect::<Vec<_>>(), &view, &Device::Cpu);
    let (Some(train), Some(test)) = (load(0..500)?.batch, load(500..700)?.batch) else { return Ok(()) };
    let labels = train.labels.clone().unwrap_or_default();
    let sample = test.x.i(0..4)?.to_dtype(DType::F32)?;
    let wrap = |m: NearestMean| ModuleModel::new(m, "nearest-mean", input.clone(), Output::Logits { k: 10 }, &sample);
    let model = wrap(NearestMean::fit(&train.x, &labels)?)?;

    // Journalled and resumable as any other run: the same call again goes on where it was left. The command cannot load this
    // model, so `robust verify` cannot judge the run again; `robust::eval::verify` can, given the model.
    let evaluation = Evaluation::new()
        .data("builtin:mnist")
        .pick(Pick::Ids((500..700).collect()))
        .attack("uniform-noise:eps=0.1")
        .attack("fgsm:eps=0.1")
        .attack("pgd:eps=0.1")
        .attack("pgd-l2:eps=1.5");
    let finished = evaluation.prepare_with(Models::own(vec![Arc::new(model)])?, &mut Quiet)?.run(&mut Quiet)?;
    for row in finished.run.rows.iter().filter(|r| !is_worst(&r.attack)) {
        let (low, high) = row.robust_interval;
        println!("{:24} {:3} of {} held ({:.1} % - {:.1} %)", row.attack, row.held, row.n, 100. * low, 100. * high);
    }
    println!("run folder: {}", finished.run.root.display());

    let masked = Masked(NearestMean::fit(&train.x, &labels)?);
    match ModuleModel::new(masked, "masked", input, Output::Logits { k: 10 }, &sample) {
        Err(error) if error.kind == Kind::Load => println!("\nrefused, as it should be: {error}"),
        Err(error) => return Err(error),
        Ok(_) => println!("\nthe masked model was not refused"),
    }
    Ok(())
}
