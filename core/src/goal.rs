//! What counts as fooled.

use crate::{Error, Result, Rows};
use serde::{Deserialize, Serialize};

/// One entry per sample. Correct means the label's score is strictly greater than every other: a tie is fooled, and
/// a target is reached only strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Any class but this one.
    Untargeted(Vec<u32>),
    /// Exactly this class.
    Targeted(Vec<u32>),
}

/// The class a row of scores says, and how far it is from fooled: positive means not fooled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pred {
    pub label: u32,
    pub margin: f64,
}

/// The first largest entry; `None` when an entry is NaN or infinite.
pub fn argmax(scores: &[f32]) -> Option<u32> {
    if scores.is_empty() || scores.iter().any(|z| !z.is_finite()) {
        return None;
    }
    let best = scores.iter().enumerate().fold(0, |best, (i, z)| if *z > scores[best] { i } else { best });
    u32::try_from(best).ok()
}

/// Whether a margin is so small against the scores that another interpreter may judge otherwise.
pub fn fragile(margin: f64, scores: &[f32]) -> bool {
    let top = scores.iter().fold(0., |a, z| f64::max(a, f64::from(z.abs())));
    margin.abs() < 1e-4 * (1. + top)
}

impl Goal {
    pub fn classes(&self) -> &[u32] {
        match self {
            Goal::Untargeted(y) | Goal::Targeted(y) => y,
        }
    }

    pub fn len(&self) -> usize {
        self.classes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_targeted(&self) -> bool {
        matches!(self, Goal::Targeted(_))
    }

    /// The goal's class score against the best other, signed so that positive is far from fooled. `None` for a row with
    /// NaN or infinite scores, or too short for its class.
    pub fn judge(&self, row: usize, scores: &[f32]) -> Option<Pred> {
        let class = *self.classes().get(row)? as usize;
        let label = argmax(scores)?;
        let own = f64::from(*scores.get(class)?);
        let rest = scores.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, z)| f64::from(*z));
        let lead = own - rest.fold(f64::NEG_INFINITY, f64::max);
        Some(Pred { label, margin: if self.is_targeted() { -lead } else { lead } })
    }

    /// Whether a judged row is fooled.
    pub fn reached(&self, pred: Pred) -> bool {
        if self.is_targeted() { pred.margin < 0. } else { pred.margin <= 0. }
    }

    /// Checks every class against the number of classes.
    pub fn check(&self, classes: usize) -> Result<()> {
        match self.classes().iter().find(|y| **y as usize >= classes) {
            Some(y) => {
                Err(Error::load("labels", format!("label {y} is out of range: the model has {classes} classes"))
                    .hint("does the data set belong to this model? `robust list` shows what each expects"))
            }
            None => Ok(()),
        }
    }
}

impl Rows for Goal {
    fn keep(&mut self, rows: &[u32]) -> Result<()> {
        match self {
            Goal::Untargeted(y) | Goal::Targeted(y) => y.keep(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_is_fooled_but_does_not_reach_a_target() {
        let (own, other) = (Goal::Untargeted(vec![0]), Goal::Targeted(vec![1]));
        let judge = |g: &Goal, z: &[f32]| g.judge(0, z).map(|p| g.reached(p));
        assert_eq!(judge(&own, &[1., 1., 0.]), Some(true));
        assert_eq!(judge(&other, &[1., 1., 0.]), Some(false));
        assert_eq!(judge(&other, &[1., 2., 0.]), Some(true));
        assert_eq!(judge(&own, &[1., 0.5, 0.]), Some(false));
    }

    #[test]
    fn scores_that_are_not_numbers_are_no_judgement() {
        let goal = Goal::Untargeted(vec![0]);
        assert_eq!(goal.judge(0, &[f32::NAN, 1.]), None);
        assert_eq!(goal.judge(0, &[f32::INFINITY, 1.]), None);
    }
}
