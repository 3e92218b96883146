//! What a node computes, and which weights it reads. A new op is an arm here, and the compiler then asks every place that
//! must know it (shapes, digest, interpreters, facts): none of their matches has a catch-all.

use std::sync::Arc;

/// Index of a node in [`super::Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Index of a weight in [`super::Params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub usize);

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
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// The next whole number below; no slope.
    Floor,
    /// The next whole number above; no slope.
    Ceil,
    /// The nearest whole number, of two the even one; no slope.
    Round,
    /// The nearest whole number, of two the even one, no less than the first and no more than the second bound, which are whole. The
    /// gradient passes straight through where rounding alone gives a number within the bounds, and is 0 elsewhere, as in PyTorch's
    /// `fake_quantize`.
    Quantise(f64, f64),
}

impl Activation {
    /// Whether the function jumps somewhere.
    pub fn jumps(&self) -> bool {
        matches!(self, Self::Floor | Self::Ceil | Self::Round | Self::Quantise(..))
    }
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

/// In [`Op::Pick`], an entry that comes from no place.
pub const NOWHERE: u32 = u32::MAX;

/// What [`Op::GridSample`] sees beyond an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Zeros,
    /// The pixels at the edge.
    Border,
    /// The image mirrored.
    Reflection,
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
    /// The second value where the first one is not 0, else the third, entry by entry with numpy broadcasting. What is not chosen
    /// counts for nothing, whatever it is; the first value has no gradient.
    Choose,
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
    /// Entries of the row by their places in row-major order: entry `i` of the new row is entry `from[i]`, or 0 where that is
    /// [`NOWHERE`].
    Pick {
        from: Arc<[u32]>,
        row: Vec<usize>,
    },
    /// The `k` largest (or smallest) entries of each line along the last axis, in order; of equal ones the first comes first.
    Sorted {
        k: usize,
        largest: bool,
    },
    /// Of an image `[n, c, h, w]`, the values at the places `[n, h2, w2, 2]` of the second input: pairs (x, y) from -1 to 1, which are the
    /// centres of the corner pixels where `corners`, their outer edges otherwise.
    GridSample {
        nearest: bool,
        edge: Edge,
        corners: bool,
    },
    /// Constant padding of the trailing axes: (before, after) for each axis after the batch.
    Pad {
        pads: Vec<(usize, usize)>,
        value: f64,
    },
    /// In training each entry becomes 0 with probability `rate` and is divided by `1 - rate` otherwise; the identity in
    /// evaluation.
    Dropout {
        rate: f64,
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
            Op::Choose => "choose",
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
            Op::Pick { .. } => "pick",
            Op::Sorted { .. } => "sorted",
            Op::GridSample { .. } => "grid_sample",
            Op::Pad { .. } => "pad",
            Op::Dropout { .. } => "dropout",
        }
    }

    /// The weights this op reads.
    pub fn params(&self) -> Vec<ParamId> {
        self.clone().slots().into_iter().map(|p| *p).collect()
    }

    /// The same op with its weights elsewhere.
    pub(crate) fn renumbered(&self, number: impl Fn(ParamId) -> ParamId) -> Op {
        let mut op = self.clone();
        op.slots().into_iter().for_each(|p| *p = number(*p));
        op
    }

    /// Where the op says which weights it reads, in its own order.
    fn slots(&mut self) -> Vec<&mut ParamId> {
        match self {
            Op::Param(p) => vec![p],
            Op::Conv2d { weight, bias, .. } | Op::Linear { weight, bias } => {
                std::iter::once(weight).chain(bias).collect()
            }
            Op::BatchNorm { mean, var, gamma, beta, .. } => [mean, var].into_iter().chain(gamma).chain(beta).collect(),
            Op::MeanSparse { mean, var, threshold, .. } => vec![mean, var, threshold],
            Op::LayerNorm { gamma, beta, .. } => gamma.iter_mut().chain(beta).collect(),
            Op::Input
            | Op::MatMul
            | Op::Attention { .. }
            | Op::Act(_)
            | Op::Binary(_)
            | Op::Choose
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::KeepTop { .. }
            | Op::Reduce { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Pick { .. }
            | Op::Sorted { .. }
            | Op::GridSample { .. }
            | Op::Pad { .. }
            | Op::Dropout { .. } => vec![],
        }
    }
}
