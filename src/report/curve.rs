//! Curves from the ledger: success against queries, and accuracy against epsilon.

use super::written;
use crate::escape::cell;
use crate::eval::plan::Plan;
use robust_core::{Outcome, Result, Verdict};

/// Steps of one curve: at each `x` the share changes to `y`.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub model: String,
    pub attack: String,
    /// `success-against-queries` or `accuracy-against-epsilon`.
    pub kind: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// For each attack: the share of clean-correct samples fooled within `x` search forwards; and where an attack looked for
/// the nearest success, the share of all samples that are right at epsilon `x`. A sample without a success counts as
/// right at every epsilon: read the curve up to the largest distance found.
pub fn curves(plan: &Plan, outcomes: &[Outcome]) -> Vec<Curve> {
    let mut all = vec![];
    for model in &plan.models {
        for attack in &model.attacks {
            let of: Vec<&Outcome> =
                outcomes.iter().filter(|o| o.model == model.name && o.attack == attack.label).collect();
            let mut add = |kind, points: Vec<(f64, f64)>| {
                let (model, attack) = (model.name.clone(), attack.label.clone());
                all.push(Curve { model, attack, kind, points });
            };
            add("success-against-queries", by_queries(&of));
            if of.iter().any(|o| o.nearest.is_some()) {
                add("accuracy-against-epsilon", by_epsilon(&of));
            }
        }
    }
    all
}

pub(super) fn by_queries(of: &[&Outcome]) -> Vec<(f64, f64)> {
    let attacked = of.iter().filter(|o| o.verdict != Verdict::CleanMiss && o.best.is_some()).count().max(1);
    let mut queries: Vec<u64> = of.iter().filter(|o| o.verdict == Verdict::Fooled).filter_map(|o| o.queries).collect();
    queries.sort_unstable();
    let steps = queries.iter().enumerate().map(|(i, q)| (*q as f64, (i + 1) as f64 / attacked as f64));
    last_of_each(steps.collect())
}

fn by_epsilon(of: &[&Outcome]) -> Vec<(f64, f64)> {
    let right = |o: &&&Outcome| o.clean.is_some_and(|p| p.margin > 0.) && o.verdict != Verdict::Failed;
    let correct = of.iter().filter(right).count();
    let mut distances: Vec<f64> = of.iter().filter_map(|o| o.nearest).collect();
    distances.sort_by(f64::total_cmp);
    let share = |left: usize| left as f64 / of.len().max(1) as f64;
    let fallen = distances.iter().enumerate().map(|(i, d)| (*d, share(correct.saturating_sub(i + 1))));
    last_of_each(std::iter::once((0., share(correct))).chain(fallen).collect())
}

/// Of several steps at one place the last counts.
fn last_of_each(steps: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let next = steps.iter().skip(1).map(|s| Some(s.0)).chain([None]);
    steps.iter().zip(next).filter(|(s, next)| *next != Some(s.0)).map(|(s, _)| *s).collect()
}

/// `model,attack,curve,x,y`, a line per step.
pub fn curves_to_csv(curves: &[Curve]) -> Result<String> {
    let step = |c: &Curve, (x, y): &(f64, f64)| {
        [cell(&c.model), cell(&c.attack), c.kind.to_string(), x.to_string(), y.to_string()]
    };
    let lines = curves.iter().flat_map(|c| c.points.iter().map(move |p| step(c, p)));
    written(std::iter::once(["model", "attack", "curve", "x", "y"].map(String::from)).chain(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_steps_at_one_place_the_last_counts() {
        assert_eq!(last_of_each(vec![(1., 0.1), (2., 0.2), (2., 0.3), (5., 0.4)]), [(1., 0.1), (2., 0.3), (5., 0.4)]);
        assert!(last_of_each(vec![]).is_empty());
    }
}
