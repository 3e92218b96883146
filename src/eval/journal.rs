//! The journal of a run, `outcomes.jsonl`, and the lock on its folder, which also holds `run.json`, `evidence/`, `summary.json`,
//! `summary.csv` and `curves.csv`. Files are replaced whole or appended to; what is on disk is always the beginning of a run.

use crate::disk::cannot_write;
use crate::eval::plan::{Plan, Unit};
use robust_core::{Error, Kind, Outcome, Result, SCHEMA, files};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The open journal of a run, and the lock on its folder: it is held until this is dropped.
pub struct Journal {
    root: PathBuf,
    file: File,
    /// Bytes that belong to whole units.
    bytes: u64,
}

/// Whether a folder is missing, empty, or holds only what a run leaves that was killed before its first record.
pub fn is_vacant(root: &Path) -> bool {
    let Ok(entries) = root.read_dir() else { return true };
    entries.flatten().all(|entry| {
        let (name, kind) = (entry.file_name(), entry.file_type());
        let (is_file, is_dir) = (kind.as_ref().is_ok_and(|k| k.is_file()), kind.is_ok_and(|k| k.is_dir()));
        let only_drafts =
            |dir: &Path| dir.read_dir().is_ok_and(|mut d| d.all(|e| e.is_ok_and(|e| files::is_draft(&e.file_name()))));
        match name.to_str() {
            Some("outcomes.jsonl") => is_file && entry.metadata().is_ok_and(|m| m.len() == 0),
            Some("evidence") => is_dir && only_drafts(&entry.path()),
            _ => is_file && files::is_draft(&name),
        }
    })
}

/// Makes the folder of a new run, and locks it.
///
/// # Errors
/// Kind `Usage` when it holds something else, kind `Write` when it cannot be made or another process has it.
pub fn create(root: &Path) -> Result<Journal> {
    let taken = || {
        Err(Error::usage(format!("folder {} is not empty", root.display()))
            .hint("name another folder, or move away what is in it"))
    };
    if !is_vacant(root) {
        return taken();
    }
    let file = claim(root)?;
    // Whoever had the lock a moment ago may have begun a run.
    if is_vacant(root) { Ok(Journal { root: root.to_path_buf(), file, bytes: 0 }) } else { taken() }
}

/// Opens the journal of an earlier run, and locks it: whole units are kept, a torn end is cut off. The outcomes of whole
/// units come back. Nothing is touched unless the lock is had and the journal can be read.
pub fn resume(root: &Path, plan: &Plan) -> Result<(Journal, Vec<Outcome>)> {
    let file = claim(root)?;
    let read = read_outcomes(root, plan)?;
    let units = plan.units();
    let (mut whole, mut rows) = (0, 0);
    while whole < units.len() && rows + units[whole].count <= read.outcomes.len() {
        rows += units[whole].count;
        whole += 1;
    }
    let bytes = read.ends.get(rows.wrapping_sub(1)).copied().unwrap_or(0);
    let path = root.join("outcomes.jsonl");
    file.set_len(bytes).and_then(|()| file.sync_all()).map_err(|e| cannot_write(&path, e))?;
    for unit in &units[whole..] {
        crate::eval::evidence::remove(root, &unit.name())?;
    }
    let mut outcomes = read.outcomes;
    outcomes.truncate(rows);
    Ok((Journal { root: root.to_path_buf(), file, bytes }, outcomes))
}

/// Opens the journal, locks it, and clears away what killed writers left. Every process that writes to a run holds this
/// lock: a requeued job may start while its orphan still runs.
fn claim(root: &Path) -> Result<File> {
    let (path, evidence) = (root.join("outcomes.jsonl"), root.join("evidence"));
    let open = || -> std::io::Result<File> {
        std::fs::create_dir_all(&evidence)?;
        if path.symlink_metadata().is_ok_and(|m| !m.is_file()) {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is a link or a device, not a file"));
        }
        loop {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.try_lock().map_err(std::io::Error::from)?;
            // The file whose lock we have may have been removed since it was opened.
            if files::is_same(&path, &file) {
                return Ok(file);
            }
        }
    };
    let file = open().map_err(|e| cannot_write(&path, e))?;
    [root, &evidence, &root.join("heads")].into_iter().for_each(files::sweep);
    Ok(file)
}

impl Journal {
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Appends one unit's lines and syncs them.
    ///
    /// # Errors
    /// Kind `Write`, also when somebody else removed, replaced or changed the file since the last time.
    pub fn append(&mut self, outcomes: &[Outcome]) -> Result<()> {
        let mut text = String::new();
        for outcome in outcomes {
            text += &serde_json::to_string(outcome).map_err(|e| Error::internal(format!("outcome: {e}")))?;
            text.push('\n');
        }
        self.check()?;
        let path = self.root.join("outcomes.jsonl");
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|e| cannot_write(&path, e))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Whether the journal on disk still is the one that was written.
    ///
    /// # Errors
    /// Kind `Write` when it was removed, replaced, or is of another length.
    pub fn check(&self) -> Result<()> {
        let path = self.root.join("outcomes.jsonl");
        let why = match self.file.metadata() {
            _ if !files::is_same(&path, &self.file) => "it was removed or replaced while the run was writing to it",
            Ok(facts) if facts.len() == self.bytes => return Ok(()),
            Err(e) => return Err(cannot_write(&path, e)),
            Ok(_) => "something else wrote to it while the run did",
        };
        Err(Error::write(path.display(), why).hint("what is lost is computed again when the run is resumed"))
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

/// Bytes that a line of the journal may have on average: ours are about five hundred.
const MAX_LINE: u64 = 1 << 14;

/// Reads `outcomes.jsonl` and checks every line against the plan's order. A last line without its newline is a write
/// that was cut off, and is ignored.
///
/// # Errors
/// Kind `Load` naming the line that is damaged or out of place.
pub fn read_outcomes(root: &Path, plan: &Plan) -> Result<Lines> {
    let path = root.join("outcomes.jsonl");
    let most = (plan.rows() as u64).saturating_add(64).saturating_mul(MAX_LINE);
    let text = files::read(&path, most).map_err(|e| Error::load(path.display(), e))?;
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
