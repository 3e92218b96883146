//! A run folder: `run.json`, `outcomes.jsonl`, `evidence/`, `summary.json`, `summary.csv`, `curves.csv`. Files are
//! replaced whole or appended to; what is on disk is always the beginning of a run.

use crate::doctor::Finding;
use crate::plan::{Plan, Unit};
use crate::stages::Stage;
use robust_core::{Error, Kind, Outcome, Result, SCHEMA};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// `run.json`: the plan, and what may differ between two runs of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
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

/// The open journal of a run.
pub struct Journal {
    root: PathBuf,
    file: File,
}

/// File name of a path, for messages that should not hold a whole path.
pub fn short(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            "another process is writing to this run: wait for it, or choose another --out"
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
            "what is written so far is intact: free some space, then run the same command with --resume"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder you may write to with --out"
        }
        _ => "choose another folder with --out, or run the same command with --resume once this is mended",
    };
    Error::write(path.display(), error).hint(hint)
}

/// Writes beside, syncs, renames: readers see the old file or the new one, whole.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| {
        // The half-written neighbour is of no use; that it cannot be removed either changes nothing.
        std::fs::remove_file(&beside).ok();
        cannot_write(path, e)
    })
}

/// Reads `run.json`.
pub fn read_record(root: &Path) -> Result<Record> {
    let path = root.join("run.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Error::load(path.display(), e).hint("give the folder that `robust eval --out` wrote"))?;
    let record: Record = serde_json::from_str(&text).map_err(|e| {
        Error::load(path.display(), format!("it is damaged: {e}")).hint("restore the file, or start a new run")
    })?;
    if record.schema != RECORD_SCHEMA {
        return Err(Error::load(
            path.display(),
            format!("its schema is `{}`, this version reads `{RECORD_SCHEMA}`", record.schema),
        ));
    }
    Ok(record)
}

pub fn write_record(root: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_string_pretty(record).map_err(|e| Error::internal(format!("run.json: {e}")))?;
    write_atomic(&root.join("run.json"), text.as_bytes())
}

/// Whether a folder holds a run already.
pub fn exists(root: &Path) -> bool {
    root.join("run.json").exists()
}

/// Makes the folder of a new run.
///
/// # Errors
/// Kind `Usage` when it holds something else, kind `Write` when it cannot be made.
pub fn create(root: &Path) -> Result<Journal> {
    if root.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::usage(format!("folder {} is not empty", root.display())).hint(if exists(root) {
            "add --resume to continue the run it holds, or choose another folder with --out"
        } else {
            "choose a new folder with --out"
        }));
    }
    std::fs::create_dir_all(root.join("evidence")).map_err(|e| cannot_write(root, e))?;
    open(root, 0)
}

/// Opens the journal of an earlier run: whole units are kept, a torn end is cut off. The number of whole units and
/// their outcomes come back.
pub fn resume(root: &Path, plan: &Plan) -> Result<(Journal, Vec<Outcome>)> {
    let read = read_outcomes(root, plan)?;
    let units = plan.units();
    let (mut whole, mut rows) = (0, 0);
    while whole < units.len() && rows + units[whole].count <= read.outcomes.len() {
        rows += units[whole].count;
        whole += 1;
    }
    let bytes = read.ends.get(rows.wrapping_sub(1)).copied().unwrap_or(0);
    std::fs::create_dir_all(root.join("evidence")).map_err(|e| cannot_write(root, e))?;
    for unit in &units[whole..] {
        crate::evidence::remove(root, &unit.name())?;
    }
    let mut outcomes = read.outcomes;
    outcomes.truncate(rows);
    Ok((open(root, bytes)?, outcomes))
}

fn open(root: &Path, bytes: u64) -> Result<Journal> {
    let path = root.join("outcomes.jsonl");
    let open = || -> std::io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        // A requeued job may start while its orphan still runs: only one of them may write.
        file.try_lock().map_err(std::io::Error::from)?;
        file.set_len(bytes)?;
        file.sync_all()?;
        Ok(file)
    };
    Ok(Journal { root: root.to_path_buf(), file: open().map_err(|e| cannot_write(&path, e))? })
}

impl Journal {
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Appends one unit's lines and syncs them.
    pub fn append(&mut self, outcomes: &[Outcome]) -> Result<()> {
        let mut text = String::new();
        for outcome in outcomes {
            text += &serde_json::to_string(outcome).map_err(|e| Error::internal(format!("outcome: {e}")))?;
            text.push('\n');
        }
        let path = self.root.join("outcomes.jsonl");
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).map_err(|e| cannot_write(&path, e))
    }
}

/// The journal's lines and where each ends in the file.
pub struct Lines {
    pub outcomes: Vec<Outcome>,
    pub ends: Vec<u64>,
}

/// A run's units with their outcomes as far as these reach: the last one may be cut short.
pub fn by_unit<'a>(plan: &Plan, outcomes: &'a [Outcome]) -> impl Iterator<Item = (Unit, &'a [Outcome])> {
    let mut rest = outcomes;
    plan.units().into_iter().map_while(move |unit| {
        let (mine, others) = rest.split_at(unit.count.min(rest.len()));
        rest = others;
        (!mine.is_empty()).then_some((unit, mine))
    })
}

/// Reads `outcomes.jsonl` and checks every line against the plan's order. A last line without its newline is a write
/// that was cut off, and is ignored.
///
/// # Errors
/// Kind `Load` naming the line that is damaged or out of place.
pub fn read_outcomes(root: &Path, plan: &Plan) -> Result<Lines> {
    let path = root.join("outcomes.jsonl");
    let text = std::fs::read(&path).map_err(|e| Error::load(path.display(), e))?;
    let damaged = |line: usize, why: String| {
        Error::new(Kind::Load, format!("{}: line {line} is damaged: {why}", path.display())).hint(format!(
            "`head -n {} outcomes.jsonl` keeps what stands before it; then --resume computes the rest",
            line - 1
        ))
    };
    let (mut outcomes, mut ends, mut at) = (vec![], vec![], 0u64);
    let mut expected = plan.units().into_iter().flat_map(|u| expected_rows(plan, u));
    for (i, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        let outcome: Outcome = serde_json::from_slice(line).map_err(|e| damaged(i + 1, e.to_string()))?;
        if outcome.schema != SCHEMA {
            return Err(damaged(i + 1, format!("its schema is `{}`", outcome.schema)));
        }
        match expected.next() {
            Some(row) if row == (outcome.model.as_str(), outcome.attack.as_str(), outcome.id) => {}
            Some((model, attack, id)) => {
                return Err(damaged(i + 1, format!("sample {id} of {model} under {attack} belongs here")));
            }
            None => return Err(damaged(i + 1, "the plan has no more samples".to_string())),
        }
        at += line.len() as u64;
        outcomes.push(outcome);
        ends.push(at);
    }
    Ok(Lines { outcomes, ends })
}

fn expected_rows(plan: &Plan, unit: Unit) -> impl Iterator<Item = (&str, &str, u64)> {
    let model = &plan.models[unit.model];
    let attack = &model.attacks[unit.attack];
    plan.ids[unit.start..unit.start + unit.count].iter().map(|id| (model.name.as_str(), attack.label.as_str(), *id))
}
