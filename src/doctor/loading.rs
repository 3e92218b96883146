//! The loading doctor: most wrong numbers come from a model or a data set that was loaded wrongly. A few dozen labelled
//! samples are judged as they are and in the ways people get them wrong; what would be better is said with the fix.

use super::{Code, Finding, Severity};
use crate::eval::clean::row_keys;
use candle_core::{DType, IndexOp, Tensor};
use robust_core::{Batch, Draw, Goal, Input, InputKind, Model, Result, argmax, readable, stream};
use robust_models::statistics::KNOWN;

/// Labels that count from another class than the model's outputs.
const OFFSETS: [(i64, &str); 2] = [
    (-1, "labels count from 1, the model's classes from 0"),
    (1, "the model's first output is not a class of the data, such as background"),
];

/// A variant must be this much better than what was given, and significantly so.
const BETTER: f64 = 0.15;

/// From this clean accuracy on nothing is suspected.
const ENOUGH: f64 = 0.9;

/// A variant that is this good in itself is the right one; one that is worse may be, and is a warning.
const GOOD: f64 = 0.5;

/// Share of samples with tied labels from which on it is worth a word.
const TIED: f64 = 0.02;

/// Standard errors from guessing, below which a variant is luck: there are some thirty of them.
const LUCK: f64 = 3.5;

/// Forwards of the same rows, as in AutoAttack's own check.
const REPEATS: u64 = 5;

struct Doctor<'a> {
    model: &'a dyn Model,
    batch: &'a Batch,
    labels: &'a [u32],
}

/// Examines a model on labelled samples, [`SAMPLES`](super::SAMPLES) or so. Five forwards a sample for an accurate model, about
/// thirty for one that is not; finds nothing in a healthy pair.
pub fn examine(model: &dyn Model, batch: &Batch) -> Result<Vec<Finding>> {
    let labels = batch.labels.clone().unwrap_or_default();
    let doctor = Doctor { model, batch, labels: &labels };
    let mut found = vec![];
    let scores = doctor.scores(&batch.x, 0)?;
    doctor.determinism(&scores, &mut found)?;
    doctor.coupling(&scores, &mut found)?;
    softmax(&scores, &mut found);
    not_finite(&scores, &mut found);
    if labels.len() == batch.len() {
        doctor.ties(&scores, &mut found);
        doctor.accuracy(&scores, &mut found)?;
    }
    Ok(found)
}

impl Doctor<'_> {
    fn scores(&self, x: &Tensor, turn: u64) -> Result<Vec<Vec<f32>>> {
        let rows = x.dims()[0];
        let keys = row_keys(&self.batch.ids[..rows]);
        let draw = Draw { seed: 0, stream: stream("doctor"), turn, rows: &keys };
        Ok(self.model.forward(&x.contiguous()?, &draw)?.to_dtype(DType::F32)?.to_vec2::<f32>()?)
    }

    fn determinism(&self, first: &[Vec<f32>], found: &mut Vec<Finding>) -> Result<()> {
        let mut changed = 0;
        for turn in 1..REPEATS {
            let again = self.scores(&self.batch.x, turn)?;
            changed = changed.max(first.iter().zip(&again).filter(|(a, b)| !same(a, b)).count());
        }
        if changed > 0 && !self.model.card().stochastic {
            found.push(Finding::new(
                Code::NonDeterministic,
                format!("{changed} of {} samples get other scores when asked again", first.len()),
                "export the model in inference mode (dropout off); a randomised defence must say so in its card",
            ));
        }
        Ok(())
    }

    fn coupling(&self, together: &[Vec<f32>], found: &mut Vec<Finding>) -> Result<()> {
        if self.batch.len() < 2 || found.iter().any(|f| f.code == Code::NonDeterministic) {
            return Ok(());
        }
        let part = self.scores(&self.batch.x.narrow(0, 0, 1)?, 0)?;
        if !close(&part[0], &together[0]) {
            found.push(Finding::new(
                Code::CoupledRows,
                "the first sample's scores change when it stands alone",
                "batch normalisation in training mode? Export with `model.eval()`; results would depend on batches",
            ));
        }
        Ok(())
    }

    /// Right is what the judge of a run calls right: the label's score above every other.
    fn hits(&self, scores: &[Vec<f32>]) -> usize {
        self.rights(scores, 0).into_iter().filter(|r| *r).count()
    }

    /// Which samples would be right if so much were added to every label.
    fn rights(&self, scores: &[Vec<f32>], offset: i64) -> Vec<bool> {
        let shifted = |y: &u32| u32::try_from(i64::from(*y) + offset).unwrap_or(u32::MAX);
        let goal = Goal::Untargeted(self.labels.iter().map(shifted).collect());
        scores.iter().enumerate().map(|(i, z)| goal.judge(i, z).is_some_and(|p| !goal.reached(p))).collect()
    }

    /// Rows whose label has the largest score, but not alone.
    fn tied(&self, scores: &[Vec<f32>]) -> Vec<usize> {
        let goal = Goal::Untargeted(self.labels.to_vec());
        let tied = |(i, z): (usize, &Vec<f32>)| goal.judge(i, z).filter(|p| p.margin == 0.).map(|_| i);
        scores.iter().enumerate().filter_map(tied).collect()
    }

    fn ties(&self, scores: &[Vec<f32>], found: &mut Vec<Finding>) {
        let tied = self.tied(scores);
        let first = tied.iter().filter(|&&i| argmax(&scores[i]) == self.labels.get(i).copied()).count();
        let (n, all) = (tied.len(), scores.len());
        if n as f64 > TIED * all as f64 {
            let text = format!(
                "in {n} of {all} clean samples the label shares the largest score with another class: they count as wrong \
                 (argmax, which takes the first of equal scores, would call {first} of them right)"
            );
            let advice = "scores are clipped, rounded or saturated: export the model without what makes them equal";
            found.push(Finding::new(Code::Ties, text, advice).with("tied", n as f64).with("samples", all as f64));
        }
    }

    /// The best way to be wrong, if one beats what was given.
    fn accuracy(&self, scores: &[Vec<f32>], found: &mut Vec<Finding>) -> Result<()> {
        let (n, given) = (self.labels.len(), self.hits(scores));
        if given as f64 >= ENOUGH * n as f64 {
            return Ok(());
        }
        // Classes that are masked everywhere are not guessed.
        let open = |k: &usize| scores.iter().any(|z| z.get(*k).is_some_and(|v| *v > f32::NEG_INFINITY));
        let classes = (0..self.model.card().output.width()).filter(open).count().max(1) as f64;
        let guessed = 1. / classes + LUCK * ((1. - 1. / classes) / classes / n as f64).sqrt();
        let as_given = self.rights(scores, 0);
        let mut best: Option<(usize, Finding)> = None;
        let mut tried = vec![];
        for (offset, reason) in OFFSETS {
            let advice = format!("{reason}: add `?offset={offset}` to the data set's name");
            tried.push((self.rights(scores, offset), Code::LabelOffset, advice));
        }
        for (x, code, advice) in variants(&self.batch.x, &self.model.card().input)? {
            tried.push((self.rights(&self.scores(&x, 0)?, 0), code, advice));
        }
        for (rights, code, advice) in tried {
            let hits = rights.iter().filter(|r| **r).count();
            let gain = (hits as f64 - given as f64) / n as f64;
            // Two standard errors of a paired difference, so that small samples do not accuse.
            let changed = as_given.iter().zip(&rights).filter(|(a, b)| a != b).count() as f64 / n as f64;
            let doubt = 2. * (changed / n as f64).sqrt();
            let lucky = hits as f64 <= guessed * n as f64;
            if !lucky && gain > BETTER.max(doubt) && best.as_ref().is_none_or(|(h, _)| hits > *h) {
                let evidence = match code {
                    Code::LabelOffset => format!(
                        "labels are one off: {hits} of {n} samples ({:.1} %) are right with labels moved by one, {given} as given",
                        100. * hits as f64 / n as f64
                    ),
                    _ => format!("{hits} of {n} samples are right that way, {given} as given"),
                };
                let mut finding = Finding::new(code, evidence, advice);
                if (hits as f64) < GOOD * n as f64 {
                    finding.severity = Severity::Warning;
                }
                best = Some((hits, finding));
            }
        }
        // Within two standard errors of guessing.
        let chance = 1. / classes + 2. * (1. / classes / n as f64).sqrt();
        // Those that have a finding of their own say nothing about the order of classes.
        let undecided = self.tied(scores).len() + scores.iter().filter(|z| !readable(z)).count();
        if let Some((_, finding)) = best {
            found.push(finding);
        } else if n >= 16 && (given + undecided) as f64 / n as f64 <= chance {
            found.push(Finding::new(
                Code::AtChance,
                format!("{given} of {n} clean samples are right, guessing gives {:.1}", n as f64 / classes),
                "are these the classes, in the order, that the model was trained on? Does it expect pixels in a range or by a \
                 normalisation that none of the usual ones is (`?mean=..&std=..`)? Was it trained at all?",
            ));
        }
        Ok(())
    }
}

/// Equal bits; NaN equals NaN, whichever it is.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
}

/// Equal up to rounding, against the largest finite score; what is not finite equals its like.
fn close(a: &[f32], b: &[f32]) -> bool {
    let top = a.iter().chain(b).filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let near = |x: &f32, y: &f32| (f64::from(*x) - f64::from(*y)).abs() <= 1e-4 * (1. + top);
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y || x.is_nan() && y.is_nan() || near(x, y))
}

/// Rows that nobody can judge.
fn not_finite(scores: &[Vec<f32>], found: &mut Vec<Finding>) {
    let n = scores.iter().filter(|z| !readable(z)).count();
    if n > 0 {
        let text = format!("{n} of {} clean samples get NaN or infinite scores: they cannot be judged", scores.len());
        let advice = "look for logarithms, square roots and divisions at zero in the model, and for scores beyond 3.4e38; a class \
                      may be masked with minus infinity, all of them may not";
        found.push(Finding::new(Code::NotFiniteScores, text, advice).with("share", n as f64 / scores.len() as f64));
    }
}

fn softmax(scores: &[Vec<f32>], found: &mut Vec<Finding>) {
    let is =
        |z: &Vec<f32>| z.iter().all(|v| (-1e-5..=1. + 1e-5).contains(v)) && (z.iter().sum::<f32>() - 1.).abs() < 1e-4;
    if !scores.is_empty() && scores.iter().all(is) {
        found.push(Finding::new(
            Code::Softmax,
            "every row of scores is in [0,1] and sums to 1",
            "the model ends in a softmax, which saturates and hides gradients: export it without that layer",
        ));
    }
}

/// The inputs a model may have been meant for, each with what it would mean.
fn variants(x: &Tensor, input: &Input) -> Result<Vec<(Tensor, Code, String)>> {
    let mut all = vec![];
    if input.kind == InputKind::Features && input.domain == Some((0., 1.)) {
        return flat_variants(x);
    }
    let ([c, h, w], InputKind::Image) = (input.shape.as_slice(), input.kind) else { return Ok(all) };
    let range = "the model expects pixels in [0,255]: add ?std=1/255";
    all.push((x.affine(255., 0.)?, Code::InputRange, range.to_string()));
    let range = "the model expects pixels in [0,1], and they are scaled up before it: leave ?std=1/255 out";
    all.push((x.affine(1. / 255., 0.)?, Code::InputRange, range.to_string()));
    for known in KNOWN.iter().filter(|k| [1, *c].contains(&k.mean.len())) {
        let values = |v: &[f64]| {
            let values: Vec<f32> = v.iter().map(|v| *v as f32).collect();
            Tensor::new(values, x.device())?.reshape((1, v.len(), 1, 1))
        };
        let (mean, std) = (values(known.mean)?, values(known.std)?);
        let missing = format!("the model expects normalised input: add ?{}", known.text());
        let centred = x.broadcast_sub(&mean)?;
        all.push((centred.broadcast_div(&std)?, Code::MissingNormalisation, missing));
        let list = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        let bytes =
            format!("the model expects pixels in [0,255] less their mean: add ?mean={}&std=1/255", list(known.mean));
        all.push((centred.affine(255., 0.)?, Code::MissingNormalisation, bytes));
        let doubled = format!(
            "the input seems to be normalised twice, by {}: leave ?mean= and ?std= out if the file normalises by itself (`robust inspect` \
             says so), or else they are not those of its training",
            known.text()
        );
        all.push((x.broadcast_mul(&std)?.broadcast_add(&mean)?, Code::DoubledNormalisation, doubled));
    }
    if *c == 3 {
        let swapped = Tensor::cat(&[x.i((.., 2..3))?, x.i((.., 1..2))?, x.i((.., 0..1))?], 1)?;
        let advice = "the model expects blue-green-red: swap the first layer's input channels, or the data's";
        all.push((swapped, Code::ChannelOrder, advice.to_string()));
    }
    if *c > 1 {
        let rows = x.dims()[0];
        let last = x.permute((0, 2, 3, 1))?.contiguous()?.reshape((rows, *c, *h, *w))?;
        let first = x.reshape((rows, *h, *w, *c))?.permute((0, 3, 1, 2))?.contiguous()?;
        let advice =
            "images are stored channels last where the model reads channels first: transpose them to [n, c, h, w]";
        all.push((last, Code::ChannelsLast, advice.to_string()));
        all.push((first, Code::ChannelsLast, advice.to_string()));
    }
    Ok(all)
}

/// Those of pixels in rows, whose channels nobody knows: of grey images.
fn flat_variants(x: &Tensor) -> Result<Vec<(Tensor, Code, String)>> {
    let range = "the model expects pixels in [0,255]: scale them inside the model when it is exported".to_string();
    let mut all = vec![(x.affine(255., 0.)?, Code::InputRange, range)];
    for known in KNOWN.iter().filter(|k| k.mean.len() == 1) {
        let (mean, std) = (known.mean[0], known.std[0]);
        let missing =
            format!("the model expects normalised input: put (x - {mean}) / {std} into the model when it is exported");
        all.push((x.affine(1. / std, -mean / std)?, Code::MissingNormalisation, missing));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
