//! `robust calibration`: whether a model's confidence is what it says.

use super::interrupt::STOP;
use super::output::{Answer, print, print_data};
use super::progress::{self, Counter, Terminal};
use super::{machine, pick};
use robust::benchmarks::data;
use robust::core::{Error, Kind, Result};
use robust::corruption::calibration::{judge, report, to_text};
use robust::eval::load::{self, Wanted};
use robust::eval::{Evaluation, Opened};
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
    #[command(flatten)]
    threads: machine::Threads,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Answer,
    #[command(flatten)]
    progress: progress::Options,
}

pub fn run(args: &Args) -> Result<()> {
    args.threads.set()?;
    let mut terminal = Terminal::quiet();
    let pick = args.pick.pick()?;
    let evaluation = Evaluation::new().model(&args.model).data(&args.dataset).pick(pick);
    let opened = evaluation.open(Wanted::Scores, false, &mut terminal)?;
    let strange = args.strangers.as_deref().map(data::open).transpose()?;
    opened.check_labels(&opened.ids)?;
    let Opened { models, data: known, ids, .. } = opened;
    let model = models.loaded[0].model.as_ref();
    let others: Vec<u64> = strange.iter().flat_map(|d| 0..d.card().samples).collect();
    let counter = Counter::new((ids.len() + others.len()) as u64, &args.progress);
    let tick = |n: usize| {
        counter.add(n as u64);
        if STOP.load(SeqCst) { Err(Error::new(Kind::Interrupted, "stopped before the end")) } else { Ok(()) }
    };
    let judged = judge(model, known.as_ref(), &ids, tick)?;
    let strangers = strange.as_ref().map(|d| judge(model, d.as_ref(), &others, tick)).transpose()?;
    drop(counter);
    load::tell_remarks(known.as_ref(), &mut terminal);
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
