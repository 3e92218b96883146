//! `robust compare`: two results on the same samples.

use super::output::{Answer, print, print_data};
use robust::core::{Error, Result};
use robust::runs::compare::{self, Choice};
use robust::runs::finished::FinishedRun;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Run folder of A
    a: PathBuf,
    /// Run folder of B; the same one compares two models or attacks of a run
    b: PathBuf,
    /// Model, where a run has several
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Model of B, where it is called otherwise
    #[arg(long, value_name = "NAME")]
    model_b: Option<String>,
    /// Attack, as tables show it [default: the worst case]
    #[arg(long, value_name = "LABEL")]
    attack: Option<String>,
    /// Attack of B, to compare two attacks
    #[arg(long, value_name = "LABEL")]
    attack_b: Option<String>,
    /// Threat model, as tables show it, where there are several
    #[arg(long, value_name = "THREAT")]
    threat: Option<String>,
    /// List every sample that changed
    #[arg(long)]
    all: bool,
    /// Level of the smallest drop that could have been seen
    #[arg(long, default_value_t = 0.05, value_name = "ALPHA")]
    alpha: f64,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Answer,
}

const AFTER: &str = "\
Examples:
  robust compare runs/before runs/after
  robust compare runs/both runs/both --model std --model-b at --attack pgd-linf:eps=0.1,steps=40

The table is paired: the same samples under the same attacks. Anything else is refused, with what differs.";

pub fn run(args: &Args) -> Result<()> {
    if !(args.alpha > 0. && args.alpha <= 0.5) {
        return Err(Error::usage(format!("--alpha {} is not in (0, 0.5]", args.alpha)));
    }
    let (a, b) = (FinishedRun::open(&args.a)?, FinishedRun::open(&args.b)?);
    let first = Choice { model: args.model.clone(), attack: args.attack.clone(), threat: args.threat.clone() };
    // A lone model of B needs no name, whatever A's is called.
    let lone = b.record.plan.models.len() == 1 && args.model_b.is_none();
    let second = Choice {
        model: args.model_b.clone().or(first.model.clone().filter(|_| !lone)),
        attack: args.attack_b.clone().or(first.attack.clone()),
        threat: first.threat.clone(),
    };
    let (x, y) = (compare::choose(&a, &first)?, compare::choose(&b, &second)?);
    let comparison = compare::compare(x, y, args.attack_b.is_some(), args.alpha)?;
    match args.format {
        Answer::Text => print(&compare::to_text(&comparison, args.all)),
        Answer::Json => print_data(&compare::to_json(&comparison)?),
    }
}
