//! Points made for one model, judged on others: who made a point is found by its digest.

use super::section::{Cell, Figure, Section, Table, interval, percent};
use super::subjects::{Subject, correct};
use crate::runs::stats::{rate, wilson};
use robust_core::Verdict;
use std::collections::HashMap;

/// Fooled, of correctly classified samples with a point.
#[derive(Default, Clone, Copy)]
struct Tally {
    fooled: u64,
    n: u64,
}

/// Where a point was made: the names of model and attack, or of the file where no run here made it.
type Source = String;

pub fn section(subjects: &[Subject]) -> Section {
    let given = |s: &Subject| s.model.attacks.iter().any(|a| a.attack == "file");
    let mut section = Section {
        id: "transfer",
        title: "Transfer",
        about: "Points that were made for the model of the row, judged on the model of the column: percent of the \
                column's correctly classified samples that are fooled. Points are recognised by their digests; a file \
                that no run of this report wrote is named by its content."
            .to_string(),
        figures: vec![],
    };
    if !subjects.iter().any(given) {
        return section;
    }
    let mut makers: HashMap<(u64, &str), Source> = HashMap::new();
    for subject in subjects {
        for (attack, outcomes) in subject.attacks().filter(|(a, _)| a.attack != "file") {
            for o in outcomes {
                if let Some(digest) = &o.evidence {
                    let name = || format!("{} under {}", subject.label, attack.label);
                    makers.entry((o.id, digest.as_str())).or_insert_with(name);
                }
            }
        }
    }
    let mut rows: Vec<Source> = vec![];
    let mut cells: HashMap<(Source, usize), Tally> = HashMap::new();
    let columns: Vec<usize> = (0..subjects.len()).filter(|i| given(&subjects[*i])).collect();
    for &column in &columns {
        for (attack, outcomes) in subjects[column].attacks().filter(|(a, _)| a.attack == "file") {
            for o in outcomes.iter().filter(|o| correct(o)) {
                let maker = o.evidence.as_ref().and_then(|d| makers.get(&(o.id, d.as_str())));
                let source = maker.cloned().unwrap_or_else(|| attack.label.clone());
                if !rows.contains(&source) {
                    rows.push(source.clone());
                }
                let tally = cells.entry((source, column)).or_default();
                tally.n += 1;
                tally.fooled += u64::from(o.verdict == Verdict::Fooled);
            }
        }
    }
    rows.sort();
    let head = ["made for".to_string()].into_iter().chain(columns.iter().map(|c| subjects[*c].label.clone()));
    let row = |source: &Source| {
        let cell = |column: &usize| match cells.get(&(source.clone(), *column)) {
            None => Cell::default(),
            Some(t) => {
                let share = rate(t.fooled, t.n);
                let step = (share * 10.).floor().clamp(0., 9.) as u8;
                let text = format!("{} ({}), n = {}", percent(share), interval(wilson(t.fooled, t.n)), t.n);
                Cell { class: format!("n heat h{step}"), ..Cell::number(share, text) }
            }
        };
        std::iter::once(Cell::text(source)).chain(columns.iter().map(cell)).collect()
    };
    let table = Table {
        caption: "Fooled in percent, 95 % interval (Wilson), judged samples".to_string(),
        head: head.collect(),
        rows: rows.iter().map(row).collect(),
    };
    if !table.rows.is_empty() {
        section.figures.push(Figure { title: "Success of given points".to_string(), table, ..Figure::default() });
    }
    section
}
