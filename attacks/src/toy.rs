//! A linear model of any number of classes with faults to switch on, and one call that runs an attack on it.

use crate::resolve;
use candle_core::{DType, Device, Tensor};
use robust_core::{
    Batch, Card, Draw, Finding, Input, Model, Oracle, Output, Question, Result, RowKey, Site, Stop, TapId, Target,
    Trace, to_host,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// z = W x + b in `[0,1]`. Rows are summed one by one, so that a row's bits do not depend on its neighbours.
pub struct Toy {
    pub card: Card,
    pub w: Vec<Vec<f32>>,
    pub b: Vec<f32>,
    /// Points whose first entry lies in here get NaN.
    pub broken: std::ops::Range<f32>,
    /// Answers in f16.
    pub half: bool,
    /// Standard deviation of score noise.
    pub noise: f32,
    pub rows: AtomicU64,
    pub pulls: AtomicU64,
}

impl Toy {
    pub fn new(classes: usize, input: Input) -> Self {
        let keys: Vec<RowKey> = (0..classes as u64).map(RowKey::of).collect();
        let draw = Draw { seed: 3, stream: 0, turn: 0, rows: &keys };
        let w = to_rows(&draw.normal(&[input.len()], &Device::Cpu).unwrap());
        // Centred where pixels are, so that no class wins everywhere.
        let b = w.iter().map(|w| -0.5 * w.iter().sum::<f32>()).collect();
        let card = Card::new("toy", input, Output::Logits { k: classes });
        let (rows, pulls) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { card, w, b, broken: 2. ..2., half: false, noise: 0., rows, pulls }
    }

    fn scores(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.rows.fetch_add(x.dim(0)? as u64, SeqCst);
        let mut z = vec![];
        for (x, key) in to_rows(x).iter().zip(draw.rows) {
            let mut noise = draw.noise(key);
            let bad = self.broken.contains(&x[0]);
            for (w, b) in self.w.iter().zip(&self.b) {
                let sum: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                z.push(if bad { f32::NAN } else { sum + b + self.noise * noise.normal() });
            }
        }
        let z = Tensor::from_vec(z, (x.dim(0)?, self.w.len()), x.device())?;
        Ok(if self.half { z.to_dtype(DType::F16)? } else { z })
    }

    /// The classes it says, without noise, and their scores.
    pub fn labels(&self, x: &Tensor) -> (Vec<u32>, Vec<Vec<f32>>) {
        let keys = vec![RowKey::of(0); x.dim(0).unwrap()];
        let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
        let quiet = Toy { noise: 0., ..Toy::new(self.w.len(), self.card.input.clone()) };
        let z = to_rows(&quiet.scores(x, &draw).unwrap());
        (z.iter().map(|z| robust_core::argmax(z).unwrap()).collect(), z)
    }
}

fn to_rows(x: &Tensor) -> Vec<Vec<f32>> {
    let (flat, width) = to_host(x).unwrap();
    flat.chunks(width).map(<[f32]>::to_vec).collect()
}

struct Pull<'a>(&'a Toy, Tensor, Vec<usize>);

impl Trace for Pull<'_> {
    fn output(&self) -> &Tensor {
        &self.1
    }
    fn tap(&self, _: TapId) -> Result<&Tensor> {
        Err(robust_core::Error::internal("no taps"))
    }
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        assert_eq!(seeds[0].1.dtype(), self.1.dtype());
        let seeds = to_rows(&seeds[0].1.to_dtype(DType::F32)?);
        self.0.pulls.fetch_add(seeds.len() as u64, SeqCst);
        let width = self.0.w[0].len();
        let row = |s: &Vec<f32>| -> Vec<f32> {
            (0..width).map(|i| s.iter().zip(&self.0.w).map(|(s, w)| s * w[i]).sum()).collect()
        };
        let dx = Tensor::from_vec(seeds.iter().flat_map(row).collect::<Vec<_>>(), self.2.as_slice(), &Device::Cpu)?;
        Ok(dx.to_dtype(self.1.dtype())?)
    }
}

impl Model for Toy {
    fn card(&self) -> &Card {
        &self.card
    }
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.scores(x, draw)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, _: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        Ok(Box::new(Pull(self, self.scores(x, draw)?, x.dims().to_vec())))
    }
}

/// Uniform points for these samples.
pub fn images(ids: &[u64], input: &Input) -> Batch {
    let keys: Vec<RowKey> = ids.iter().copied().map(RowKey::of).collect();
    let x = Draw { seed: 9, stream: 7, turn: 0, rows: &keys }.uniform(0., 1., &input.shape, &Device::Cpu).unwrap();
    Batch::new(ids.to_vec(), x, None).unwrap()
}

/// Runs an attack on points that the model gets right.
pub fn run(text: &str, target: &Target, model: &Toy, batch: &Batch) -> Result<Vec<Finding>> {
    let ready = resolve(text, &model.card)?;
    let (labels, clean) = model.labels(&batch.x);
    let question = Question {
        target,
        threat: &ready.threat,
        batch,
        goal: ready.attack.aim(&labels, &clean)?,
        clean: &clean,
        seed: 1,
        path: &ready.path,
        stop: if ready.attack.minimises() { Stop::Nearest } else { Stop::AtFirst },
        budget: ready.budget,
        at_once: 64,
    };
    let mut oracle = Oracle::new(question)?;
    ready.attack.run(&mut oracle)?;
    oracle.finish()
}

/// The same with the model itself as the target.
pub fn attack(text: &str, model: Toy, batch: &Batch) -> Vec<Finding> {
    let model = Arc::new(model);
    run(text, &Target::white_box(model.clone()), &model, batch).unwrap()
}
