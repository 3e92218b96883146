//! A node of a graph, and the shape of its value.

use super::op::{NodeId, Op};

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<NodeId>,
}

/// The shape of a value: `row` excludes the batch axis when `batched`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub batched: bool,
    pub row: Vec<usize>,
}

impl Shape {
    pub fn rows(row: impl Into<Vec<usize>>) -> Self {
        Self { batched: true, row: row.into() }
    }
    pub fn constant(dims: impl Into<Vec<usize>>) -> Self {
        Self { batched: false, row: dims.into() }
    }
    /// Axes, the batch included.
    pub fn rank(&self) -> usize {
        self.row.len() + usize::from(self.batched)
    }
    pub fn len(&self) -> usize {
        self.row.iter().product()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
