//! `robust init`: a configuration to start from.

use robust::core::{Error, Result, files};
use robust::{disk, gate, say};
use std::path::Path;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  robust init && robust gate --update-baseline && robust gate")]
pub struct Args {
    /// Overwrite the file that is there
    #[arg(long)]
    force: bool,
}

/// Where runs without a folder of their own go.
const RUNS: &str = "runs/";
/// Bytes that a list of what is ignored may have.
const MAX_LIST: u64 = 1 << 20;

/// Keeps run folders out of the repository: they are large, and the baseline says what counts. A list that is there keeps
/// what it says.
fn ignore(list: &Path) -> Result<()> {
    let there = match files::read_text(list, MAX_LIST) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        // A list of another kind is its owner's affair.
        Err(_) => return Ok(()),
        Ok(text) => text,
    };
    if there.lines().any(|l| matches!(l.trim(), "runs" | "runs/" | "/runs" | "/runs/")) {
        return Ok(());
    }
    let gap = if there.is_empty() || there.ends_with('\n') { "" } else { "\n" };
    disk::publish(list, format!("{there}{gap}{RUNS}\n").as_bytes())?;
    say(&format!("{} leaves out {RUNS}, where results go", list.display()));
    Ok(())
}

pub fn run(args: &Args) -> Result<()> {
    let path = Path::new(gate::FILE);
    if path.exists() && !args.force {
        return Err(Error::usage(format!("{} is there already", gate::FILE)).hint("--force overwrites it"));
    }
    ignore(Path::new(".gitignore"))?;
    disk::publish(path, gate::STARTER.as_bytes())?;
    say(&format!("wrote {}: edit it, then `robust gate --update-baseline` records where you stand", gate::FILE));
    Ok(())
}
