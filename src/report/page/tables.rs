//! The numbers for programs: CSV with a line per model and attack, CSV with a line per model, JSON with the keys of
//! RobustBench, and what is embedded in the page.

use super::epsilon::epsilon;
use super::leaderboard::{Entry, Group, groups};
use super::subjects::subjects;
use crate::escape::{self, cell};
use crate::report::{SCHEMA, is_worst, written};
use crate::runs::finished::FinishedRun;
use robust_core::{Error, Result};
use serde_json::{Value, json};

const LONG: [&str; 26] = [
    "run",
    "model",
    "dataset",
    "attack",
    "threat",
    "norm",
    "eps",
    "n",
    "clean_accuracy",
    "clean_low",
    "clean_high",
    "robust_accuracy",
    "robust_low",
    "robust_high",
    "held",
    "fooled",
    "failed",
    "fragile",
    "forwards",
    "backwards",
    "seconds",
    "seed",
    "full",
    "reliability",
    "model_digest",
    "data_digest",
];

/// One line per model and attack, and per worst case. Texts that a spreadsheet would run begin with `'`.
///
/// # Errors
/// None in practice.
pub fn to_long_csv(runs: &[FinishedRun]) -> Result<String> {
    let rows = runs.iter().flat_map(|run| {
        run.rows.iter().map(move |r| {
            let texts =
                [run.name(), r.model.clone(), r.dataset.clone(), r.attack.clone(), r.threat.clone(), r.norm.clone()];
            let rates = [
                r.clean_accuracy,
                r.clean_interval.0,
                r.clean_interval.1,
                r.robust_accuracy,
                r.robust_interval.0,
                r.robust_interval.1,
            ];
            let counts = [r.held, r.fooled, r.failed, r.fragile, r.forwards, r.backwards];
            let grade = crate::doctor::grade_text(r.reliability);
            let mut row: Vec<String> = texts.iter().map(|t| cell(t)).collect();
            row.extend([r.eps.to_string(), r.n.to_string()]);
            row.extend(rates.iter().map(|v| if v.is_nan() { String::new() } else { v.to_string() }));
            row.extend(counts.iter().map(u64::to_string));
            row.extend([format!("{:.3}", r.seconds), r.seed.to_string(), r.full.to_string(), grade]);
            row.extend([cell(&r.model_digest), cell(&r.data_digest)]);
            row
        })
    });
    written(std::iter::once(LONG.map(String::from).to_vec()).chain(rows))
}

/// One line per model and threat model, a column per attack; groups that are not comparable follow each other.
///
/// # Errors
/// None in practice.
pub fn to_wide_csv(runs: &[FinishedRun]) -> Result<String> {
    let subjects = subjects(runs);
    let groups = groups(&subjects);
    let mut attacks: Vec<&str> = vec![];
    for row in groups.iter().flat_map(|g| &g.entries).flat_map(|e| &e.rows) {
        if !attacks.contains(&row.attack.as_str()) {
            attacks.push(&row.attack);
        }
    }
    let head = ["group", "data", "threat", "model", "n", "clean_accuracy"].map(String::from).into_iter();
    let head = head.chain(attacks.iter().map(|a| cell(a)));
    let last = ["worst_case", "worst_low", "worst_high", "failed", "reliability", "model_digest", "data_digest"];
    let head = head.chain(last.map(String::from)).collect();
    let line = |index: usize, group: &Group, entry: &Entry| {
        let w = entry.worst;
        let held = |a: &&str| {
            entry.rows.iter().find(|r| r.attack == **a).map_or(String::new(), |r| r.robust_accuracy.to_string())
        };
        let mut row = vec![(index + 1).to_string(), cell(&group.data), cell(&group.threat), cell(&entry.subject.label)];
        row.extend([w.n.to_string(), w.clean_accuracy.to_string()]);
        row.extend(attacks.iter().map(held));
        row.extend([w.robust_accuracy, w.robust_interval.0, w.robust_interval.1].map(|v| v.to_string()));
        row.extend([w.failed.to_string(), crate::doctor::grade_text(w.reliability)]);
        row.extend([cell(&w.model_digest), cell(&w.data_digest)]);
        row
    };
    let lines = groups.iter().enumerate().flat_map(|(i, g)| g.entries.iter().map(move |e| (i, g, e)));
    written(std::iter::once(head).chain(lines.map(|(i, g, e)| line(i, g, e))))
}

/// `{"schema", "models": [...]}`: the keys of RobustBench's model files (`clean_acc`, `autoattack_acc`, `external`, in
/// percent as text) and beside them what makes them comparable. `autoattack_acc` is there only where AutoAttack ran.
///
/// # Errors
/// None in practice.
pub fn to_robustbench(runs: &[FinishedRun]) -> Result<String> {
    let subjects = subjects(runs);
    let groups = groups(&subjects);
    let models: Vec<Value> = groups.iter().flat_map(|g| g.entries.iter().map(move |e| robustbench(g, e))).collect();
    let value = json!({ "schema": "robust.report/1", "models": models });
    Ok(serde_json::to_string_pretty(&value).map_err(|e| Error::internal(format!("report: {e}")))? + "\n")
}

fn robustbench(group: &Group, entry: &Entry) -> Value {
    let percent = |v: f64| format!("{:.2}", 100. * v);
    let (w, plan) = (entry.worst, &entry.subject.run.record.plan);
    let standard = |label: &str| {
        let attack = entry.subject.model.attacks.iter().find(|a| a.label == label);
        attack.is_some_and(|a| a.attack == "autoattack" && a.params.get("version").is_none_or(|v| v == "standard"))
    };
    let auto = entry.rows.iter().find(|r| standard(&r.attack)).map(|r| percent(r.robust_accuracy));
    let attacks: serde_json::Map<String, Value> =
        entry.rows.iter().map(|r| (r.attack.clone(), json!(percent(r.robust_accuracy)))).collect();
    json!({
        "name": entry.subject.label,
        "dataset": plan.dataset.card.name,
        "threat_model": w.norm,
        "eps": epsilon(w.eps),
        "clean_acc": percent(w.clean_accuracy),
        "autoattack_acc": auto,
        "external": percent(w.robust_accuracy),
        "unreliable": w.reliability.map(|g| g == crate::doctor::Grade::Unreliable),
        "additional_data": Value::Null,
        "architecture": Value::Null,
        "interval_95": [percent(w.robust_interval.0), percent(w.robust_interval.1)],
        "n": w.n,
        "full": w.full,
        "failed": w.failed,
        "compat": group.compat,
        "attacks": attacks,
        "seed": w.seed,
        "model_digest": w.model_digest,
        "data_digest": w.data_digest,
        "run": entry.subject.run.record.fingerprint,
        "robust": plan.robust,
    })
}

/// The rows of all runs, to stand in a script element: no `<` in it.
pub fn embedded(runs: &[FinishedRun]) -> String {
    let rows: Vec<_> = runs.iter().flat_map(|r| &r.rows).filter(|r| r.n > 0 || is_worst(&r.attack)).collect();
    let text = json!({ "schema": SCHEMA, "results": rows }).to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // What could end the element, and what a reader of the source would not see.
        match matches!(c, '<' | '>' | '&') || escape::line(c.encode_utf8(&mut [0; 4])) != c.to_string() {
            true => out += &format!("\\u{:04x}", c as u32),
            false => out.push(c),
        }
    }
    out
}
