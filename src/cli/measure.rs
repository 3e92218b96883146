//! `robust measure`: what an encoder's embeddings are like, and how far a disturbance moves them.

use super::interrupt::STOP;
use super::output::{Answer, print, print_data};
use super::progress::{self, Counter, Terminal};
use super::{machine, pick};
use robust::benchmarks::data;
use robust::core::{Error, Kind, Norm, Result, Value};
use robust::encoder::heads::{self, Training};
use robust::encoder::measure::{Settings, measure, of_head};
use robust::encoder::measured::to_text;
use robust::eval::load::Wanted;
use robust::eval::{Evaluation, Opened, memory_estimate};
use std::sync::atomic::Ordering::SeqCst;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  robust measure --model ./dinov2-small --dataset folder:val --limit 200 --eps 4/255
  robust measure --model 'simclr.safetensors?output=features' --dataset mnist:data --limit 500 --eps 0.1
  robust measure --model 'simclr.safetensors?output=features' --dataset mnist:data --limit 500 --eps 0.1 \\
                 --train mnist:data?split=train --train-limit 5000 --attack pgd-linf:eps=0.05 --format json

Uniformity and effective rank need no labels; nor does the displacement under noise and PGD of growing strength, with the share of
samples whose nearest other sample changes. The RMQM-style number is the mean step from level to level over 1 + its coefficient
of variation, in lengths of a clean embedding; it is named after RMQM and is not its formula. With --train the error of
a head is taken apart: on its own samples, on held-out training samples, on new ones.")]
pub struct Args {
    /// An encoder: a folder with a config.json, or any model with `?output=features`
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Data set, as of `robust eval`; labels are used where there are some
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: String,
    #[command(flatten)]
    pick: pick::Options,
    /// The largest disturbance, in units of pixels in `[0,1]`, such as 4/255
    #[arg(long, default_value = "8/255", value_name = "EPS", value_parser = parse_eps)]
    eps: f64,
    /// Its norm: linf, l2 or l1
    #[arg(long, default_value = "linf", value_name = "NORM")]
    norm: String,
    /// Equal steps from nothing to --eps
    #[arg(long, default_value_t = 4, value_name = "K")]
    levels: u32,
    /// Steps of PGD at each level
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: u64,
    /// How many neighbours vote
    #[arg(long, default_value_t = 20)]
    k: usize,
    /// A vote is exp(cosine / temperature)
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
    /// Labelled images to fit a head on, whose error on --dataset is then taken apart
    #[arg(long, value_name = "DATA")]
    train: Option<String>,
    /// Fit on so many of them
    #[arg(long, value_name = "N", requires = "train")]
    train_limit: Option<u64>,
    /// The head: linear, sgd, prototypes, bayes or knn, with parameters as of `eval --probe`
    #[arg(long, default_value = "linear", value_name = "HEAD", requires = "train")]
    head: String,
    /// Take the error apart under this attack too
    #[arg(long, value_name = "ATTACK", requires = "train")]
    attack: Option<String>,
    /// Seed of all noise
    #[arg(long, default_value_t = 0, value_name = "S", env = "ROBUST_SEED")]
    seed: u64,
    #[command(flatten)]
    threads: machine::Threads,
    #[command(flatten)]
    memory: machine::Memory,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Answer,
    #[command(flatten)]
    progress: progress::Options,
}

/// Samples attacked at once where memory allows.
const BATCH: usize = 64;

fn parse_eps(text: &str) -> std::result::Result<f64, String> {
    let number = Value::parse(text).and_then(|v| v.number("eps")).ok();
    number
        .filter(|v| v.is_finite() && *v > 0.)
        .ok_or_else(|| "it is a positive number such as 0.1 or 8/255".to_string())
}

pub fn run(args: &Args) -> Result<()> {
    args.threads.set()?;
    args.attack.as_deref().map_or(Ok(()), robust::attacks::check)?;
    let norm: Norm = args.norm.parse()?;
    if norm == Norm::L0 {
        return Err(Error::usage("noise and PGD do not work in L0").hint("norms are linf, l2 and l1"));
    }
    let asked = heads::parse(std::slice::from_ref(&args.head))?;
    let [head] = &asked[..] else { return Err(Error::usage(format!("`{}` is not one head", args.head))) };
    let mut terminal = Terminal::quiet();
    let evaluation = Evaluation::new().model(&args.model).data(&args.dataset).pick(args.pick.pick()?);
    let Opened { models, data, ids, .. } = evaluation.open(Wanted::Embeddings, false, &mut terminal)?;
    let [encoder] = &models.loaded[..] else { return Err(Error::internal("one encoder was asked for")) };
    let Args { eps, levels, steps, k, temperature, seed, .. } = *args;
    let batch = memory_estimate::batch(args.memory.limit(), BATCH, &models.loaded, &mut terminal)?;
    let settings = Settings { norm, eps, levels, steps, k, temperature, seed, batch };
    let counter = Counter::new(ids.len() as u64, &args.progress);
    let tick = |n: usize| {
        counter.add(n as u64);
        if STOP.load(SeqCst) { Err(Error::new(Kind::Interrupted, "stopped before the end")) } else { Ok(()) }
    };
    let mut report = measure(encoder, data.as_ref(), &ids, &settings, tick)?;
    drop(counter);
    if let Some(train) = &args.train {
        let set = data::open(train)?;
        let on = Training { source: train, data: set.as_ref(), limit: args.train_limit };
        let attack = args.attack.as_deref();
        report.head = Some(of_head(encoder, (&head.text, &head.method), &on, (data.as_ref(), &ids), attack, seed)?);
    }
    match args.format {
        Answer::Text => print(&to_text(&report)),
        Answer::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|e| Error::internal(format!("report: {e}")))?;
            print_data(&(text + "\n"))
        }
    }
}
