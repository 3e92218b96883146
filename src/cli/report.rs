//! `robust report`: pages and tables of runs.

use super::output::print_data;
use robust::core::{Error, Result};
use robust::disk::publish;
use robust::report::page::{self, Pictures};
#[cfg(feature = "serve")]
use robust::report::serve;
use robust::runs::finished::{self, FinishedRun};
use robust::say;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Run folders; what is comparable is put side by side
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// One HTML file with charts, tables and images that loads nothing (`-` here and below: standard output)
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Every table as Markdown (the default, to standard output)
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
    /// Tables for a paper (booktabs)
    #[arg(long, value_name = "FILE")]
    latex: Option<PathBuf>,
    /// A line per model and attack
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// A line per model, a column per attack
    #[arg(long, value_name = "FILE")]
    csv_wide: Option<PathBuf>,
    /// The leaderboard with RobustBench's keys
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the runs' data set is now, if it has moved: clean images are read from it
    #[arg(long, value_name = "DATA")]
    dataset: Option<String>,
    /// Samples shown as images at most; 0 for none
    #[arg(long, value_name = "N", default_value_t = Pictures::default().most)]
    images: usize,
    /// Show the page in a browser on this machine until Ctrl-C, anew while a run grows: `robust report runs/net --serve`, another port with --serve=8080
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:0")]
    serve: Option<String>,
}

const AFTER: &str = "\
Examples:
  robust report runs/net --html net.html
  robust report runs/net runs/other --html both.html --latex both.tex --csv both.csv";

pub fn run(args: &Args) -> Result<()> {
    check_twice(&args.dirs)?;
    let pictures = Pictures { dataset: args.dataset.clone(), most: args.images };
    #[cfg(feature = "serve")]
    if let Some(address) = &args.serve {
        let files = [&args.html, &args.md, &args.latex, &args.csv, &args.csv_wide, &args.json];
        if files.iter().any(|f| f.is_some()) {
            write(args, &finished::open_all(&args.dirs)?, &pictures)?;
        }
        return show(address, serve::Live::new(args.dirs.clone(), pictures));
    }
    write(args, &finished::open_all(&args.dirs)?, &pictures)
}

#[cfg(feature = "serve")]
fn show(address: &str, live: serve::Live) -> Result<()> {
    let listener = serve::bind(address)?;
    live.page()?;
    let token = serve::token();
    say(&format!("the report is at {} until Ctrl-C", serve::url(&listener, &token)?));
    serve::run(&listener, &token, &live, &super::interrupt::STOP)
}

fn check_twice(dirs: &[PathBuf]) -> Result<()> {
    let real: Vec<PathBuf> = dirs.iter().map(|d| d.canonicalize().unwrap_or_else(|_| d.clone())).collect();
    match real.iter().enumerate().find(|(i, d)| real[..*i].contains(d)) {
        Some((i, _)) => Err(Error::usage(format!("{} is given twice", dirs[i].display())).hint("name each run once")),
        None => Ok(()),
    }
}

fn write(args: &Args, runs: &[FinishedRun], pictures: &Pictures) -> Result<()> {
    let wants_page = args.html.is_some() || args.md.is_some() || args.latex.is_some();
    let tables = args.csv.is_some() || args.csv_wide.is_some() || args.json.is_some();
    if wants_page || !tables {
        // Only the HTML shows images.
        let most = if args.html.is_some() { pictures.most } else { 0 };
        let page = page::page(runs, &Pictures { most, ..pictures.clone() });
        put(args.html.as_deref(), || page::to_html(&page))?;
        put(args.latex.as_deref(), || page::to_latex(&page))?;
        let nothing = !wants_page && !tables;
        put(args.md.as_deref().or(nothing.then_some(Path::new("-"))), || page::to_markdown(&page))?;
    }
    put(args.csv.as_deref(), || page::to_long_csv(runs))?;
    put(args.csv_wide.as_deref(), || page::to_wide_csv(runs))?;
    put(args.json.as_deref(), || page::to_robustbench(runs))
}

fn put(file: Option<&Path>, text: impl FnOnce() -> Result<String>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = text()?;
    if file == Path::new("-") {
        return print_data(&text);
    }
    publish(file, text.as_bytes())?;
    say(&format!("wrote {} ({} bytes)", file.display(), text.len()));
    Ok(())
}
