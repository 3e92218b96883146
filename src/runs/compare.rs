//! Two rows of results on the same samples: what changed, and whether it means anything.

use super::pairing;
use crate::escape::line;
use crate::report::{Row, is_worst};
use crate::runs::finished::{FinishedRun, Verdicts, brief, ids_digest, pair};
use crate::runs::stats::{Paired, Side, detectable_drop, p_text};
use robust_core::{Error, Result, Verdict};
use serde::Serialize;
use serde_json::Value;

pub const SCHEMA: &str = "robust.compare/1";

/// The chance of seeing a drop that "detectable" stands for.
pub const POWER: f64 = 0.8;

/// One row of a run.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub run: &'a FinishedRun,
    pub row: &'a Row,
}

/// Who is compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    pub run: String,
    pub model: String,
    pub attack: String,
    pub threat: String,
    pub model_digest: String,
    pub n: u64,
    pub held: u64,
    pub robust_accuracy: f64,
    pub robust_interval: (f64, f64),
}

/// Everything that is said of a pair. `drop` is positive when B is less robust than A.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub schema: &'static str,
    pub a: Named,
    pub b: Named,
    pub samples: Paired,
    pub drop: f64,
    /// Newcombe's 95 % interval of `drop`.
    pub interval: (f64, f64),
    /// McNemar's test, two-sided: exact, and with the mid-p correction.
    pub p_exact: f64,
    pub p_mid: f64,
    /// The smallest drop that a one-sided mid-p test at `alpha` on these samples sees with a chance of 80 %.
    pub detectable_drop: Option<f64>,
    pub alpha: f64,
    /// Ids of the samples that held under A and not under B, and the other way round.
    pub broken: Vec<u64>,
    pub fixed: Vec<u64>,
    pub notes: Vec<String>,
}

/// Which row of a run is meant.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub model: Option<String>,
    /// A label, `worst-case`, or nothing for the worst case.
    pub attack: Option<String>,
    /// Where a model has worst cases under several threat models.
    pub threat: Option<String>,
}

/// The row that a choice leaves.
///
/// # Errors
/// Kind `Usage` when there is none or more than one, with what to choose from.
pub fn choose<'a>(run: &'a FinishedRun, choice: &Choice) -> Result<Place<'a>> {
    if let Some(model) = &choice.model {
        run.model(model)?;
    }
    let wanted = |row: &&Row| {
        let attack = match choice.attack.as_deref() {
            None | Some("worst-case") => is_worst(&row.attack),
            Some(label) => row.attack == label,
        };
        attack
            && choice.model.as_ref().is_none_or(|m| *m == row.model)
            && choice.threat.as_ref().is_none_or(|t| is_threat(run, row, t))
    };
    let mut rows = run.rows.iter().filter(wanted);
    let unclear = |why: String, option: &str, names: Vec<String>| {
        let mut names: Vec<String> = names.iter().map(|n| format!("`{}`", line(n))).collect();
        names.dedup();
        Err(Error::usage(format!("run {}: {why}", run.name())).hint(format!("{option}: {}", names.join(", "))))
    };
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(Place { run, row }),
        (Some(a), Some(b)) if a.model != b.model => {
            let names = run.record.plan.models.iter().map(|m| m.name.clone()).collect();
            unclear("it has several models".to_string(), "choose with --model", names)
        }
        (Some(a), Some(b)) => unclear(
            "it has several threat models".to_string(),
            "choose with --threat",
            vec![a.threat.clone(), b.threat.clone()],
        ),
        (None, _) => {
            let (asked, what, names): (_, _, Vec<String>) = match (&choice.threat, &choice.attack) {
                (Some(threat), None) => {
                    (threat, "its threat models are", run.rows.iter().map(|r| r.threat.clone()).collect())
                }
                (_, Some(attack)) => (attack, "its attacks are", run.rows.iter().map(|r| r.attack.clone()).collect()),
                (None, None) => return unclear("it has no worst case".to_string(), "finish it with --resume", vec![]),
            };
            unclear(format!("nothing matches `{}`", line(asked)), what, names)
        }
    }
}

/// Whether a text means the threat model of a row: as tables round it, as pages write it (`Linf 8/255`), or with any
/// epsilon that rounds to the same.
fn is_threat(run: &FinishedRun, row: &Row, text: &str) -> bool {
    if text == row.threat {
        return true;
    }
    let number = |t: &str| match t.split_once('/') {
        Some((a, b)) => Some(a.trim().parse::<f64>().ok()? / b.trim().parse::<f64>().ok()?),
        None => t.parse().ok(),
    };
    let asked =
        text.trim().split_once([' ', ':']).and_then(|(n, e)| Some((n, number(e.trim().trim_start_matches("eps="))?)));
    let Some((asked, asked_eps)) = asked else { return false };
    let attacks = run.model(&row.model).map_or(&[][..], |m| &m.attacks);
    attacks.iter().filter(|a| a.threat_text() == row.threat).any(|a| match a.threat.region {
        robust_core::Region::Ball { norm, eps } => {
            norm.to_string().eq_ignore_ascii_case(asked) && (eps - asked_eps).abs() < 5e-7
        }
        _ => false,
    })
}

/// What keeps two rows from being compared, a sentence each. `attacks`: whether different attacks were asked for.
pub fn obstacles(a: Place, b: Place, attacks: bool) -> Vec<String> {
    let mut found = vec![];
    let mut differ = |what: &str, x: String, y: String| {
        if x != y {
            found.push(format!("{what}: {} and {}", line(&x), line(&y)));
        }
    };
    let data = |p: Place| {
        let by =
            if p.run.record.plan.dataset.is_by_names() { ", of names and sizes alone: an earlier version" } else { "" };
        format!("{} ({}{by})", p.row.dataset, brief(&p.row.data_digest))
    };
    let same_data = a.row.data_digest == b.row.data_digest;
    if !same_data {
        differ("data set", data(a), data(b));
    }
    let samples = |p: Place| {
        let ids: Vec<u64> = p.run.verdicts(p.row).into_keys().collect();
        format!("{} ({}, ids {})", ids.len(), p.run.record.plan.pick, brief(&ids_digest(ids)))
    };
    differ("samples", samples(a), samples(b));
    differ("threat model", a.row.threat.clone(), b.row.threat.clone());
    let compat = |p: Place| match p.run.is_compat(p.row) {
        true => "the reference's counts".to_string(),
        false => "ours".to_string(),
    };
    differ("way of counting", compat(a), compat(b));
    if let (true, Ok(x), Ok(y)) = (same_data, a.run.model(&a.row.model), b.run.model(&b.row.model)) {
        found.extend(pairing::obstacle((a.run, x), (b.run, y)));
    }
    if !attacks {
        found.extend(attack_differences(a, b));
    }
    found
}

fn attack_differences(a: Place, b: Place) -> Vec<String> {
    let (x, y) = (a.run.facts(a.row), b.run.facts(b.row));
    if x == y {
        return vec![];
    }
    let (mine, theirs) = (a.run.attacks(a.row), b.run.attacks(b.row));
    if mine != theirs {
        return vec![format!("attacks: {} and {}", line(&mine.join(" + ")), line(&theirs.join(" + ")))];
    }
    let parts = x.iter().zip(&y).zip(&mine).filter(|((x, y), _)| x != y);
    parts.map(|((x, y), label)| format!("{}: {}", line(label), settings(x, y))).collect()
}

/// The settings in which two attacks of one name differ.
fn settings(x: &Value, y: &Value) -> String {
    let flat = |v: &Value| -> Vec<(String, Value)> {
        let own = v.as_object().into_iter().flatten().filter(|(k, _)| *k != "params");
        let params = v["params"].as_object().into_iter().flatten();
        own.chain(params).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let (x, y) = (flat(x), flat(y));
    let of = |side: &[(String, Value)], key: &str| {
        side.iter().find(|(k, _)| k == key).map_or("nothing".to_string(), |(_, v)| v.to_string())
    };
    let mut keys: Vec<&String> = x.iter().chain(&y).map(|(k, _)| k).collect();
    keys.sort();
    keys.dedup();
    let changed = keys.into_iter().map(|k| (k, of(&x, k), of(&y, k))).filter(|(_, a, b)| a != b);
    line(&changed.map(|(k, a, b)| format!("{k} is {a} and {b}")).collect::<Vec<_>>().join(", "))
}

/// Compares two rows. `attacks`: whether different attacks were asked for.
///
/// # Errors
/// Kind `Usage` naming what differs when they are not of the same thing.
pub fn compare(a: Place, b: Place, attacks: bool, alpha: f64) -> Result<Comparison> {
    if let Some(free) = [a, b].into_iter().find(|p| p.row.distances.is_some()) {
        return Err(Error::usage(format!(
            "{} of run {} has no epsilon, so there is no share of samples that it leaves standing",
            line(&free.row.attack),
            free.run.name()
        ))
        .hint("compare the distances in outcomes.jsonl, or evaluate it with an eps in both runs"));
    }
    let differ = obstacles(a, b, attacks);
    if !differ.is_empty() {
        return Err(Error::usage(format!("these are not comparable; {}", differ.join("; ")))
            .hint("evaluate both with the same data, samples and attacks"));
    }
    let (was, is) = (a.run.verdicts(a.row), b.run.verdicts(b.row));
    let samples = pair(&was, &is);
    let changed = |from: &Verdicts, to: &Verdicts| -> Vec<u64> {
        let held = |v: &Verdicts, id: &u64| v.get(id) == Some(&Verdict::Held);
        from.keys().filter(|id| held(from, id) && !held(to, id)).copied().collect()
    };
    let (low, high) = samples.newcombe(0.95);
    let detectable = detectable_drop(samples.n(), samples.churn(), alpha, POWER);
    Ok(Comparison {
        schema: SCHEMA,
        a: named(a),
        b: named(b),
        drop: samples.drop(),
        interval: (low, high),
        p_exact: samples.mcnemar_exact(Side::Two),
        p_mid: samples.mcnemar_mid_p(Side::Two),
        detectable_drop: detectable.map(|d| d as f64 / samples.n() as f64),
        alpha,
        broken: changed(&was, &is),
        fixed: changed(&is, &was),
        notes: notes(a, b),
        samples,
    })
}

fn named(p: Place) -> Named {
    Named {
        run: p.run.name(),
        model: p.row.model.clone(),
        attack: p.row.attack.clone(),
        threat: p.row.threat.clone(),
        model_digest: p.row.model_digest.clone(),
        n: p.row.n,
        held: p.row.held,
        robust_accuracy: p.row.robust_accuracy,
        robust_interval: p.row.robust_interval,
    }
}

fn notes(a: Place, b: Place) -> Vec<String> {
    let mut notes: Vec<String> = [a, b].iter().filter_map(|p| p.run.warning()).collect();
    let (x, y) = (&a.run.record.plan, &b.run.record.plan);
    if a.row.model_digest == b.row.model_digest && (a.row.model != b.row.model || a.run.root != b.run.root) {
        notes.push("both sides are the same model, to the last weight.".to_string());
    }
    if x.seed != y.seed {
        notes.push(format!("the seeds differ ({} and {}): some changes are noise of the attack.", x.seed, y.seed));
    }
    if x.robust != y.robust {
        let (x, y) = (line(&x.robust), line(&y.robust));
        notes.push(format!("made by robust {x} and {y}: the attacks may search differently."));
    }
    for p in [a, b] {
        if p.row.failed > 0 {
            notes.push(format!(
                "{} samples of {} could not be judged and count as not robust.",
                p.row.failed,
                line(&p.row.model)
            ));
        }
        if let Some(grade) = p.row.reliability.filter(|g| *g != crate::doctor::Grade::Reliable) {
            notes.push(format!("{}: the doctor calls its numbers {grade}, see diagnostics.json.", line(&p.row.model)));
        }
        if p.row.reliability.is_none() {
            notes.push(format!("{}: the doctor did not look at it.", line(&p.row.model)));
        }
    }
    notes
}

/// Ids named per list unless all are asked for.
const NAMED: usize = 20;

/// The comparison in words; `all` lists every changed sample.
pub fn to_text(c: &Comparison, all: bool) -> String {
    let percent = |v: f64| format!("{:.1} %", 100. * v);
    // Adding zero makes the negative zero of a difference positive; what rounds to zero is zero too.
    let points = |v: f64| format!("{:+.1} pp", (1000. * v).round() / 10. + 0.);
    let side = |letter: char, n: &Named| {
        format!(
            "{letter}: {} under {} ({}), run {}: {} of {} robust, {} ({} - {})\n",
            line(&n.model),
            line(&n.attack),
            line(&n.threat),
            line(&n.run),
            n.held,
            n.n,
            percent(n.robust_accuracy),
            percent(n.robust_interval.0),
            percent(n.robust_interval.1)
        )
    };
    let s = &c.samples;
    let mut text = side('A', &c.a) + &side('B', &c.b);
    text += &format!("\n{:>16}{:>12}{:>14}\n", "", "B robust", "B not robust");
    text += &format!("{:>16}{:>12}{:>14}\n", "A robust", s.both, s.broken);
    text += &format!("{:>16}{:>12}{:>14}\n\n", "A not robust", s.fixed, s.neither);
    text += &format!(
        "B - A: {} (95 % interval {} to {}, Newcombe)\n",
        points(-c.drop),
        points(-c.interval.1),
        points(-c.interval.0)
    );
    text += &format!("McNemar, two-sided: exact {}, mid-p {}\n", p_text(c.p_exact), p_text(c.p_mid));
    text += &match c.detectable_drop {
        Some(drop) => format!(
            "On {} such samples a drop of {:.1} pp is seen with a chance of 80 % (one-sided, alpha {}).\n",
            s.n(),
            100. * drop,
            c.alpha
        ),
        None => format!("{} samples are too few to see any drop (one-sided, alpha {}).\n", s.n(), c.alpha),
    };
    for (what, ids) in [("robust under A only", &c.broken), ("robust under B only", &c.fixed)] {
        text += &format!("{what}: {}\n", list(ids, all));
    }
    c.notes.iter().for_each(|n| text += &format!("note: {n}\n"));
    text
}

fn list(ids: &[u64], all: bool) -> String {
    let shown = if all { ids.len() } else { NAMED.min(ids.len()) };
    let named: Vec<String> = ids[..shown].iter().map(u64::to_string).collect();
    match ids.len() - shown {
        _ if ids.is_empty() => "none".to_string(),
        0 => named.join(", "),
        more => format!("{} and {more} more (--all lists them)", named.join(", ")),
    }
}

/// [`SCHEMA`]; always with every id.
///
/// # Errors
/// None in practice.
pub fn to_json(c: &Comparison) -> Result<String> {
    Ok(serde_json::to_string_pretty(c).map_err(|e| Error::internal(format!("comparison: {e}")))? + "\n")
}
