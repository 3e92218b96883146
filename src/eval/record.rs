//! `run.json`: the plan of a run, and what may differ between two runs of it.

use crate::disk::write_atomic;
use crate::doctor::Finding;
use crate::eval::plan::Plan;
use crate::eval::stages::Stage;
use robust_core::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `run.json`: the plan, and what may differ between two runs of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub schema: String,
    pub fingerprint: String,
    pub plan: Plan,
    /// One entry per start of the run.
    pub sessions: Vec<Session>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Seconds since 1970.
    pub started: u64,
    pub seconds: f64,
    pub threads: usize,
    pub batch_size: usize,
    pub machine: String,
    pub command: Vec<String>,
    /// Seconds spent per (model, attack), in the plan's order.
    pub attack_seconds: Vec<f64>,
    /// Seconds inside models; what is left of `seconds` is everything else.
    #[serde(default)]
    pub network_seconds: f64,
    /// The parts of attacks that have parts.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// What the loading doctor found, per model.
    #[serde(default)]
    pub doctor: Vec<(String, Vec<Finding>)>,
}

pub const RECORD_SCHEMA: &str = "robust.run/1";

/// Bytes that `run.json` may have: lists of a million ids take a few of them.
const MAX_RECORD: u64 = 32 << 20;
/// Objects and lists that it may hold; each takes a hundred times its letters in memory. 300 models under 75 corruptions
/// have 180,000.
const MAX_PARTS: usize = 1 << 18;

/// Reads `run.json`.
///
/// # Errors
/// Kind `Load` for a file that is missing, damaged, too large, or holds a plan that no run can have.
pub fn read_record(root: &Path) -> Result<RunRecord> {
    let path = root.join("run.json");
    let hint = "give the folder that `robust eval --out` wrote";
    let text = files::read(&path, MAX_RECORD).map_err(|e| Error::load(path.display(), e).hint(hint))?;
    let damaged = |why: String| {
        Error::load(path.display(), format!("it is damaged: {why}")).hint("restore the file, or start a new run")
    };
    if containers(&text) > MAX_PARTS {
        return Err(damaged(format!("it has more than {MAX_PARTS} objects and lists, which no run needs")));
    }
    let record: RunRecord = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    if record.schema != RECORD_SCHEMA {
        return Err(Error::load(
            path.display(),
            format!("its schema is `{}`, this version reads `{RECORD_SCHEMA}`", record.schema),
        ));
    }
    record.plan.check().map_err(damaged)?;
    Ok(record)
}

/// Objects and lists in a JSON text: opening brackets outside strings.
fn containers(text: &[u8]) -> usize {
    let (mut inside, mut escaped, mut count) = (false, false, 0);
    for byte in text {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (false, b'{' | b'[') => count += 1,
            _ => {}
        }
    }
    count
}

pub fn write_record(root: &Path, record: &RunRecord) -> Result<()> {
    let text = serde_json::to_string_pretty(record).map_err(|e| Error::internal(format!("run.json: {e}")))?;
    write_atomic(&root.join("run.json"), text.as_bytes())
}

/// Whether a folder holds a run already.
pub fn exists(root: &Path) -> bool {
    root.join("run.json").exists()
}
