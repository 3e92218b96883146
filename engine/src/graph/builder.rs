//! Builds a network node by node.

use super::infer::infer;
use super::network::{Graph, MAX_ROW, Network, find};
use super::node::{Node, Shape};
use super::op::{NodeId, Op, ParamId};
use super::params::{Param, Params};
use super::weights;
use candle_core::Tensor;
use robust_core::{Error, Result};

/// Builds a [`Network`] node by node; each method checks shapes at once and returns the new node.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    params: Vec<Param>,
    shapes: Vec<Shape>,
    steep: bool,
}

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares the network's input; may be called once.
    pub fn input(&mut self, name: impl Into<String>, row: &[usize]) -> Result<NodeId> {
        if self.nodes.iter().any(|n| n.op == Op::Input) {
            return Err(Error::load("network", "a network has one input, this one has a second"));
        }
        let shape = Shape::rows(row);
        check_size(&shape, "input")?;
        Ok(self.push(Node { name: name.into(), op: Op::Input, inputs: vec![] }, shape))
    }

    /// Adds a weight, an f32 or f64 tensor of numbers; minus infinity may stand where it masks a class.
    pub fn param(&mut self, name: impl Into<String>, value: Tensor) -> ParamId {
        self.params.push(Param { name: name.into(), value });
        ParamId(self.params.len() - 1)
    }

    /// Says that the function is so steep somewhere that rounding moves its values from one side to the other; see
    /// [`super::Graph::jumps`].
    pub fn steep(&mut self) {
        self.steep = true;
    }

    pub fn shape(&self, node: NodeId) -> &Shape {
        &self.shapes[node.0]
    }

    pub fn param_dims(&self, param: ParamId) -> &[usize] {
        self.params[param.0].value.dims()
    }

    /// The first node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        find(&self.nodes, name)
    }

    /// Adds a node after checking that its shapes fit; errors name the node.
    pub fn node(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let name = name.into();
        if let Some(bad) = inputs.iter().find(|i| i.0 >= self.nodes.len()) {
            return Err(Error::load(
                format!("node `{name}`"),
                format!("it reads node {}, which is not built yet", bad.0),
            ));
        }
        let shapes: Vec<&Shape> = inputs.iter().map(|i| &self.shapes[i.0]).collect();
        let place = || format!("node `{name}` ({})", op.name());
        let shape = infer(&op, &shapes, &self.params).map_err(|e| e.within(place()))?;
        check_size(&shape, &name)?;
        Ok(self.push(Node { name, op, inputs: inputs.to_vec() }, shape))
    }

    fn push(&mut self, node: Node, shape: Shape) -> NodeId {
        self.nodes.push(node);
        self.shapes.push(shape);
        NodeId(self.nodes.len() - 1)
    }

    /// Lays a whole network over the value `x`, which becomes its input, up to its node `end`; its names get `prefix`. Weights are
    /// shared with it. Returns that node here.
    ///
    /// # Errors
    /// Kind `Load` where `x` has another shape than its input, or it has no node `end`.
    pub fn append(&mut self, network: &Network, end: NodeId, x: NodeId, prefix: &str) -> Result<NodeId> {
        if self.shape(x).row != network.input_row() {
            let (here, there) = (&self.shape(x).row, network.input_row());
            return Err(Error::load(format!("`{prefix}`"), format!("its input has shape {there:?}, not {here:?}")));
        }
        self.steep |= network.steep;
        let first = self.params.len();
        let shared = |p: &Param| Param { name: format!("{prefix}{}", p.name), value: p.value.clone() };
        self.params.extend(network.params().iter().map(shared));
        let mut place: Vec<NodeId> = vec![];
        for node in network.nodes.iter().take(end.0.saturating_add(1)) {
            place.push(match &node.op {
                Op::Input => x,
                op => {
                    let inputs: Vec<NodeId> = node.inputs.iter().map(|i| place[i.0]).collect();
                    let op = op.renumbered(|p| ParamId(first + p.0));
                    self.node(format!("{prefix}{}", node.name), op, &inputs)?
                }
            });
        }
        match place.get(end.0) {
            Some(&out) => Ok(out),
            None => Err(Error::load(format!("`{prefix}`"), "the node that was asked for does not exist")),
        }
    }

    /// Closes the graph; nodes the output does not need are dropped.
    pub fn finish(self, output: NodeId) -> Result<Network> {
        let Some(shape) = self.shapes.get(output.0) else {
            return Err(Error::load("network", "the output node does not exist"));
        };
        if !shape.batched {
            return Err(Error::load("network", "the output does not depend on the input"));
        }
        weights::check(&self.nodes, &self.params)?;
        let mut needed = vec![false; self.nodes.len()];
        needed[output.0] = true;
        for i in (0..self.nodes.len()).rev() {
            if needed[i] {
                self.nodes[i].inputs.iter().for_each(|j| needed[j.0] = true);
            }
        }
        let mut place = vec![NodeId(0); self.nodes.len()];
        let (mut nodes, mut shapes) = (vec![], vec![]);
        for (i, (mut node, shape)) in self.nodes.into_iter().zip(self.shapes).enumerate() {
            if needed[i] {
                node.inputs.iter_mut().for_each(|j| *j = place[j.0]);
                place[i] = NodeId(nodes.len());
                nodes.push(node);
                shapes.push(shape);
            }
        }
        let weights = self.params.iter().map(|p| p.value.dims().to_vec()).collect();
        let graph = Graph { nodes, shapes, weights, output: place[output.0], steep: self.steep };
        Ok(Network::new(graph, self.params.into_iter().collect::<Params>()))
    }
}

impl Network {
    /// The same graph open for more nodes, and its output.
    pub fn reopen(&self) -> (Builder, NodeId) {
        let (nodes, shapes) = (self.nodes.clone(), self.shapes.clone());
        (Builder { nodes, params: self.params().to_vec(), shapes, steep: self.steep }, self.output)
    }
}

fn check_size(shape: &Shape, name: &str) -> Result<()> {
    let size = shape.row.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).filter(|&s| s <= MAX_ROW);
    match size {
        Some(0) => Err(Error::load(format!("node `{name}`"), format!("its shape {:?} is empty", shape.row))),
        Some(_) => Ok(()),
        None => Err(Error::load(
            format!("node `{name}`"),
            format!("its shape {:?} is beyond {MAX_ROW} entries a row", shape.row),
        )),
    }
}
