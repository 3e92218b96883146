//! What can be asked of a model.

use crate::{Card, Draw, Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// Index into [`Card::taps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TapId(pub usize);

/// Where a pullback is seeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    Output,
    Tap(TapId),
}

/// A function of rows: a network, an ensemble, a network behind a defence, somebody's service. Rows never mix: a row's bits do not
/// depend on its neighbours, unless the card says that the model couples rows.
pub trait Model: Send + Sync {
    /// What it takes and gives, and who it is.
    fn card(&self) -> &Card;

    /// Rows `[n, input...]` -> `[n, width]` of floats, by the fastest path that is good enough to search with. `draw` has a key per
    /// row; the same rows and draws give the same bits.
    ///
    /// # Errors
    /// Kind `Load` for rows of another shape; whatever keeps the model from answering.
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor>;

    /// The same function by its most exact path, which the judge uses to confirm. Default: [`Model::forward`].
    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.forward(x, draw)
    }

    /// The same function in double precision, computed in a way of its own: it judges again what [`Model::exact`] judged, with
    /// the same draws. It takes the same f32 rows and answers in f64; gradients are not asked of it. Default: there is none.
    ///
    /// # Errors
    /// Kind `Load` for weights that cannot be brought to double precision.
    fn in_double(&self) -> Result<Option<Arc<dyn Model>>> {
        Ok(None)
    }

    /// One forward that can be pulled back any number of times, with chosen inner activations.
    ///
    /// # Errors
    /// As [`Model::forward`]; kind `Usage` for a model without gradients, which is the default.
    fn trace<'a>(&'a self, _x: &Tensor, _draw: &Draw, _taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let name = &self.card().name;
        Err(Error::usage(format!("model `{name}` gives no gradients"))
            .hint("use an attack that needs scores or labels only: `robust list attacks` shows what each needs"))
    }
}

/// One forward pass that was kept.
pub trait Trace {
    /// `[n, width]`.
    fn output(&self) -> &Tensor;
    /// The activation of a tap that was asked for, `[n, ...]`.
    ///
    /// # Errors
    /// A tap that was not asked for.
    fn tap(&self, tap: TapId) -> Result<&Tensor>;
    /// Sum over the seeds of (d site / d x)^T seed: `[n, input...]`, each row from its own seed rows alone.
    /// A seed has the shape of its site's value.
    ///
    /// # Errors
    /// A seed of another shape, or at a site that the pass does not have.
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor>;
}
