//! `robust verify`: re-judge a run.

use super::interrupt::STOP;
use super::output::{Format, print, print_data};
use super::progress::Terminal;
use robust::benchmarks::corruptions::Photos;
use robust::core::{Error, Kind, Result};
use robust::escape::{cell, line};
use robust::eval::verify::{Checked, Tables, check_tables, contradictions, verify};
use robust::eval::{journal, load, record};
use robust::runs::finished;
use robust::{report, say};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  robust verify runs/net\n  robust verify runs/net --model net=moved/net.onnx --dataset folder:elsewhere"
)]
pub struct Args {
    /// Run folder
    dir: PathBuf,
    /// Where the run's models are now, in its order, if they have moved; their content must be the same
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Where the run's data set is now, if it has moved
    #[arg(long, value_name = "DATA")]
    dataset: Option<String>,
    /// Folder of the published frost photos, where the run used them
    #[arg(long, value_name = "DIR")]
    frost_dir: Option<PathBuf>,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Format,
}

/// Ids named per kind of trouble in the text output; JSON has them all.
const NAMED: usize = 10;

pub fn run(args: &Args) -> Result<()> {
    let record = finished::record(&args.dir)?;
    let (models, data) =
        load::reopen(&args.dir, &record.plan, &args.model, args.dataset.as_ref(), &mut Terminal::quiet())?;
    let outcomes = journal::read_outcomes(&args.dir, &record.plan)?.outcomes;
    let frost = args.frost_dir.as_deref().map(Photos::open).transpose()?;
    let checked = verify(&args.dir, &record, &outcomes, &models, data.as_ref(), frost.as_ref(), &STOP)?;
    let plan = contradictions(&record.plan, &models, data.as_ref(), args.dataset.is_some());
    let tables = check_tables(&args.dir, &record, &outcomes)?;
    match args.format {
        Format::Text => print(&(to_text(&checked) + &files_to_text(&plan, &tables)))?,
        Format::Json => print_data(&to_json(&checked, &plan, &tables)?)?,
        Format::Csv => print_data(&to_csv(&checked)?)?,
    }
    judge(&record, &checked, &plan, &tables)
}

fn judge(record: &record::RunRecord, checked: &[Checked], plan: &[String], tables: &Tables) -> Result<()> {
    let wrong: u64 = checked.iter().map(|c| c.wrong.len() as u64).sum();
    let rows: u64 = checked.iter().map(|c| c.rows).sum();
    let all = record.plan.rows() as u64;
    if let Some((checked, (id, why))) = checked.iter().find_map(|c| Some((c, c.wrong.first()?))) {
        let place = format!("sample {id} of {} under {}", checked.model, checked.attack);
        return Err(Error::new(Kind::Evidence, format!("{wrong} of {rows} rows do not hold; {place}: {why}"))
            .hint("the files were changed after the run, or by another version: run the evaluation again"));
    }
    if let Some(why) = plan.first() {
        return Err(Error::new(Kind::Evidence, format!("run.json does not hold: {}", line(why)))
            .hint("the file was changed after the run, or by another version: run the evaluation again"));
    }
    if let Some((name, why)) = tables.wrong.first() {
        return Err(Error::new(Kind::Evidence, format!("{name} is not what the outcomes say: {why}"))
            .hint("run the same `robust eval` with --resume: it writes the tables again"));
    }
    if rows < all {
        return Err(Error::new(
            Kind::Incomplete,
            format!("every row there holds, but {} of {all} are missing", all - rows),
        )
        .hint("finish the run with --resume"));
    }
    // Other tables came with later versions; this one every finished run has.
    if tables.missing.iter().any(|name| name == "summary.json") {
        return Err(Error::new(Kind::Incomplete, "every row holds, but summary.json is missing")
            .hint("run the same `robust eval` with --resume: it writes the tables again"));
    }
    say(&format!(
        "every row holds: {rows} rows, {} points re-judged in double precision",
        checked.iter().map(|c| c.evidence).sum::<u64>()
    ));
    Ok(())
}

fn to_text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for c in checked {
        text += &format!(
            "{} {}: {} rows, {} points re-judged, {} without a point, {} fragile, {} wrong\n",
            line(&c.model),
            line(&c.attack),
            c.rows,
            c.evidence,
            c.unproven,
            c.fragile.len(),
            c.wrong.len()
        );
        if !c.fragile.is_empty() {
            let ids: Vec<String> = c.fragile.iter().take(NAMED).map(u64::to_string).collect();
            text += &format!("  fragile: {}{}\n", ids.join(", "), if c.fragile.len() > NAMED { ", ..." } else { "" });
        }
        if c.same_path {
            text += "  the model has no form in double precision: it was asked once more as it was judged\n";
        }
        for (id, why) in c.wrong.iter().take(NAMED) {
            text += &format!("  sample {id}: {}\n", line(why));
        }
    }
    text
}

/// What became of the files beside the lines, and what nothing here proves.
fn files_to_text(plan: &[String], tables: &Tables) -> String {
    let mut text = match plan.is_empty() {
        true => "run.json: samples, classes, inputs and attacks are those of the data set and the models\n".to_string(),
        false => plan.iter().map(|why| format!("run.json: {}\n", line(why))).collect(),
    };
    let names = |names: &[String]| names.iter().map(|n| line(n)).collect::<Vec<_>>().join(", ");
    for (what, list) in
        [("as the outcomes say", &tables.hold), ("not there", &tables.missing), ("not checked", &tables.unchecked)]
    {
        if !list.is_empty() {
            text += &format!("{what}: {}\n", names(list));
        }
    }
    tables.wrong.iter().for_each(|(name, why)| text += &format!("{}: {}\n", line(name), line(why)));
    text + "taken as written: seconds, machines, seeds, what the doctor found before the run, how the attacks searched\n"
}

fn to_json(checked: &[Checked], plan: &[String], tables: &Tables) -> Result<String> {
    let value = serde_json::json!({ "schema": "robust.verify/1", "results": checked, "plan": plan, "tables": tables });
    Ok(format!("{value}\n"))
}

fn to_csv(checked: &[Checked]) -> Result<String> {
    let head = ["model", "attack", "rows", "evidence", "unproven", "fragile", "wrong"].map(String::from);
    let lines = checked.iter().map(|c| {
        let counts = [c.rows, c.evidence, c.unproven, c.fragile.len() as u64, c.wrong.len() as u64];
        [cell(&c.model), cell(&c.attack)].into_iter().chain(counts.map(|n| n.to_string())).collect::<Vec<_>>()
    });
    report::written(std::iter::once(head.to_vec()).chain(lines))
}
