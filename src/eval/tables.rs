//! The tables of a run: made of its outcomes, and written beside them.

use super::record::RunRecord;
use super::stages::{self, Stage};
use crate::disk::write_atomic;
use crate::doctor;
use crate::report::{self, corruptions, encoders};
use crate::runs::finished::FinishedRun;
use robust_core::{Outcome, Result};
use std::path::Path;

/// A run that came to its end, with everything that was made of its outcomes.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Rows, diagnoses, outcomes and the record.
    pub run: FinishedRun,
    /// Paired differences between encoders under one head; empty for runs without heads of their own.
    pub encoders: Vec<encoders::EncoderRow>,
    /// Means over corruptions; empty for runs without any.
    pub corruptions: Vec<corruptions::Report>,
    /// What the parts of attacks took and found, over all sessions.
    pub stages: Vec<Stage>,
}

impl Finished {
    /// Samples that could not be judged: the most of any row, and what is said of the first.
    pub fn failed(&self) -> (u64, String) {
        let first = self.run.outcomes.iter().find_map(|o| o.why.as_ref().map(|why| format!("sample {}: {why}", o.id)));
        (self.run.rows.iter().map(|r| r.failed).max().unwrap_or(0), first.unwrap_or_default())
    }
}

/// Writes `summary.json`, `summary.csv`, `curves.csv`, `diagnostics.json`, and where they apply `encoders.csv` and
/// `corruptions.json`.
///
/// # Errors
/// Kind `Write` when one of them cannot be written.
pub fn write_tables(root: &Path, record: RunRecord, outcomes: Vec<Outcome>) -> Result<Finished> {
    let run = FinishedRun::new(root, record, outcomes);
    let plan = &run.record.plan;
    write_atomic(&root.join("diagnostics.json"), doctor::to_json(&run.diagnoses)?.as_bytes())?;
    write_atomic(&root.join("summary.json"), report::to_json(&run.rows)?.as_bytes())?;
    write_atomic(&root.join("summary.csv"), report::to_csv(&run.rows)?.as_bytes())?;
    let curves = report::curves_to_csv(&report::curves(plan, &run.outcomes))?;
    write_atomic(&root.join("curves.csv"), curves.as_bytes())?;
    let encoders = encoders::compare(plan, &run.outcomes);
    if !encoders.is_empty() {
        write_atomic(&root.join("encoders.csv"), encoders::to_csv(&encoders)?.as_bytes())?;
    }
    let corruptions = corruptions::summarise(plan, &run.outcomes, None)?;
    if !corruptions.is_empty() {
        write_atomic(&root.join("corruptions.json"), corruptions::to_json(&corruptions)?.as_bytes())?;
    }
    let stages = stages::joined(run.record.sessions.iter().map(|s| s.stages.as_slice()));
    Ok(Finished { run, encoders, corruptions, stages })
}
