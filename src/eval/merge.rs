//! Shards of one plan become the run they are parts of, byte for byte.

use crate::encoder::heads;
use crate::eval::evidence::{self, Points};
use crate::eval::journal::{self, Journal};
use crate::eval::plan::{Plan, PlannedHead, Unit};
use crate::eval::record::{self, RunRecord};
use crate::eval::rows;
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

/// Joins the run folders `parts` into the folder `out` and gives its record, its outcomes and the lock on it. Units that
/// several parts hold must agree to the byte. A folder that holds the joined run already, or its beginning because an
/// earlier call was killed, is checked and completed.
///
/// # Errors
/// Kind `Usage` for parts of different plans and a folder that holds something else, `Evidence` for parts that disagree,
/// `Incomplete` naming what is missing.
pub fn merge(parts: &[PathBuf], out: &Path) -> Result<(RunRecord, Vec<Outcome>, Journal)> {
    let records: Vec<RunRecord> = parts.iter().map(|p| record::read_record(p)).collect::<Result<_>>()?;
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
    let sessions = records.iter().flat_map(|r| r.sessions.clone()).collect();
    let (record, mut journal, there) = begin(RunRecord { plan: whole, sessions, ..first.clone() }, out)?;
    keep_heads(&record.plan, &parts[0], out)?;
    let mut outcomes = vec![];
    for unit in record.plan.units() {
        let Some(part) = units.remove(&unit.name()) else { continue };
        let earlier = there.get(outcomes.len()..(outcomes.len() + unit.count).min(there.len())).unwrap_or_default();
        if earlier.is_empty() {
            write_points(&record.plan, unit, &part, out)?;
            journal.append(&part.outcomes)?;
        } else {
            check_earlier(&record.plan, unit, &part, earlier, out)?;
        }
        outcomes.extend(part.outcomes);
    }
    Ok((record, outcomes, journal))
}

/// The folder of the joined run: a new one, or what an earlier call left there.
fn begin(record: RunRecord, out: &Path) -> Result<(RunRecord, Journal, Vec<Outcome>)> {
    if !record::exists(out) {
        let journal = journal::create(out)?;
        record::write_record(out, &record)?;
        return Ok((record, journal, vec![]));
    }
    let there = record::read_record(out)?;
    if there.plan.shard.is_some() || there.plan.fingerprint()? != record.plan.fingerprint()? {
        return Err(Error::usage(format!("folder {} is not empty: it holds another run", out.display()))
            .hint("choose a new folder with --out"));
    }
    let (journal, outcomes) = journal::resume(out, &there.plan)?;
    Ok((there, journal, outcomes))
}

fn write_points(plan: &Plan, unit: Unit, part: &Part, out: &Path) -> Result<()> {
    let (model, attack) = (&plan.models[unit.model], &plan.models[unit.model].attacks[unit.attack]);
    let mut points: Vec<(u64, Vec<f32>)> = part.points.iter().map(|(id, x)| (*id, x.clone())).collect();
    points.sort_by_key(|(id, _)| *id);
    evidence::write(out, &unit.name(), &model.name, &attack.label, &attack.threat.input.shape, &points)
}

/// What an earlier call joined must be what this one joins; points that went missing are written again.
fn check_earlier(plan: &Plan, unit: Unit, part: &Part, earlier: &[Outcome], out: &Path) -> Result<()> {
    let (model, attack) = (&plan.models[unit.model], &plan.models[unit.model].attacks[unit.attack]);
    if evidence::is_missing(out, &unit.name(), plan.evidence, attack, earlier) {
        write_points(plan, unit, part, out)?;
    }
    let points = evidence::read(out, &unit.name(), &model.name, &attack.label)?;
    agree(&Part { outcomes: earlier.to_vec(), points, from: out.to_path_buf() }, part)
}

/// The heads that the shards fitted, each the same ones.
fn keep_heads(plan: &Plan, from: &Path, out: &Path) -> Result<()> {
    let planned: Vec<&PlannedHead> = plan.models.iter().filter_map(|m| m.head.as_ref()).collect();
    let read = |p: &&PlannedHead| Head::read(&heads::place(from, p)?);
    let heads: Vec<Head> = planned.iter().map(read).collect::<Result<_>>()?;
    heads::keep(out, planned.into_iter().zip(&heads))
}

fn collect(record: &RunRecord, path: &Path, units: &mut BTreeMap<String, Part>) -> Result<()> {
    let lines = journal::read_outcomes(path, &record.plan)?.outcomes;
    // A torn end belongs to a shard that is still running or was killed: its whole units count.
    for (unit, outcomes) in journal::by_unit(&record.plan, &lines).filter(|(unit, mine)| mine.len() == unit.count) {
        let model = &record.plan.models[unit.model];
        let attack = &model.attacks[unit.attack];
        let points = evidence::read(path, &unit.name(), &model.name, &attack.label)?;
        let (shape, wanted) = (&attack.threat.input.shape, attack.threat.input.len());
        if let Some((id, x)) = points.iter().find(|(_, x)| x.len() != wanted) {
            let why =
                format!("the point of sample {id} has {} values, inputs of shape {shape:?} have {wanted}", x.len());
            return Err(Error::load(path.join("evidence").join(unit.name()).display(), why)
                .hint("the folder was changed: restore it, or run this shard again"));
        }
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

fn incomplete(whole: &Plan, missing: &[Unit], records: &[RunRecord]) -> Error {
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
