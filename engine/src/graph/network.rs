//! A checked graph, and the same with weights.

use super::node::{Node, Shape};
use super::op::{NodeId, Op};
use super::params::{Param, Params};
use candle_core::DType;
use robust_core::{Error, Kind, Result};
use std::ops::Deref;
use std::sync::Arc;

/// Entries one row of any single value may have: hostile shapes stop here instead of at the allocator.
pub const MAX_ROW: usize = 1 << 28;

/// Nodes in topological order: every node reads earlier nodes only, every shape fits, the output is batched. It never
/// changes, and holds no weights: what is planned for it stays valid when these are replaced.
#[derive(Debug)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) shapes: Vec<Shape>,
    /// Dimensions of each weight.
    pub(super) weights: Vec<Vec<usize>>,
    pub(super) output: NodeId,
    pub(super) steep: bool,
}

impl Graph {
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// One shape per node.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
    /// Dimensions of each weight, by [`super::ParamId`].
    pub fn weights(&self) -> &[Vec<usize>] {
        &self.weights
    }
    pub fn output(&self) -> NodeId {
        self.output
    }
    /// One row of the input.
    pub fn input_row(&self) -> &[usize] {
        self.nodes.iter().zip(&self.shapes).find(|(n, _)| n.op == Op::Input).map_or(&[], |(_, s)| &s.row)
    }
    /// One row of the output.
    pub fn output_row(&self) -> &[usize] {
        &self.shapes[self.output.0].row
    }

    /// Whether what it computes jumps somewhere, or nearly: there interpreters may differ by more than rounding.
    pub fn jumps(&self) -> bool {
        let jumps = |node: &Node| match &node.op {
            Op::MeanSparse { .. } | Op::GridSample { nearest: true, .. } => true,
            Op::Act(act) => act.jumps(),
            _ => false,
        };
        self.steep || self.nodes.iter().any(jumps)
    }

    /// The first node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        find(&self.nodes, name)
    }
}

pub(super) fn find(nodes: &[Node], name: &str) -> Option<NodeId> {
    nodes.iter().position(|n| n.name == name).map(NodeId)
}

/// A graph and its weights: a function. It reads as its graph, and is cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    graph: Arc<Graph>,
    params: Params,
}

impl Deref for Network {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl Network {
    pub(super) fn new(graph: Graph, params: Params) -> Self {
        Self { graph: Arc::new(graph), params }
    }

    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The same graph with other weights. Their values are not looked at: a step of training that diverges shows in its
    /// loss.
    ///
    /// # Errors
    /// Kind `Load` for another number of weights, or one of another shape or that is not of floats.
    pub fn with_params(&self, params: Params) -> Result<Self> {
        let refuse = |why: String| Err(Error::new(Kind::Load, why));
        if params.len() != self.graph.weights.len() {
            return refuse(format!("expected {} weights, got {}", self.graph.weights.len(), params.len()));
        }
        for (dims, Param { name, value }) in self.graph.weights.iter().zip(params.iter()) {
            if value.dims() != dims || !matches!(value.dtype(), DType::F32 | DType::F64) {
                let (shape, dtype) = (value.dims(), value.dtype());
                return refuse(format!("expected weight `{name}` {dims:?} of floats, got {shape:?} of {dtype:?}"));
            }
        }
        Ok(Self { graph: Arc::clone(&self.graph), params })
    }
}
