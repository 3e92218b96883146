//! Shards of one plan become the run they are parts of, byte for byte.

use crate::evidence::{self, Points};
use crate::folder::{self, Record};
use crate::heads;
use crate::plan::{Plan, PlannedHead, Unit};
use crate::rows;
use robust_core::{Error, Kind, Outcome, Result};
use robust_models::Head;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Units named in a message about what is missing.
const NAMED: usize = 12;

struct Part {
    outcomes: Vec<Outcome>,
    points: Points,
    from: PathBuf,
}

/// Joins the run folders `parts` into the new folder `out` and gives its record and outcomes. Units that several parts
/// hold must agree to the byte.
///
/// # Errors
/// Kind `Usage` for parts of different plans, `Evidence` for parts that disagree, `Incomplete` naming what is missing.
pub fn merge(parts: &[PathBuf], out: &Path) -> Result<(Record, Vec<Outcome>)> {
    let records: Vec<Record> = parts.iter().map(|p| folder::read_record(p)).collect::<Result<_>>()?;
    let Some(first) = records.first() else {
        return Err(Error::usage("nothing to merge").hint("name the run folders of the shards"));
    };
    let whole = Plan { shard: None, ..first.plan.clone() };
    for (record, path) in records.iter().zip(parts) {
        if record.plan.fingerprint()? != first.plan.fingerprint()? {
            let differences = first.plan.differences(&record.plan)?.join("; ");
            return Err(Error::usage(format!(
                "{} is of another plan than {}: {differences}",
                path.display(),
                parts[0].display()
            ))
            .hint("merge shards of one command only"));
        }
    }
    let mut units: BTreeMap<String, Part> = BTreeMap::new();
    for (record, path) in records.iter().zip(parts) {
        collect(record, path, &mut units)?;
    }
    let missing: Vec<Unit> = whole.units().into_iter().filter(|u| !units.contains_key(&u.name())).collect();
    if !missing.is_empty() {
        return Err(incomplete(&whole, &missing, &records));
    }
    rows::consistent(&whole, units.values().flat_map(|part| &part.outcomes))?;
    let mut journal = folder::create(out)?;
    keep_heads(&whole, &parts[0], out)?;
    let sessions = records.iter().flat_map(|r| r.sessions.clone()).collect();
    let record = Record { plan: whole, sessions, ..first.clone() };
    folder::write_record(out, &record)?;
    let mut outcomes = vec![];
    for unit in record.plan.units() {
        let Some(part) = units.remove(&unit.name()) else { continue };
        let attack = &record.plan.models[unit.model].attacks[unit.attack];
        let mut points: Vec<(u64, Vec<f32>)> = part.points.into_iter().collect();
        points.sort_by_key(|(id, _)| *id);
        let shape = &attack.threat.input.shape;
        evidence::write(out, &unit.name(), &record.plan.models[unit.model].name, &attack.label, shape, &points)?;
        journal.append(&part.outcomes)?;
        outcomes.extend(part.outcomes);
    }
    Ok((record, outcomes))
}

/// The heads that the shards fitted, each the same ones.
fn keep_heads(plan: &Plan, from: &Path, out: &Path) -> Result<()> {
    let planned: Vec<&PlannedHead> = plan.models.iter().filter_map(|m| m.head.as_ref()).collect();
    let read = |p: &&PlannedHead| Head::read(&heads::place(from, p)?);
    let heads: Vec<Head> = planned.iter().map(read).collect::<Result<_>>()?;
    heads::keep(out, planned.into_iter().zip(&heads))
}

fn collect(record: &Record, path: &Path, units: &mut BTreeMap<String, Part>) -> Result<()> {
    let lines = folder::read_outcomes(path, &record.plan)?.outcomes;
    // A torn end belongs to a shard that is still running or was killed: its whole units count.
    for (unit, outcomes) in folder::by_unit(&record.plan, &lines).filter(|(unit, mine)| mine.len() == unit.count) {
        let model = &record.plan.models[unit.model];
        let points = evidence::read(path, &unit.name(), &model.name, &model.attacks[unit.attack].label)?;
        let part = Part { outcomes: outcomes.to_vec(), points, from: path.to_path_buf() };
        if let Some(other) = units.get(&unit.name()) {
            agree(other, &part)?;
        }
        units.insert(unit.name(), part);
    }
    Ok(())
}

fn agree(a: &Part, b: &Part) -> Result<()> {
    let differs = a.outcomes.iter().zip(&b.outcomes).find(|(x, y)| x != y).map(|(x, _)| x.id);
    let bits = |p: &Points, id: u64| p.get(&id).map(|x| x.iter().map(|v| v.to_bits()).collect::<Vec<u32>>());
    let points = a.outcomes.iter().map(|o| o.id).find(|id| bits(&a.points, *id) != bits(&b.points, *id));
    match differs.or(points) {
        Some(id) => Err(Error::new(
            Kind::Evidence,
            format!("{} and {} disagree about sample {id}", a.from.display(), b.from.display()),
        )
        .hint("the model is not deterministic, or one of the folders was changed: `robust verify` tells which")),
        None => Ok(()),
    }
}

fn incomplete(whole: &Plan, missing: &[Unit], records: &[Record]) -> Error {
    let place = |u: &Unit| {
        let model = &whole.models[u.model];
        let (first, last) = (whole.ids[u.start], whole.ids[u.start + u.count - 1]);
        format!("{} {} samples {first}-{last}", model.name, model.attacks[u.attack].label)
    };
    let mut list: Vec<String> = missing.iter().take(NAMED).map(place).collect();
    if missing.len() > NAMED {
        list.push(format!("and {} more units", missing.len() - NAMED));
    }
    let error = Error::new(Kind::Incomplete, format!("{} units are missing: {}", missing.len(), list.join("; ")));
    let all = whole.units();
    match records.iter().find_map(|r| r.plan.shard) {
        Some(shard) => {
            let number = |u: &Unit| all.iter().position(|a| a == u).map(|i| i as u64 % shard.of + 1);
            let mut again: Vec<u64> = missing.iter().filter_map(number).collect();
            again.sort_unstable();
            again.dedup();
            let again: Vec<String> = again.iter().map(|k| format!("{k}/{}", shard.of)).collect();
            error.hint(format!("run or resume --shard {}", again.join(", ")))
        }
        None => error.hint("finish the runs with --resume"),
    }
}
