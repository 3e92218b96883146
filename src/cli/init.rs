//! `robust init`: a configuration to start from.

use robust::core::{Error, Result};
use robust::{folder, gate, say};
use std::path::Path;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  robust init && robust gate --update-baseline && robust gate")]
pub struct Args {
    /// Overwrite the file that is there
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let path = Path::new(gate::FILE);
    if path.exists() && !args.force {
        return Err(Error::usage(format!("{} is there already", gate::FILE)).hint("--force overwrites it"));
    }
    folder::write_atomic(path, gate::STARTER.as_bytes())?;
    say(&format!("wrote {}: edit it, then `robust gate --update-baseline` records where you stand", gate::FILE));
    Ok(())
}
