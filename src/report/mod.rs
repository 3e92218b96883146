//! Tables are pure functions of a plan, its outcomes and the seconds they took: integers first, rates once at the end.

pub mod corruptions;
mod csv;
mod curve;
mod distances;
pub mod encoders;
mod json;
pub mod page;
mod sentence;
mod svg;
mod targets;
mod text;

pub use csv::{to_csv, written};
pub use curve::{Curve, curves, curves_to_csv};
pub use distances::{Distances, epsilons, usual};
pub use json::{SCHEMA, to_json};
pub use sentence::sentences;
pub use targets::own_class;
pub use text::to_text;

use crate::doctor::Grade;
use crate::plan::Plan;
use crate::run::is_compat;
use crate::stats::{rate, wilson};
use robust_core::{Outcome, Place, Region, ThreatModel, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the row that joins a model's attacks under one threat model.
pub const WORST: &str = "worst-case";

/// The same where the attacks were in compat mode: numbers to compare with the reference's, never with other rows.
pub const WORST_COMPAT: &str = "worst-case:compat=true";

/// One row of the table: a model under an attack, or under all attacks of one threat model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub model: String,
    pub dataset: String,
    pub attack: String,
    pub threat: String,
    pub norm: String,
    pub eps: f64,
    /// Samples asked for, in a shard its part of them; the denominator of every rate.
    pub n: u64,
    pub clean_accuracy: f64,
    /// NaN (in JSON `null`) where the attack has no epsilon: see `distances`.
    pub robust_accuracy: f64,
    /// Wilson 95 % intervals.
    pub clean_interval: (f64, f64),
    pub robust_interval: (f64, f64),
    pub clean_correct: u64,
    pub held: u64,
    pub fooled: u64,
    pub failed: u64,
    pub fragile: u64,
    pub forwards: u64,
    pub backwards: u64,
    pub seconds: f64,
    pub seed: u64,
    /// Whether every sample of the data set was asked: others are not comparable with published numbers.
    pub full: bool,
    pub model_digest: String,
    pub data_digest: String,
    /// The doctor's grade of the model's numbers, `None` where it did not look at the model; see `diagnostics.json`.
    #[serde(default)]
    pub reliability: Option<Grade>,
    /// Where the run put heads on encoders: which is which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Of one attack, where its points did not all simply lie within the threat model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<Points>,
    /// Of one attack that looks for the nearest success and was given no epsilon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distances: Option<Distances>,
    /// Whether the goal was to move an embedding: then no labels were asked for, and clean accuracy means nothing.
    #[serde(skip)]
    pub aimed: bool,
}

/// Points that did not simply lie within the threat model, as those made by other tools may not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Points {
    /// Moved to the nearest legal point, and then judged.
    pub moved: u64,
    /// The largest change of an entry among them, in input units.
    pub moved_most: f64,
    /// What counts as rounding, in input units: [`ThreatModel::rounding`].
    pub rounding: f64,
    /// Too far outside: never judged, so that their samples failed.
    pub outside: u64,
    /// How far the furthest of them lies outside ([`ThreatModel::beyond`]).
    pub outside_most: f64,
}

impl Points {
    /// Of the outcomes of one attack; `None` where there is nothing to tell.
    pub fn of<'a>(threat: &ThreatModel, outcomes: impl Iterator<Item = &'a Outcome>) -> Option<Self> {
        let mut points = Self { rounding: threat.rounding(), ..Self::default() };
        for place in outcomes.filter_map(|o| o.place) {
            let (count, most, by) = match place {
                Place::Moved(by) => (&mut points.moved, &mut points.moved_most, by),
                Place::Outside(by) => (&mut points.outside, &mut points.outside_most, by),
            };
            *count += 1;
            *most = most.max(by);
        }
        (points.moved + points.outside > 0).then_some(points)
    }

    /// One sentence for the points that were moved, one for those outside.
    pub fn notes(&self, model: &str, attack: &str, threat: &str) -> Vec<String> {
        let mut notes = vec![];
        if self.moved > 0 {
            let (most, rounding) = (self.moved_most, self.rounding);
            let why = match most <= rounding {
                true => format!("points up to {rounding:.0e} off are taken for rounding"),
                false => format!("more than rounding, which is at most {rounding:.0e}"),
            };
            notes.push(format!(
                "{} points of {model} under {attack} were moved into {threat}, by at most {most:.2e} in an entry ({why}).",
                self.moved
            ));
        }
        if self.outside > 0 {
            notes.push(format!(
                "{} points of {model} under {attack} lie outside {threat}, the furthest by {:.2e}: they were not judged.",
                self.outside, self.outside_most
            ));
        }
        notes
    }
}

/// Whether a row joins a model's attacks.
pub fn is_worst(attack: &str) -> bool {
    attack == WORST || attack == WORST_COMPAT
}

/// The worse of two verdicts on one sample.
pub fn worse(a: Verdict, b: Verdict) -> Verdict {
    let rank = |v: Verdict| match v {
        Verdict::CleanMiss => 3,
        Verdict::Fooled => 2,
        Verdict::Failed => 1,
        Verdict::Held => 0,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Integers of one row, per sample the worst verdict.
#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<u64, (Verdict, bool)>,
    clean: BTreeMap<u64, bool>,
    forwards: u64,
    backwards: u64,
    seconds: f64,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        let slot = self.verdicts.entry(outcome.id).or_insert((outcome.verdict, false));
        slot.0 = worse(slot.0, outcome.verdict);
        slot.1 |= outcome.fragile;
        let correct = outcome.clean.is_some_and(|p| p.margin > 0.);
        self.clean.insert(outcome.id, correct);
        let cost = outcome.cost;
        self.forwards += cost.search.forward + cost.clean + cost.confirm;
        self.backwards += cost.search.backward;
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.values().filter(|(v, _)| *v == verdict).count() as u64
    }
}

/// One row per model and attack, then one `worst-case` row per model and threat model; none for attacks without an epsilon, which
/// find a success somewhere for nearly every sample. `seconds` are per (model,
/// attack) in the plan's order.
pub fn summarise(plan: &Plan, outcomes: &[Outcome], seconds: &[f64]) -> Vec<Row> {
    let mut rows = vec![];
    let mut slot = 0;
    for model in &plan.models {
        let mut unions: Vec<(Region, usize, Tally)> = vec![];
        for (index, attack) in model.attacks.iter().enumerate() {
            let mut tally = Tally { seconds: seconds.get(slot).copied().unwrap_or(0.), ..Tally::default() };
            let threat = attack.threat.region.clone();
            let mine = || outcomes.iter().filter(|o| o.model == model.name && o.attack == attack.label);
            if let Region::Nearest { norm } = threat {
                mine().for_each(|o| tally.add(o));
                let epsilons = epsilons(norm, model.attacks.iter().map(|a| &a.threat.region));
                let (row, distances) =
                    (row(plan, model, index, &attack.label, &tally), Some(Distances::of(mine(), &epsilons)));
                let nothing = (f64::NAN, f64::NAN);
                rows.push(Row { robust_accuracy: f64::NAN, robust_interval: nothing, distances, ..row });
                slot += 1;
                continue;
            }
            let place = unions.iter().position(|(t, ..)| *t == threat).unwrap_or_else(|| {
                unions.push((threat, index, Tally::default()));
                unions.len() - 1
            });
            let union = &mut unions[place].2;
            union.seconds += tally.seconds;
            for outcome in mine() {
                tally.add(outcome);
                union.add(outcome);
            }
            let points = Points::of(&attack.threat, mine());
            rows.push(Row { points, ..row(plan, model, index, &attack.label, &tally) });
            slot += 1;
        }
        let name = if model.attacks.iter().any(|a| is_compat(&a.params)) { WORST_COMPAT } else { WORST };
        rows.extend(unions.iter().map(|(_, index, tally)| row(plan, model, *index, name, tally)));
    }
    rows
}

fn row(plan: &Plan, model: &crate::plan::PlannedModel, attack: usize, name: &str, tally: &Tally) -> Row {
    let threat = &model.attacks[attack].threat;
    let n = tally.verdicts.len() as u64;
    // As many as there are, and none beyond: the ids of the outcomes, not a word of the plan.
    let last = tally.verdicts.last_key_value().map_or(0, |(id, _)| *id);
    let clean_correct = tally.clean.values().filter(|c| **c).count() as u64;
    let held = tally.count(Verdict::Held);
    Row {
        model: model.name.clone(),
        dataset: plan.dataset.card.name.clone(),
        attack: name.to_string(),
        threat: model.attacks[attack].threat_text(),
        norm: threat.norm().map_or_else(String::new, |n| n.to_string()),
        eps: threat.eps(),
        n,
        clean_accuracy: rate(clean_correct, n),
        robust_accuracy: rate(held, n),
        clean_interval: wilson(clean_correct, n),
        robust_interval: wilson(held, n),
        clean_correct,
        held,
        fooled: tally.count(Verdict::Fooled),
        failed: tally.count(Verdict::Failed),
        fragile: tally.verdicts.values().filter(|(_, f)| *f).count() as u64,
        forwards: tally.forwards,
        backwards: tally.backwards,
        seconds: tally.seconds,
        seed: plan.seed,
        full: n == plan.dataset.card.samples && last < n.max(1),
        model_digest: model.digest.clone(),
        data_digest: plan.dataset.card.digest.clone(),
        reliability: None,
        encoder: model.head.as_ref().map(|h| h.encoder.clone()),
        head: model.head.as_ref().map(|h| h.head.clone()),
        points: None,
        distances: None,
        aimed: model.attacks[attack].aim.is_some(),
    }
}
