//! What the attacker climbs: per-row losses (larger is closer to fooled) and their gradients in the scores, in f64.

use crate::goal::{Likeness, readable, reckoned, rejection_of};
use crate::{Error, Goal, Result, Rows};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objective {
    /// Cross-entropy of the label, or minus that of the target.
    Ce,
    /// Minus the goal's margin: best other score minus the label's, or the target's minus the best other; for goals without
    /// labels, what is missing of the similarity or too much of it. Only this one is for embeddings.
    Margin,
    /// Difference of logits ratio (Croce and Hein 2020, eq. 6); three classes at least, untargeted goals only.
    Dlr,
    /// Its targeted form (eq. 7) toward one class per asked row; four classes at least, untargeted goals only.
    DlrTargeted(Vec<u32>),
    /// The score of one class per asked row minus the label's: what is left of the above with fewer classes.
    MarginTargeted(Vec<u32>),
    /// Cross-entropy with the slope that single precision leaves of it: zero for confident models, as in tools that
    /// differentiate a softmax in f32. For comparisons with them only.
    CeSingle,
}

/// Keeps the ratio finite when three scores coincide (the reference implementation's constant).
const DLR_FLOOR: f64 = 1e-12;

impl Objective {
    /// Refuses objectives the goal or the number of classes cannot carry.
    pub fn check(&self, goal: &Goal, classes: usize) -> Result<()> {
        if goal.is_label_free() {
            return match self {
                Objective::Margin => Ok(()),
                _ => Err(Error::usage(format!("objective {self:?} needs scores of classes, an embedding has none"))
                    .hint("leave the objective out: without labels an attack climbs the similarity itself")),
            };
        }
        let needed = match self {
            Objective::Ce | Objective::CeSingle | Objective::Margin | Objective::MarginTargeted(_) => 2,
            Objective::Dlr => 3,
            Objective::DlrTargeted(_) => 4,
        };
        if classes < needed {
            return Err(Error::usage(format!("objective {self:?} needs {needed} classes, the model has {classes}"))
                .hint("use objective=margin"));
        }
        if goal.is_targeted() && (needed > 2 || matches!(self, Objective::MarginTargeted(_))) {
            return Err(Error::usage(
                "the DLR objectives and those toward a class per row need the true label, a targeted goal has none",
            )
            .hint("use objective=ce or objective=margin with target=..."));
        }
        Ok(())
    }

    /// The loss of asked row `row`, whose sample is `goal`'s entry `owner`, with scores `z`, and its slope in `z`, both
    /// finite also where classes are masked by a score of minus infinity. Scores that cannot be judged give NaN and zeros.
    pub fn climb(&self, goal: &Goal, owner: usize, row: usize, z: &[f32]) -> Climb {
        if let Goal::Guarded { goal, .. } = goal {
            return self.evade(goal, owner, row, z).unwrap_or_else(|| Climb::none(z.len()));
        }
        if goal.is_label_free() {
            return similarity(goal, owner, z).unwrap_or_else(|| Climb::none(z.len()));
        }
        let class = goal.classes().get(owner).map_or(usize::MAX, |c| *c as usize);
        if !readable(z) || class >= z.len() {
            return Climb::none(z.len());
        }
        let mut slope = vec![0.; z.len()];
        let at = |i: usize| reckoned(z[i]);
        let sign = if goal.is_targeted() { -1. } else { 1. };
        let other = best_other(z, class);
        let loss = match self {
            Objective::Ce => return cross_entropy(z, class, other, sign),
            Objective::CeSingle => return single_cross_entropy(z, class, sign),
            Objective::MarginTargeted(targets) => {
                let toward = targets[row] as usize;
                slope[toward] += 1.;
                slope[class] -= 1.;
                at(toward) - at(class)
            }
            Objective::Margin => {
                slope[other] += sign;
                slope[class] -= sign;
                sign * (at(other) - at(class))
            }
            Objective::Dlr => {
                let order = descending(z);
                ratio(z, class, other, &[(order[0], 1.), (order[2], -1.)], &mut slope)
            }
            Objective::DlrTargeted(targets) => {
                let order = descending(z);
                let spread = [(order[0], 1.), (order[2], -0.5), (order[3], -0.5)];
                ratio(z, class, targets[row] as usize, &spread, &mut slope)
            }
        };
        Climb::scaled(loss, slope)
    }
}

impl Objective {
    /// Where a row may be rejected, the attacker must reach its goal and be accepted. The margin is then minus the larger of
    /// the classes' margin and the rejection; from every other objective the rejection is taken where it is above zero.
    fn evade(&self, goal: &Goal, owner: usize, row: usize, z: &[f32]) -> Option<Climb> {
        let (over, classes) = rejection_of(z)?;
        let mut here = self.climb(goal, owner, row, classes);
        if here.loss.is_nan() {
            return None;
        }
        let mut caught = vec![0.; z.len()];
        if *self == Objective::Margin {
            if over > -here.loss {
                caught[classes.len()] = -1.;
                return Some(Climb::scaled(-over, caught));
            }
        } else if over > 0. {
            let most = here.log_scale.max(0.);
            let share = (here.log_scale - most).exp();
            caught.iter_mut().zip(&here.slope).for_each(|(to, from)| *to = share * from);
            caught[classes.len()] = -(-most).exp();
            return Some(Climb { loss: here.loss - over, slope: caught, log_scale: most });
        }
        here.slope.push(0.);
        Some(here)
    }
}

/// Minus the margin of a goal without labels.
fn similarity(goal: &Goal, owner: usize, z: &[f32]) -> Option<Climb> {
    let Likeness { anchor, by, bar, sign } = goal.likeness(owner)?;
    let (value, slope) = by.with_slope(z, anchor)?;
    Some(Climb::scaled(-sign * (value - bar), slope.into_iter().map(|s| -sign * s).collect()))
}

/// A loss and its slope in the scores, `slope * exp(log_scale)`, with the largest entry of `slope` 1 in size. Kept
/// apart because a confident model's cross-entropy slope underflows f32 and would look like a zero gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Climb {
    pub loss: f64,
    pub slope: Vec<f64>,
    pub log_scale: f64,
}

impl Climb {
    /// Where there is nothing to climb.
    fn none(width: usize) -> Self {
        Self { loss: f64::NAN, slope: vec![0.; width], log_scale: f64::NEG_INFINITY }
    }

    fn scaled(loss: f64, mut slope: Vec<f64>) -> Self {
        let size = slope.iter().fold(0., |a, s| f64::max(a, s.abs()));
        if size > 0. {
            slope.iter_mut().for_each(|s| *s /= size);
        }
        Self { loss, slope, log_scale: size.ln() }
    }
}

/// Cross-entropy with everything relative to the best other score, so that no confidence underflows.
fn cross_entropy(z: &[f32], class: usize, other: usize, sign: f64) -> Climb {
    let at = |i: usize| reckoned(z[i]);
    let rest: f64 = (0..z.len()).filter(|&i| i != class).map(|i| (at(i) - at(other)).exp()).sum();
    // log of the other classes' share of the softmax, 1 - p_y.
    let lead = at(class) - at(other) - rest.ln();
    let log_wrong = -(if lead > 0. { lead + (-lead).exp().ln_1p() } else { lead.exp().ln_1p() });
    let slope = (0..z.len()).map(|i| sign * if i == class { -1. } else { (at(i) - at(other)).exp() / rest }).collect();
    let loss = if lead > 0. { (-lead).exp().ln_1p() } else { lead.exp().ln_1p() - lead };
    Climb { loss: sign * loss, slope, log_scale: log_wrong }
}

/// Softmax and its slope rounded to f32 at every step; the slope is not rescaled, so that it may vanish.
fn single_cross_entropy(z: &[f32], class: usize, sign: f64) -> Climb {
    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = z.iter().map(|v| libm::expf(v - top)).collect();
    let sum: f32 = powers.iter().sum();
    let slope = |(i, p): (usize, &f32)| sign * f64::from(p / sum - if i == class { 1. } else { 0. });
    let loss = sign * f64::from((libm::logf(sum) - (z[class] - top)).min(f32::MAX));
    Climb { loss, slope: powers.iter().enumerate().map(slope).collect(), log_scale: 0. }
}

impl Rows for Objective {
    fn keep(&mut self, rows: &[u32]) -> Result<()> {
        match self {
            Objective::DlrTargeted(t) | Objective::MarginTargeted(t) => t.keep(rows),
            _ => Ok(()),
        }
    }
}

/// -(z_y - z_t) / (weighted spread + floor), with its gradient added to `slope`.
fn ratio(z: &[f32], label: usize, toward: usize, spread: &[(usize, f64)], slope: &mut [f64]) -> f64 {
    let lead = reckoned(z[label]) - reckoned(z[toward]);
    let width = spread.iter().map(|&(i, w)| w * reckoned(z[i])).sum::<f64>() + DLR_FLOOR;
    slope[label] -= 1. / width;
    slope[toward] += 1. / width;
    spread.iter().for_each(|&(i, w)| slope[i] += w * lead / (width * width));
    -lead / width
}

fn best_other(z: &[f32], class: usize) -> usize {
    let first = usize::from(class == 0);
    (0..z.len()).filter(|&i| i != class).fold(first, |best, i| if z[i] > z[best] { i } else { best })
}

/// Indices by falling score, ties by rising index.
fn descending(z: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..z.len()).collect();
    order.sort_by(|&a, &b| z[b].total_cmp(&z[a]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Similarity;

    #[test]
    fn slopes_agree_with_finite_differences() {
        let z = [0.3f32, -1.2, 2.0, 0.9, -0.4];
        let goals = [Goal::Untargeted(vec![2]), Goal::Untargeted(vec![0]), Goal::Targeted(vec![1])];
        let all = [Objective::Ce, Objective::Margin, Objective::Dlr, Objective::DlrTargeted(vec![4])];
        for goal in &goals {
            for objective in all.iter().filter(|o| o.check(goal, z.len()).is_ok()) {
                let here = objective.climb(goal, 0, 0, &z);
                assert!((here.slope.iter().fold(0., |a, s| f64::max(a, s.abs())) - 1.).abs() < 1e-12);
                for i in 0..z.len() {
                    let shifted = |h: f32| {
                        let mut z = z;
                        z[i] += h;
                        (objective.climb(goal, 0, 0, &z).loss, f64::from(z[i]))
                    };
                    let ((up, a), (down, b)) = (shifted(1e-3), shifted(-1e-3));
                    let slope = here.slope[i] * here.log_scale.exp();
                    assert!(((up - down) / (a - b) - slope).abs() < 1e-5, "{objective:?} {goal:?} {i}");
                }
            }
        }
    }

    #[test]
    fn a_rejection_is_climbed_down_beside_the_classes() {
        let goal = crate::Output::LogitsReject { k: 3 }.guard(Goal::Untargeted(vec![0]), crate::Rejection::Caught);
        for z in [[1f32, 0.2, -0.4, -0.5], [1., 0.2, -0.4, 0.5], [1., 0.2, -0.4, 1.5], [-1., 0.2, -0.4, 0.5]] {
            for objective in [Objective::Ce, Objective::Margin, Objective::Dlr] {
                let here = objective.climb(&goal, 0, 0, &z);
                assert!(here.slope.iter().all(|s| s.abs() <= 1.) && here.slope.iter().any(|s| s.abs() == 1.));
                for i in 0..4 {
                    let shifted = |h: f32| {
                        let mut z = z;
                        z[i] += h;
                        (objective.climb(&goal, 0, 0, &z).loss, f64::from(z[i]))
                    };
                    let ((up, a), (down, b)) = (shifted(1e-3), shifted(-1e-3));
                    let slope = here.slope[i] * here.log_scale.exp();
                    assert!(((up - down) / (a - b) - slope).abs() < 1e-5, "{objective:?} {z:?} {i}");
                }
            }
        }
        assert_eq!(Objective::Margin.climb(&goal, 0, 0, &[1., 1.5, 0., 0.75]).loss, -0.75);
        // However confident the classes are, a rejection has a slope.
        let sure = Objective::Ce.climb(&goal, 0, 0, &[5000., 1., 0., 0.5]);
        assert_eq!((sure.slope[3], sure.log_scale), (-1., 0.));
        assert!(Objective::Ce.climb(&goal, 0, 0, &[1., 1.5, 0., f32::NAN]).loss.is_nan());
    }

    #[test]
    fn without_labels_the_margin_is_climbed_and_nothing_else() {
        let z = [0.3f32, -1.2, 2.0, 0.9];
        let anchors = || vec![vec![1.1f32, 0.2, 0.4, -0.7]];
        let mut goals = vec![];
        for by in [Similarity::Cosine, Similarity::L2] {
            goals.push(Goal::Away { anchors: anchors(), by, below: 0.25 });
            goals.push(Goal::Towards { anchors: anchors(), by, above: -0.5 });
        }
        for goal in &goals {
            assert!(Objective::Margin.check(goal, 4).is_ok());
            for other in [Objective::Ce, Objective::CeSingle, Objective::Dlr, Objective::MarginTargeted(vec![0])] {
                assert!(other.check(goal, 4).is_err());
            }
            let climb = |z: &[f32]| Objective::Margin.climb(goal, 0, 0, z);
            let here = climb(&z);
            assert_eq!(here.loss, -goal.judge(0, &z).unwrap().margin);
            for i in 0..z.len() {
                let shifted = |h: f32| {
                    let mut z = z;
                    z[i] += h;
                    (climb(&z).loss, f64::from(z[i]))
                };
                let ((up, a), (down, b)) = (shifted(1e-3), shifted(-1e-3));
                let slope = here.slope[i] * here.log_scale.exp();
                assert!(((up - down) / (a - b) - slope).abs() < 1e-6, "{goal:?} {i}");
            }
            // At the anchor itself there is nothing to follow, and nothing breaks.
            let flat = climb(&anchors()[0]);
            assert!(
                flat.loss.is_finite() && (flat.log_scale == f64::NEG_INFINITY || flat.log_scale < -30.),
                "{flat:?}"
            );
            assert!(flat.slope.iter().all(|s| s.is_finite()));
            assert!(climb(&[f32::NAN; 4]).loss.is_nan() && climb(&[1.; 3]).loss.is_nan());
        }
    }

    #[test]
    fn in_single_precision_a_confident_model_has_none() {
        let goal = Goal::Untargeted(vec![0]);
        let (near, far) = ([1f32, 0.5, -2.], [200f32, 1., 0.]);
        let (exact, single) = (Objective::Ce.climb(&goal, 0, 0, &near), Objective::CeSingle.climb(&goal, 0, 0, &near));
        assert!((exact.loss - single.loss).abs() < 1e-6);
        for (a, b) in exact.slope.iter().zip(&single.slope) {
            assert!((a * exact.log_scale.exp() - b).abs() < 1e-6);
        }
        assert_eq!(Objective::CeSingle.climb(&goal, 0, 0, &far).slope, [0.; 3]);
        let toward = Objective::MarginTargeted(vec![2]).climb(&goal, 0, 0, &near);
        assert_eq!((toward.loss, toward.slope), (-3., vec![-1., 0., 1.]));
    }

    #[test]
    fn a_confident_model_still_has_a_slope() {
        let here = Objective::Ce.climb(&Goal::Untargeted(vec![0]), 0, 0, &[5000., 1., 0.]);
        assert!((here.log_scale + 4999. - (1. + f64::exp(-1.)).ln()).abs() < 1e-9, "{here:?}");
        assert!(here.slope[0] == -1. && here.slope[1] > here.slope[2] && here.slope[2] > 0.);
        let wrong = Objective::Ce.climb(&Goal::Untargeted(vec![0]), 0, 0, &[-5000., 1., 0.]);
        assert!((wrong.loss - 5001. - (1. + f64::exp(-1.)).ln()).abs() < 1e-9 && wrong.log_scale.abs() < 1e-9);
    }

    #[test]
    fn masked_classes_leave_losses_and_slopes_finite_and_change_none_of_the_others() {
        const OFF: f32 = f32::NEG_INFINITY;
        let goals = [Goal::Untargeted(vec![0]), Goal::Untargeted(vec![4]), Goal::Targeted(vec![1])];
        let objectives = [
            Objective::Ce,
            Objective::CeSingle,
            Objective::Margin,
            Objective::Dlr,
            Objective::DlrTargeted(vec![1]),
            Objective::DlrTargeted(vec![4]),
            Objective::MarginTargeted(vec![4]),
        ];
        for z in
            [[3f32, 4., 0., 1., OFF], [3., 4., OFF, OFF, OFF], [3., OFF, OFF, OFF, OFF], [3e38, -3e38, 1., 0., OFF]]
        {
            for (goal, objective) in goals.iter().flat_map(|g| objectives.iter().map(move |o| (g, o))) {
                let here = objective.climb(goal, 0, 0, &z);
                assert!(
                    here.loss.is_finite() && here.slope.iter().all(|s| s.is_finite()),
                    "{objective:?} {goal:?} {z:?}"
                );
                assert!(!here.log_scale.is_nan() && here.slope.iter().all(|s| s.abs() <= 1.), "{here:?}");
            }
        }
        // The other classes see what they would see without it.
        for objective in [Objective::Ce, Objective::Margin, Objective::Dlr, Objective::DlrTargeted(vec![2])] {
            let goal = Goal::Untargeted(vec![1]);
            let (with, without) =
                (objective.climb(&goal, 0, 0, &[3., 4., 0., 1., OFF]), objective.climb(&goal, 0, 0, &[3., 4., 0., 1.]));
            assert_eq!(
                (with.loss, &with.slope[..4], with.slope[4]),
                (without.loss, &without.slope[..], 0.),
                "{objective:?}"
            );
        }
    }

    #[test]
    fn dlr_is_the_papers_number() {
        // z sorted: 4, 3, 1, 0; label has 4: -(4 - 3) / (4 - 1).
        let loss = Objective::Dlr.climb(&Goal::Untargeted(vec![1]), 0, 0, &[3., 4., 0., 1.]).loss;
        assert!((loss + 1. / 3.).abs() < 1e-9);
        // Toward the class with 0: -(4 - 0) / (4 - (1 + 0) / 2).
        let loss = Objective::DlrTargeted(vec![2]).climb(&Goal::Untargeted(vec![1]), 0, 0, &[3., 4., 0., 1.]).loss;
        assert!((loss + 4. / 3.5).abs() < 1e-9);
    }

    #[test]
    fn two_classes_refuse_dlr() {
        let goal = Goal::Untargeted(vec![0]);
        assert!(Objective::Dlr.check(&goal, 2).is_err() && Objective::Margin.check(&goal, 2).is_ok());
    }
}
