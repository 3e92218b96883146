//! What stands between pixels and a model, and how a gradient comes back through it.

use crate::{Draw, Error, Input, Passes, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// How a gradient comes back through a transform whose value went forward exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Through {
    /// By the transform's own derivative.
    Exact,
    /// Unchanged, as if the transform were not there (Athalye, Carlini and Wagner 2018, arXiv 1802.00420: BPDA with the
    /// identity): for transforms that change their input little and have no useful derivative.
    Identity,
    /// By the derivative of a differentiable stand-in of the transform, at the same point.
    Soft,
}

impl Through {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Through::Exact => "exact",
            Through::Identity => "identity",
            Through::Soft => "soft",
        }
    }
}

/// `seed` `[n, rows that came out...]` to `(d y / d x)^T seed` `[n, rows that went in...]`, each row from its own seed row alone.
pub type Pullback<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;

/// A function of rows that stands before a model: compression, blur, quantisation, noise. It is not trained, and a row's result
/// does not depend on its neighbours.
pub trait Transform: Send + Sync {
    /// With its settings, as a user would write it: `jpeg:quality=75`. It is part of the name and of the digest of the model it
    /// defends, so two transforms that differ in anything have two names.
    fn name(&self) -> String;

    /// What it takes when what comes out of it must be `next`. Default: the same, shape and range.
    ///
    /// # Errors
    /// Kind `Usage` for an input that it cannot give.
    fn input(&self, next: &Input) -> Result<Input> {
        Ok(next.clone())
    }

    /// Rows `[n, ...]` f32 to rows `[n, ...]` f32. The same rows and draws give the same bits, and [`Transform::trace`] gives these
    /// bits too.
    ///
    /// # Errors
    /// Rows of another shape.
    fn apply(&self, x: &Tensor, draw: &Draw) -> Result<Tensor>;

    /// The value of [`Transform::apply`], and the way back for gradients. Default: the identity alone, for transforms that keep
    /// the shape.
    ///
    /// # Errors
    /// Kind `Usage` where it cannot be pulled back `through` this way, naming the transform; rows of another shape.
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, through: Through) -> Result<(Tensor, Pullback<'a>)> {
        let y = self.apply(x, draw)?;
        if through == Through::Identity && y.dims() == x.dims() {
            return Ok((y, Box::new(|seed| Ok(seed.clone()))));
        }
        let why = match through {
            Through::Identity => "it changes the shape of its rows, so that no gradient passes unchanged",
            Through::Exact => "it has no derivative of its own",
            Through::Soft => "it has no differentiable stand-in",
        };
        Err(Error::usage(format!(
            "no gradient comes back through transform `{}` ({}): {why}",
            self.name(),
            through.name()
        ))
        .hint("choose another way through it, or an attack that needs scores or labels only"))
    }

    /// Whether its result depends on the draw. Default: it does not.
    fn is_random(&self) -> bool {
        false
    }

    /// Whether it jumps, as rounding to levels does: two interpreters before it may then differ by a whole level after it.
    /// Default: it does not.
    fn jumps(&self) -> bool {
        false
    }

    /// Passes of networks that one row takes through it, there and back. Default: none, as of pixel code.
    fn cost(&self) -> Passes {
        Passes::default()
    }
}
