//! One row of a table.

use super::distances::Distances;
use crate::doctor::Grade;
use robust_core::{Outcome, Place, ThreatModel, Verdict};
use serde::{Deserialize, Serialize};

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
