//! What counts as fooled.

use crate::{Error, Result, Rows, Similarity};
use serde::{Deserialize, Serialize};

/// One entry per sample. Correct means the label's score is strictly greater than every other: a tie is fooled, and
/// a target is reached only strictly. A class whose score is minus infinity is masked: it never wins. The last two need no
/// labels: rows are embeddings, and similarities are compared strictly.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// Any class but this one.
    Untargeted(Vec<u32>),
    /// Exactly this class.
    Targeted(Vec<u32>),
    /// Less alike to the anchor, the sample's own clean embedding.
    Away { anchors: Vec<Vec<f32>>, by: Similarity, below: f64 },
    /// More alike to the anchor, another sample's embedding.
    Towards { anchors: Vec<Vec<f32>>, by: Similarity, above: f64 },
    /// A goal about classes, of a model that may reject a row instead of answering: the last entry of a row is its rejection
    /// ([`crate::Output::LogitsReject`]). See [`crate::Output::guard`].
    Guarded { goal: Box<Goal>, rejection: Rejection },
}

/// What it counts as when a model rejects a row. Exactly at the threshold a row is accepted, and counts against the defence
/// either way, as a tie between classes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The adversary is caught: whatever the class, the row is not fooled. So are adversarial points judged.
    Caught,
    /// The model has not answered: the row is as wrong as one of another class. So are clean samples judged.
    Unanswered,
}

/// The class a row of scores says (none for an embedding), and how far it is from fooled: positive means not fooled.
/// Margins are in units of scores, or of the similarity, which is then the threshold plus (away) or minus (towards) the
/// margin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pred {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<u32>,
    pub margin: f64,
    /// The model rejected the row; `label` is then the class that it kept to itself.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub rejected: bool,
}

impl Pred {
    /// Of a row that the model answered.
    pub fn answered(label: Option<u32>, margin: f64) -> Self {
        Self { label, margin, rejected: false }
    }
}

/// A label-free goal for one sample: the margin is `sign (similarity - bar)`.
pub(crate) struct Likeness<'a> {
    pub anchor: &'a [f32],
    pub by: Similarity,
    pub bar: f64,
    pub sign: f64,
}

/// Whether a margin is so small against `scale` that another interpreter may judge otherwise; see [`Goal::scale`].
pub fn fragile(margin: f64, scale: f64) -> bool {
    margin.abs() < 1e-4 * scale
}

/// Whether a row of class scores can be judged: no entry is NaN or plus infinity, and not all are minus infinity, which
/// masks its class.
pub fn readable(scores: &[f32]) -> bool {
    let masked = |z: &f32| *z == f32::NEG_INFINITY;
    scores.iter().all(|z| z.is_finite() || masked(z)) && !scores.iter().all(masked)
}

/// A score as margins and losses reckon with it: a masked class is as low as f32 goes, so that sums stay numbers.
pub(crate) fn reckoned(score: f32) -> f64 {
    f64::from(score.max(f32::MIN))
}

/// The rejection at the end of a row, and the class scores before it; `None` where it is not a number.
pub(crate) fn rejection_of(scores: &[f32]) -> Option<(f64, &[f32])> {
    let (over, classes) = scores.split_last()?;
    (over.is_finite() || *over == f32::NEG_INFINITY).then_some((reckoned(*over), classes))
}

/// The first largest entry; `None` for a row that is not [`readable`].
pub fn argmax(scores: &[f32]) -> Option<u32> {
    if !readable(scores) {
        return None;
    }
    let best = scores.iter().enumerate().fold(0, |best, (i, z)| if *z > scores[best] { i } else { best });
    u32::try_from(best).ok()
}

impl Goal {
    /// The class of every sample; empty for goals without labels.
    pub fn classes(&self) -> &[u32] {
        match self {
            Goal::Untargeted(y) | Goal::Targeted(y) => y,
            Goal::Away { .. } | Goal::Towards { .. } => &[],
            Goal::Guarded { goal, .. } => goal.classes(),
        }
    }

    /// Samples.
    pub fn len(&self) -> usize {
        match self {
            Goal::Untargeted(y) | Goal::Targeted(y) => y.len(),
            Goal::Away { anchors, .. } | Goal::Towards { anchors, .. } => anchors.len(),
            Goal::Guarded { goal, .. } => goal.len(),
        }
    }

    /// Whether rows are embeddings and no class is asked for.
    pub fn is_label_free(&self) -> bool {
        matches!(self, Goal::Away { .. } | Goal::Towards { .. })
    }

    /// Whether the objective has no slope at the clean point: a row is as similar to itself as can be. An attack that
    /// follows gradients must begin elsewhere.
    pub fn is_flat_at_start(&self) -> bool {
        matches!(self, Goal::Away { .. })
    }

    pub(crate) fn likeness(&self, row: usize) -> Option<Likeness<'_>> {
        let (anchors, by, bar, sign) = match self {
            Goal::Away { anchors, by, below } => (anchors, *by, *below, 1.),
            Goal::Towards { anchors, by, above } => (anchors, *by, *above, -1.),
            _ => return None,
        };
        anchors.get(row).map(|anchor| Likeness { anchor, by, bar, sign })
    }

    /// What rounding is measured against when a row's margin is said to be near zero: 1 plus the largest score that is not
    /// masked, and for scores that are all below a hundredth a hundred times the largest; for cosines 1, for distances 1
    /// plus the longer embedding.
    pub fn scale(&self, row: usize, scores: &[f32]) -> f64 {
        match self.likeness(row) {
            Some(l) => 1. + l.by.size(scores, l.anchor),
            None => {
                let top = scores.iter().filter(|z| z.is_finite()).fold(0., |a, z| f64::max(a, f64::from(z.abs())));
                // Below the smallest normal f32 even zero is rounding.
                (1. + top).min((100. * top).max(f64::from(f32::MIN_POSITIVE)))
            }
        }
    }

    /// Whether it is of no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one class must be reached, strictly, instead of any but the label.
    pub fn is_targeted(&self) -> bool {
        match self {
            Goal::Guarded { goal, .. } => goal.is_targeted(),
            _ => matches!(self, Goal::Targeted(_)),
        }
    }

    /// The goal's class score against the best other, or the similarity against the threshold, signed so that positive is
    /// far from fooled. `None` for a row that is not [`readable`], or too short for its class; for embeddings, for any entry
    /// that is not finite. With a rejection, a caught row's margin is the larger of the classes' and the rejection, an unanswered
    /// one's the smaller of the classes' and minus the rejection.
    pub fn judge(&self, row: usize, scores: &[f32]) -> Option<Pred> {
        if let Goal::Guarded { goal, rejection } = self {
            let (over, classes) = rejection_of(scores)?;
            let pred = goal.judge(row, classes)?;
            let margin = match rejection {
                Rejection::Caught => pred.margin.max(over),
                Rejection::Unanswered => pred.margin.min(-over),
            };
            return Some(Pred { margin, rejected: over > 0., ..pred });
        }
        if self.is_label_free() {
            let Likeness { anchor, by, bar, sign } = self.likeness(row)?;
            return Some(Pred::answered(None, sign * (by.of(scores, anchor)? - bar)));
        }
        let class = *self.classes().get(row)? as usize;
        let label = argmax(scores)?;
        let own = reckoned(*scores.get(class)?);
        let rest = scores.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, z)| reckoned(*z));
        let lead = own - rest.fold(f64::NEG_INFINITY, f64::max);
        Some(Pred::answered(Some(label), if self.is_targeted() { -lead } else { lead }))
    }

    /// Whether a judged row is fooled.
    pub fn reached(&self, pred: Pred) -> bool {
        match self {
            Goal::Untargeted(_) => pred.margin <= 0.,
            Goal::Guarded { goal, .. } => goal.reached(pred),
            _ => pred.margin < 0.,
        }
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
            Goal::Away { anchors, .. } | Goal::Towards { anchors, .. } => anchors.keep(rows),
            Goal::Guarded { goal, .. } => goal.keep(rows),
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
        assert_eq!(goal.judge(0, &[f32::NEG_INFINITY; 2]), None);
        let away = Goal::Away { anchors: vec![vec![1., 0.]], by: Similarity::Cosine, below: 0.5 };
        assert_eq!(away.judge(0, &[f32::NAN, 1.]), None);
        assert_eq!(away.judge(1, &[1., 1.]), None);
    }

    #[test]
    fn a_masked_class_never_wins_and_margins_stay_numbers() {
        const OFF: f32 = f32::NEG_INFINITY;
        let judge = |goal: Goal, z: &[f32]| goal.judge(0, z).map(|p| (p.label, p.margin, goal.reached(p)));
        let own = |y: u32| Goal::Untargeted(vec![y]);
        // Masked or far below: the same margin.
        assert_eq!(judge(own(0), &[2., 0.5, OFF]), Some((Some(0), 1.5, false)));
        assert_eq!(judge(own(0), &[2., 0.5, -1e4]), Some((Some(0), 1.5, false)));
        assert_eq!(judge(own(1), &[2., 0.5, OFF]), Some((Some(0), -1.5, true)));
        // A sample of a masked class can never be right, one whose rivals are all masked never wrong.
        let (label, margin, reached) = judge(own(2), &[2., 0.5, OFF]).unwrap();
        assert!(label == Some(0) && margin < -1e38 && margin.is_finite() && reached);
        let (label, margin, reached) = judge(own(1), &[OFF, -3., OFF]).unwrap();
        assert!(label == Some(1) && margin > 1e38 && margin.is_finite() && !reached);
        let (_, margin, reached) = judge(Goal::Targeted(vec![2]), &[2., 0.5, OFF]).unwrap();
        assert!(margin.is_finite() && !reached);
        assert_eq!(own(0).scale(0, &[2., -5., OFF]), 6.);
        // Scores of any size have a rounding of their own size.
        assert_eq!(own(0).scale(0, &[2e-3, -0.5e-3]), 100. * f64::from(2e-3f32));
        assert!(!fragile(1e-30, own(0).scale(0, &[2e-30, 1e-30])) && fragile(0., own(0).scale(0, &[0., 0.])));
        assert_eq!((argmax(&[OFF, -3., OFF]), argmax(&[OFF]), argmax(&[OFF, f32::NAN])), (Some(1), None, None));
    }

    #[test]
    fn without_labels_the_similarity_is_compared_strictly() {
        let anchors = || vec![vec![3f32, 0.], vec![0., 2.]];
        let away = Goal::Away { anchors: anchors(), by: Similarity::L2, below: -4. };
        let judge = |g: &Goal, row, z: &[f32]| g.judge(row, z).map(|p| (p.label, p.margin, g.reached(p)));
        assert_eq!(judge(&away, 0, &[3., 3.]), Some((None, 1., false)));
        assert_eq!(judge(&away, 0, &[3., 4.]), Some((None, 0., false)), "exactly at the threshold");
        assert_eq!(judge(&away, 1, &[0., 7.]), Some((None, -1., true)));
        let towards = Goal::Towards { anchors: anchors(), by: Similarity::Cosine, above: 0.75 };
        assert_eq!(judge(&towards, 0, &[-1., 0.]), Some((None, 1.75, false)));
        assert_eq!(judge(&towards, 1, &[0., 9.]), Some((None, -0.25, true)));
        // Cosines are of size 1 whatever the embeddings' lengths, distances are not.
        assert_eq!((towards.scale(0, &[1000., 0.]), away.scale(0, &[30., 40.])), (1., 51.));
        let mut kept = towards;
        kept.keep(&[1]).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(judge(&kept, 0, &[0., 9.]), Some((None, -0.25, true)));
    }

    #[test]
    fn a_prediction_without_a_class_is_written_without_one() {
        let json = |p: Pred| serde_json::to_string(&p).unwrap();
        assert_eq!(json(Pred::answered(Some(3), 0.5)), r#"{"label":3,"margin":0.5}"#);
        assert_eq!(json(Pred::answered(None, 0.5)), r#"{"margin":0.5}"#);
        // Lines of before rejections were there are read, and written again, as they were.
        let old = r#"{"label":3,"margin":0.5}"#;
        assert_eq!(json(serde_json::from_str(old).unwrap()), old);
        let rejected = r#"{"label":3,"margin":0.5,"rejected":true}"#;
        assert_eq!(json(serde_json::from_str(rejected).unwrap()), rejected);
    }

    #[test]
    fn a_rejected_row_is_caught_when_adversarial_and_wrong_when_clean() {
        let output = crate::Output::LogitsReject { k: 3 };
        let guarded = |rejection| output.guard(Goal::Untargeted(vec![0]), rejection);
        let (attacked, clean) = (guarded(Rejection::Caught), guarded(Rejection::Unanswered));
        let judge = |goal: &Goal, z: &[f32]| goal.judge(0, z).map(|p| (p.margin, p.rejected, goal.reached(p)));
        // Right and accepted; wrong and accepted; right and rejected; wrong and rejected.
        for (z, as_attack, as_clean) in [
            ([2f32, 1.5, 0., -0.25], (0.5, false, false), (0.25, false, false)),
            ([1., 1.5, 0., -0.25], (-0.25, false, true), (-0.5, false, true)),
            ([2., 1.5, 0., 0.75], (0.75, true, false), (-0.75, true, true)),
            ([1., 1.5, 0., 0.75], (0.75, true, false), (-0.75, true, true)),
        ] {
            assert_eq!((judge(&attacked, &z), judge(&clean, &z)), (Some(as_attack), Some(as_clean)), "{z:?}");
        }
        // At the threshold a row is accepted, and that is not a help to the defence.
        assert_eq!(judge(&attacked, &[1., 1.5, 0., 0.]), Some((0., false, true)));
        assert_eq!(judge(&clean, &[2., 1.5, 0., 0.]), Some((0., false, true)));
        assert_eq!(judge(&attacked, &[1., 1.5, 0., f32::NAN]), None);
        let target = output.guard(Goal::Targeted(vec![1]), Rejection::Caught);
        assert_eq!(judge(&target, &[1., 1.5, 0., -0.25]), Some((-0.25, false, true)));
        assert_eq!(judge(&target, &[1., 1.5, 0., 0.25]), Some((0.25, true, false)));
        assert!(target.is_targeted() && target.classes() == [1] && target.len() == 1);
        assert_eq!([output.said(&[1., 1.5, 0., -1.]), output.said(&[1., 1.5, 0., 1.])], [Some(1), Some(3)]);
        assert_eq!((output.width(), output.classes()), (4, 3));
    }
}
