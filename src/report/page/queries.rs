//! Success against queries: one chart per attack, models overlaid.

use super::section::{Cell, DRAWN, Figure, Section, Table, crowded, percent};
use super::subjects::keys;
use super::subjects::{Samples, Subject};
use crate::report::{curve, svg};

/// Charts that are drawn; `curves.csv` of the runs has every curve.
const CHARTS: usize = 16;

/// An attack that asks less often has no curve worth a chart.
const LEAST: u64 = 5;

/// Queries at which the table says what was reached.
const AT: [f64; 7] = [1., 10., 30., 100., 300., 1000., 5000.];

struct Chart<'a> {
    samples: Samples<'a>,
    attack: &'a str,
    curves: Vec<(&'a Subject<'a>, Vec<(f64, f64)>)>,
}

pub fn section(subjects: &[Subject]) -> Section {
    let mut charts: Vec<Chart> = vec![];
    for subject in subjects {
        for (attack, outcomes) in subject.attacks().filter(|(a, _)| !a.is_corruption()) {
            let curve = (subject, curve::by_queries(&outcomes.iter().collect::<Vec<_>>()));
            // One or two steps are not a curve.
            if attack.passes.0 < LEAST || curve.1.is_empty() {
                continue;
            }
            let shown = |c: &Chart| c.curves.iter().all(|(other, _)| other.shows_as(subject));
            let same = |c: &&mut Chart| c.samples == subject.samples() && c.attack == attack.label && shown(c);
            match charts.iter_mut().find(same) {
                Some(chart) => chart.curves.push(curve),
                None => {
                    charts.push(Chart { samples: subject.samples(), attack: &attack.label, curves: vec![curve] });
                }
            }
        }
    }
    charts.retain(|c| c.curves.iter().any(|(_, points)| points.len() > 1));
    let more = charts.len().saturating_sub(CHARTS);
    let said = match more {
        0 => String::new(),
        n => format!(" {n} more attacks are left out here; curves.csv in the run folders has them."),
    };
    Section {
        id: "queries",
        title: "Success against queries",
        about: format!(
            "Share of the correctly classified samples that were fooled within so many search forwards (logarithmic).{said}"
        ),
        figures: charts.iter().take(CHARTS).enumerate().map(|(i, c)| figure(i, c)).collect(),
    }
}

/// The height of a step curve.
fn at(points: &[(f64, f64)], x: f64) -> f64 {
    points.iter().rev().find(|p| p.0 <= x).map_or(0., |p| p.1)
}

fn figure(index: usize, chart: &Chart) -> Figure {
    let drawn = &chart.curves[..chart.curves.len().min(DRAWN)];
    let most = drawn.iter().flat_map(|(_, p)| p.last()).map(|p| p.0).fold(10., f64::max);
    let line = |(subject, points): &(&Subject, Vec<(f64, f64)>)| {
        let tip = |p: &(f64, f64)| format!("{}: {} % within {} queries", subject.label, percent(p.1), p.0);
        let marks = points.last().map(|p| (p.0, p.1, tip(p))).into_iter().collect();
        let start = std::iter::once((1., at(points, 1.)));
        let points = start.chain(points.iter().copied().filter(|p| p.0 > 1.)).collect();
        svg::Line { style: subject.style, points, step: true, marks, ..svg::Line::default() }
    };
    let lines: Vec<svg::Line> = drawn.iter().map(line).collect();
    let last = |c: &(&Subject, Vec<(f64, f64)>)| {
        c.1.last().map_or(String::new(), |p| format!("{}: {} % within {}", c.0.label, percent(p.1), p.0))
    };
    let axes = svg::Axes {
        id: &format!("queries-{index}"),
        title: &format!("Success of {} against queries", chart.attack),
        about: &drawn.iter().map(last).collect::<Vec<_>>().join("; "),
        x: "search forwards per sample",
        y: "fooled, %",
        range: (1., most),
        log: true,
    };
    let first = AT.iter().position(|q| *q >= most).unwrap_or(AT.len() - 1);
    let within = &AT[..=first];
    let head = ["model".to_string()].into_iter().chain(within.iter().map(|q| format!("within {q}")));
    let row = |(subject, points): &(&Subject, Vec<(f64, f64)>)| {
        let cells = within.iter().map(|q| Cell::percent(at(points, *q)));
        std::iter::once(Cell::text(&subject.label)).chain(cells).collect()
    };
    Figure {
        title: chart.attack.to_string(),
        svg: svg::lines(&axes, &lines),
        keys: keys(drawn.iter().map(|c| c.0)),
        notes: crowded(chart.curves.len()),
        table: Table {
            caption: format!("Fooled in percent within a number of queries, {}", chart.attack),
            head: head.collect(),
            rows: chart.curves.iter().map(row).collect(),
        },
        paper: false,
    }
}
