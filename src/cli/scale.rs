//! `robust plan` and `robust merge`: one evaluation on many machines.

use super::output::{Format, print_data};
use super::progress::Terminal;
use super::{eval, summary};
use robust::core::{Error, Result};
use robust::eval::merge as parts;
use robust::eval::tables::write_tables;
use robust::{escape, say};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  robust eval ... --shard 1/2 --out a && robust eval ... --shard 2/2 --out b\n  robust merge a b --out whole"
)]
pub struct MergeArgs {
    /// Run folders of the shards, in any order; the same shard twice must agree to the byte
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// New folder for the joined run; one that an interrupted merge of the same shards left is completed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Format,
}

pub fn merge(args: &MergeArgs) -> Result<()> {
    let (record, outcomes, journal) = parts::merge(&args.dirs, &args.out)?;
    if record.plan.dataset.is_by_names() {
        say(
            "note: an earlier version named the folder by the names and sizes of its files: only samples that several lines hold could be compared",
        );
    }
    let finished = write_tables(&args.out, record, outcomes)?;
    journal.check()?;
    drop(journal);
    summary::print_rows(&finished.run.rows, args.format)?;
    say(&format!(
        "joined {} folders into {} (re-check it with `robust verify {}`)",
        args.dirs.len(),
        args.out.display(),
        escape::shell(&args.out.display().to_string())
    ));
    Ok(())
}

/// One JSON line per unit: `{"schema","unit","shard","model","attack","ids","seed"}`; `unit` is derived from everything
/// that can change its outcomes.
pub fn plan(args: &eval::Args) -> Result<()> {
    args.set_threads()?;
    let plan = args.evaluation()?.prepare(&mut Terminal::quiet())?.plan;
    let mut text = String::new();
    for unit in plan.units() {
        let model = &plan.models[unit.model];
        let attack = &model.attacks[unit.attack];
        let line = serde_json::json!({
            "schema": "robust.unit/1", "unit": plan.unit_id(&unit)?, "model": model.name, "attack": attack.label,
            "dataset": plan.dataset.card.name, "ids": &plan.ids[unit.start..unit.start + unit.count], "seed": plan.seed,
            "passes": { "forward": unit.count as u64 * (attack.passes.0 + 2), "backward": unit.count as u64 * attack.passes.1 },
        });
        text += &serde_json::to_string(&line).map_err(|e| Error::internal(format!("plan: {e}")))?;
        text.push('\n');
    }
    print_data(&text)
}
