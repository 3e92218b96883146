//! `robust sequences`: how steady predictions are while an image changes frame by frame.

use super::interrupt::STOP;
use super::output::{Answer, print, print_data};
use super::progress::{self, Counter, Terminal};
use super::{machine, pick};
use robust::benchmarks::corruptions::sequences::{OTHERS, SCORED, scored};
use robust::benchmarks::data;
use robust::core::{Error, Kind, Result, nearest};
use robust::corruption::sequences::{Job, Journal, Report, report};
use robust::eval::load;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  robust sequences --model cifar.safetensors --dataset cifar10:cifar-10-python.tar.gz --limit 500
  robust sequences --model net.onnx --dataset 'folder:val?resize=256&crop=256' --limit 200 --out p/net
  robust sequences --model net.onnx --dataset 'folder:val?resize=256&crop=256' --limit 200 --reference p/alexnet

Flip probability, top-5 and Zipf distance as of CIFAR-10-P (models of 3x32x32) and ImageNet-P (3x224x224), over frames
made here: comparable with runs over the same data and seed, not with numbers over the published videos.")]
pub struct Args {
    /// Model: a file (.onnx, .safetensors, .pth), a Hugging Face folder or builtin:NAME
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Data set, as of `robust eval`; for ImageNet's sequences of 256x256
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: String,
    /// Sequences joined by +, such as rotate+tilt [default: the ten that the published programs score]
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    #[command(flatten)]
    pick: pick::Options,
    /// Seed of all draws
    #[arg(long, default_value_t = 0, value_name = "S", env = "ROBUST_SEED")]
    seed: u64,
    /// Folder to write to: every prediction sample by sample, then the report
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with what --out holds
    #[arg(long, requires = "out")]
    resume: bool,
    /// A folder of another model over the same samples: mFR and mT5D are relative to it
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
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
    let only = args.only.as_deref().map(names).transpose()?;
    let reference = args.reference.as_deref().map(Report::open).transpose()?;
    let loaded = load::classifier(&args.model)?;
    load::tell_notes(&loaded, &mut Terminal::quiet());
    let data = data::open(&args.dataset)?;
    let ids = args.pick.choose(data.as_ref())?;
    let small = loaded.card.input.shape.last() == Some(&32);
    let names = only.unwrap_or_else(|| scored(small).map(String::from).to_vec());
    let job = Job { model: loaded.model.as_ref(), data: data.as_ref(), ids: &ids, names: &names, seed: args.seed };
    let identity = job.identity()?;
    let (mut journal, mut samples) = match &args.out {
        Some(root) => {
            let (journal, samples) = Journal::open(root, &identity, args.resume)?;
            (Some(journal), samples)
        }
        None => (None, vec![]),
    };
    let counter = Counter::new(ids.len() as u64, &args.progress);
    counter.add(samples.len() as u64);
    for &id in &ids[samples.len().min(ids.len())..] {
        if STOP.load(SeqCst) {
            let error = Error::new(Kind::Interrupted, format!("stopped after {} of {}", samples.len(), ids.len()));
            return Err(match args.out {
                Some(_) => error.hint("--resume with the same options continues"),
                None => error.hint("with --out DIR it could be resumed"),
            });
        }
        let sample = job.walk(&identity, id)?;
        if let Some(journal) = &mut journal {
            journal.line(&sample)?;
        }
        samples.push(sample);
        counter.add(1);
    }
    drop(counter);
    let mut report = report(identity, &samples);
    if let Some(root) = &args.out {
        report.write(root)?;
    }
    if let Some(reference) = &reference {
        report.against(reference)?;
    }
    match args.format {
        Answer::Text => print(&report.text()),
        Answer::Json => print_data(&report.json()?),
    }
}

fn names(only: &str) -> Result<Vec<String>> {
    let known = || SCORED.into_iter().chain(OTHERS);
    let mut names: Vec<String> = vec![];
    for name in only.split('+').map(str::trim) {
        if !known().any(|k| k == name) {
            return Err(Error::usage(format!("no sequence is called `{name}`")).hint(match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => known().collect::<Vec<_>>().join(", "),
            }));
        }
        if names.iter().any(|n| n == name) {
            return Err(Error::usage(format!("`{name}` is named twice")));
        }
        names.push(name.to_string());
    }
    Ok(names)
}
