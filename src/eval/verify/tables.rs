//! The tables that lie beside the outcomes, made once more from these.

use crate::doctor;
use crate::eval::plan::Plan;
use crate::eval::record::RunRecord;
use crate::report::{self, corruptions, encoders};
use crate::runs::finished;
use robust_core::{Outcome, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// What became of the files of a run folder.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tables {
    /// Those that are what the outcomes say.
    pub hold: Vec<String>,
    /// Those that a finished run has and this one has not.
    pub missing: Vec<String>,
    /// Those that say otherwise, and how.
    pub wrong: Vec<(String, String)>,
    /// Files that the run did not write, or that nothing tells the content of.
    pub unchecked: Vec<String>,
}

/// A file is read while it is so many times as long as it should be.
const LONGER: u64 = 16;
/// Names of strange files that are listed.
const NAMED: usize = 20;

/// The tables of a run by file name, as its outcomes give them.
///
/// # Errors
/// None in practice.
pub fn expected(record: &RunRecord, outcomes: &[Outcome]) -> Result<Vec<(&'static str, String)>> {
    let (rows, diagnoses) = finished::table(record, outcomes);
    let mut all = vec![
        ("summary.json", report::to_json(&rows)?),
        ("summary.csv", report::to_csv(&rows)?),
        ("curves.csv", report::curves_to_csv(&report::curves(&record.plan, outcomes))?),
        ("diagnostics.json", doctor::to_json(&diagnoses)?),
    ];
    let compared = encoders::compare(&record.plan, outcomes);
    if !compared.is_empty() {
        all.push(("encoders.csv", encoders::to_csv(&compared)?));
    }
    let corrupted = corruptions::summarise(&record.plan, outcomes, None)?;
    if !corrupted.is_empty() {
        all.push(("corruptions.json", corruptions::to_json(&corrupted)?));
    }
    Ok(all)
}

/// Compares every table in `root` with what the outcomes say: by bytes, or where another version wrote it, field by field of those it
/// has.
///
/// # Errors
/// None in practice: what cannot be read does not hold.
pub fn check(root: &Path, record: &RunRecord, outcomes: &[Outcome]) -> Result<Tables> {
    let mut tables = Tables::default();
    let expected = expected(record, outcomes)?;
    for (name, ours) in &expected {
        let path = root.join(name);
        let length = match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                tables.missing.push(name.to_string());
                continue;
            }
            found => found.map(|about| about.len()),
        };
        let read = || match length {
            Ok(length) if length > LONGER * (ours.len() as u64 + 4096) => Err(format!("it has {length} bytes")),
            Ok(_) => robust_core::files::read(&path, LONGER * (ours.len() as u64 + 4096))
                .map_err(|e| format!("it cannot be read: {e}")),
            Err(e) => Err(format!("it cannot be read: {e}")),
        };
        match read().and_then(|there| differs(name, &there, ours)) {
            Ok(()) => tables.hold.push(name.to_string()),
            Err(why) => tables.wrong.push((name.to_string(), why)),
        }
    }
    tables.unchecked = strangers(root, &record.plan, &expected);
    Ok(tables)
}

fn differs(name: &str, there: &[u8], ours: &str) -> Result<(), String> {
    if there == ours.as_bytes() {
        return Ok(());
    }
    let there = std::str::from_utf8(there).map_err(|_| "it is not UTF-8 text".to_string())?;
    if !name.ends_with(".json") {
        return columns(there, ours);
    }
    let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("it is not JSON: {e}"));
    fields("", &parsed(there)?, &parsed(ours)?)
}

/// Every field that is there must be ours; a version that knew fewer of them may have written it.
fn fields(at: &str, there: &Value, ours: &Value) -> Result<(), String> {
    let join = |key: &str| if at.is_empty() { key.to_string() } else { format!("{at}.{key}") };
    match (there, ours) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().try_for_each(|(key, value)| fields(&join(key), value, y.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().try_for_each(|(i, (x, y))| fields(&join(&i.to_string()), x, y))
        }
        (Value::Array(x), Value::Array(y)) => Err(format!("{at} has {} entries instead of {}", x.len(), y.len())),
        _ if there == ours => Ok(()),
        _ => Err(format!("{at} is {}, the outcomes say {}", short(there), short(ours))),
    }
}

fn short(value: &Value) -> String {
    crate::escape::line(&value.to_string().chars().take(60).collect::<String>())
}

/// The same for columns by their names.
fn columns(there: &str, ours: &str) -> Result<(), String> {
    let read = |text: &str| -> Result<Vec<Vec<String>>, String> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let rows = reader.records().map(|r| r.map(|r| r.iter().map(str::to_string).collect()));
        rows.collect::<Result<_, _>>().map_err(|e| format!("it is not CSV: {e}"))
    };
    let (there, ours) = (read(there)?, read(ours)?);
    let (Some((head, rows)), Some((known, expected))) = (there.split_first(), ours.split_first()) else {
        return Err("it has no header".to_string());
    };
    if rows.len() != expected.len() {
        return Err(format!("it has {} rows instead of {}", rows.len(), expected.len()));
    }
    for (i, name) in head.iter().enumerate() {
        let at = known
            .iter()
            .position(|k| k == name)
            .ok_or_else(|| format!("it has a column `{}`", crate::escape::line(name)))?;
        for (row, (mine, theirs)) in (1..).zip(expected.iter().zip(rows)) {
            let (mine, theirs) = (mine.get(at), theirs.get(i));
            if mine != theirs {
                let said = |v: Option<&String>| v.map_or("nothing".to_string(), |v| crate::escape::line(v));
                let (theirs, mine) = (said(theirs), said(mine));
                return Err(format!("{name} of row {row} is {theirs}, the outcomes say {mine}"));
            }
        }
    }
    match head.is_empty() || rows.iter().any(|row| row.len() != head.len()) {
        true => Err("its rows are of several lengths".to_string()),
        false => Ok(()),
    }
}

/// What lies in the folder beside all that.
fn strangers(root: &Path, plan: &Plan, tables: &[(&'static str, String)]) -> Vec<String> {
    let mut known: BTreeSet<String> = ["run.json", "outcomes.jsonl", "evidence", "heads"].map(String::from).into();
    known.extend(tables.iter().map(|(name, _)| name.to_string()));
    known.extend(plan.units().iter().map(|unit| format!("evidence/{}.safetensors", unit.name())));
    known.extend(plan.models.iter().filter_map(|m| m.head.as_ref()).map(|head| head.file.clone()));
    let mut strange = vec![];
    for (folder, before) in
        [(root.to_path_buf(), ""), (root.join("evidence"), "evidence/"), (root.join("heads"), "heads/")]
    {
        let Ok(listing) = folder.read_dir() else { continue };
        let names = listing.flatten().map(|entry| format!("{before}{}", entry.file_name().to_string_lossy()));
        strange.extend(names.filter(|name| !known.contains(name)));
    }
    strange.sort();
    let more = strange.len().saturating_sub(NAMED);
    strange.truncate(NAMED);
    if more > 0 {
        strange.push(format!("and {more} more files"));
    }
    strange
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_a_version_with_fewer_fields_holds_and_a_changed_one_does_not() {
        let ours = r#"{"schema":"s","results":[{"n":3,"rate":0.5,"new":1}]}"#;
        let says = |there: &str| differs("summary.json", there.as_bytes(), ours);
        assert!(says(ours).is_ok() && says(r#"{"schema":"s","results":[{"n":3,"rate":0.5}]}"#).is_ok());
        assert!(says(&ours.replace("0.5", "0.6")).unwrap_err().contains("results.0.rate is 0.6, the outcomes say 0.5"));
        assert!(says(r#"{"schema":"s","results":[]}"#).unwrap_err().contains("0 entries"));
        assert!(says(&ours.replace("\"n\":3", "\"n\":3,\"extra\":1")).is_err());
        assert!(says("nonsense").unwrap_err().contains("not JSON"));
        assert!(differs("summary.json", b"\xff\xfe", ours).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn columns_are_compared_by_their_names() {
        let ours = "model,n,new\nm,3,x\nk,4,y\n";
        let says = |there: &str| differs("summary.csv", there.as_bytes(), ours);
        assert!(says(ours).is_ok() && says("model,n\nm,3\nk,4\n").is_ok());
        assert!(says("model,n\nm,3\nk,5\n").unwrap_err().contains("n of row 2 is 5, the outcomes say 4"));
        for wrong in ["", "model,n\nm,3\n", "model,n\nm,3\nk\n", "model,n\nm,3,9\nk,4\n", "model,m\nm,3\nk,4\n"] {
            assert!(says(wrong).is_err(), "{wrong}");
        }
    }
}
