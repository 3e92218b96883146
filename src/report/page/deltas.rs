//! Differences between two models on the same samples under the same attacks, with paired intervals.

use super::leaderboard::{Entry, Group};
use super::section::{Cell, Figure, Section, Table, crowded};
use super::subjects::{correct, held};
use crate::report::svg;
use crate::runs::stats::{Paired, Side, holm};
use std::collections::BTreeMap;

/// Up to so many models every pair is compared; of more, each with the best.
const ALL_PAIRS: usize = 5;

/// One comparison.
struct Delta {
    title: String,
    clean: Paired,
    robust: Paired,
    style: usize,
}

pub fn section(groups: &[Group]) -> Section {
    Section {
        id: "deltas",
        title: "Differences between models",
        about: "Change of accuracy in percentage points from the first model to the second, on the same samples and under \
                the attacks that both met: worst case (filled) and clean (hollow), with 95 % intervals for pairs \
                (Newcombe 1998, method 10). p is McNemar's mid-p test, two-sided, with Holm's correction over the table."
            .to_string(),
        figures: groups.iter().enumerate().filter_map(|(i, g)| figure(i, g)).collect(),
    }
}

/// Per sample whether it was classified correctly, and whether it survived all of these attacks.
fn bits(entry: &Entry, group: &Group, shared: &[&str]) -> BTreeMap<u64, (bool, bool)> {
    let mut bits = BTreeMap::new();
    for attack in entry.attacks(&group.region) {
        if !shared.contains(&entry.subject.model.attacks[attack].label.as_str()) {
            continue;
        }
        for o in entry.subject.outcomes[attack] {
            let slot = bits.entry(o.id).or_insert((correct(o), true));
            slot.1 &= held(o);
        }
    }
    bits
}

fn delta(a: &Entry, b: &Entry, group: &Group) -> Option<Delta> {
    let theirs = labels(b, group);
    let shared: Vec<&str> = labels(a, group).into_iter().filter(|l| theirs.contains(l)).collect();
    if shared.is_empty() {
        return None;
    }
    let (before, after) = (bits(a, group, &shared), bits(b, group, &shared));
    let (mut clean, mut robust) = (Paired::default(), Paired::default());
    for (id, was) in &before {
        if let Some(is) = after.get(id) {
            clean.add(was.0, is.0);
            robust.add(was.1, is.1);
        }
    }
    let title = format!("{} → {}", a.subject.label, b.subject.label);
    Some(Delta { title, clean, robust, style: b.subject.style })
}

fn labels<'a>(entry: &'a Entry, group: &'a Group) -> Vec<&'a str> {
    entry.attacks(&group.region).map(|i| entry.subject.model.attacks[i].label.as_str()).collect()
}

fn figure(index: usize, group: &Group) -> Option<Figure> {
    let of = &group.entries;
    let mut deltas: Vec<Delta> = vec![];
    for (i, a) in of.iter().enumerate() {
        let others = of.iter().skip(i + 1).filter(|_| i == 0 || of.len() <= ALL_PAIRS);
        deltas.extend(others.filter_map(|b| delta(a, b, group)));
    }
    if deltas.is_empty() {
        return None;
    }
    let adjusted = holm(&deltas.iter().map(|d| d.robust.mcnemar_mid_p(Side::Two)).collect::<Vec<f64>>());
    let dots: Vec<svg::Dots> = deltas.iter().take(super::section::DRAWN).map(dots).collect();
    let ends = dots.iter().flat_map(|d| &d.dots).flat_map(|d| d.interval.map_or([d.value; 2], |(l, h)| [l, h]));
    let (low, high) = ends.fold((-0.02, 0.02), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    let title = format!("{} on {}", group.threat, group.data);
    let about: Vec<String> = deltas.iter().map(|d| format!("{}: {}", d.title, points(&d.robust))).collect();
    let mut notes = crowded(deltas.len());
    if of.len() > ALL_PAIRS {
        notes.push("Each model is compared with the best of the table; `robust compare` takes any two.".to_string());
    }
    let head =
        ["from → to", "worst case", "95 % interval", "broken", "fixed", "p (Holm)", "clean", "95 % interval", "n"];
    Some(Figure {
        svg: svg::rows(&format!("delta-{index}"), &title, &about.join("; "), (low, high), false, &dots),
        keys: vec![],
        notes,
        table: Table {
            caption: format!("Differences in percentage points, {title}"),
            head: head.map(String::from).to_vec(),
            rows: deltas.iter().zip(adjusted).map(|(d, p)| cells(d, p)).collect(),
        },
        title,
        paper: true,
    })
}

/// The change with its sign: a drop is negative.
fn change(pair: &Paired) -> (f64, (f64, f64)) {
    let (low, high) = pair.newcombe(0.95);
    (-pair.drop(), (-high, -low))
}

fn signed(v: f64) -> String {
    // No "-0.0".
    format!("{:+.1}", (1000. * v).round() / 10. + 0.)
}

fn points(pair: &Paired) -> String {
    let (value, (low, high)) = change(pair);
    format!("{} ({} to {}) points", signed(value), signed(low), signed(high))
}

fn dots(delta: &Delta) -> svg::Dots {
    let dot = |pair: &Paired, hollow, what: &str| {
        let (value, range) = change(pair);
        svg::Dot { value, interval: Some(range), hollow, tip: format!("{}, {what}: {}", delta.title, points(pair)) }
    };
    let dots = vec![dot(&delta.robust, false, "worst case"), dot(&delta.clean, true, "clean")];
    svg::Dots { name: delta.title.clone(), style: delta.style, dots }
}

fn cells(delta: &Delta, p: f64) -> Vec<Cell> {
    let pair = |pair: &Paired| {
        let (value, (low, high)) = change(pair);
        [Cell::number(value, signed(value)), Cell::number(low, format!("{} to {}", signed(low), signed(high)))]
    };
    let p = Cell::number(p, if p < 1e-4 { "< 0.0001".to_string() } else { format!("{p:.4}") });
    let [robust, range] = pair(&delta.robust);
    let [clean, clean_range] = pair(&delta.clean);
    let counts = [Cell::count(delta.robust.broken), Cell::count(delta.robust.fixed), p];
    let all = [Cell::text(&delta.title), robust, range].into_iter().chain(counts);
    all.chain([clean, clean_range, Cell::count(delta.robust.n())]).collect()
}
