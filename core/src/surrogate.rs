//! Models made of models, for gradients where the deployed one gives none or bad ones: attacks climb these, and the judge
//! still asks the deployed model (see [`Target::surrogates`](crate::Target::surrogates)).

use crate::{Card, Draw, Error, Model, Result, Site, TapId, Trace};
use candle_core::Tensor;
use std::sync::Arc;

/// The backward pass of another whole model, at the attacked point `x` itself: the value is the hard model's to the bit, the
/// gradient that of a soft stand-in, such as the same network with a smooth activation.
///
/// This is not the backward pass differentiable approximation of Athalye, Carlini and Wagner (2018, arXiv 1802.00420), which
/// replaces one stage of a model and evaluates the gradient of the rest behind it, at `g(x)`: for a transform `g` before a
/// network that is [`Defended`](crate::Defended).
///
/// A gradient costs a forward of each and a backward of the soft one.
pub struct StandIn {
    hard: Arc<dyn Model>,
    soft: Arc<dyn Model>,
}

impl StandIn {
    /// # Errors
    /// Kind `Usage` when the two take or give other shapes.
    pub fn new(hard: Arc<dyn Model>, soft: Arc<dyn Model>) -> Result<Self> {
        let (a, b) = (hard.card(), soft.card());
        if a.input.shape != b.input.shape || a.output.width() != b.output.width() {
            return Err(Error::usage(format!(
                "model `{}` takes {:?} and gives {} scores, `{}` takes {:?} and gives {}: one cannot stand in for the other",
                a.name,
                a.input.shape,
                a.output.width(),
                b.name,
                b.input.shape,
                b.output.width()
            )));
        }
        Ok(Self { hard, soft })
    }
}

impl Model for StandIn {
    fn card(&self) -> &Card {
        self.hard.card()
    }

    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.hard.forward(x, draw)
    }

    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.hard.exact(x, draw)
    }

    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, _taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let output = self.hard.forward(x, draw)?;
        Ok(Box::new(Lent { output, soft: self.soft.trace(x, draw, &[])? }))
    }
}

/// The value of one model, the pullback of another.
struct Lent<'a> {
    output: Tensor,
    soft: Box<dyn Trace + 'a>,
}

impl Trace for Lent<'_> {
    fn output(&self) -> &Tensor {
        &self.output
    }

    fn tap(&self, _: TapId) -> Result<&Tensor> {
        Err(Error::usage("a stand-in for gradients has no inner activations"))
    }

    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        self.soft.pull(seeds)
    }
}

/// The model, with gradients taken at points moved by Gaussian noise of deviation `sigma` in input units, fresh in every
/// draw: with EOT, the gradient of the smoothed loss, which a shattered or piecewise constant landscape cannot hide. Scores
/// alone are those of the point itself, so steps without gradients lose nothing.
pub struct Smoothed {
    inner: Arc<dyn Model>,
    card: Card,
    sigma: f64,
}

impl Smoothed {
    /// # Errors
    /// Kind `Usage` unless `sigma` is finite and not negative.
    pub fn new(inner: Arc<dyn Model>, sigma: f64) -> Result<Self> {
        if !sigma.is_finite() || sigma < 0. {
            return Err(Error::usage(format!("a deviation of {sigma} makes no noise")));
        }
        let card = Card { stochastic: true, ..inner.card().clone() };
        Ok(Self { inner, card, sigma })
    }

    fn moved(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        let noise = draw.normal(&x.dims()[1..], x.device())?;
        Ok((x + (noise * self.sigma)?)?)
    }
}

impl Model for Smoothed {
    fn card(&self) -> &Card {
        &self.card
    }

    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.inner.forward(x, draw)
    }

    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.inner.exact(x, draw)
    }

    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        self.inner.trace(&self.moved(x, draw)?, draw, taps)
    }
}
