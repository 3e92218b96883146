//! The command line: parse, do, turn errors into exit codes.

use super::interrupt::on_interrupt;
use super::output::tell;
use super::{
    calibration, compare, corrupt, doctor, eval, export, gate, init, inspect, leaderboard, list, measure, probe,
    report, scale, selftest, sequences, verify,
};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use robust::core::{Error, Kind, Result};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// How much of an image model's accuracy survives an adversary, with evidence.
#[derive(Parser)]
#[command(name = "robust", version, about, long_about = None, max_term_width = 110, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Examples:
  robust eval --model builtin:mnist-at --attack pgd-linf:eps=0.3,steps=40
  robust eval --model net.onnx --dataset folder:val --attack pgd-linf:eps=8/255 --limit 500 --out runs/net
  robust verify runs/net
  robust report runs/net --html net.html
  robust list attacks
  robust explain pgd

Exit codes: 0 done, 1 evidence disagrees or the gate fails, 2 usage, 3 incomplete results, 4 model or data could not be
loaded, 5 no baseline, 70 bug, 75 could not write (retry with --resume), 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    /// Attack models on a data set and write a run folder that can be re-checked and resumed
    Eval(Box<eval::Args>),
    /// Re-judge every line and every piece of evidence of a run, in double precision
    Verify(verify::Args),
    /// Make a page, tables and files of one or more runs, to look at and to publish
    Report(report::Args),
    /// Print the units of work of an evaluation as JSON lines
    Plan(Box<eval::Args>),
    /// Join the run folders of all shards into the run they are parts of
    Merge(scale::MergeArgs),
    /// Measure what robust.toml asks and judge it: floors, and paired tests against a committed baseline
    Gate(gate::Args),
    /// Write a commented robust.toml to start from
    Init(init::Args),
    /// The worst cases of many runs, best first, in tables of what may be compared
    Leaderboard(leaderboard::Args),
    /// Two results on the same samples: what changed, and whether it means anything
    Compare(compare::Args),
    /// Write a run's adversarial points as images or arrays, and say how many survive 8-bit pixels
    Export(export::Args),
    /// Write corrupted copies of a data set as images or arrays, or a sheet of all corruptions
    Corrupt(corrupt::Args),
    /// Say how steady predictions are along the sequences of ImageNet-P and CIFAR-10-P
    Sequences(sequences::Args),
    /// Report calibration and out-of-distribution detection
    Calibration(calibration::Args),
    /// Say what is known of a model or a data set: family, input, normalisation, size, cost, and what looks wrong
    Inspect(inspect::InspectArgs),
    /// Look for what makes a robustness number doubtful: masked gradients, attacks that contradict each other, wrong loading
    Doctor(doctor::Args),
    /// Check this build on this machine against formulas, hand-solved networks and stored vectors, in a minute
    Selftest(selftest::Args),
    /// Fit a head on an encoder's embeddings, to be attacked with it
    Probe(Box<probe::Args>),
    /// Say what an encoder's embeddings are like, and how far noise and PGD move them; needs no labels
    Measure(Box<measure::Args>),
    /// Rewrite a checkpoint as safetensors, without running anything in it
    Convert(inspect::ConvertArgs),
    /// List attacks, models and data sources
    List(list::ListArgs),
    /// Say what an attack, built-in model or data source is
    Explain(list::ExplainArgs),
}

/// Runs the command and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    survive_limits();
    if let Err(e) = ctrlc::set_handler(on_interrupt) {
        robust::say(&format!("warning: Ctrl-C will not stop cleanly: {e}"));
    }
    #[cfg(feature = "hub")]
    super::hub::watch();
    std::panic::set_hook(Box::new(|info| {
        robust::say(&format!(
            "error: this is a bug in robust: {info}\nhint: please report it with the command line above"
        ));
    }));
    let result = std::panic::catch_unwind(|| -> Result<u8> {
        let done = match cli.command {
            Command::Gate(args) => return gate::run(&args),
            Command::Eval(args) => eval::run(&args),
            Command::Verify(args) => verify::run(&args),
            Command::Report(args) => report::run(&args),
            Command::Plan(args) => scale::plan(&args),
            Command::Merge(args) => scale::merge(&args),
            Command::Init(args) => init::run(&args),
            Command::Leaderboard(args) => leaderboard::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Export(args) => export::run(&args),
            Command::Corrupt(args) => corrupt::run(&args),
            Command::Sequences(args) => sequences::run(&args),
            Command::Calibration(args) => calibration::run(&args),
            Command::Inspect(args) => inspect::inspect(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Selftest(args) => selftest::run(&args),
            Command::Probe(args) => probe::run(&args),
            Command::Measure(args) => measure::run(&args),
            Command::Convert(args) => inspect::convert(&args),
            Command::List(args) => list::list(&args),
            Command::Explain(args) => list::explain(&args),
        };
        done.map(|()| 0)
    });
    match result {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => exit_code(&error),
        Err(_) => ExitCode::from(70),
    }
}

/// Help, the version, or what is wrong with the command line.
fn refused(error: &clap::Error) -> ExitCode {
    // Whoever does not listen stops nothing.
    error.print().ok();
    if let Some(hint) = misplaced(error) {
        robust::say(&format!("\nhint: {hint}"));
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// What to say of a word where only options go: most often a model or a data set without its option.
fn misplaced(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let usage = error.render().to_string();
    let takes = usage.contains("--model") || usage.contains("--dataset");
    let plain = error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-');
    let word = robust::escape::shell(word);
    (plain && takes).then(|| format!("models and data sets have options: --model {word} or --dataset {word}"))
}

/// A limit on the size of files (`ulimit -f`) ends a write with an error that can be told, instead of ending the process.
fn survive_limits() {
    #[cfg(unix)]
    if let Err(e) =
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::new(AtomicBool::new(false)))
    {
        robust::say(&format!("warning: a limit on the size of files will end this process: {e}"));
    }
}

fn exit_code(error: &Error) -> ExitCode {
    tell(error);
    ExitCode::from(match error.kind {
        Kind::Evidence => 1,
        Kind::Usage => 2,
        Kind::Incomplete => 3,
        Kind::Load => 4,
        Kind::Internal => 70,
        Kind::Write => 75,
        Kind::Interrupted => 130,
    })
}
