//! Corruption by severity as a table whose cells are shaded by their error.

use super::section::{Cell, Figure, Section, Table, percent};
use super::subjects::Subject;
use crate::report::corruptions::{Report, summarise};
use crate::runs::finished::FinishedRun;

/// Reports on one suite whose images are the same.
struct Block {
    suite: String,
    data: String,
    reports: Vec<(String, Report)>,
}

pub fn section(runs: &[FinishedRun], subjects: &[Subject]) -> Section {
    let mut blocks: Vec<Block> = vec![];
    for run in runs {
        let reports = summarise(&run.record.plan, &run.outcomes, None).unwrap_or_default();
        for report in reports.into_iter().filter(|r| r.n > 0) {
            let here = |s: &&Subject| std::ptr::eq(s.run, run) && s.model.name == report.model;
            let label = subjects.iter().find(here).map_or(report.model.clone(), |s| s.label.clone());
            let same = |b: &&mut Block| {
                b.reports.iter().all(|(_, r)| {
                    (&r.errors.suite, &r.errors.data, &r.errors.source, r.n)
                        == (&report.errors.suite, &report.errors.data, &report.errors.source, report.n)
                })
            };
            match blocks.iter_mut().find(same) {
                Some(block) => block.reports.push((label, report)),
                None => blocks.push(Block {
                    suite: report.errors.suite.clone(),
                    data: format!("{}, {} samples", run.record.plan.dataset.card.name, report.n),
                    reports: vec![(label, report)],
                }),
            }
        }
    }
    Section {
        id: "corruptions",
        title: "Corruptions",
        about:
            "Top-1 error in percent by corruption and severity (the stronger the shade the worse); the mean is over \
                severities."
                .to_string(),
        figures: blocks.iter().map(figure).collect(),
    }
}

fn shaded(error: f64) -> Cell {
    let step = (error * 10.).floor().clamp(0., 9.) as u8;
    Cell { class: format!("n heat h{step}"), ..Cell::percent(error) }
}

fn figure(block: &Block) -> Figure {
    let mut names: Vec<&str> = vec![];
    for line in block.reports.iter().flat_map(|(_, r)| &r.errors.lines) {
        if !names.contains(&line.corruption.as_str()) {
            names.push(&line.corruption);
        }
    }
    let mut head = vec!["corruption".to_string()];
    let mut columns = vec![];
    for (label, report) in &block.reports {
        let mut severities: Vec<usize> = report.errors.lines.iter().flat_map(|l| l.severities.clone()).collect();
        severities.sort_unstable();
        severities.dedup();
        for severity in &severities {
            head.push(format!("{label}, severity {severity}"));
            columns.push((report, Some(*severity)));
        }
        if severities.len() > 1 {
            head.push(format!("{label}, mean"));
            columns.push((report, None));
        }
    }
    let row = |name: &str| {
        let cell = |(report, severity): &(&Report, Option<usize>)| {
            let line = report.errors.lines.iter().find(|l| l.corruption == name);
            let error = line.and_then(|l| match severity {
                None => Some(l.mean()),
                Some(s) => l.severities.iter().position(|x| x == s).map(|i| l.errors[i]),
            });
            error.map_or_else(Cell::default, shaded)
        };
        std::iter::once(Cell::text(name)).chain(columns.iter().map(cell)).collect()
    };
    let mut notes: Vec<String> = vec![];
    for (label, r) in &block.reports {
        let mean = r.mean_accuracy.map_or(String::new(), |m| format!(", mean corruption accuracy {} %", percent(m)));
        notes.push(format!(
            "{label}: clean accuracy {} %{mean}, worst case over all corruptions {} %.",
            percent(1. - r.errors.clean),
            percent(r.worst_accuracy)
        ));
        notes.extend(r.notes.iter().filter(|n| !notes.contains(n)).cloned().collect::<Vec<_>>());
    }
    let title = format!("{} on {}", block.suite, block.data);
    Figure {
        svg: String::new(),
        keys: vec![],
        notes,
        table: Table {
            caption: format!("Error in percent, {title}"),
            head,
            rows: names.into_iter().map(row).collect(),
        },
        title,
        paper: true,
    }
}
