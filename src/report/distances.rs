//! What attacks without an epsilon say: how far the nearest success of a sample lies, and from that what survives at any
//! epsilon. A robust accuracy they have none.

use crate::runs::stats::{rate, wilson};
use robust_core::{Norm, Outcome, Region, Verdict};
use serde::{Deserialize, Serialize};

/// Of one model under one attack that looks for the nearest success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// Samples that were right when clean and could be judged: those that the quartiles are of.
    pub attacked: u64,
    /// Of these, how many fell at any distance.
    pub fell: u64,
    /// Quartiles of the distance of the nearest success, interpolated; `None` where so many withstood that there is none.
    pub lower_quartile: Option<f64>,
    pub median: Option<f64>,
    pub upper_quartile: Option<f64>,
    /// Accuracy at the epsilons that other attacks on the model were given in this norm; without such, at usual ones.
    pub at: Vec<Level>,
}

/// What survives at one epsilon, of all samples asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub eps: f64,
    /// Right when clean, judged, and without a success within epsilon.
    pub held: u64,
    pub robust_accuracy: f64,
    /// Wilson 95 % interval.
    pub robust_interval: (f64, f64),
}

/// Epsilons that people ask for, in units of pixels in `[0,1]`; of L0 pixels.
pub fn usual(norm: Norm) -> &'static [f64] {
    match norm {
        Norm::Linf => &[1. / 255., 2. / 255., 4. / 255., 8. / 255., 16. / 255., 0.1, 0.3],
        Norm::L2 => &[0.25, 0.5, 1., 2., 3.],
        Norm::L1 => &[5., 10., 12., 20., 50.],
        Norm::L0 => &[1., 5., 10., 20., 50.],
    }
}

/// The epsilons of the attacks in these regions that are balls of this norm, ascending; without any, the usual ones.
pub fn epsilons<'a>(norm: Norm, regions: impl Iterator<Item = &'a Region>) -> Vec<f64> {
    let ball = |region: &Region| match region {
        Region::Ball { norm: of, eps } if *of == norm => Some(*eps),
        _ => None,
    };
    let mut asked: Vec<f64> = regions.filter_map(ball).collect();
    asked.sort_by(f64::total_cmp);
    asked.dedup();
    if asked.is_empty() { usual(norm).to_vec() } else { asked }
}

impl Distances {
    /// Of the outcomes of one attack, each of another sample.
    pub fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>, epsilons: &[f64]) -> Self {
        let mut n = 0;
        let mut distances: Vec<f64> = vec![];
        for o in outcomes {
            n += 1;
            match (o.verdict, o.nearest) {
                (Verdict::Fooled, Some(distance)) => distances.push(distance),
                (Verdict::Held, None) => distances.push(f64::INFINITY),
                // What was wrong when clean, or never judged, survives nowhere.
                _ => {}
            }
        }
        distances.sort_by(f64::total_cmp);
        let level = |eps: &f64| {
            let held = distances.iter().filter(|d| **d > *eps).count() as u64;
            Level { eps: *eps, held, robust_accuracy: rate(held, n), robust_interval: wilson(held, n) }
        };
        Self {
            attacked: distances.len() as u64,
            fell: distances.iter().filter(|d| d.is_finite()).count() as u64,
            lower_quartile: quantile(&distances, 0.25),
            median: quantile(&distances, 0.5),
            upper_quartile: quantile(&distances, 0.75),
            at: epsilons.iter().map(level).collect(),
        }
    }
}

/// Of ascending values, linear between neighbours; `None` where it is not finite.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let value = match sorted.get(low + 1) {
        Some(next) if part > 0. => sorted.get(low)? * (1. - part) + next * part,
        _ => *sorted.get(low)?,
    };
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::attacked::unreadable;

    fn outcome(id: u64, verdict: Verdict, nearest: Option<f64>) -> Outcome {
        Outcome { verdict, nearest, why: None, ..unreadable("m", "ddn-l2", id, "").outcome }
    }

    #[test]
    fn accuracy_at_an_epsilon_counts_every_sample_and_quartiles_those_attacked() {
        let outcomes = [
            outcome(0, Verdict::Fooled, Some(0.5)),
            outcome(1, Verdict::Fooled, Some(1.)),
            outcome(2, Verdict::CleanMiss, None),
            outcome(3, Verdict::Fooled, Some(2.)),
            outcome(4, Verdict::Held, None),
            outcome(5, Verdict::Failed, None),
            outcome(6, Verdict::Fooled, Some(1.5)),
        ];
        let found = Distances::of(outcomes.iter(), &[0., 0.5, 1.2, 5.]);
        assert_eq!((found.attacked, found.fell), (5, 4));
        assert_eq!((found.lower_quartile, found.median, found.upper_quartile), (Some(1.), Some(1.5), Some(2.)));
        // A success exactly at epsilon is within it.
        assert_eq!(found.at.iter().map(|l| l.held).collect::<Vec<_>>(), [5, 4, 3, 1]);
        assert_eq!(found.at[1].robust_accuracy, 4. / 7.);
        let held = Distances::of(outcomes[4..5].iter(), &[]);
        assert_eq!((held.median, held.attacked, held.fell), (None, 1, 0));
        let half = [outcome(0, Verdict::Fooled, Some(0.5)), outcome(1, Verdict::Held, None)];
        let half = Distances::of(half.iter(), &[]);
        assert_eq!((half.lower_quartile, half.median), (None, None), "between a number and none there is none");
        assert_eq!(Distances::of([].iter(), &[1.]).median, None);
    }

    #[test]
    fn epsilons_are_those_asked_for_or_the_usual_ones() {
        let ball = |norm, eps| Region::Ball { norm, eps };
        let asked = [ball(Norm::L2, 2.), ball(Norm::Linf, 0.1), ball(Norm::L2, 0.5), ball(Norm::L2, 2.)];
        assert_eq!(epsilons(Norm::L2, asked.iter()), [0.5, 2.]);
        assert_eq!(epsilons(Norm::L1, asked.iter()), usual(Norm::L1));
    }
}
