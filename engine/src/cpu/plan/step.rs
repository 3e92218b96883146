//! What a plan is made of: cells of memory, and steps from cells to cells.

use super::conv::Conv;
use super::layout::{Layout, Walk};
use super::moves::Move;
use crate::cpu::kernels::{Buffer, Curve, Grid, Heads, Packed};
use crate::graph::NodeId;
use crate::reference::Bands;
use std::sync::Arc;

/// Index of a value in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CellId(pub(super) usize);

/// A value of one row: `[pixels, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) pixels: usize,
    pub(super) channels: usize,
}

impl Cell {
    pub(super) fn len(&self) -> usize {
        self.pixels * self.channels
    }
}

/// Where a node's value is.
#[derive(Debug, Clone)]
pub(super) struct CellPlace {
    pub(super) cell: CellId,
    pub(super) layout: Layout,
}

/// A linear layer over the last axis.
#[derive(Debug)]
pub(super) struct Dense {
    pub(super) read: usize,
    pub(super) write: usize,
    pub(super) bias: Option<Buffer>,
    pub(super) weights: Weighed,
}

/// The weights of a linear layer in their kernel's form; layers may share them.
#[derive(Debug, Clone)]
pub(super) struct Weighed {
    pub(super) forward: Arc<Packed>,
    /// Where there is a way back.
    pub(super) backward: Option<Arc<Packed>>,
}

/// Scale and shift per channel.
#[derive(Debug, Default)]
pub(super) struct Plain {
    pub(super) scale: Option<Buffer>,
    pub(super) shift: Option<Buffer>,
}

/// What a row is put together of; entries that no part covers are `fill`.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) parts: Vec<Part>,
    pub(super) fill: Option<f32>,
}

/// A part of the step's next input, or of a constant row; `covers` all of it or only some.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) moves: Move,
    pub(super) back: Move,
    pub(super) constant: Option<Buffer>,
    pub(super) covers: bool,
}

#[derive(Debug)]
pub(super) enum StepKind {
    Conv(Box<Conv>),
    Dense(Box<Dense>),
    Pass(Plain),
    Maximum {
        grid: Grid,
        back: Grid,
    },
    Average {
        grid: Grid,
        back: Grid,
    },
    Permute {
        there: Walk,
        back: Walk,
    },
    Bend(Curve),
    /// Layer norm over the channels.
    Norm {
        gamma: Buffer,
        beta: Buffer,
        eps: f32,
    },
    /// Softmax over the channels.
    Softmax,
    /// Entries near their channel's mean become the mean.
    Sparse(Bands<f32>),
    /// Queries, keys and values.
    Attention(Heads),
    /// Parts of rows put together.
    Pieces(Pieces),
    /// Two values multiplied; a pixel of the second serves so many of the first.
    Times(usize),
    /// One row of constants added to every row.
    Shift(Buffer),
    /// Left to the reference interpreter.
    Reference(NodeId),
}

impl StepKind {
    /// The windows of a maximum pool, which remembers where each was found.
    pub(super) fn winners(&self) -> Option<&Grid> {
        match self {
            StepKind::Conv(conv) => conv.pool.as_ref().map(|pool| &pool.grid),
            StepKind::Maximum { grid, .. } => Some(grid),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    pub(super) inputs: Vec<CellId>,
    pub(super) out: CellId,
    /// Another value, added before the ReLU.
    pub(super) add: Option<CellId>,
    pub(super) relu: bool,
    /// A second output: a scale, a shift and a ReLU later.
    pub(super) next: Option<(Plain, CellId)>,
}

impl Step {
    /// Cells that the way back reads again.
    pub(super) fn saves(&self) -> &[CellId] {
        match self.kind {
            StepKind::Bend(_)
            | StepKind::Norm { .. }
            | StepKind::Sparse(_)
            | StepKind::Attention(_)
            | StepKind::Times(_) => &self.inputs,
            StepKind::Softmax => std::slice::from_ref(&self.out),
            _ => &[],
        }
    }

    pub(super) fn reads(&self) -> impl Iterator<Item = CellId> + '_ {
        self.inputs.iter().copied().chain(self.add)
    }
}

#[derive(Debug)]
pub(super) struct Steps {
    pub(super) list: Vec<Step>,
    pub(super) cells: Vec<Cell>,
    pub(super) input: CellId,
    /// By node; `None` for nodes inside a step.
    pub(super) places: Vec<Option<CellPlace>>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { list: vec![], cells: vec![], input: CellId(0), places: vec![] }
    }
}
