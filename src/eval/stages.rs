//! What each part of an attack that has parts (AutoAttack's members, restarts) took and gave.

use crate::clock::Stopwatch;
use comfy_table::{CellAlignment, Table, presets};
use robust_core::{Lap, Outcome};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// One part of one attack on one model, in one session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub model: String,
    pub attack: String,
    pub stage: String,
    /// Samples it began with.
    pub samples: u64,
    /// Search passes.
    pub forwards: u64,
    pub backwards: u64,
    pub seconds: f64,
}

/// Adds `more` to the entry of the same part, or makes one.
fn add(all: &mut Vec<Stage>, more: &Stage) {
    let same = |s: &&mut Stage| (&s.model, &s.attack, &s.stage) == (&more.model, &more.attack, &more.stage);
    match all.iter_mut().find(same) {
        Some(stage) => {
            stage.samples += more.samples;
            stage.forwards += more.forwards;
            stage.backwards += more.backwards;
            stage.seconds += more.seconds;
        }
        None => all.push(more.clone()),
    }
}

/// A part that has begun: when, and the passes before it.
struct Begun {
    clock: Stopwatch,
    samples: u64,
    forwards: u64,
    backwards: u64,
}

/// Times the parts of the attack in hand.
pub struct Watch {
    model: String,
    attack: String,
    begun: RefCell<Option<Begun>>,
    all: RefCell<Vec<Stage>>,
}

impl Watch {
    pub fn new(model: &str, attack: &str) -> Self {
        let (begun, all) = (RefCell::new(None), RefCell::new(vec![]));
        Self { model: model.to_string(), attack: attack.to_string(), begun, all }
    }

    /// For [`Oracle::watch`](robust_core::Oracle::watch).
    pub fn hear(&self, lap: &Lap) {
        let (forwards, backwards) = (lap.forward, lap.backward);
        if !lap.ends {
            let (clock, samples) = (Stopwatch::start(), lap.samples as u64);
            *self.begun.borrow_mut() = Some(Begun { clock, samples, forwards, backwards });
            return;
        }
        let Some(begun) = self.begun.borrow_mut().take() else { return };
        let stage = Stage {
            model: self.model.clone(),
            attack: self.attack.clone(),
            stage: lap.stage.to_string(),
            samples: begun.samples,
            forwards: forwards.saturating_sub(begun.forwards),
            backwards: backwards.saturating_sub(begun.backwards),
            seconds: begun.clock.seconds(),
        };
        add(&mut self.all.borrow_mut(), &stage);
    }

    /// Adds what was heard to `all`.
    pub fn into(self, all: &mut Vec<Stage>) {
        self.all.borrow().iter().for_each(|stage| add(all, stage));
    }
}

/// The parts of all sessions, in the order they ran.
pub fn joined<'a>(sessions: impl IntoIterator<Item = &'a [Stage]>) -> Vec<Stage> {
    let mut all = vec![];
    sessions.into_iter().flatten().for_each(|stage| add(&mut all, stage));
    all
}

/// A table per attack of several parts: who was asked, who was lost to it, and what it took.
pub fn to_text(stages: &[Stage], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for group in stages.chunk_by(|a, b| (&a.model, &a.attack) == (&b.model, &b.attack)).filter(|g| g.len() > 1) {
        let total: f64 = group.iter().map(|s| s.seconds).sum();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["part", "asked", "lost", "forwards", "backwards", "seconds", "share"]);
        for s in group {
            let part = |o: &&Outcome| {
                let within = o.stage.as_deref().and_then(|at| at.strip_prefix(s.stage.as_str()));
                (&o.model, &o.attack) == (&s.model, &s.attack)
                    && within.is_some_and(|w| w.is_empty() || w.starts_with('/'))
            };
            let lost = outcomes.iter().filter(part).count();
            let counts = [s.samples, lost as u64, s.forwards, s.backwards].map(|n| n.to_string());
            let share = format!("{:.0} %", 100. * s.seconds / total.max(1e-9));
            let times = [format!("{:.1}", s.seconds), share];
            table.add_row(std::iter::once(s.stage.clone()).chain(counts).chain(times));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text += &format!("\n{} {} in its parts\n{}\n", group[0].model, group[0].attack, table.trim_fmt());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_become_parts_and_sessions_are_joined() {
        let watch = Watch::new("m", "a");
        let lap = |stage, ends, samples, forward| Lap { stage, ends, samples, forward, backward: forward / 2 };
        for (first, n) in [(0, 4), (100, 2)] {
            watch.hear(&lap("x", false, n, first));
            watch.hear(&lap("x", true, n, first + 10));
            watch.hear(&lap("y", false, n - 1, first + 10));
            watch.hear(&lap("y", true, n - 1, first + 40));
        }
        watch.hear(&lap("y", true, 9, 9)); // an end without a beginning
        let mut all = vec![];
        watch.into(&mut all);
        let seen: Vec<_> = all.iter().map(|s| (s.stage.as_str(), s.samples, s.forwards, s.backwards)).collect();
        assert_eq!(seen, [("x", 6, 20, 10), ("y", 4, 60, 30)]);
        let twice = joined([all.as_slice(), all.as_slice()]);
        assert_eq!((twice.len(), twice[1].forwards), (2, 120));
        let text = to_text(&twice, &[]);
        assert!(text.contains("m a in its parts") && text.contains("120"), "{text}");
        assert_eq!(to_text(&twice[..1], &[]), "");
    }

    #[test]
    fn what_a_part_took_is_counted_whatever_its_name_and_those_of_its_parts() {
        let stage = |name: &str| Stage {
            model: "m".into(),
            attack: "a".into(),
            stage: name.into(),
            samples: 9,
            forwards: 0,
            backwards: 0,
            seconds: 0.,
        };
        let lost =
            |at: &str| Outcome { stage: Some(at.into()), ..crate::eval::attacked::unreadable("m", "a", 0, "").outcome };
        let lost = ["t0/r0", "t0/r0", "t0/r01", "rest/t3/r0", "rest/t4/r0", "rest/t4/r0"].map(lost);
        let text = to_text(&["t0/r0", "rest"].map(stage), &lost);
        let counts: Vec<Vec<&str>> =
            text.lines().map(|l| l.split_whitespace().take(3).collect()).filter(|w: &Vec<&str>| w.len() == 3).collect();
        assert!(counts.contains(&vec!["t0/r0", "9", "2"]) && counts.contains(&vec!["rest", "9", "3"]), "{text}");
    }
}
