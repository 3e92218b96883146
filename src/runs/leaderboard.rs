//! Worst cases of many runs, best first, in groups that may be compared.

use super::pairing;
use crate::doctor::Grade;
use crate::escape::{cell, line, markdown};
use crate::eval::plan::PlannedModel;
use crate::report::{Row, is_worst, written};
use crate::runs::finished::{FinishedRun, ids_digest};
use comfy_table::{CellAlignment, Table, presets};
use robust_core::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

pub const SCHEMA: &str = "robust.leaderboard/1";

/// One model under one threat model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// From 1, within its group; equal results share a rank.
    pub rank: usize,
    pub run: String,
    pub model: String,
    pub n: u64,
    pub clean_accuracy: f64,
    pub clean_interval: (f64, f64),
    pub robust_accuracy: f64,
    pub robust_interval: (f64, f64),
    /// Robust accuracy by attack, in the order of the run.
    pub attacks: Vec<(String, f64)>,
    /// What to know before believing it: see [`FLAGS`].
    pub flags: Vec<String>,
    pub failed: u64,
    pub fragile: u64,
    pub seed: u64,
    pub robust: String,
    pub model_digest: String,
    #[serde(skip)]
    held: u64,
    #[serde(skip)]
    clean_correct: u64,
}

/// Entries on the same samples under the same threat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// From 1.
    pub group: usize,
    pub dataset: String,
    pub threat: String,
    pub n: u64,
    /// Whether these are all samples of the data set.
    pub full: bool,
    pub compat: bool,
    /// Whether every outcome that was planned is there.
    pub complete: bool,
    pub data_digest: String,
    pub ids_digest: String,
    pub entries: Vec<Entry>,
}

/// The flags an entry can have, and what they mean.
pub const FLAGS: [(&str, &str); 9] = [
    ("limited", "a part of the data set's samples: not comparable with published numbers"),
    ("compat", "attacked in the reference's counts: comparable with its numbers only"),
    ("incomplete", "the run has not done all it planned"),
    ("attacks-differ", "other attacks than the first of its group: a weaker set flatters"),
    ("failed", "some samples could not be judged; they count as not robust"),
    ("fragile", "some verdicts lie within rounding of the boundary"),
    ("unchecked", "the doctor did not look at the model"),
    ("doubtful", "the doctor found reasons why the number may be too high"),
    ("unreliable", "the doctor found reasons not to use the number"),
];

/// What must be equal for two rows to stand in one table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    dataset: String,
    threat: String,
    /// In full: the threat's text rounds it.
    eps: String,
    data_digest: String,
    ids_digest: String,
    compat: bool,
    incomplete: bool,
    full: bool,
}

/// An entry, and whose it is.
type Listed<'a> = (&'a FinishedRun, &'a PlannedModel, Entry);

/// Whether no other run says that the same data set has more samples.
fn is_whole(run: &FinishedRun, runs: &[FinishedRun]) -> bool {
    let card = &run.record.plan.dataset.card;
    let same = runs.iter().map(|r| &r.record.plan.dataset.card).filter(|c| c.digest == card.digest);
    same.map(|c| c.samples).max().is_none_or(|most| card.samples == most)
}

/// The groups of all worst-case rows: by data set and threat, each sorted by robust accuracy.
pub fn leaderboard(runs: &[FinishedRun]) -> Vec<Group> {
    let mut groups: BTreeMap<Key, Vec<Vec<Listed>>> = BTreeMap::new();
    for run in runs {
        for row in run.rows.iter().filter(|r| is_worst(&r.attack) && r.n > 0) {
            let Ok(model) = run.model(&row.model) else { continue };
            let (mut key, mut entry) = entry(run, row);
            if key.full && !is_whole(run, runs) {
                key.full = false;
                entry.flags.insert(0, "limited".to_string());
            }
            // One digest, and other images all the same: those stand in tables of their own.
            let tables = groups.entry(key).or_default();
            let alike = |table: &&mut Vec<Listed>| {
                table.iter().all(|(r, m, _)| pairing::obstacle((*r, *m), (run, model)).is_none())
            };
            match tables.iter_mut().find(alike) {
                Some(table) => table.push((run, model, entry)),
                None => tables.push(vec![(run, model, entry)]),
            }
        }
    }
    let tables = groups.into_iter().flat_map(|(key, tables)| tables.into_iter().map(move |t| (key.clone(), t)));
    let entries = |table: Vec<Listed>| table.into_iter().map(|(_, _, entry)| entry).collect::<Vec<Entry>>();
    let groups = tables.map(|(key, table)| (key, entries(table))).zip(1..);
    groups
        .map(|((key, mut entries), group)| {
            let order = |e: &Entry| (std::cmp::Reverse(e.held), std::cmp::Reverse(e.clean_correct));
            entries.sort_by(|a, b| order(a).cmp(&order(b)).then(a.model.cmp(&b.model)).then(a.run.cmp(&b.run)));
            flag_attacks(&mut entries);
            for i in 0..entries.len() {
                entries[i].rank = match i {
                    0 => 1,
                    _ if entries[i].held == entries[i - 1].held => entries[i - 1].rank,
                    _ => i + 1,
                };
            }
            let n = entries.first().map_or(0, |e| e.n);
            let Key { dataset, threat, data_digest, ids_digest, compat, incomplete, full, .. } = key;
            Group { group, dataset, threat, n, full, compat, complete: !incomplete, data_digest, ids_digest, entries }
        })
        .collect()
}

fn flag_attacks(entries: &mut [Entry]) {
    let labels = |e: &Entry| e.attacks.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>();
    let Some(first) = entries.first().map(labels) else { return };
    for entry in entries.iter_mut().filter(|e| labels(e) != first) {
        entry.flags.push("attacks-differ".to_string());
    }
}

fn entry(run: &FinishedRun, row: &Row) -> (Key, Entry) {
    let labels = run.attacks(row);
    let mine = run.rows.iter().filter(|r| r.model == row.model && labels.contains(&r.attack.as_str()));
    let attacks = mine.map(|r| (r.attack.clone(), r.robust_accuracy)).collect();
    let compat = run.is_compat(row);
    let incomplete = run.missing > 0;
    let mut flags = vec![];
    let mut flag = |is: bool, name: &str| {
        if is {
            flags.push(name.to_string());
        }
    };
    flag(!row.full, "limited");
    flag(compat, "compat");
    flag(incomplete, "incomplete");
    flag(row.failed > 0, "failed");
    flag(row.fragile > 0, "fragile");
    flag(row.reliability.is_none(), "unchecked");
    flag(row.reliability == Some(Grade::Doubtful), "doubtful");
    flag(row.reliability == Some(Grade::Unreliable), "unreliable");
    let key = Key {
        dataset: row.dataset.clone(),
        threat: row.threat.clone(),
        eps: row.eps.to_string(),
        data_digest: row.data_digest.clone(),
        ids_digest: ids_digest(run.verdicts(row).into_keys()),
        compat,
        incomplete,
        full: row.full,
    };
    let entry = Entry {
        rank: 0,
        run: run.name(),
        model: row.model.clone(),
        n: row.n,
        clean_accuracy: row.clean_accuracy,
        clean_interval: row.clean_interval,
        robust_accuracy: row.robust_accuracy,
        robust_interval: row.robust_interval,
        attacks,
        flags,
        failed: row.failed,
        fragile: row.fragile,
        seed: row.seed,
        robust: run.record.plan.robust.clone(),
        model_digest: row.model_digest.clone(),
        held: row.held,
        clean_correct: row.clean_correct,
    };
    (key, entry)
}

/// The columns of [`to_csv`]: stable; new ones come after the last.
pub const COLUMNS: [(&str, &str); 24] = [
    ("group", "rows with the same number may be compared, others not"),
    ("rank", "within the group, by robust accuracy; equal results share a rank"),
    ("model", "name"),
    ("dataset", "name"),
    ("threat", "norm and epsilon, or the suite of corruptions"),
    ("n", "samples asked, the denominator of every rate"),
    ("clean_accuracy", "share of n that is classified correctly, 0 to 1"),
    ("clean_low", "Wilson 95 % interval"),
    ("clean_high", "Wilson 95 % interval"),
    ("robust_accuracy", "share of n that is correct under every attack, 0 to 1"),
    ("robust_low", "Wilson 95 % interval"),
    ("robust_high", "Wilson 95 % interval"),
    ("attacks", "labels of the attacks, joined by ` + `"),
    ("per_attack", "robust accuracy under each of them, joined by ` + `"),
    (
        "flags",
        "what to know before believing it, joined by blanks: limited, compat, incomplete, attacks-differ, failed, fragile, unchecked, doubtful, unreliable",
    ),
    ("failed", "samples that could not be judged"),
    ("fragile", "samples whose verdict lies within rounding"),
    ("seed", "of all noise"),
    ("full", "whether all samples of the data set were asked"),
    ("robust", "version that attacked"),
    ("run", "folder of the run"),
    ("model_digest", "blake3 of the network"),
    ("data_digest", "blake3 of the data set"),
    ("ids_digest", "blake3 of the ids of the samples"),
];

/// A header and one line per entry; names are guarded against spreadsheets.
///
/// # Errors
/// None in practice.
pub fn to_csv(groups: &[Group]) -> Result<String> {
    let line = |(g, e): (&Group, &Entry)| -> [String; COLUMNS.len()] {
        let joined =
            |part: &dyn Fn(&(String, f64)) -> String| e.attacks.iter().map(part).collect::<Vec<_>>().join(" + ");
        [
            g.group.to_string(),
            e.rank.to_string(),
            cell(&e.model),
            cell(&g.dataset),
            cell(&g.threat),
            e.n.to_string(),
            e.clean_accuracy.to_string(),
            e.clean_interval.0.to_string(),
            e.clean_interval.1.to_string(),
            e.robust_accuracy.to_string(),
            e.robust_interval.0.to_string(),
            e.robust_interval.1.to_string(),
            cell(&joined(&|(label, _)| label.clone())),
            joined(&|(_, rate)| rate.to_string()),
            e.flags.join(" "),
            e.failed.to_string(),
            e.fragile.to_string(),
            e.seed.to_string(),
            g.full.to_string(),
            cell(&e.robust),
            cell(&e.run),
            cell(&e.model_digest),
            cell(&g.data_digest),
            g.ids_digest.clone(),
        ]
    };
    let lines = groups.iter().flat_map(|g| g.entries.iter().map(move |e| (g, e))).map(line);
    written(std::iter::once(COLUMNS.map(|(name, _)| name.to_string())).chain(lines))
}

/// `{"schema", "groups"}`.
///
/// # Errors
/// None in practice.
pub fn to_json(groups: &[Group]) -> Result<String> {
    let value = serde_json::json!({ "schema": SCHEMA, "groups": groups });
    Ok(serde_json::to_string_pretty(&value).map_err(|e| Error::internal(format!("leaderboard: {e}")))? + "\n")
}

/// More attacks than this share one column.
const WIDE: usize = 6;

/// Header and cells of a group, for people; the first four columns are text.
fn cells(group: &Group) -> (Vec<String>, Vec<Vec<String>>) {
    let percent = |v: f64| format!("{:.1}", 100. * v);
    let mut labels: Vec<&String> = vec![];
    for (label, _) in group.entries.iter().flat_map(|e| &e.attacks) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let wide = labels.len() <= WIDE;
    let mut header: Vec<String> =
        ["#", "model", "flags", "run", "clean %", "robust %", "95 % interval"].map(str::to_string).into();
    match wide {
        true => header.extend(labels.iter().map(|l| l.to_string())),
        false => header.push("attacks".to_string()),
    }
    let rows = group.entries.iter().map(|e| {
        let mut row = vec![
            e.rank.to_string(),
            e.model.clone(),
            e.flags.join(", "),
            e.run.clone(),
            percent(e.clean_accuracy),
            percent(e.robust_accuracy),
            format!("{} - {}", percent(e.robust_interval.0), percent(e.robust_interval.1)),
        ];
        let of =
            |label: &&String| e.attacks.iter().find(|(l, _)| l == *label).map_or(String::new(), |(_, r)| percent(*r));
        match wide {
            true => row.extend(labels.iter().map(of)),
            false => row.push(e.attacks.len().to_string()),
        }
        row
    });
    let rows = rows.collect();
    (header, rows)
}

fn title(group: &Group) -> String {
    let part = if group.full { "all" } else { "a part:" };
    let mut title = format!("{}, {}, {part} {} samples", group.dataset, group.threat, group.n);
    if group.compat {
        title += ", in the reference's counts";
    }
    if !group.complete {
        title += ", incomplete runs";
    }
    title
}

/// What the flags that occur mean, a sentence each.
fn legend(groups: &[Group]) -> Vec<String> {
    let used = |flag: &str| groups.iter().flat_map(|g| &g.entries).any(|e| e.flags.iter().any(|f| f == flag));
    let mut lines: Vec<String> =
        FLAGS.iter().filter(|(flag, _)| used(flag)).map(|(flag, what)| format!("{flag}: {what}.")).collect();
    if groups.len() > 1 {
        lines.push("Rows of different tables are not comparable: other images, threat or completeness.".to_string());
    }
    lines.push("Robust accuracy is an upper bound: a stronger attack can only lower it.".to_string());
    lines
}

/// A table per group.
pub fn to_text(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let (header, rows) = cells(group);
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().map(|h| line(h)));
        rows.iter().for_each(|row| {
            table.add_row(row.iter().map(|c| line(c)));
        });
        for column in table.column_iter_mut().skip(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text += &format!("{}\n{}\n\n", line(&title(group)), table.trim_fmt());
    }
    text + &legend(groups).join("\n") + "\n"
}

/// A table per group, as GitHub and GitLab read it.
pub fn to_markdown(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let (header, rows) = cells(group);
        let of =
            |cells: &[String]| format!("| {} |\n", cells.iter().map(|c| markdown(c)).collect::<Vec<_>>().join(" | "));
        let rule: Vec<&str> = (0..header.len()).map(|i| if i < 4 { "---" } else { "---:" }).collect();
        text += &format!("### {}\n\n{}|{}|\n", markdown(&title(group)), of(&header), rule.join("|"));
        rows.iter().for_each(|row| text += &of(row));
        text.push('\n');
    }
    legend(groups).iter().for_each(|l| text += &format!("- {l}\n"));
    text
}
