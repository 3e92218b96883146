//! The loading doctor: most wrong numbers come from a model or a data set that was loaded wrongly. A few dozen labelled
//! samples are judged as they are and in the ways people get them wrong; what would be better is said with the fix.

use super::{Code, Finding, Severity};
use crate::evaluate::row_keys;
use candle_core::{DType, IndexOp, Tensor};
use robust_core::{Batch, Draw, Input, InputKind, Model, Result, argmax, stream};
use robust_models::statistics::KNOWN;

/// A variant must be this much better than what was given, and significantly so.
const BETTER: f64 = 0.15;

/// From this clean accuracy on nothing is suspected.
const ENOUGH: f64 = 0.9;

/// A variant that is this good in itself is the right one; one that is worse may be, and is a warning.
const GOOD: f64 = 0.5;

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
    if labels.len() == batch.len() {
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

    fn hits(&self, scores: &[Vec<f32>]) -> usize {
        scores.iter().zip(self.labels).filter(|(z, y)| argmax(z) == Some(**y)).count()
    }

    /// The best way to be wrong, if one beats what was given.
    fn accuracy(&self, scores: &[Vec<f32>], found: &mut Vec<Finding>) -> Result<()> {
        let (n, given) = (self.labels.len(), self.hits(scores));
        if given as f64 >= ENOUGH * n as f64 {
            return Ok(());
        }
        let classes = self.model.card().output.width() as f64;
        let guessed = 1. / classes + LUCK * ((1. - 1. / classes) / classes / n as f64).sqrt();
        let right = |z: &[f32], y: u32| argmax(z) == Some(y);
        let mut best: Option<(usize, Finding)> = None;
        for (x, code, advice) in variants(&self.batch.x, &self.model.card().input)? {
            let tried = self.scores(&x, 0)?;
            let hits = self.hits(&tried);
            let gain = (hits as f64 - given as f64) / n as f64;
            // Two standard errors of a paired difference, so that small samples do not accuse.
            let pairs = scores.iter().zip(&tried).zip(self.labels);
            let changed = pairs.filter(|((a, b), y)| right(a, **y) != right(b, **y)).count() as f64 / n as f64;
            let doubt = 2. * (changed / n as f64).sqrt();
            let lucky = hits as f64 <= guessed * n as f64;
            if !lucky && gain > BETTER.max(doubt) && best.as_ref().is_none_or(|(h, _)| hits > *h) {
                let evidence = format!("{hits} of {n} samples are right that way, {given} as given");
                let mut finding = Finding::new(code, evidence, advice);
                if (hits as f64) < GOOD * n as f64 {
                    finding.severity = Severity::Warning;
                }
                best = Some((hits, finding));
            }
        }
        // Within two standard errors of guessing.
        let chance = 1. / classes + 2. * (1. / classes / n as f64).sqrt();
        if let Some((_, finding)) = best {
            found.push(finding);
        } else if n >= 16 && given as f64 / n as f64 <= chance {
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

fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

fn close(a: &[f32], b: &[f32]) -> bool {
    let top = a.iter().chain(b).fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 1e-4 * (1. + top))
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

#[cfg(test)]
mod tests;
