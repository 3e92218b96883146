//! `robust eval`: what was asked as an evaluation, and its end as tables.

use super::output::{Format, print};
use super::progress::{self, Terminal};
use super::{corrupt, heads, machine, pick, target};
use robust::core::{AimSpec, Error, Kind, Result};
use robust::eval::plan::{self, Keep};
use robust::eval::shard::Shard;
use robust::eval::{Device, Evaluation, Finished, Folder, Forecast, Watcher, stages};
use robust::report::{self, encoders};
use robust::{doctor, escape, say};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Model: a file (.onnx, .onnx.gz, .safetensors, .pth) or builtin:NAME, with [name=] before and ?key=value after it, or several as
    /// one, ensemble:A+B+C?key=value (see below); repeatable
    #[arg(long, required = true, value_name = "MODEL")]
    model: Vec<String>,
    /// Data set: builtin:mnist, mnist:DIR, cifar10:PATH, folder:PATH, wds:TAR, npz:FILE, npy:IMAGES,LABELS, ...: `robust list datasets`
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: Option<String>,
    /// Attack: name:key=value,... such as pgd-linf:eps=8/255,steps=40, or file:POINTS,eps=... to judge examples made elsewhere; repeatable
    #[arg(long, required_unless_present = "corruptions", value_name = "ATTACK")]
    attack: Vec<String>,
    #[command(flatten)]
    corruption: corrupt::Options,
    /// For bare encoders, without labels: away[:cosine=C|:l2=D] from the clean embedding, or towards another sample's; without a
    /// number the threshold comes from the data (see below)
    #[arg(long, value_name = "GOAL", conflicts_with = "corruptions")]
    goal: Option<String>,
    #[command(flatten)]
    heads: heads::Options,
    #[command(flatten)]
    pick: pick::Options,
    /// Samples attacked at once, 1 to 64; never changes a result
    #[arg(long, default_value_t = plan::UNIT, value_name = "B", env = "ROBUST_BATCH_SIZE")]
    batch_size: usize,
    /// Seed of all noise
    #[arg(long, default_value_t = 0, value_name = "S", env = "ROBUST_SEED")]
    seed: u64,
    #[command(flatten)]
    target: target::Options,
    /// Where to compute: auto or cpu (this build has no other device)
    #[arg(long, default_value = "auto", value_name = "DEVICE", env = "ROBUST_DEVICE")]
    device: String,
    #[command(flatten)]
    threads: machine::Threads,
    #[command(flatten)]
    memory: machine::Memory,
    /// Run folder (default: runs/ and a name made of models, data and settings; continued if it exists)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run in --out
    #[arg(long)]
    resume: bool,
    /// Which adversarial points to keep
    #[arg(long, default_value = "fooled", value_name = "WHICH", value_parser = parse_keep)]
    evidence: Keep,
    /// Samples that may fail to be judged before the exit code says so
    #[arg(long, default_value_t = 0, value_name = "N")]
    allow_failed: u64,
    /// Do only shard K of N (from 1), or `auto`: what the job array, MPI launcher or CI matrix says; join with `robust merge`
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Number of shards, where --shard auto cannot know it
    #[arg(long, value_name = "N", requires = "shard")]
    shards: Option<u64>,
    #[command(flatten)]
    limits: machine::Limits,
    /// Print the plan with the most passes it can cost, and stop
    #[arg(long)]
    dry_run: bool,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Format,
    /// Skip the doctor, which looks at a few samples for wrong loading and masked gradients (`robust doctor` looks further); the grade is then `unchecked`
    #[arg(long)]
    no_doctor: bool,
    #[command(flatten)]
    progress: progress::Options,
}

const AFTER: &str = "\
Examples:
  robust eval --model builtin:mnist-at --attack pgd-linf:eps=0.3,steps=40
  robust eval --model builtin:mnist-std --model builtin:mnist-at --attack fgsm --attack pgd --format csv
  robust eval --model builtin:mnist-std --corruptions mnist-c
  robust eval --model wrn=net.safetensors?arch=cifar-resnet --dataset folder:test --attack pgd-l2:eps=0.5 --limit 1000
  robust eval --model ./dinov2-small --dataset folder:val --attack pgd-linf:eps=4/255 --goal away:cosine=0.5
  robust eval --model a=simclr.safetensors?output=features --model b=sup.safetensors?output=features --probe knn,linear
              --train mnist:data?split=train --dataset mnist:data --attack pgd-linf:eps=0.1 --out runs/encoders

Ensembles: ensemble:A+B+C is one network whose scores are the logarithm of the mean of the members' probabilities, or with
?scores=probabilities that mean itself, with ?scores=logits the mean of their logits. Mixtures of an accurate and a robust member
(adaptive-smoothing, mixednuts, mixednuts-bypassed, with mix=) are in docs/encoders.md. Parameters after ? are all members';
[A?key=value] has its own. One * in a file's name stands for all that fit: 'ensemble:dir/Chen2020Adversarial.pt_m*.pt?mean=..'.

Goals without labels: with --goal away a sample is fooled when the cosine of its embedding and the clean one's is below the
threshold (or their distance above it, l2); with --goal towards, when its embedding comes that near to the one of another
sample, chosen by seed and id. Thresholds left open are the median similarity of two different samples (away: the image is a
stranger to itself) and of a sample to its nearest other one (towards: it is taken for a neighbour), among 128 of the run.
They differ between encoders; say a number to compare encoders at one.";

fn parse_keep(text: &str) -> std::result::Result<Keep, String> {
    match text {
        "all" => Ok(Keep::All),
        "fooled" => Ok(Keep::Fooled),
        "none" => Ok(Keep::None),
        _ => Err("it is all, fooled or none".to_string()),
    }
}

impl Args {
    /// What the options ask for.
    ///
    /// # Errors
    /// Kind `Usage` for values that make no sense, kind `Load` for a file of ids that cannot be read.
    pub fn evaluation(&self) -> Result<Evaluation> {
        let device: Device = self.device.parse()?;
        Ok(Evaluation {
            models: self.model.clone(),
            data: self.dataset.clone(),
            attacks: self.attack.clone(),
            corruptions: self.corruption.suites(),
            goal: self.goal.as_deref().map(AimSpec::parse).transpose()?,
            heads: self.heads.set()?,
            judging: self.target.judging(),
            pick: self.pick.pick()?,
            seed: self.seed,
            device,
            batch_size: self.batch_size,
            memory: self.memory.limit(),
            folder: match (&self.out, self.resume) {
                (None, _) => Folder::Named,
                (Some(out), false) => Folder::New(out.clone()),
                (Some(out), true) => Folder::Resume(out.clone()),
            },
            evidence: self.evidence,
            shard: self.shard.as_ref().map(|s| Shard::parse(s, self.shards, &|v| std::env::var(v).ok())).transpose()?,
            max_minutes: self.limits.max_minutes(),
            doctor: !self.no_doctor,
            ..Evaluation::default()
        })
    }

    /// # Errors
    /// Kind `Usage` for a number of threads that makes no sense.
    pub fn set_threads(&self) -> Result<()> {
        self.threads.set()
    }
}

pub fn run(args: &Args) -> Result<()> {
    args.set_threads()?;
    let mut terminal = Terminal::new(&args.progress);
    let prepared = args.evaluation()?.prepare(&mut terminal)?;
    if args.dry_run {
        return print(&describe(&prepared.forecast()?));
    }
    let finished = prepared.run(&mut terminal)?;
    conclude(args, &finished, &mut terminal)
}

/// The plan in words: passes at most, the time they would take at the speed of a few of them, and the evidence's size.
fn describe(forecast: &Forecast) -> String {
    let (n, all) = forecast.samples;
    let mut text = format!("{n} of {all} samples of {}\n", forecast.data);
    for p in &forecast.passes {
        text += &format!("{} {}: at most {} forwards, {} backwards\n", p.model, p.attack, p.forwards, p.backwards);
    }
    let kept = match (forecast.evidence, forecast.keep) {
        (None, _) => "no evidence".to_string(),
        (Some(0), Keep::Fooled) => "no evidence: corrupted images are made again when they are checked".to_string(),
        (Some(bytes), Keep::Fooled) => format!("at most {:.1} MB of evidence", bytes as f64 / 1e6),
        (Some(bytes), _) => format!("{:.1} MB of evidence", bytes as f64 / 1e6),
    };
    let time = indicatif::HumanDuration(Duration::from_secs_f64(forecast.seconds.min(1e9)));
    text += &format!("at most about {time} on this machine, {kept}\n");
    text + &format!("run folder: {}\n", forecast.folder.display())
}

/// Everything is in its place; only talking is left.
fn conclude(args: &Args, finished: &Finished, terminal: &mut Terminal) -> Result<()> {
    let run = &finished.run;
    let plan = &run.record.plan;
    args.corruption.print(finished, args.format)?;
    if args.format == Format::Text {
        print(&encoders::to_text(&finished.encoders))?;
        print(&stages::to_text(&finished.stages, &run.outcomes))?;
    }
    report::own_class(plan, &run.outcomes).iter().for_each(|note| terminal.note(note));
    for d in &run.diagnoses {
        d.findings.iter().filter(|f| f.severity > doctor::Severity::Note).for_each(|f| {
            terminal.warning(&format!("{}: {}", escape::line(&d.model), escape::line(&f.evidence)), &f.advice);
        });
    }
    if let Some(shard) = plan.shard {
        say(&format!("shard {shard}: join all {} with `robust merge DIR... --out DIR`", shard.of));
    }
    let root = run.root.display().to_string();
    say(&format!("run folder: {root} (re-check it with `robust verify {}`)", escape::shell(&root)));
    check_failed(args, finished)
}

fn check_failed(args: &Args, finished: &Finished) -> Result<()> {
    let (failed, first) = finished.failed();
    if failed <= args.allow_failed {
        return Ok(());
    }
    Err(Error::new(Kind::Incomplete, format!("{failed} samples could not be judged ({first})"))
        .hint(format!("mend them, or accept that they count as not robust: --allow-failed {failed}")))
}
