//! The command line: parse, do, turn errors into sentences and exit codes.

mod calibration;
mod compare;
mod corrupt;
mod doctor;
mod eval;
mod export;
mod gate;
mod heads;
#[cfg(feature = "hub")]
mod hub;
mod init;
mod inspect;
mod leaderboard;
mod list;
mod machine;
mod measure;
mod pick;
mod probe;
mod progress;
mod report;
mod scale;
mod selftest;
mod sequences;
mod summary;
mod target;
mod verify;

use clap::{Parser, Subcommand, ValueEnum};
use robust::core::{Error, Kind, Result};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

/// How much of an image model's accuracy survives an adversary, with evidence.
#[derive(Parser)]
#[command(version, about, long_about = None, max_term_width = 110, after_help = AFTER)]
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

/// Output format of commands whose result is not a table.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Csv,
}

/// Set by the first Ctrl-C; the second one ends the process at once.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the command and gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    survive_limits();
    if let Err(e) = ctrlc::set_handler(on_interrupt) {
        robust::say(&format!("warning: Ctrl-C will not stop cleanly: {e}"));
    }
    #[cfg(feature = "hub")]
    hub::watch();
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

/// A limit on the size of files (`ulimit -f`) ends a write with an error that can be told, instead of ending the process.
fn survive_limits() {
    #[cfg(unix)]
    if let Err(e) =
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::new(AtomicBool::new(false)))
    {
        robust::say(&format!("warning: a limit on the size of files will end this process: {e}"));
    }
}

/// How long a command may take to stop by itself after the first Ctrl-C. Whatever it writes is whole or not there, so that
/// to leave it then loses the unit in hand and nothing else.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(1500);

/// What a command that is left should say: how it goes on.
static LEAVING: Mutex<Option<String>> = Mutex::new(None);

/// Sets the hint of a command that is interrupted.
pub fn on_leaving(hint: String) {
    *LEAVING.lock().unwrap_or_else(PoisonError::into_inner) = Some(hint);
}

#[expect(clippy::exit, reason = "a second Ctrl-C, or a first one in a long pass of a large model, must not wait")]
fn on_interrupt() {
    if STOP.swap(true, SeqCst) {
        std::process::exit(130);
    }
    robust::say("\nstopping (Ctrl-C again to stop at once)");
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        let hint = LEAVING.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tell(&Error { hint, ..Error::interrupted() });
        std::process::exit(130);
    });
}

fn tell(error: &Error) {
    robust::say(&format!("error: {}", robust::escape::line(&error.message)));
    if let Some(hint) = &error.hint {
        robust::say(&format!("hint: {hint}"));
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

/// Tables and sentences go to stdout, and names of strangers in them steer nothing ([`robust::escape::terminal`]).
pub fn print(text: &str) -> Result<()> {
    print_data(&robust::escape::terminal(text))
}

/// Data goes to stdout as it is: its format escapes what it holds. A reader that has seen enough is no error.
pub fn print_data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::write("standard output", e)),
        _ => Ok(()),
    }
}
