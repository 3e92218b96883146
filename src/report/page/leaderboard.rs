//! Models by the accuracy that survives the worst case; only what is comparable stands in one table.

use super::epsilon::threat;
use super::section::{Cell, DRAWN, Figure, Section, Table, crowded, interval, percent};
use super::subjects::{Samples, Subject};
use crate::report::{Row, WORST_COMPAT, svg};
use crate::runs::stats::rate;
use robust_core::Region;

/// Models on the same samples under the same threat model.
pub struct Group<'a> {
    pub samples: Samples<'a>,
    pub region: Region,
    pub compat: bool,
    pub threat: String,
    pub data: String,
    /// Best first.
    pub entries: Vec<Entry<'a>>,
}

/// A model of a group: its worst case and its rows by attack.
pub struct Entry<'a> {
    pub subject: &'a Subject<'a>,
    pub worst: &'a Row,
    pub rows: Vec<&'a Row>,
}

impl Entry<'_> {
    /// The places of the group's attacks in the model's list.
    pub fn attacks<'b>(&'b self, region: &'b Region) -> impl Iterator<Item = usize> + 'b {
        let all = self.subject.model.attacks.iter().enumerate();
        all.filter(move |(_, a)| a.threat.region == *region).map(|(i, _)| i)
    }
}

/// Corruptions have a section of their own; everything else stands here, by samples, region and mode.
pub fn groups<'a>(subjects: &'a [Subject<'a>]) -> Vec<Group<'a>> {
    let mut all: Vec<Group> = vec![];
    for subject in subjects {
        for worst in subject.rows(true).filter(|w| w.n > 0) {
            let Some(first) = subject.model.attacks.iter().find(|a| a.threat_text() == worst.threat) else {
                continue;
            };
            if first.is_corruption() {
                continue;
            }
            let (region, compat) = (first.threat.region.clone(), worst.attack == WORST_COMPAT);
            let rows = subject.rows(false).filter(|r| r.threat == worst.threat).collect();
            let entry = Entry { subject, worst, rows };
            let same = |g: &&mut Group| {
                g.samples == subject.samples()
                    && g.region == region
                    && g.compat == compat
                    && g.entries.iter().all(|e| e.worst.n == worst.n && e.subject.shows_as(subject))
            };
            match all.iter_mut().find(same) {
                Some(group) => group.entries.push(entry),
                None => all.push(Group {
                    samples: subject.samples(),
                    threat: threat(&region, &worst.threat),
                    region,
                    compat,
                    data: subject.data(),
                    entries: vec![entry],
                }),
            }
        }
    }
    for group in &mut all {
        let order = |e: &Entry| (std::cmp::Reverse(e.worst.held), std::cmp::Reverse(e.worst.clean_correct));
        group.entries.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.subject.label.cmp(&b.subject.label)));
    }
    all
}

pub fn section(groups: &[Group]) -> Section {
    Section {
        id: "leaderboard",
        title: "Leaderboard",
        about: "Accuracy in percent: clean (hollow mark), under each attack, and the worst case, which counts a sample \
                only when it survives every attack; lines are 95 % intervals (Wilson). Models on other samples or under \
                another threat model stand in a table of their own."
            .to_string(),
        figures: groups.iter().enumerate().map(|(i, g)| figure(i, g)).collect(),
    }
}

fn figure(index: usize, group: &Group) -> Figure {
    let mut attacks: Vec<&str> = vec![];
    for row in group.entries.iter().flat_map(|e| &e.rows) {
        if !attacks.contains(&row.attack.as_str()) {
            attacks.push(&row.attack);
        }
    }
    let mode = if group.compat { ", compat mode" } else { "" };
    let title = format!("{}{mode} on {}", group.threat, group.data);
    let dots: Vec<svg::Dots> = group.entries.iter().take(DRAWN).map(dots).collect();
    let head = ["model", "clean"].into_iter().chain(attacks.iter().copied());
    let head = head.chain(["worst case", "95 % interval", "n", "failed", "reliability"]).map(String::from).collect();
    let mut notes = crowded(group.entries.len());
    let uneven = group.entries.iter().any(|e| e.rows.len() != attacks.len());
    if uneven {
        notes
            .push("Not every model met every attack (empty cells): worst cases of fewer attacks are flattered.".into());
    }
    Figure {
        svg: svg::rows(&format!("board-{index}"), &title, &about(group), (0., 1.), false, &dots),
        keys: vec![],
        notes,
        table: Table {
            caption: format!("Accuracy in percent, {title}"),
            head,
            rows: group.entries.iter().map(|e| cells(e, &attacks)).collect(),
        },
        title,
        paper: true,
    }
}

fn about(group: &Group) -> String {
    let each = group.entries.iter().take(DRAWN);
    let said: Vec<String> = each
        .map(|e| {
            format!(
                "{}: clean {} %, worst case {} %",
                e.subject.label,
                percent(e.worst.clean_accuracy),
                percent(e.worst.robust_accuracy)
            )
        })
        .collect();
    said.join("; ")
}

fn dots(entry: &Entry) -> svg::Dots {
    let (row, name) = (entry.worst, &entry.subject.label);
    let dot = |value, range, hollow, what: &str| svg::Dot {
        value,
        interval: Some(range),
        hollow,
        tip: format!("{name}, {what}: {} % ({}), n = {}", percent(value), interval(range), row.n),
    };
    svg::Dots {
        name: name.clone(),
        style: entry.subject.style,
        dots: vec![
            dot(row.robust_accuracy, row.robust_interval, false, "worst case"),
            dot(row.clean_accuracy, row.clean_interval, true, "clean"),
        ],
    }
}

fn cells(entry: &Entry, attacks: &[&str]) -> Vec<Cell> {
    let worst = entry.worst;
    let clean = if worst.aimed { Cell::text("-") } else { Cell::percent(worst.clean_accuracy) };
    let mut cells = vec![Cell::text(&entry.subject.label), clean];
    for attack in attacks {
        let row = entry.rows.iter().find(|r| r.attack == *attack);
        cells.push(row.map_or_else(Cell::default, |r| Cell::percent(rate(r.held, r.n))));
    }
    cells.push(Cell { class: "n worst".into(), ..Cell::percent(worst.robust_accuracy) });
    cells.push(Cell::number(worst.robust_interval.0, interval(worst.robust_interval)));
    cells.push(Cell::count(worst.n));
    cells.push(Cell::count(worst.failed));
    let grade = crate::doctor::grade_text(worst.reliability);
    cells.push(Cell { class: format!("grade {grade}"), ..Cell::text(grade) });
    cells
}
