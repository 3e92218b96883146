//! Robust accuracy against epsilon: at each epsilon that was attacked, and between them where an attack looked for the
//! nearest success.

use super::section::{Cell, DRAWN, Figure, Section, Table, crowded, interval, percent};
use super::subjects::keys;
use super::subjects::{Samples, Subject, correct, norm};
use crate::eval::plan::PlannedAttack;
pub use crate::report::sentence::epsilon;
use crate::report::{epsilons, svg};
use crate::runs::stats::{rate, wilson};
use robust_core::{Norm, Region, Verdict};
use std::collections::BTreeMap;

/// Samples still right at an epsilon, of how many.
struct Level {
    eps: f64,
    held: u64,
    n: u64,
}

struct Curve<'a> {
    subject: &'a Subject<'a>,
    levels: Vec<Level>,
    /// Right at any epsilon, from the distances of nearest successes.
    nearest: Vec<(f64, f64)>,
    /// Of so many samples.
    sought: u64,
    /// Epsilons at which the table tells what `nearest` says.
    told: Vec<f64>,
}

struct Chart<'a> {
    samples: Samples<'a>,
    norm: Norm,
    compat: bool,
    curves: Vec<Curve<'a>>,
}

/// What is known of a sample after the attacks up to some epsilon.
#[derive(Default, Clone, Copy)]
struct Seen {
    attacks: usize,
    correct: bool,
    fell: bool,
}

/// Levels of one norm: a sample that fell at some epsilon has fallen at every larger one, whatever the attack there says.
/// In a run that is not complete a level counts the samples that met every attack so far.
fn levels(subject: &Subject, of: Norm) -> Vec<Level> {
    let ball = |region: &Region| match region {
        Region::Ball { norm, eps } if *norm == of => Some(*eps),
        _ => None,
    };
    let attacks = subject.attacks().filter(|(_, outcomes)| !outcomes.is_empty());
    let mut attacks: Vec<_> = attacks.filter_map(|(a, outcomes)| Some((ball(&a.threat.region)?, outcomes))).collect();
    attacks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut levels: Vec<Level> = vec![];
    for (done, (eps, outcomes)) in attacks.iter().enumerate() {
        for o in *outcomes {
            let slot = seen.entry(o.id).or_default();
            slot.attacks += 1;
            slot.correct = correct(o) && o.verdict != Verdict::Failed;
            slot.fell |= o.verdict != Verdict::Held;
        }
        let judged = || seen.values().filter(|s| s.attacks == done + 1);
        let n = judged().count() as u64;
        if done == 0 {
            levels.push(Level { eps: 0., held: judged().filter(|s| s.correct).count() as u64, n });
        }
        let level = Level { eps: *eps, held: judged().filter(|s| !s.fell).count() as u64, n };
        match levels.last_mut().filter(|l| l.eps == *eps) {
            Some(last) => *last = level,
            None => levels.push(level),
        }
    }
    levels
}

fn charts<'a>(subjects: &'a [Subject<'a>]) -> Vec<Chart<'a>> {
    let mut all: Vec<Chart> = vec![];
    for subject in subjects {
        for of in Norm::ALL {
            let levels = levels(subject, of);
            let (nearest, sought) = nearest(subject, of);
            if levels.is_empty() && nearest.is_empty() {
                continue;
            }
            let compat = subject.model.attacks.iter().any(|a| a.is_compat());
            let told = if nearest.is_empty() { vec![] } else { told(subject, of) };
            let curve = Curve { subject, levels, nearest, sought, told };
            let judged = |c: &Curve| c.levels.iter().map(|l| l.n).max();
            let same = |c: &&mut Chart| {
                let alike = c.samples == subject.samples() && c.norm == of && c.compat == compat;
                let joined = |other: &Curve| judged(other) == judged(&curve) && other.subject.shows_as(subject);
                alike && c.curves.iter().all(joined)
            };
            match all.iter_mut().find(same) {
                Some(chart) => chart.curves.push(curve),
                None => all.push(Chart { samples: subject.samples(), norm: of, compat, curves: vec![curve] }),
            }
        }
    }
    all
}

/// The best of the curves that `curves.csv` has for attacks that minimise the distance.
fn nearest(subject: &Subject, of: Norm) -> (Vec<(f64, f64)>, u64) {
    let mut radius: BTreeMap<u64, f64> = BTreeMap::new();
    for (attack, outcomes) in subject.attacks() {
        if norm(&attack.threat.region) != Some(of) || outcomes.iter().all(|o| o.nearest.is_none()) {
            continue;
        }
        for o in outcomes {
            let fell = match (correct(o) && o.verdict != Verdict::Failed, o.nearest) {
                (false, _) => -1.,
                (true, Some(distance)) => distance,
                (true, None) => f64::INFINITY,
            };
            radius.entry(o.id).and_modify(|r| *r = r.min(fell)).or_insert(fell);
        }
    }
    let n = radius.len() as u64;
    let mut fallen: Vec<f64> = radius.values().copied().filter(|r| *r >= 0.).collect();
    fallen.sort_by(f64::total_cmp);
    let right = fallen.len() as u64;
    let steps = fallen.iter().filter(|r| r.is_finite()).enumerate();
    let steps = steps.map(|(i, r)| (*r, rate(right.saturating_sub(i as u64 + 1), n)));
    (if n == 0 { vec![] } else { std::iter::once((0., rate(right, n))).chain(steps).collect() }, n)
}

/// Where no attack was given an epsilon, the table tells what is left at usual ones.
fn told(subject: &Subject, of: Norm) -> Vec<f64> {
    let free = |(a, _): (&PlannedAttack, _)| matches!(a.threat.region, Region::Nearest { norm } if norm == of);
    if subject.attacks().any(free) { epsilons(of, subject.attacks().map(|(a, _)| &a.threat.region)) } else { vec![] }
}

impl Curve<'_> {
    /// Samples still right at an epsilon, of how many: what was attacked there, else what the nearest successes say.
    fn at(&self, eps: f64) -> Option<(u64, u64)> {
        if let Some(level) = self.levels.iter().find(|l| l.eps == eps) {
            return Some((level.held, level.n));
        }
        let last = self.nearest.iter().take_while(|(d, _)| *d <= eps).last().filter(|_| self.told.contains(&eps))?;
        Some(((last.1 * self.sought as f64).round() as u64, self.sought))
    }
}

pub fn section(subjects: &[Subject]) -> Section {
    let charts = charts(subjects);
    Section {
        id: "epsilon",
        title: "Robust accuracy against epsilon",
        about: "What survives every attack up to each epsilon, with 95 % bands (Wilson). Marks are epsilons that were \
                attacked; straight lines between them only guide the eye. Steps come from attacks that look for the \
                nearest success."
            .to_string(),
        figures: charts.iter().enumerate().map(|(i, c)| figure(i, c)).collect(),
    }
}

fn figure(index: usize, chart: &Chart) -> Figure {
    let drawn = &chart.curves[..chart.curves.len().min(DRAWN)];
    let last = |c: &Curve| {
        let attacked = c.levels.last().map_or(0., |l| l.eps);
        attacked.max(if c.levels.is_empty() { c.nearest.last().map_or(0., |p| p.0) } else { 0. })
    };
    let most = drawn.iter().map(last).fold(0., f64::max);
    let most = if most > 0. { most } else { 1. };
    let lines: Vec<svg::Line> = drawn.iter().flat_map(|c| [stepped(c, most), straight(c)]).flatten().collect();
    let mode = if chart.compat { ", compat mode" } else { "" };
    let data = chart.curves.first().map_or(String::new(), |c| c.subject.data());
    let title = format!("{}{mode} on {data}", chart.norm);
    let axes = svg::Axes {
        id: &format!("eps-{index}"),
        title: &format!("Robust accuracy against {} epsilon", chart.norm),
        about: &about(drawn),
        x: &format!("epsilon ({}, in units of the input)", chart.norm),
        y: "robust accuracy, %",
        range: (0., most),
        log: false,
    };
    Figure {
        svg: svg::lines(&axes, &lines),
        keys: keys(drawn.iter().map(|c| c.subject)),
        notes: crowded(chart.curves.len()),
        table: table(chart, &title),
        title,
        paper: false,
    }
}

fn about(curves: &[Curve]) -> String {
    let one = |c: &Curve| {
        let at = |l: &Level| format!("{} % at {}", percent(rate(l.held, l.n)), epsilon(l.eps));
        format!("{}: {}", c.subject.label, c.levels.iter().map(at).collect::<Vec<_>>().join(", "))
    };
    let free = |c: &Curve| {
        let at = |eps: &f64| c.at(*eps).map(|(held, n)| format!("{} % at {}", percent(rate(held, n)), epsilon(*eps)));
        format!("{}: {}", c.subject.label, c.told.iter().filter_map(at).collect::<Vec<_>>().join(", "))
    };
    let each = curves.iter().map(|c| if c.levels.is_empty() { free(c) } else { one(c) });
    each.collect::<Vec<_>>().join("; ")
}

fn straight(curve: &Curve) -> Option<svg::Line> {
    let name = &curve.subject.label;
    let tip = |l: &Level| {
        let range = interval(wilson(l.held, l.n));
        format!("{name} at {}: {} % ({range}), {} of {}", epsilon(l.eps), percent(rate(l.held, l.n)), l.held, l.n)
    };
    let band = |l: &Level| {
        let (low, high) = wilson(l.held, l.n);
        (l.eps, low, high)
    };
    let line = svg::Line {
        style: curve.subject.style,
        points: curve.levels.iter().map(|l| (l.eps, rate(l.held, l.n))).collect(),
        band: curve.levels.iter().map(band).collect(),
        step: false,
        marks: curve.levels.iter().map(|l| (l.eps, rate(l.held, l.n), tip(l))).collect(),
    };
    (!curve.levels.is_empty()).then_some(line)
}

fn stepped(curve: &Curve, most: f64) -> Option<svg::Line> {
    let points: Vec<(f64, f64)> = curve.nearest.iter().copied().filter(|p| p.0 <= most).collect();
    (!points.is_empty()).then(|| svg::Line { style: curve.subject.style, points, step: true, ..svg::Line::default() })
}

/// A threat model in words: `Linf 8/255`.
pub fn threat(region: &Region, otherwise: &str) -> String {
    match region {
        Region::Ball { norm, eps } => format!("{norm} {}", epsilon(*eps)),
        _ => otherwise.to_string(),
    }
}

fn table(chart: &Chart, title: &str) -> Table {
    let of = |c: &Curve| c.levels.iter().map(|l| l.eps).chain(c.told.iter().copied()).collect::<Vec<_>>();
    let mut eps: Vec<f64> = chart.curves.iter().flat_map(of).collect();
    eps.sort_by(f64::total_cmp);
    eps.dedup();
    let head = ["epsilon".to_string()].into_iter().chain(chart.curves.iter().map(|c| c.subject.label.clone()));
    let row = |eps: &f64| {
        let cell = |c: &Curve| {
            c.at(*eps).map_or_else(Cell::default, |(held, n)| {
                let rate = rate(held, n);
                Cell::number(rate, format!("{} ({})", percent(rate), interval(wilson(held, n))))
            })
        };
        std::iter::once(Cell::number(*eps, epsilon(*eps))).chain(chart.curves.iter().map(cell)).collect()
    };
    Table {
        caption: format!("Robust accuracy in percent with 95 % intervals, {title}"),
        head: head.collect(),
        rows: eps.iter().map(row).collect(),
    }
}
