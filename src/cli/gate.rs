//! `robust gate`: measure what `robust.toml` asks, judge it, tell everyone.

use super::machine;
use super::output::{Answer, print, print_data};
use super::progress::{self, Terminal};
use robust::core::{Error, Kind, Result};
use robust::disk::publish;
use robust::escape::line;
use robust::eval::Evaluation;
use robust::gate::{self, Baseline, Config, Report};
use robust::runs::finished::FinishedRun;
use robust::{clock, say};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Configuration [default: robust.toml, here or in a folder above]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Baseline, instead of the one the configuration names
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Judge these run folders instead of running; `SUITE=DIR` where there are several suites
    #[arg(long, value_name = "DIR", num_args = 1..)]
    runs: Vec<String>,
    /// Write the results as the new baseline, print old and new, and judge nothing
    #[arg(long)]
    update_baseline: bool,
    /// Let --update-baseline work where CI=true
    #[arg(long)]
    allow_ci: bool,
    /// Exit 5 when a bounded drop has no baseline
    #[arg(long)]
    require_baseline: bool,
    /// A drop that is too large but may be chance fails
    #[arg(long)]
    strict: bool,
    /// Exit 0 whatever the verdict; errors keep their codes
    #[arg(long)]
    exit_zero: bool,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Answer,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Write a code quality report for GitLab
    #[arg(long, value_name = "FILE")]
    gitlab: Option<PathBuf>,
    /// Write Markdown
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
    #[command(flatten)]
    threads: machine::Threads,
    #[command(flatten)]
    limits: machine::Limits,
    #[command(flatten)]
    progress: progress::Options,
}

const AFTER: &str = "\
Examples:
  robust init                                  # a commented robust.toml
  robust gate --update-baseline                # record where you stand; commit robust.baseline.json
  robust gate --require-baseline --junit gate.xml --sarif gate.sarif
  robust gate --runs runs/net-1 --strict       # judge results that are there

On GitHub (GITHUB_ACTIONS=true) annotations, the step summary and the outputs `verdict` and `exit-code` are written by
themselves. Exit codes: 0 pass, 1 the gate fails, 2 usage or a baseline of something else, 3 incomplete results, 4 model
or data could not be loaded, 5 no baseline (--require-baseline), 70 bug, 75 could not write, 130 interrupted.";

/// Gives the exit code: the verdict's.
///
/// # Errors
/// Of the configuration, the runs and the files.
pub fn run(args: &Args) -> Result<u8> {
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    if args.update_baseline && !args.allow_ci && env("CI").is_some_and(|v| v != "false" && v != "0") {
        return Err(Error::usage("--update-baseline in CI would accept whatever the model became")
            .hint("run it where a person looks at the difference, or add --allow-ci"));
    }
    let here = std::env::current_dir().map_err(|e| Error::load("the current folder", e))?;
    let path = match &args.config {
        Some(path) => here.join(path),
        None => find(&here)?,
    };
    let mut config = Config::read(&path)?;
    config.gate.strict |= args.strict;
    let home = path.parent().unwrap_or(Path::new(".")).to_path_buf();
    let given = args.runs.iter().map(|r| placed(r, &config, &here)).collect::<Result<Vec<_>>>()?;
    let baseline = args.baseline.as_ref().map_or_else(|| home.join(&config.gate.baseline), |b| here.join(b));
    let before = Baseline::read(&baseline)?;
    // Paths in the configuration are relative to it.
    std::env::set_current_dir(&home).map_err(|e| Error::load(home.display(), e))?;
    let runs = match given.is_empty() {
        true => evaluate_all(args, &config)?,
        false => open(&config, &given)?,
    };
    let measured = gate::measure(&config, &runs)?;
    if args.update_baseline {
        update(&config, &measured, &runs, before.as_ref(), &baseline)?;
        return Ok(0);
    }
    let mut report = gate::check(&config, &measured, before.as_ref())?;
    let lacks = |c: &gate::Check| c.findings.iter().any(|f| f.rule == gate::Rule::NoBaseline);
    if args.require_baseline && report.exit_code == 0 && report.checks.iter().any(lacks) {
        (report.exit_code, report.verdict) = (5, gate::Verdict::NoBaseline);
    }
    tell(args, &report, &here, &path, &env)?;
    Ok(if args.exit_zero { 0 } else { report.exit_code })
}

/// The configuration in this folder or the nearest one above.
fn find(here: &Path) -> Result<PathBuf> {
    let found = here.ancestors().map(|dir| dir.join(gate::FILE)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::usage(format!("there is no {} here or above", gate::FILE)).hint("`robust init` writes one to start from")
    })
}

/// `[SUITE=]DIR` as the suite's place and the folder.
fn placed(text: &str, config: &Config, here: &Path) -> Result<(usize, PathBuf)> {
    let named = config.suites.iter().position(|s| text.strip_prefix(&s.name).is_some_and(|rest| rest.starts_with('=')));
    match named {
        Some(i) => Ok((i, here.join(&text[config.suites[i].name.len() + 1..]))),
        None if config.suites.len() == 1 => Ok((0, here.join(text))),
        None => Err(Error::usage(format!("--runs {text} does not say of which suite"))
            .hint(format!("such as --runs {}={text}", config.suites[0].name))),
    }
}

fn open(config: &Config, given: &[(usize, PathBuf)]) -> Result<Vec<Vec<FinishedRun>>> {
    let of = |i: usize| given.iter().filter(|(suite, _)| *suite == i).map(|(_, dir)| FinishedRun::open(dir)).collect();
    let runs: Vec<Vec<FinishedRun>> = (0..config.suites.len()).map(of).collect::<Result<_>>()?;
    match runs.iter().position(Vec::is_empty) {
        Some(i) => Err(Error::new(Kind::Incomplete, format!("no run of suite `{}` is given", config.suites[i].name))
            .hint("add it to --runs, or leave --runs out to measure everything")),
        None => Ok(runs),
    }
}

fn evaluate_all(args: &Args, config: &Config) -> Result<Vec<Vec<FinishedRun>>> {
    args.threads.set()?;
    let clock = clock::Stopwatch::start();
    let mut all = vec![];
    for suite in &config.suites {
        say(&format!("suite {}", line(&suite.name)));
        let left = args.limits.max_minutes().map(|m| (m - clock.seconds() / 60.).max(0.));
        let mut terminal = Terminal::new(&args.progress);
        let evaluation = Evaluation { max_minutes: left, ..suite.evaluation()? };
        all.push(vec![evaluation.prepare(&mut terminal)?.run(&mut terminal)?.run]);
    }
    Ok(all)
}

fn update(
    config: &Config,
    measured: &[gate::Measured],
    runs: &[Vec<FinishedRun>],
    before: Option<&Baseline>,
    path: &Path,
) -> Result<()> {
    if let Some(why) = runs.iter().flatten().find_map(FinishedRun::warning) {
        return Err(Error::new(Kind::Incomplete, format!("an incomplete run makes no baseline; {why}")));
    }
    let now = Baseline::of(measured);
    // A baseline of something else is what an update is for: then there is nothing to pair.
    let report = gate::check(config, measured, before).or_else(|_| gate::check(config, measured, None))?;
    now.write(path)?;
    for check in report.checks.iter().filter(|c| c.findings.iter().any(|f| f.rule == gate::Rule::Floor)) {
        say(&format!("warning: {} under {} is below its floor", line(&check.model), line(&check.attack)));
    }
    say(&format!("wrote {}: commit it", path.display()));
    print(&gate::changes(before, &now, &report.checks))
}

/// Prints and writes the report in every format asked for.
fn tell(args: &Args, report: &Report, here: &Path, config: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    let root = env("GITHUB_WORKSPACE").or(env("CI_PROJECT_DIR")).map_or(here.to_path_buf(), PathBuf::from);
    let file = config.strip_prefix(&root).map_or_else(|_| gate::FILE.to_string(), |p| p.to_string_lossy().into_owned());
    let write = |to: &Option<PathBuf>, text: &dyn Fn() -> Result<String>| match to {
        Some(to) => publish(&here.join(to), text()?.as_bytes()),
        None => Ok(()),
    };
    write(&args.json, &|| gate::to_json(report))?;
    write(&args.junit, &|| Ok(gate::to_junit(report)))?;
    write(&args.sarif, &|| gate::to_sarif(report, &file))?;
    write(&args.gitlab, &|| gate::to_code_quality(report, &file))?;
    write(&args.md, &|| Ok(gate::to_markdown(report)))?;
    if env("GITHUB_ACTIONS").is_some_and(|v| v == "true") {
        gate::to_annotations(report, &file).iter().for_each(|l| robust::say_raw(l));
        append(env("GITHUB_STEP_SUMMARY"), &gate::to_markdown(report))?;
        append(env("GITHUB_OUTPUT"), &format!("verdict={}\nexit-code={}\n", report.verdict, report.exit_code))?;
    }
    match args.format {
        Answer::Text => print(&gate::to_text(report)),
        Answer::Json => print_data(&gate::to_json(report)?),
    }
}

fn append(path: Option<String>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let write = || OpenOptions::new().create(true).append(true).open(&path)?.write_all(text.as_bytes());
    write().map_err(|e| Error::write(&path, e))
}
