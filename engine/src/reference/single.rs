//! Single ops of a network in f32, for interpreters that leave some to the reference.

use super::array::Array;
use super::machine::{Machine, dims_of};
use super::ops;
use super::site::{How, Memory, Site};
use crate::graph::NodeId;
use robust_core::{Error, Result};
use std::sync::Arc;

/// Runs one op at a time on plain rows.
#[derive(Clone)]
pub(crate) struct Single(pub(super) Arc<Machine<f32>>);

/// What an op's pullback needs.
pub(crate) struct Saved {
    inputs: Vec<Option<Array<f32>>>,
    output: Option<Array<f32>>,
    memory: Option<Memory>,
}

impl Single {
    /// Dimensions and entries of a value that depends on weights alone.
    pub(crate) fn constant(&self, node: NodeId) -> Option<(&[usize], &[f32])> {
        self.0.constant(node.0).map(|a| (a.dims.as_slice(), a.data()))
    }

    /// The node's value from those of its batched inputs, in order.
    pub(crate) fn forward(
        &self,
        node: NodeId,
        inputs: Vec<Vec<f32>>,
        n: usize,
        record: bool,
    ) -> Result<(Vec<f32>, Option<Saved>)> {
        let net = &self.0.net;
        let (op, shape) = (&net.nodes()[node.0].op, &net.shapes()[node.0]);
        let mut given = inputs.into_iter();
        let mut arrays = vec![];
        for j in &net.nodes()[node.0].inputs {
            let value = match self.0.constant(j.0) {
                Some(constant) => Some(constant.clone()),
                None => given.next().map(|v| Array::new(dims_of(&net.shapes()[j.0], n), v)),
            };
            arrays.push(value.ok_or_else(|| Error::internal("an op lacks an input"))?);
        }
        let saves = ops::saves(op);
        let kept = (record && saves.inputs).then(|| arrays.clone());
        let count = arrays.len();
        let how = How { record, train: None };
        let (value, memory) = ops::forward(op, arrays, self.0.params(), dims_of(shape, n), &how)
            .map_err(|e| e.within(format!("node `{}`", net.nodes()[node.0].name)))?;
        let saved = record.then(|| Saved {
            inputs: kept.map_or_else(|| vec![None; count], |k| k.into_iter().map(Some).collect()),
            output: saves.output.then(|| value.clone()),
            memory,
        });
        Ok((value.into_vec(), saved))
    }

    /// The gradients of the node's batched inputs, in order.
    pub(crate) fn pull(&self, node: NodeId, saved: &Saved, grad: Vec<f32>, n: usize) -> Result<Vec<Vec<f32>>> {
        let net = &self.0.net;
        let inputs = &net.nodes()[node.0].inputs;
        let batched = |j: &NodeId| net.shapes()[j.0].batched;
        let constant = |j: &NodeId| self.0.constant(j.0);
        let site = Site {
            inputs: inputs.iter().zip(&saved.inputs).map(|(j, s)| s.as_ref().or(constant(j))).collect(),
            input_dims: inputs.iter().map(|j| dims_of(&net.shapes()[j.0], n)).collect(),
            output: saved.output.as_ref(),
            memory: saved.memory.as_ref(),
            params: self.0.params(),
            wants: inputs.iter().map(batched).collect(),
            wanted: &[],
        };
        let grad = Array::new(dims_of(&net.shapes()[node.0], n), grad);
        let pulled = ops::pull(&net.nodes()[node.0].op, &site, grad)
            .map_err(|e| e.within(format!("gradient of node `{}`", net.nodes()[node.0].name)))?;
        let one = |(j, g): (&NodeId, Option<Array<f32>>)| match g {
            Some(g) => g.into_vec(),
            None => vec![0.; dims_of(&net.shapes()[j.0], n).iter().product()],
        };
        Ok(inputs.iter().zip(pulled.inputs).filter(|(j, _)| batched(j)).map(one).collect())
    }
}
