//! What a pullback of one op may read and what it answers.

use super::array::Array;
use crate::graph::ParamId;
use robust_core::{Draw, Error, Result};
use std::sync::Arc;

/// Values a trace keeps for an op's pullback of input gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saves {
    pub(super) inputs: bool,
    pub(super) output: bool,
}

impl Saves {
    pub(super) const NOTHING: Self = Self { inputs: false, output: false };
    pub(super) const INPUTS: Self = Self { inputs: true, output: false };
    pub(super) const OUTPUT: Self = Self { inputs: false, output: true };
    pub(super) const BOTH: Self = Self { inputs: true, output: true };
}

/// How a node is computed.
pub(super) struct How<'a> {
    /// Whether a pullback may follow.
    pub(super) record: bool,
    /// In training, the node's own randomness.
    pub(super) train: Option<Draw<'a>>,
}

/// What a node's forward pass leaves for its pullback, besides values.
pub(super) enum Remembered {
    /// One position of each output entry in its input plane, of a max pool.
    Winners(Vec<u32>),
    /// Of a batch norm in training.
    Moments(Moments),
    /// Which entries dropout lets pass.
    Passed(Vec<bool>),
}

pub(super) type Memory = Arc<Remembered>;

/// Statistics of a batch, one entry per channel.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) mean: Vec<f64>,
    /// Biased: divided by the number of entries.
    pub(super) var: Vec<f64>,
    /// Entries of a channel, in all rows.
    pub(super) count: usize,
}

/// One node of a tape, seen from its pullback.
pub(super) struct Site<'a, F> {
    pub(super) inputs: Vec<Option<&'a Array<F>>>,
    pub(super) input_dims: Vec<Vec<usize>>,
    pub(super) output: Option<&'a Array<F>>,
    pub(super) memory: Option<&'a Memory>,
    pub(super) params: &'a [Array<F>],
    /// Which inputs and which weights a gradient is wanted of.
    pub(super) wants: Vec<bool>,
    pub(super) wanted: &'a [bool],
}

impl<'a, F> Site<'a, F> {
    pub(super) fn input(&self, i: usize) -> Result<&'a Array<F>> {
        self.inputs.get(i).copied().flatten().ok_or_else(|| Error::internal(format!("the tape lacks input {i}")))
    }

    pub(super) fn output(&self) -> Result<&'a Array<F>> {
        self.output.ok_or_else(|| Error::internal("the tape lacks an output"))
    }

    pub(super) fn memory(&self) -> Result<&'a Remembered> {
        self.memory.map(Arc::as_ref).ok_or_else(|| Error::internal("the tape lacks what a node left for its gradient"))
    }

    pub(super) fn param(&self, p: ParamId) -> &'a Array<F> {
        &self.params[p.0]
    }

    pub(super) fn wants_param(&self, p: ParamId) -> bool {
        self.wanted.get(p.0).copied().unwrap_or(false)
    }
}

/// Gradients of a node's inputs (where wanted) and of its weights (where wanted).
pub(super) struct Pulled<F> {
    pub(super) inputs: Vec<Option<Array<F>>>,
    pub(super) params: Vec<(ParamId, Array<F>)>,
}

impl<F> Pulled<F> {
    /// For ops of one input without weights.
    pub(super) fn one(grad: Array<F>) -> Self {
        Self { inputs: vec![Some(grad)], params: vec![] }
    }
}
