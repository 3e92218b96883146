//! Functions that are made of the engine's: activations that are products of others, sums of several values, masks.

use super::call::{Call, Graph, Value, one};
use crate::compose::MADE;
use candle_core::{Device, Tensor};
use robust_core::Result;
use robust_engine::{Activation, Binary, NodeId, Op, Reduction};

/// Nodes named after one of the file's, in order.
pub(super) struct Steps<'g, 'c> {
    pub(super) graph: &'g mut Graph,
    call: &'c Call<'c>,
    count: usize,
}

impl<'g, 'c> Steps<'g, 'c> {
    pub(super) fn new(graph: &'g mut Graph, call: &'c Call<'c>) -> Self {
        Self { graph, call, count: 0 }
    }

    pub(super) fn node(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        self.count += 1;
        self.graph.step(self.call, &self.count.to_string(), op, inputs)
    }

    pub(super) fn act(&mut self, act: Activation, x: NodeId) -> Result<NodeId> {
        self.node(Op::Act(act), &[x])
    }

    pub(super) fn two(&mut self, kind: Binary, a: NodeId, b: NodeId) -> Result<NodeId> {
        self.node(Op::Binary(kind), &[a, b])
    }

    /// With a number on the right.
    pub(super) fn by(&mut self, kind: Binary, a: NodeId, number: f64) -> Result<NodeId> {
        let value = Tensor::from_vec(vec![number], (), &Device::Cpu)?;
        let param = self.graph.derived(&format!("{MADE}{number:e}"), "", value);
        let number = self.node(Op::Param(param), &[])?;
        self.two(kind, a, number)
    }

    /// 1 where `x` is above 0 and 0 elsewhere, with no slope: two factors lift the smallest numbers there are beyond the bounds.
    pub(super) fn above(&mut self, x: NodeId) -> Result<NodeId> {
        // Interpreters differ by more than rounding where they fall on different sides.
        self.graph.builder.steep();
        let mut x = x;
        for low in [-1., 0.] {
            x = self.by(Binary::Mul, x, LIFT)?;
            x = self.act(Activation::Clip(low, 1.), x)?;
        }
        Ok(x)
    }

    /// `x` times the sigmoid of `alpha x`.
    pub(super) fn swish(&mut self, x: NodeId, alpha: f64) -> Result<NodeId> {
        if alpha == 1. {
            return self.act(Activation::Silu, x);
        }
        let scaled = self.by(Binary::Mul, x, alpha)?;
        let gate = self.act(Activation::Sigmoid, scaled)?;
        self.two(Binary::Mul, x, gate)
    }

    fn not(&mut self, mask: NodeId) -> Result<NodeId> {
        let flipped = self.act(Activation::Neg, mask)?;
        self.by(Binary::Add, flipped, 1.)
    }
}

const LIFT: f64 = 1e38;

/// Selu, Celu, Mish, Softsign, ThresholdedRelu, Swish, Sign, Shrink.
pub fn composed(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let x = graph.any(call, 0)?;
    let mut s = Steps::new(graph, call);
    one(match call.op() {
        "Selu" => {
            let (alpha, gamma) = (call.float("alpha", 1.67326)?, call.float("gamma", 1.0507)?);
            // The defaults of the standard are single precision's, with more digits.
            let alpha = if call.has("alpha") { alpha } else { f64::from(1.673_263_2_f32) };
            let gamma = if call.has("gamma") { gamma } else { f64::from(1.050_701_f32) };
            let elu = s.act(Activation::Elu(alpha), x)?;
            s.by(Binary::Mul, elu, gamma)?
        }
        "Celu" => {
            let alpha = call.float("alpha", 1.)?;
            let scaled = s.by(Binary::Div, x, alpha)?;
            let elu = s.act(Activation::Elu(1.), scaled)?;
            s.by(Binary::Mul, elu, alpha)?
        }
        "Mish" => {
            let soft = s.act(Activation::Softplus, x)?;
            let tanh = s.act(Activation::Tanh, soft)?;
            s.two(Binary::Mul, x, tanh)?
        }
        "Softsign" => {
            let size = s.act(Activation::Abs, x)?;
            let size = s.by(Binary::Add, size, 1.)?;
            s.two(Binary::Div, x, size)?
        }
        "Swish" => s.swish(x, call.float("alpha", 1.)?)?,
        "ThresholdedRelu" => {
            let beyond = s.by(Binary::Sub, x, call.float("alpha", 1.)?)?;
            let mask = s.above(beyond)?;
            s.two(Binary::Mul, x, mask)?
        }
        "Shrink" => {
            let (bias, bound) = (call.float("bias", 0.)?, call.float("lambd", 0.5)?);
            let side = |s: &mut Steps, x: NodeId| -> Result<NodeId> {
                let beyond = s.by(Binary::Sub, x, bound)?;
                let mask = s.above(beyond)?;
                let less = s.by(Binary::Sub, x, bias)?;
                s.two(Binary::Mul, less, mask)
            };
            let high = side(&mut s, x)?;
            let turned = s.act(Activation::Neg, x)?;
            let low = side(&mut s, turned)?;
            s.two(Binary::Sub, high, low)?
        }
        _ => {
            let high = s.above(x)?;
            let turned = s.act(Activation::Neg, x)?;
            let low = s.above(turned)?;
            s.two(Binary::Sub, high, low)?
        }
    })
}

/// Positive entries as they are, negative ones times a slope.
pub fn prelu(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (x, slope) = (graph.rows(call, 0)?.0, graph.any(call, 1)?);
    let mut s = Steps::new(graph, call);
    let high = s.act(Activation::Relu, x)?;
    let turned = s.act(Activation::Neg, x)?;
    let low = s.act(Activation::Relu, turned)?;
    let low = s.two(Binary::Mul, low, slope)?;
    one(s.two(Binary::Sub, high, low)?)
}

/// Sum and mean of any number of values.
pub fn several(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let mut sum = graph.any(call, 0)?;
    let count = call.inputs.len();
    for i in 1..count {
        let next = graph.any(call, i)?;
        let op = Op::Binary(Binary::Add);
        sum = match i + 1 == count && call.op() == "Sum" {
            true => graph.node(call, op, &[sum, next])?,
            false => graph.step(call, &format!("sum{i}"), op, &[sum, next])?,
        };
    }
    if call.op() == "Sum" || count == 1 {
        return one(sum);
    }
    let mut s = Steps::new(graph, call);
    one(s.by(Binary::Div, sum, count as f64)?)
}

/// Minima, sums of sizes and squares, and logarithms of sums along axes.
pub fn reduced(graph: &mut Graph, call: &Call, x: NodeId, (axes, keep): (Vec<usize>, bool)) -> Result<Vec<Value>> {
    let mut s = Steps::new(graph, call);
    let reduce = |kind: Reduction, keep: bool| Op::Reduce { kind, axes: axes.clone(), keep };
    one(match call.op() {
        "ReduceMin" => {
            let turned = s.act(Activation::Neg, x)?;
            let most = s.node(reduce(Reduction::Max, keep), &[turned])?;
            s.act(Activation::Neg, most)?
        }
        "ReduceProd" => super::lines::product(&mut s, x, (axes, keep))?,
        "ReduceL1" => {
            let sizes = s.act(Activation::Abs, x)?;
            s.node(reduce(Reduction::Sum, keep), &[sizes])?
        }
        "ReduceSumSquare" => {
            let squares = s.two(Binary::Mul, x, x)?;
            s.node(reduce(Reduction::Sum, keep), &[squares])?
        }
        "ReduceLogSum" => {
            let sum = s.node(reduce(Reduction::Sum, keep), &[x])?;
            s.act(Activation::Log, sum)?
        }
        _ => {
            // Relative to the largest entry, so that nothing overflows.
            let most = s.node(reduce(Reduction::Max, true), &[x])?;
            let below = s.two(Binary::Sub, x, most)?;
            let powers = s.act(Activation::Exp, below)?;
            let sum = s.node(reduce(Reduction::Sum, keep), &[powers])?;
            let log = s.act(Activation::Log, sum)?;
            let most = if keep { most } else { s.node(reduce(Reduction::Max, false), &[x])? };
            s.two(Binary::Add, log, most)?
        }
    })
}

/// Comparisons and what is made of them: masks of 0 and 1, which have no slope.
pub fn mask(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let a = graph.any(call, 0)?;
    let b = if call.op() == "Not" { a } else { graph.any(call, 1)? };
    let mut s = Steps::new(graph, call);
    let out = match call.op() {
        "Not" => s.not(a)?,
        "And" => s.two(Binary::Mul, a, b)?,
        "Or" => s.two(Binary::Max, a, b)?,
        op => {
            let (over, under) = match op {
                "Greater" | "LessOrEqual" => (a, b),
                _ => (b, a),
            };
            let gap = s.two(Binary::Sub, over, under)?;
            let mask = s.above(gap)?;
            match op {
                "Greater" | "Less" => mask,
                "GreaterOrEqual" | "LessOrEqual" => s.not(mask)?,
                _ => {
                    let other = s.act(Activation::Neg, gap)?;
                    let other = s.above(other)?;
                    let differ = s.two(Binary::Add, mask, other)?;
                    s.not(differ)?
                }
            }
        }
    };
    s.graph.masks.insert(out);
    one(out)
}

/// One value where a mask is 1, another where it is 0. What is not chosen may be infinite or not a number: masks of attention are so.
pub fn choose(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let truth: NodeId = match call.need(0)? {
        Value::Known(array) => {
            let values: Vec<f32> = call.known_ints(0)?.into_iter().map(|v| f32::from(v != 0)).collect();
            graph.spend(call, &array.dims)?;
            let tensor = Tensor::from_vec(values, array.dims.as_slice(), &Device::Cpu)?;
            let param = graph.derived(&format!("{MADE}{}", call.out()), ".mask", tensor);
            graph.step(call, "mask", Op::Param(param), &[])?
        }
        Value::Node(id) if graph.masks.contains(id) => *id,
        _ => return Err(call.fail("its condition is no comparison")),
    };
    let (yes, no) = (graph.any(call, 1)?, graph.any(call, 2)?);
    one(graph.node(call, Op::Choose, &[truth, yes, no])?)
}
