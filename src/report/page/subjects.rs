//! The models of all runs under names that differ, each with its outcomes by attack.

use super::section::Key;
use crate::eval::journal;
use crate::eval::plan::{PlannedAttack, PlannedModel};
use crate::report::{Row, is_worst};
use crate::runs::finished::FinishedRun;
use crate::runs::pairing;
use robust_core::{Norm, Outcome, Region, Verdict};

/// A model in a run.
pub struct Subject<'a> {
    pub label: String,
    /// Its colour, dash and mark: the same in every chart; one content, one style.
    pub style: usize,
    pub run: &'a FinishedRun,
    pub model: &'a PlannedModel,
    /// Outcomes by attack, in the plan's order.
    pub outcomes: Vec<&'a [Outcome]>,
}

/// What samples must share before their numbers may be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples<'a> {
    pub digest: &'a str,
    pub ids: &'a [u64],
    /// A run that has not done all it planned flatters.
    pub complete: bool,
}

impl<'a> Subject<'a> {
    pub fn attacks(&self) -> impl Iterator<Item = (&'a PlannedAttack, &'a [Outcome])> {
        self.model.attacks.iter().zip(self.outcomes.iter().copied())
    }

    pub fn samples(&self) -> Samples<'a> {
        let plan = &self.run.record.plan;
        Samples { digest: &plan.dataset.card.digest, ids: &plan.ids, complete: self.run.missing == 0 }
    }

    /// Whether nothing tells that its samples are other images than those of `other` with the same ids.
    pub fn shows_as(&self, other: &Subject) -> bool {
        pairing::obstacle((self.run, self.model), (other.run, other.model)).is_none()
    }

    /// Names the samples: data set, number, and how they were chosen.
    pub fn data(&self) -> String {
        let plan = &self.run.record.plan;
        let (n, name) = (plan.ids.len(), &plan.dataset.card.name);
        match n as u64 == plan.dataset.card.samples {
            true => format!("{name}, all {n} samples"),
            false => format!("{name}, {n} of {} samples ({})", plan.dataset.card.samples, plan.pick),
        }
    }

    /// Rows of attacks, or of worst cases.
    pub fn rows(&self, worst: bool) -> impl Iterator<Item = &'a Row> {
        let name = &self.model.name;
        self.run.rows.iter().filter(move |r| r.model == *name && is_worst(&r.attack) == worst)
    }

    pub fn class(&self, label: u32) -> String {
        let names = self.run.record.plan.dataset.card.classes.as_ref();
        names.and_then(|c| c.get(label as usize)).cloned().unwrap_or_else(|| label.to_string())
    }
}

/// Whether the clean sample was classified as its label says.
pub fn correct(o: &Outcome) -> bool {
    o.clean.is_some_and(|p| p.margin > 0.)
}

pub fn held(o: &Outcome) -> bool {
    o.verdict == Verdict::Held
}

/// The norm a region is measured in.
pub fn norm(region: &Region) -> Option<Norm> {
    match region {
        Region::Ball { norm, .. } | Region::Nearest { norm } => Some(*norm),
        _ => None,
    }
}

/// Every model of every run. A name that several contents or runs bear gets the run's name beside it.
pub fn subjects(runs: &[FinishedRun]) -> Vec<Subject<'_>> {
    let mut all: Vec<Subject> = vec![];
    for run in runs {
        let mut cells: Vec<Vec<&[Outcome]>> =
            run.record.plan.models.iter().map(|m| vec![&[][..]; m.attacks.len()]).collect();
        let mut at = 0;
        let mut begun = None;
        // Units of one model and attack follow each other, so their outcomes are one slice.
        for (unit, mine) in journal::by_unit(&run.record.plan, &run.outcomes) {
            let key = (unit.model, unit.attack);
            let start = match begun {
                Some((k, start)) if k == key => start,
                _ => at,
            };
            at += mine.len();
            begun = Some((key, start));
            cells[unit.model][unit.attack] = &run.outcomes[start..at];
        }
        for (model, outcomes) in run.record.plan.models.iter().zip(cells) {
            all.push(Subject { label: model.name.clone(), style: 0, run, model, outcomes });
        }
    }
    let twins: Vec<bool> =
        all.iter().map(|s| all.iter().filter(|o| o.model.name == s.model.name).count() > 1).collect();
    for (i, twin) in twins.into_iter().enumerate() {
        if twin {
            all[i].label = format!("{} ({})", all[i].model.name, all[i].run.name());
        }
        all[i].style = i;
    }
    all
}

/// The legend of some subjects, each once.
pub(super) fn keys<'a>(of: impl IntoIterator<Item = &'a Subject<'a>>) -> Vec<Key> {
    let mut keys: Vec<Key> = vec![];
    for s in of {
        if !keys.iter().any(|k| k.style == s.style && k.name == s.label) {
            keys.push(Key { name: s.label.clone(), style: s.style, swatch: crate::report::svg::swatch(s.style) });
        }
    }
    keys
}
