//! Which classes lose the most: clean and worst-case accuracy by label.

use super::leaderboard::{Entry, Group};
use super::section::{Cell, Figure, Section, Table, percent, share};
use super::subjects::correct;
use crate::report::{svg, worse};
use crate::runs::stats::rate;
use robust_core::Verdict;
use std::collections::BTreeMap;

/// Classes in a chart, and rows in its table.
const SHOWN: usize = 16;
const LISTED: usize = 100;

/// Models drawn per group: one chart each.
const MODELS: usize = 4;

#[derive(Default, Clone, Copy)]
struct Class {
    n: u64,
    clean: u64,
    held: u64,
}

impl Class {
    fn drop(&self) -> f64 {
        rate(self.clean, self.n) - rate(self.held, self.n)
    }
}

/// The worst verdict of every sample of an entry, by class.
fn classes(entry: &Entry, group: &Group) -> BTreeMap<u32, Class> {
    let mut samples: BTreeMap<u64, (u32, bool, Verdict)> = BTreeMap::new();
    for attack in entry.attacks(&group.region) {
        for o in entry.subject.outcomes[attack] {
            let Some(label) = o.label else { continue };
            let slot = samples.entry(o.id).or_insert((label, correct(o), o.verdict));
            slot.2 = worse(slot.2, o.verdict);
        }
    }
    let mut classes: BTreeMap<u32, Class> = BTreeMap::new();
    for (label, clean, verdict) in samples.into_values() {
        let class = classes.entry(label).or_default();
        class.n += 1;
        class.clean += u64::from(clean);
        class.held += u64::from(verdict == Verdict::Held);
    }
    classes
}

pub fn section(groups: &[Group]) -> Section {
    let mut figures = vec![];
    for group in groups {
        for entry in group.entries.iter().take(MODELS) {
            figures.extend(figure(figures.len(), entry, group));
        }
    }
    Section {
        id: "classes",
        title: "Classes",
        about: format!(
            "Clean (hollow) and worst-case accuracy by class, classes that lose the most first; at most {MODELS} models per \
             threat model."
        ),
        figures,
    }
}

fn figure(index: usize, entry: &Entry, group: &Group) -> Option<Figure> {
    let mut all: Vec<(u32, Class)> = classes(entry, group).into_iter().collect();
    let (subject, count) = (entry.subject, all.len());
    if count == 0 {
        return None;
    }
    all.sort_by(|a, b| b.1.drop().total_cmp(&a.1.drop()).then(a.0.cmp(&b.0)));
    let dots = |(label, c): &(u32, Class)| {
        let name = subject.class(*label);
        let dot = |hits, hollow, what: &str| svg::Dot {
            value: rate(hits, c.n),
            interval: None,
            hollow,
            tip: format!("{name}, {what}: {}", share(hits, c.n)),
        };
        let dots = vec![dot(c.clean, true, "clean"), dot(c.held, false, "worst case")];
        svg::Dots { name: name.clone(), style: subject.style, dots }
    };
    let rows: Vec<svg::Dots> = all.iter().take(SHOWN).map(dots).collect();
    let title = format!("{} under {}", subject.label, group.threat);
    let mut notes = vec![];
    if count > SHOWN {
        notes.push(format!("The chart shows the {SHOWN} classes of {count} that lose the most."));
    }
    if count > LISTED {
        notes.push(format!("The table has the first {LISTED} of {count} classes."));
    }
    let about = all.iter().take(SHOWN).map(|(l, c)| {
        format!("{}: {} % to {} %", subject.class(*l), percent(rate(c.clean, c.n)), percent(rate(c.held, c.n)))
    });
    let about = about.collect::<Vec<_>>().join("; ");
    let cells = |(label, c): &(u32, Class)| {
        vec![
            Cell::text(subject.class(*label)),
            Cell::count(c.n),
            Cell::percent(rate(c.clean, c.n)),
            Cell::percent(rate(c.held, c.n)),
            Cell::percent(c.drop()),
        ]
    };
    Some(Figure {
        svg: svg::rows(&format!("classes-{index}"), &title, &about, (0., 1.), true, &rows),
        keys: vec![],
        notes,
        table: Table {
            caption: format!("Accuracy in percent by class, {title}"),
            head: ["class", "n", "clean", "worst case", "lost"].map(String::from).to_vec(),
            rows: all.iter().take(LISTED).map(cells).collect(),
        },
        title,
        paper: false,
    })
}
