//! One graph of layers for every interpreter: nodes in topological order, weights apart, shapes with a symbolic batch.

use crate::{shape, weights};
use candle_core::Tensor;
use robust_core::{Error, Result};

/// Index of a node in [`Network::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Index of a weight in [`Network::params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub usize);

/// A weight under its name in the file it came from; a CPU tensor of f32 or f64.
#[derive(Debug, Clone)]
pub struct Param {
    pub name: String,
    pub value: Tensor,
}

/// Height and width.
pub type Pair = [usize; 2];
/// Zeros added above, left, below, right.
pub type Pads = [usize; 4];

/// The window of a pool. `ceil` adds a last window that starts inside the input or its leading pad, as PyTorch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub kernel: Pair,
    pub stride: Pair,
    pub pads: Pads,
    pub ceil: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    Relu,
    /// Slope below zero.
    LeakyRelu(f64),
    /// Scale of `exp(x) - 1` below zero.
    Elu(f64),
    /// Bounds, either may be infinite. The gradient is 1 strictly inside and 0 elsewhere, at the bounds too.
    Clip(f64, f64),
    Sigmoid,
    /// `clamp(alpha x + beta, 0, 1)`.
    HardSigmoid {
        alpha: f64,
        beta: f64,
    },
    Tanh,
    Silu,
    HardSwish,
    /// `x Phi(x)` with the exact error function.
    Gelu,
    /// The tanh approximation.
    GeluTanh,
    Softplus,
    Exp,
    Log,
    Sqrt,
    Abs,
    Neg,
    Reciprocal,
    Erf,
    /// Of radians.
    Sin,
    Cos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// Base must be positive where the exponent is not an integer.
    Pow,
    Max,
    Min,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    Mean,
    Sum,
    /// Tied maxima share the gradient evenly, as in PyTorch's `amax`; a max pool gives it to the first.
    Max,
}

/// What a node computes. Values have a leading batch axis (axis 0) unless they depend on parameters alone; axes in ops
/// count the batch axis, so 0 is never a legal axis of a batched value.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The network's only input.
    Input,
    /// A weight as a value of its own (no batch axis), for elementwise arithmetic and matrix products.
    Param(ParamId),
    /// `[n, c, h, w]` with weight `[o, c / groups, kh, kw]` and bias `[o]`.
    Conv2d {
        weight: ParamId,
        bias: Option<ParamId>,
        stride: Pair,
        dilation: Pair,
        pads: Pads,
        groups: usize,
    },
    /// `[n, ..., i]` with weight `[o, i]` and bias `[o]` -> `[n, ..., o]`.
    Linear {
        weight: ParamId,
        bias: Option<ParamId>,
    },
    /// Matrix product of the last two axes of two values, leading axes broadcast.
    MatMul,
    /// Per channel (axis 1): `(x - mean) / sqrt(var + eps) * gamma + beta`.
    BatchNorm {
        mean: ParamId,
        var: ParamId,
        gamma: Option<ParamId>,
        beta: Option<ParamId>,
        eps: f64,
    },
    /// Entries nearer to their channel's mean than `threshold` standard deviations become that mean (MeanSparse, Amini et al.
    /// 2024); mean and variance have one entry per index of `axis`, `threshold` is a single number. The gradient goes to the
    /// entries that stay.
    MeanSparse {
        mean: ParamId,
        var: ParamId,
        threshold: ParamId,
        axis: usize,
    },
    /// Over the last axis of a row: mean 0 and variance 1, then `gamma` and `beta` per entry of it.
    LayerNorm {
        gamma: Option<ParamId>,
        beta: Option<ParamId>,
        eps: f64,
    },
    /// Softmax attention: queries `[n, s, d]`, keys and values `[n, t, d]` -> `[n, s, d]`, or within windows: queries
    /// `[n, w, s, d]`, keys and values `[n, w, t, d]` -> `[n, w, s, d]`. Each of `heads` equal parts of the last axis
    /// mixes its values with weights `softmax(scale q k^T + bias)`. The bias is the fourth input where there is one, a
    /// constant `[1, heads or 1, s, t]`, with windows `[1, w or 1, heads or 1, s, t]`.
    Attention {
        heads: usize,
        scale: f64,
    },
    Act(Activation),
    /// Elementwise with numpy broadcasting; a value without batch axis broadcasts against any batch.
    Binary(Binary),
    Softmax {
        axis: usize,
    },
    LogSoftmax {
        axis: usize,
    },
    /// Padding never wins; ties go to the first position in row-major order.
    MaxPool(Window),
    AvgPool {
        window: Window,
        count_pads: bool,
    },
    /// Along the last axis: the `k` largest entries stay (of equal ones the first), the others become 0. The gradient goes
    /// to those that stay.
    KeepTop {
        k: usize,
    },
    Reduce {
        kind: Reduction,
        axes: Vec<usize>,
        keep: bool,
    },
    /// New dimensions of one row; the batch is never touched.
    Reshape {
        row: Vec<usize>,
    },
    /// `axes[0]` is 0.
    Transpose {
        axes: Vec<usize>,
    },
    /// A constant piece with a leading axis of 1 is repeated for every row (a class token).
    Concat {
        axis: usize,
    },
    /// Entries `start, start + step, ...` below `end` along `axis`.
    Slice {
        axis: usize,
        start: usize,
        end: usize,
        step: usize,
    },
    /// Constant padding of the trailing axes: (before, after) for each axis after the batch.
    Pad {
        pads: Vec<(usize, usize)>,
        value: f64,
    },
}

impl Op {
    /// The name users meet in messages and `inspect`.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Param(_) => "param",
            Op::Conv2d { .. } => "conv2d",
            Op::Linear { .. } => "linear",
            Op::MatMul => "matmul",
            Op::BatchNorm { .. } => "batch_norm",
            Op::MeanSparse { .. } => "mean_sparse",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Attention { .. } => "attention",
            Op::Act(_) => "activation",
            Op::Binary(_) => "binary",
            Op::Softmax { .. } => "softmax",
            Op::LogSoftmax { .. } => "log_softmax",
            Op::MaxPool(_) => "max_pool",
            Op::AvgPool { .. } => "avg_pool",
            Op::KeepTop { .. } => "keep_top",
            Op::Reduce { .. } => "reduce",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
        }
    }

    /// The weights this op reads.
    pub fn params(&self) -> Vec<ParamId> {
        match self {
            Op::Param(p) => vec![*p],
            Op::Conv2d { weight, bias, .. } | Op::Linear { weight, bias } => {
                std::iter::once(*weight).chain(*bias).collect()
            }
            Op::BatchNorm { mean, var, gamma, beta, .. } => {
                [*mean, *var].into_iter().chain(*gamma).chain(*beta).collect()
            }
            Op::MeanSparse { mean, var, threshold, .. } => vec![*mean, *var, *threshold],
            Op::LayerNorm { gamma, beta, .. } => gamma.iter().chain(beta).copied().collect(),
            _ => vec![],
        }
    }

    /// The same op with its weights elsewhere.
    pub(crate) fn renumbered(&self, number: impl Fn(ParamId) -> ParamId) -> Op {
        let new = |p: &mut ParamId| *p = number(*p);
        let mut op = self.clone();
        match &mut op {
            Op::Param(p) => new(p),
            Op::Conv2d { weight, bias, .. } | Op::Linear { weight, bias } => {
                new(weight);
                bias.iter_mut().for_each(new);
            }
            Op::BatchNorm { mean, var, gamma, beta, .. } => {
                [mean, var].into_iter().chain(gamma).chain(beta).for_each(new);
            }
            Op::MeanSparse { mean, var, threshold, .. } => [mean, var, threshold].into_iter().for_each(new),
            Op::LayerNorm { gamma, beta, .. } => gamma.iter_mut().chain(beta).for_each(new),
            _ => {}
        }
        op
    }
}

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

/// A checked graph: every node reads earlier nodes only, every shape fits, the output is batched.
#[derive(Debug, Clone)]
pub struct Network {
    nodes: Vec<Node>,
    params: Vec<Param>,
    shapes: Vec<Shape>,
    output: NodeId,
    steep: bool,
}

/// Entries one row of any single value may have: hostile shapes stop here instead of at the allocator.
pub const MAX_ROW: usize = 1 << 28;

impl Network {
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    pub fn params(&self) -> &[Param] {
        &self.params
    }
    /// One shape per node.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
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
    /// The same graph open for more nodes, and its output.
    pub fn reopen(&self) -> (Builder, NodeId) {
        let Self { nodes, params, shapes, output, steep } = self.clone();
        (Builder { nodes, params, shapes, steep }, output)
    }

    /// Whether what it computes jumps somewhere, or nearly: there interpreters may differ by more than rounding.
    pub fn jumps(&self) -> bool {
        self.steep || self.nodes.iter().any(|node| matches!(node.op, Op::MeanSparse { .. }))
    }

    /// The first node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        find(&self.nodes, name)
    }
}

fn find(nodes: &[Node], name: &str) -> Option<NodeId> {
    nodes.iter().position(|n| n.name == name).map(NodeId)
}

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
    /// [`Network::jumps`].
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
        let shape = shape::infer(&op, &shapes, &self.params).map_err(|e| e.within(place()))?;
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
        self.params.extend(network.params.iter().map(shared));
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
        Ok(Network { nodes, params: self.params, shapes, output: place[output.0], steep: self.steep })
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
