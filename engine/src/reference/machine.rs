//! Runs a network forwards and its tape backwards, node by node, in one number type.

use super::array::Array;
use super::mode::Mode;
use super::ops;
use super::site::{How, Memory, Saves, Site};
use crate::cpu::Float;
use crate::graph::{Graph, Network, NodeId, Op, ParamId, Params, Shape};
use candle_core::Tensor;
use robust_core::{Error, Kind, Result};
use std::sync::Arc;

/// Entries all values that depend on weights alone may have together: broadcasting a small file must not fill memory.
const MAX_CONSTANTS: usize = 1 << 28;

pub(super) struct Machine<F> {
    pub(super) net: Arc<Network>,
    params: Vec<Array<F>>,
    /// Values that depend on weights alone, computed once.
    constants: Vec<Option<Array<F>>>,
    wiring: Arc<Wiring>,
}

/// What follows from the graph alone.
struct Wiring {
    /// The last node that reads each value.
    last_use: Vec<usize>,
    /// Values a trace keeps for pullbacks to the input.
    saved: Vec<bool>,
}

impl Wiring {
    fn of(graph: &Graph) -> Self {
        let mut last_use: Vec<usize> = (0..graph.nodes().len()).collect();
        let mut saved = vec![false; graph.nodes().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            let Saves { inputs, output } = ops::saves(&node.op);
            saved[i] |= output;
            for j in &node.inputs {
                last_use[j.0] = i;
                saved[j.0] |= inputs;
            }
        }
        last_use[graph.output().0] = graph.nodes().len();
        Self { last_use, saved }
    }
}

/// Values by node, `None` once freed, and what nodes left for their gradients.
pub(super) struct Values<F> {
    arrays: Vec<Option<Array<F>>>,
    memory: Vec<Option<Memory>>,
}

/// Gradients of the input (if asked and reached) and of each weight (if wanted and reached).
pub(super) type Gradients<F> = (Option<Array<F>>, Vec<Option<Array<F>>>);

pub(super) fn dims_of(shape: &Shape, n: usize) -> Vec<usize> {
    shape.batched.then_some(n).into_iter().chain(shape.row.iter().copied()).collect()
}

impl<F: Float> Machine<F> {
    pub(super) fn new(net: Arc<Network>) -> Result<Self> {
        let wiring = Arc::new(Wiring::of(net.graph()));
        Self::wired(net, wiring)
    }

    /// The same graph with other weights.
    pub(super) fn with_params(&self, params: Params) -> Result<Self> {
        Self::wired(Arc::new(self.net.with_params(params)?), Arc::clone(&self.wiring))
    }

    fn wired(net: Arc<Network>, wiring: Arc<Wiring>) -> Result<Self> {
        let params: Result<Vec<_>> = net.params().iter().map(|p| Array::of_tensor(&p.value)).collect();
        let mut machine = Self { params: params?, constants: vec![], wiring, net };
        machine.constants = machine.fold()?;
        Ok(machine)
    }

    fn fold(&self) -> Result<Vec<Option<Array<F>>>> {
        let net = &self.net;
        let derived = net.nodes().iter().zip(net.shapes()).filter(|(n, s)| !s.batched && !matches!(n.op, Op::Param(_)));
        if derived.map(|(_, s)| s.len()).try_fold(0usize, |a, b| a.checked_add(b)).is_none_or(|t| t > MAX_CONSTANTS) {
            return Err(Error::load("network", format!("its constants expand to more than {MAX_CONSTANTS} entries")));
        }
        let how = How { record: false, train: None };
        let mut values: Vec<Option<Array<F>>> = vec![];
        for (node, shape) in net.nodes().iter().zip(net.shapes()) {
            let value = if shape.batched {
                None
            } else {
                let inputs = node.inputs.iter().filter_map(|j| values[j.0].clone()).collect();
                Some(ops::forward(&node.op, inputs, &self.params, dims_of(shape, 1), &how)?.0)
            };
            values.push(value);
        }
        Ok(values)
    }

    /// The input as an array, after checking its shape and type.
    pub(super) fn input(&self, x: &Tensor) -> Result<Array<F>> {
        let expected = self.net.input_row();
        let fits = x.dims().split_first().is_some_and(|(&n, row)| n > 0 && row == expected);
        if !fits {
            return Err(Error::new(
                Kind::Load,
                format!("expected an input [n, {}] with n above 0, got {:?}", join(expected), x.dims()),
            ));
        }
        if !x.dtype().is_float() {
            return Err(Error::new(Kind::Load, format!("expected an input of floats, got {:?}", x.dtype())));
        }
        Array::of_tensor(x)
    }

    /// All values of `x`, except those no one reads again and `keep` does not name.
    pub(super) fn run(
        &self,
        x: Array<F>,
        keep: impl Fn(usize) -> bool,
        record: bool,
        mode: Mode<'_>,
    ) -> Result<Values<F>> {
        let n = x.dims[0];
        let nodes = self.net.nodes();
        let mut values = Values { arrays: vec![None; nodes.len()], memory: vec![None; nodes.len()] };
        let mut x = Some(x);
        for (i, node) in nodes.iter().enumerate() {
            let shape = &self.net.shapes()[i];
            if !shape.batched {
                continue;
            }
            if node.op == Op::Input {
                values.arrays[i] = x.take();
                continue;
            }
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for (k, &NodeId(j)) in node.inputs.iter().enumerate() {
                let again = node.inputs[k + 1..].contains(&NodeId(j));
                let gone = self.wiring.last_use[j] == i && !keep(j) && !again;
                let value = if gone { values.arrays[j].take() } else { values.arrays[j].clone() };
                let value = value.or_else(|| self.constants[j].clone());
                inputs
                    .push(value.ok_or_else(|| Error::internal(format!("the value of node {j} was freed too early")))?);
            }
            let how = How { record, train: mode.at(i) };
            let (value, memory) = ops::forward(&node.op, inputs, &self.params, dims_of(shape, n), &how)
                .map_err(|e| e.within(format!("node `{}`", node.name)))?;
            debug_assert_eq!(value.dims, dims_of(shape, n));
            (values.arrays[i], values.memory[i]) = (Some(value), memory);
        }
        Ok(values)
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = self.run(self.input(x)?, |_| false, false, Mode::Eval)?;
        values.take(self.net.output())?.into_tensor()
    }

    /// Which nodes a gradient must visit: those that depend on the input, or on wanted weights.
    fn visited(&self, input: bool, wanted: &[bool]) -> Vec<bool> {
        let mut visit: Vec<bool> = vec![];
        for node in self.net.nodes() {
            let own = (input && node.op == Op::Input) || node.op.params().iter().any(|p| wanted[p.0]);
            visit.push(own || node.inputs.iter().any(|j| visit[j.0]));
        }
        visit
    }

    /// Gradients of the seeded values with respect to the input (if asked) and the `wanted` weights.
    pub(super) fn back(
        &self,
        values: &Values<F>,
        n: usize,
        seeds: Vec<(NodeId, Array<F>)>,
        input: bool,
        wanted: &[bool],
    ) -> Result<Gradients<F>> {
        let visit = self.visited(input, wanted);
        let mut grads: Vec<Option<Array<F>>> = vec![None; visit.len()];
        let mut weights: Vec<Option<Array<F>>> = vec![None; self.params.len()];
        seeds.into_iter().for_each(|(node, seed)| add(&mut grads[node.0], seed));
        let mut dx = None;
        for (i, node) in self.net.nodes().iter().enumerate().rev() {
            let Some(grad) = grads[i].take().filter(|_| visit[i]) else { continue };
            if node.op == Op::Input {
                dx = Some(grad);
                continue;
            }
            let pulled = ops::pull(&node.op, &self.site(values, n, i, &visit, wanted), grad)
                .map_err(|e| e.within(format!("gradient of node `{}`", node.name)))?;
            for (j, g) in node.inputs.iter().zip(pulled.inputs) {
                g.filter(|_| visit[j.0]).into_iter().for_each(|g| add(&mut grads[j.0], g));
            }
            for (p, g) in pulled.params {
                add(&mut weights[p.0], g);
            }
        }
        Ok((dx, weights))
    }

    fn site<'a>(
        &'a self,
        values: &'a Values<F>,
        n: usize,
        i: usize,
        visit: &[bool],
        wanted: &'a [bool],
    ) -> Site<'a, F> {
        let inputs = &self.net.nodes()[i].inputs;
        Site {
            inputs: inputs.iter().map(|j| values.arrays[j.0].as_ref().or(self.constants[j.0].as_ref())).collect(),
            input_dims: inputs.iter().map(|j| dims_of(&self.net.shapes()[j.0], n)).collect(),
            output: values.arrays[i].as_ref().or(self.constants[i].as_ref()),
            memory: values.memory[i].as_ref(),
            params: &self.params,
            wants: inputs.iter().map(|j| visit[j.0]).collect(),
            wanted,
        }
    }

    /// A value that depends on weights alone.
    pub(super) fn constant(&self, i: usize) -> Option<&Array<F>> {
        self.constants[i].as_ref()
    }

    pub(super) fn params(&self) -> &[Array<F>] {
        &self.params
    }

    pub(super) fn saved(&self, i: usize) -> bool {
        self.wiring.saved[i]
    }

    pub(super) fn param_dims(&self, p: ParamId) -> &[usize] {
        &self.params[p.0].dims
    }

    /// A seed as an array, after checking that it fits the node.
    pub(super) fn seed(&self, node: NodeId, seed: &Tensor, n: usize) -> Result<Array<F>> {
        let Some(shape) = self.net.shapes().get(node.0).filter(|s| s.batched) else {
            return Err(Error::internal(format!("node {} cannot be seeded: it is not a value of the batch", node.0)));
        };
        let expected = dims_of(shape, n);
        if seed.dims() != expected {
            return Err(Error::internal(format!("expected a seed of shape {expected:?}, got {:?}", seed.dims())));
        }
        Array::of_tensor(seed)
    }
}

impl<F: Float> Values<F> {
    /// What node `i` left for its gradient.
    pub(super) fn memory(&self, i: usize) -> Option<&Memory> {
        self.memory.get(i).and_then(Option::as_ref)
    }

    pub(super) fn get(&self, node: NodeId) -> Result<&Array<F>> {
        let value = self.arrays.get(node.0).and_then(Option::as_ref);
        value.ok_or_else(|| Error::internal(format!("the value of node {} was not kept", node.0)))
    }

    fn take(&mut self, node: NodeId) -> Result<Array<F>> {
        let value = self.arrays.get_mut(node.0).and_then(Option::take);
        value.ok_or_else(|| Error::internal(format!("node {} has no value", node.0)))
    }
}

fn add<F: Float>(slot: &mut Option<Array<F>>, grad: Array<F>) {
    *slot = Some(match slot.take() {
        Some(sum) => sum.plus(&grad),
        None => grad,
    });
}

fn join(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
