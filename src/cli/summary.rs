//! The table of a run: made of its outcomes, written beside them, printed.

use super::{Format, print, print_data};
use robust::core::{Outcome, Result};
use robust::doctor;
use robust::folder::{self, Record};
use robust::report::{self, Row};
use robust::runs::table;
use std::path::Path;

/// Writes `summary.json`, `summary.csv`, `curves.csv` and `diagnostics.json`.
pub fn write_summary(root: &Path, record: &Record, outcomes: &[Outcome]) -> Result<(Vec<Row>, Vec<doctor::Diagnosis>)> {
    let (rows, diagnoses) = table(record, outcomes);
    folder::write_atomic(&root.join("diagnostics.json"), doctor::to_json(&diagnoses)?.as_bytes())?;
    folder::write_atomic(&root.join("summary.json"), report::to_json(&rows)?.as_bytes())?;
    folder::write_atomic(&root.join("summary.csv"), report::to_csv(&rows)?.as_bytes())?;
    let curves = report::curves_to_csv(&report::curves(&record.plan, outcomes))?;
    folder::write_atomic(&root.join("curves.csv"), curves.as_bytes())?;
    Ok((rows, diagnoses))
}

pub fn print_rows(rows: &[Row], format: Format) -> Result<()> {
    match format {
        Format::Text => print(&report::to_text(rows)),
        Format::Json => print_data(&report::to_json(rows)?),
        Format::Csv => print_data(&report::to_csv(rows)?),
    }
}
