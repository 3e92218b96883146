//! `robust calibration`: whether a model's confidence is what it says.

use super::{Answer, STOP, load, machine, pick, print, print_data};
use robust::benchmarks::data;
use robust::calibration::{judge, report, to_text};
use robust::classes::check_labels;
use robust::core::{Error, Kind, Result};
use robust::progress::Counter;
use robust::say;
use std::sync::atomic::Ordering::SeqCst;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  robust calibration --model net.onnx --dataset folder:val
  robust calibration --model net.onnx --dataset folder:imagenet-a --seen-classes
  robust calibration --model net.onnx --dataset folder:val200 --strangers folder:imagenet-o --seen-classes")]
pub struct Args {
    /// Model: a file (.onnx, .safetensors, .pth), a Hugging Face folder or builtin:NAME
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Labelled data set, as of `robust eval`
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: String,
    /// Images of no class the model knows (ImageNet-O): how well a low confidence tells them apart
    #[arg(long, value_name = "DATA")]
    strangers: Option<String>,
    /// Score only the classes that the labels of --dataset name, as ImageNet-A, -O and -R are scored
    #[arg(long)]
    seen_classes: bool,
    #[command(flatten)]
    pick: pick::Options,
    /// Threads to compute on (default: all)
    #[arg(long, value_name = "N", env = "ROBUST_THREADS")]
    threads: Option<usize>,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Answer,
    /// No progress
    #[arg(long)]
    no_progress: bool,
}

pub fn run(args: &Args) -> Result<()> {
    machine::set_threads(args.threads)?;
    let mut loaded = [load::classifier(&args.model)?];
    let specs = [args.model.clone()];
    load::tell_notes(&loaded[0]);
    let (_, known) = load::data_for(&args.dataset, &mut loaded, &specs, false)?;
    let model = loaded[0].model.as_ref();
    let strange = args.strangers.as_deref().map(data::open).transpose()?;
    let (ids, _) = args.pick.choose(known.as_ref())?;
    load::scores(&loaded, &specs).iter().try_for_each(|scores| check_labels(known.as_ref(), &ids, scores))?;
    let others: Vec<u64> = strange.iter().flat_map(|d| 0..d.card().samples).collect();
    let counter = Counter::new((ids.len() + others.len()) as u64, args.no_progress);
    let tick = |n: usize| {
        counter.add(n as u64);
        if STOP.load(SeqCst) { Err(Error::new(Kind::Interrupted, "stopped before the end")) } else { Ok(()) }
    };
    let judged = judge(model, known.as_ref(), &ids, tick)?;
    let strangers = strange.as_ref().map(|d| judge(model, d.as_ref(), &others, tick)).transpose()?;
    drop(counter);
    load::tell_remarks(known.as_ref());
    for (id, why) in judged.failed.iter().take(3) {
        say(&format!("warning: sample {id} is left out: {why}"));
    }
    let report = report(model, &judged, strangers.as_ref(), args.seen_classes)?;
    match args.format {
        Answer::Text => print(&to_text(&report)),
        Answer::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|e| Error::internal(format!("report: {e}")))?;
            print_data(&(text + "\n"))
        }
    }
}
