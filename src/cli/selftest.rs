//! `robust selftest`: does this build, on this machine, compute what it should?

use super::output::{print, print_data};
use robust::clock::Stopwatch;
use robust::core::{Error, Kind, Result};
use robust::selftest::CHECKS;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  robust selftest
  robust selftest --json

Exit code 1 when anything does not hold: please report the output together with the processor's name.")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let (mut failed, mut all) = (0, vec![]);
    for check in CHECKS {
        let clock = Stopwatch::start();
        let (holds, seen) = match (check.run)() {
            Ok(seen) => (true, seen),
            Err(e) => (false, e.message),
        };
        failed += usize::from(!holds);
        if args.json {
            all.push(json!({ "name": check.name, "what": check.what, "holds": holds, "seen": seen }));
        } else {
            let mark = if holds { "ok  " } else { "FAIL" };
            print(&format!("{mark} {:20} {seen} ({:.1} s)\n     {}\n", check.name, clock.seconds(), check.what))?;
        }
    }
    if args.json {
        print_data(&format!("{}\n", json!({ "schema": "robust.selftest/1", "checks": all, "failed": failed })))?;
    }
    match failed {
        0 => Ok(()),
        n => Err(Error::new(Kind::Evidence, format!("{n} of {} checks do not hold", CHECKS.len()))),
    }
}
