//! A model behind transforms, with a detector beside it or without.

use crate::{
    Access, Card, Draw, Error, Model, Output, Passes, Pullback, Result, Site, TapId, Through, Trace, Transform, stream,
};
use candle_core::Tensor;
use std::sync::Arc;

/// Says how suspicious an input is.
pub trait Detector: Send + Sync {
    /// With its settings: part of the name and the digest of the model it guards.
    fn name(&self) -> String;

    /// Rows `[n, input...]`, as they come from outside, before any transform -> `[n]` f32; larger is more suspicious.
    ///
    /// # Errors
    /// Rows of another shape.
    fn score(&self, x: &Tensor, draw: &Draw) -> Result<Tensor>;

    /// The value of [`Detector::score`], and the way back: a seed `[n]` to `[n, input...]`. Asked only where
    /// [`Detector::has_gradient`]. Default: an error that names the detector.
    ///
    /// # Errors
    /// As [`Detector::score`].
    fn trace<'a>(&'a self, _x: &Tensor, _draw: &Draw) -> Result<(Tensor, Pullback<'a>)> {
        Err(Error::usage(format!("detector `{}` gives no gradients", self.name()))
            .hint("use an attack that needs scores or labels only: `robust list attacks` shows what each needs"))
    }

    /// Whether gradients come back through it. Without them the model it guards gives scores alone: an attack that climbs the
    /// classes and does not see the detector would flatter it. Default: none do.
    fn has_gradient(&self) -> bool {
        false
    }

    /// Whether its score depends on the draw. Default: it does not.
    fn is_random(&self) -> bool {
        false
    }
}

/// A detector and the score above which it rejects, as calibration stored it.
struct Guard {
    detector: Arc<dyn Detector>,
    threshold: f64,
}

/// A transform and how attacks come back through it.
struct Stage {
    transform: Arc<dyn Transform>,
    through: Through,
    /// Of its own noise.
    stream: u64,
}

/// Transforms in order, then a model, then perhaps a detector that may reject the input.
///
/// Its gradient is the backward pass differentiable approximation of Athalye, Carlini and Wagner (2018, arXiv 1802.00420): the
/// model's gradient is evaluated at `g(x)`, where the model really is, and then pulled back through the transforms in reverse,
/// each as it is told to ([`Through`]). To attack it as somebody who does not know of the transforms would, climb the bare model
/// as a surrogate ([`crate::Target::surrogates`]), behind the same detector where there is one: its answers must have as many
/// columns.
///
/// With a detector, answers are [`Output::LogitsReject`]: one more column, the detector's score minus the threshold.
pub struct Defended {
    stages: Vec<Stage>,
    model: Arc<dyn Model>,
    guard: Option<Guard>,
    card: Card,
}

impl Defended {
    /// `transforms` in the order in which a row meets them.
    ///
    /// # Errors
    /// Kind `Usage` when a transform cannot give what the next one or the model takes.
    pub fn new(transforms: Vec<(Arc<dyn Transform>, Through)>, model: Arc<dyn Model>) -> Result<Self> {
        let mut card = model.card().clone();
        for (transform, _) in transforms.iter().rev() {
            card.input = transform.input(&card.input)?;
            card.name = format!("{}+{}", transform.name(), card.name);
            card.stochastic |= transform.is_random();
            card.jumps |= transform.jumps();
        }
        let names: Vec<String> = transforms.iter().map(|(t, _)| t.name()).collect();
        card.digest = digest(&("transforms", &names, &card.digest))?;
        let stage = |(i, (transform, through))| Stage { transform, through, stream: stream(&format!("transform/{i}")) };
        let stages = transforms.into_iter().enumerate().map(stage).collect();
        Ok(Self { stages, model, guard: None, card })
    }

    /// The same with a detector that rejects rows whose score is above `threshold`; calibrated by rejecting so many in a hundred
    /// clean samples, say.
    ///
    /// # Errors
    /// Kind `Usage` for embeddings, for a model that rejects already, and for a threshold that is not a number.
    pub fn guarded(self, detector: Arc<dyn Detector>, threshold: f64) -> Result<Self> {
        let Output::Logits { k } = self.card.output else {
            return Err(Error::usage(format!(
                "detector `{}` guards scores of classes, model `{}` gives {:?}",
                detector.name(),
                self.card.name,
                self.card.output
            )));
        };
        if !threshold.is_finite() {
            return Err(Error::usage(format!("detector `{}` rejects above {threshold}", detector.name())));
        }
        let access = if detector.has_gradient() { Access::Gradient } else { Access::Scores };
        let card = Card {
            name: format!("{}+{}", detector.name(), self.card.name),
            digest: digest(&("detector", detector.name(), threshold.to_bits(), &self.card.digest))?,
            output: Output::LogitsReject { k },
            stochastic: self.card.stochastic || detector.is_random(),
            access: self.card.access.min(access),
            ..self.card
        };
        Ok(Self { guard: Some(Guard { detector, threshold }), card, ..self })
    }

    /// Passes of networks that one row takes through the transforms, there and back, beside those of the model.
    pub fn cost(&self) -> Passes {
        self.stages.iter().map(|s| s.transform.cost()).fold(Passes::default(), |a, b| Passes {
            forward: a.forward.saturating_add(b.forward),
            backward: a.backward.saturating_add(b.backward),
        })
    }

    /// `g(x)`: what the model is given.
    ///
    /// # Errors
    /// What a transform returns.
    pub fn transformed(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.stages.iter().try_fold(x.clone(), |x, stage| stage.transform.apply(&x, &stage.draw(draw)))
    }

    /// The answer, with the rejection that a detector's score means as its last column.
    fn reject(&self, output: Tensor, score: Option<Tensor>) -> Result<Tensor> {
        let (Some(guard), Some(score)) = (&self.guard, score) else { return Ok(output) };
        let over = (score.to_dtype(output.dtype())? - guard.threshold)?;
        let column = over.reshape((output.dim(0)?, 1))?;
        Ok(Tensor::cat(&[&output, &column], 1)?)
    }

    fn answer(&self, model: &dyn Model, exact: bool, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        let y = self.transformed(x, draw)?;
        let output = if exact { model.exact(&y, draw)? } else { model.forward(&y, draw)? };
        let score = self.guard.as_ref().map(|g| g.detector.score(x, &g.draw(draw))).transpose()?;
        self.reject(output, score)
    }
}

impl Stage {
    fn draw<'k>(&self, of: &Draw<'k>) -> Draw<'k> {
        Draw { stream: of.stream ^ self.stream, ..*of }
    }
}

impl Guard {
    fn draw<'k>(&self, of: &Draw<'k>) -> Draw<'k> {
        Draw { stream: of.stream ^ stream("detector"), ..*of }
    }
}

fn digest(of: &impl serde::Serialize) -> Result<String> {
    let bytes = serde_json::to_vec(of).map_err(|e| Error::internal(format!("a defence has no JSON: {e}")))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

impl Model for Defended {
    fn card(&self) -> &Card {
        &self.card
    }

    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.answer(self.model.as_ref(), false, x, draw)
    }

    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.answer(self.model.as_ref(), true, x, draw)
    }

    /// Transforms and detector compute as they do; the model behind them in double precision.
    fn in_double(&self) -> Result<Option<Arc<dyn Model>>> {
        let Some(model) = self.model.in_double()? else { return Ok(None) };
        let stages = self.stages.iter().map(|s| Stage { transform: s.transform.clone(), ..*s }).collect();
        let guard = self.guard.as_ref().map(|g| Guard { detector: g.detector.clone(), ..*g });
        Ok(Some(Arc::new(Self { stages, model, guard, card: self.card.clone() })))
    }

    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let (mut y, mut back) = (x.clone(), Vec::with_capacity(self.stages.len()));
        for stage in &self.stages {
            let (next, pullback) = stage.transform.trace(&y, &stage.draw(draw), stage.through)?;
            y = next;
            back.push(pullback);
        }
        let inner = self.model.trace(&y, draw, taps)?;
        let traced = self.guard.as_ref().map(|g| g.detector.trace(x, &g.draw(draw))).transpose()?;
        let (score, detector) = traced.unzip();
        let output = self.reject(inner.output().clone(), score)?;
        Ok(Box::new(Behind { output, inner, back, detector }))
    }
}

/// A pass through transforms and model.
struct Behind<'a> {
    output: Tensor,
    inner: Box<dyn Trace + 'a>,
    /// In the order of the transforms.
    back: Vec<Pullback<'a>>,
    detector: Option<Pullback<'a>>,
}

impl Trace for Behind<'_> {
    fn output(&self) -> &Tensor {
        &self.output
    }

    fn tap(&self, tap: TapId) -> Result<&Tensor> {
        self.inner.tap(tap)
    }

    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        let (mut inner, mut rejected) = (Vec::with_capacity(seeds.len()), None);
        for (site, seed) in seeds {
            match (site, &self.detector) {
                (Site::Output, Some(_)) => {
                    let classes = seed.dim(1)?.saturating_sub(1);
                    inner.push((*site, seed.narrow(1, 0, classes)?.contiguous()?));
                    let column = seed.narrow(1, classes, 1)?.squeeze(1)?.contiguous()?;
                    rejected = Some(match rejected {
                        Some(sum) => (sum + column)?,
                        None => column,
                    });
                }
                _ => inner.push((*site, seed.clone())),
            }
        }
        let there = self.inner.pull(&inner)?;
        let mut dx = self.back.iter().rev().try_fold(there, |dy, pullback| pullback(&dy))?;
        if let (Some(pullback), Some(seed)) = (&self.detector, rejected) {
            dx = (dx + pullback(&seed)?)?;
        }
        Ok(dx)
    }
}

#[cfg(test)]
mod tests;
