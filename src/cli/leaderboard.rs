//! `robust leaderboard`: the worst cases of many runs.

use super::output::{print, print_data};
use robust::core::{Error, Result};
use robust::runs::{finished, leaderboard};
use robust::say;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Run folders
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Csv,
    Md,
    Json,
}

const AFTER: &str = "\
Examples:
  robust leaderboard runs/*
  robust leaderboard runs/a runs/b --format csv > table.csv

Rows of one table were measured on the same samples under the same threat; others are in tables of their own. The
columns of the CSV are stable and documented in docs/gate.md.";

pub fn run(args: &Args) -> Result<()> {
    let loaded = finished::open_all(&args.dirs)?;
    loaded.iter().filter_map(finished::FinishedRun::warning).for_each(|w| say(&format!("warning: {w}")));
    let groups = leaderboard::leaderboard(&loaded);
    if groups.is_empty() {
        let free = loaded.iter().flat_map(|run| &run.rows).any(|r| r.distances.is_some() && r.n > 0);
        return Err(match free {
            true => {
                Error::usage("the attacks of these runs have no epsilon, so there is no robust accuracy to rank by")
                    .hint("`robust report` shows their distances; with an eps, such as ddn-l2:eps=0.5, they are ranked")
            }
            false => Error::usage("these runs have no outcomes yet").hint("finish them with --resume"),
        });
    }
    match args.format {
        Format::Text => print(&leaderboard::to_text(&groups)),
        Format::Csv => print_data(&leaderboard::to_csv(&groups)?),
        Format::Md => print_data(&leaderboard::to_markdown(&groups)),
        Format::Json => print_data(&leaderboard::to_json(&groups)?),
    }
}
