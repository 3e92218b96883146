//! What runs networks: the seam between models and processors.
//!
//! An [`Interpreter`] takes a network's weights to where it computes, once ([`Resident`]), and compiles the graph there for a
//! [`Purpose`]. A row's output and gradient have the same bits for any batch, position and number of threads within one
//! interpreter, purpose and class of devices; across them verdicts agree outside the samples that are marked fragile.

use crate::graph::{Network, NodeId, ParamId, Params};
use crate::reference::{BatchStatistics, Mode};
use candle_core::Tensor;
use robust_core::{Error, Result};
use std::sync::Arc;

/// What a compiled network is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Fast, with gradients; it may round (Winograd, TF32, f16). A success found with it is a candidate.
    Search,
    /// Forward only, in f32 and a fixed order of sums: it confirms candidates.
    Exact,
    /// In f64, with gradients: it judges again what others judged.
    Double,
    /// With gradients of weights and batch norms that see the batch ([`Mode::Train`]).
    Train,
}

/// Runs graphs on a class of devices.
pub trait Interpreter: Send + Sync {
    /// As `run.json` has it: `plan/f32/avx512`.
    fn name(&self) -> String;

    /// The class of devices within which results are the same bytes, such as `cpu`.
    fn device(&self) -> &'static str;

    /// Nodes that it does not know and leaves to the reference.
    ///
    /// # Errors
    /// Weights that cannot be brought to the device.
    fn unknown(&self, network: &Arc<Network>) -> Result<Vec<NodeId>>;

    /// Brings the weights to where they are needed.
    ///
    /// # Errors
    /// Kind `Load` for constants that expand beyond memory.
    fn load(&self, network: Arc<Network>) -> Result<Arc<dyn Resident>>;
}

/// A network whose weights are where its interpreter computes.
pub trait Resident: Send + Sync {
    fn network(&self) -> &Arc<Network>;

    /// The graph ready for `purpose`, so that the values of `taps` can be read and seeded.
    ///
    /// # Errors
    /// A purpose that this interpreter does not serve; a tap that is not a value of the batch.
    fn compile(&self, purpose: Purpose, taps: &[NodeId]) -> Result<Arc<dyn Compiled>>;

    /// The same graph with other weights: neither is checked or worked out again what follows from the graph alone.
    ///
    /// # Errors
    /// Kind `Load` for weights that do not fit the graph.
    fn with_params(&self, params: Params) -> Result<Arc<dyn Resident>>;
}

/// A network compiled for a purpose.
pub trait Compiled: Send + Sync {
    /// `[n, input row...]` of any float type -> `[n, output row...]`.
    ///
    /// # Errors
    /// Kind `Load` when `x` has another shape or is not of floats.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;

    /// A forward pass that can be pulled back any number of times.
    ///
    /// # Errors
    /// As [`Compiled::forward`]; a purpose without gradients.
    fn trace(&self, x: &Tensor) -> Result<Box<dyn Pass>>;

    /// As [`Compiled::trace`] in a mode, for [`Purpose::Train`].
    ///
    /// # Errors
    /// As [`Compiled::trace`]; an interpreter that does not train.
    fn trace_in(&self, mode: Mode<'_>, x: &Tensor) -> Result<Box<dyn Pass>> {
        match mode {
            Mode::Eval => self.trace(x),
            Mode::Train(_) => Err(Error::internal("this interpreter does not train")),
        }
    }
}

/// One forward pass.
pub trait Pass: Send {
    /// `[n, output row...]`.
    fn output(&self) -> &Tensor;

    /// The value of a tap, `[n, row...]`.
    ///
    /// # Errors
    /// The node was not a tap.
    fn value(&self, node: NodeId) -> Result<&Tensor>;

    /// The input's gradient `[n, input row...]`: the sum over `seeds` of (d node / d x)^T seed, where a seed has the shape of
    /// its node's value. The output and taps may be seeded.
    ///
    /// # Errors
    /// A seed of another shape, or at another node.
    fn pull(&mut self, seeds: &[(NodeId, Tensor)]) -> Result<Tensor>;

    /// Gradients of the `wanted` weights, summed over the batch.
    ///
    /// # Errors
    /// As [`Pass::pull`]; an interpreter without gradients of weights.
    fn pull_params(&mut self, _seeds: &[(NodeId, Tensor)], _wanted: &[ParamId]) -> Result<Vec<Tensor>> {
        Err(Error::internal("this interpreter gives no gradients of weights"))
    }

    /// What batch norms saw in training, in the graph's order.
    fn statistics(&self) -> Vec<BatchStatistics> {
        vec![]
    }
}
