//! What a network computes, as one number: equal functions over equal weights have equal digests in every version.

use super::network::Network;
use super::op::{Activation, Binary, Edge, Op, ParamId, Reduction, Window};
use candle_core::{DType, Tensor};

/// Of this encoding. Whoever changes what a network's bytes are raises it: digests stand in people's baselines and run
/// folders. A new op has a new tag and a new attribute is written only where it is not as before, so neither needs to.
const VERSION: &str = "robust network 1";

/// Entries of a weight that are looked at together.
const CHUNK: usize = 1 << 14;

/// blake3 of the function: every op with its attributes and wiring, every weight it reads bit for bit. Names and unused
/// weights do not count. Lower-case hex.
pub fn digest(net: &Network) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(VERSION.as_bytes());
    // Weights by first use: the order in which a builder declared them is not part of the function.
    let mut order = vec![None; net.params().len()];
    let mut used = vec![];
    let mut words = Words::default();
    for (node, shape) in net.nodes().iter().zip(net.shapes()) {
        words.op(&node.op, &mut |p: ParamId| {
            *order[p.0].get_or_insert_with(|| {
                used.push(p);
                used.len() - 1
            })
        });
        words.list(node.inputs.iter().map(|i| i.0));
        words.flag(shape.batched);
        words.list(shape.row.iter().copied());
        words.drain(&mut hash);
    }
    words.tag("output");
    words.number(net.output().0);
    for p in used {
        let value = &net.params()[p.0].value;
        words.tag(value.dtype().as_str());
        words.list(value.dims().iter().copied());
        words.drain(&mut hash);
        weigh(&mut hash, value);
    }
    hash.finalize().to_hex().to_string()
}

fn weigh(hash: &mut blake3::Hasher, value: &Tensor) {
    // f64 holds every f32 exactly, and its bytes tell any two apart; the type itself is hashed beside the shape.
    // `Builder::finish` has read every weight this way already, so there is no failure to report.
    let _ = entries(value, |some| {
        hash.update(&some.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    });
}

/// Calls `f` with all entries in order, a few at a time: a copy of a large weight in f64 is twice the weight.
pub(crate) fn entries(value: &Tensor, mut f: impl FnMut(&[f64])) -> candle_core::Result<()> {
    let flat = value.flatten_all()?;
    for from in (0..flat.elem_count()).step_by(CHUNK) {
        let some = flat.narrow(0, from, CHUNK.min(flat.elem_count() - from))?;
        f(&some.to_dtype(DType::F64)?.to_vec1()?);
    }
    Ok(())
}

/// Text and numbers as bytes that no other text and numbers have: everything of variable length says how long it is.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn drain(&mut self, hash: &mut blake3::Hasher) {
        hash.update(&self.0);
        self.0.clear();
    }

    fn number(&mut self, n: usize) {
        self.0.extend((n as u64).to_le_bytes());
    }

    fn tag(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
    }

    fn real(&mut self, x: f64) {
        self.0.extend(x.to_bits().to_le_bytes());
    }

    fn flag(&mut self, is: bool) {
        self.number(usize::from(is));
    }

    fn list(&mut self, items: impl ExactSizeIterator<Item = usize>) {
        self.number(items.len());
        items.for_each(|n| self.number(n));
    }

    fn maybe(&mut self, n: Option<usize>) {
        self.list(n.into_iter());
    }

    fn window(&mut self, window: &Window) {
        let Window { kernel, stride, pads, ceil } = window;
        kernel.iter().chain(stride).chain(pads).for_each(|n| self.number(*n));
        self.flag(*ceil);
    }

    /// Tags are for good, whatever ops come to be called; patterns name every field, so that a new one is not forgotten.
    fn op(&mut self, op: &Op, weight: &mut impl FnMut(ParamId) -> usize) {
        match op {
            Op::Input => self.tag("input"),
            Op::Param(p) => self.weights("param", [*p], [], weight),
            Op::Conv2d { weight: w, bias, stride, dilation, pads, groups } => {
                self.weights("conv2d", [*w], [*bias], weight);
                stride.iter().chain(dilation).chain(pads).for_each(|n| self.number(*n));
                self.number(*groups);
            }
            Op::Linear { weight: w, bias } => self.weights("linear", [*w], [*bias], weight),
            Op::MatMul => self.tag("matmul"),
            Op::BatchNorm { mean, var, gamma, beta, eps } => {
                self.weights("batch norm", [*mean, *var], [*gamma, *beta], weight);
                self.real(*eps);
            }
            Op::MeanSparse { mean, var, threshold, axis } => {
                self.weights("mean sparse", [*mean, *var, *threshold], [], weight);
                self.number(*axis);
            }
            Op::LayerNorm { gamma, beta, eps } => {
                self.weights("layer norm", [], [*gamma, *beta], weight);
                self.real(*eps);
            }
            Op::Attention { heads, scale } => {
                self.numbers("attention", &[*heads]);
                self.real(*scale);
            }
            Op::Act(act) => self.activation(act),
            Op::Binary(binary) => self.tag(binary_tag(*binary)),
            Op::Choose => self.tag("choose"),
            Op::Softmax { axis } => self.numbers("softmax", &[*axis]),
            Op::LogSoftmax { axis } => self.numbers("log softmax", &[*axis]),
            Op::MaxPool(window) => {
                self.tag("max pool");
                self.window(window);
            }
            Op::AvgPool { window, count_pads } => {
                self.tag("average pool");
                self.window(window);
                self.flag(*count_pads);
            }
            Op::KeepTop { k } => self.numbers("keep top", &[*k]),
            Op::Reduce { kind, axes, keep } => {
                self.tag(reduction_tag(*kind));
                self.list(axes.iter().copied());
                self.flag(*keep);
            }
            Op::Reshape { row } => self.listed("reshape", row),
            Op::Transpose { axes } => self.listed("transpose", axes),
            Op::Concat { axis } => self.numbers("concat", &[*axis]),
            Op::Slice { axis, start, end, step } => self.numbers("slice", &[*axis, *start, *end, *step]),
            Op::Pick { from, row } => {
                self.listed("pick", row);
                self.list(from.iter().map(|&at| at as usize));
            }
            Op::Sorted { k, largest } => self.numbers("sorted", &[*k, usize::from(*largest)]),
            Op::GridSample { nearest, edge, corners } => {
                let edge = match edge {
                    Edge::Zeros => 0,
                    Edge::Border => 1,
                    Edge::Reflection => 2,
                };
                self.numbers("grid sample", &[usize::from(*nearest), edge, usize::from(*corners)]);
            }
            Op::Pad { pads, value } => {
                self.listed("pad", &pads.iter().flat_map(|(before, after)| [*before, *after]).collect::<Vec<_>>());
                self.real(*value);
            }
            Op::Dropout { rate } => {
                self.tag("dropout");
                self.real(*rate);
            }
        }
    }

    /// An op with attributes of fixed number.
    fn numbers(&mut self, tag: &str, numbers: &[usize]) {
        self.tag(tag);
        numbers.iter().for_each(|n| self.number(*n));
    }

    /// An op with one list.
    fn listed(&mut self, tag: &str, list: &[usize]) {
        self.tag(tag);
        self.list(list.iter().copied());
    }

    /// An op with weights that it must have, and others that it may.
    fn weights<const N: usize, const M: usize>(
        &mut self,
        tag: &str,
        must: [ParamId; N],
        may: [Option<ParamId>; M],
        weight: &mut impl FnMut(ParamId) -> usize,
    ) {
        self.tag(tag);
        must.into_iter().for_each(|p| self.number(weight(p)));
        may.into_iter().for_each(|p| self.maybe(p.map(&mut *weight)));
    }

    fn activation(&mut self, act: &Activation) {
        let (tag, reals): (&str, &[f64]) = match act {
            Activation::Relu => ("relu", &[]),
            Activation::LeakyRelu(slope) => ("leaky relu", &[*slope]),
            Activation::Elu(scale) => ("elu", &[*scale]),
            Activation::Clip(low, high) => ("clip", &[*low, *high]),
            Activation::Sigmoid => ("sigmoid", &[]),
            Activation::HardSigmoid { alpha, beta } => ("hard sigmoid", &[*alpha, *beta]),
            Activation::Tanh => ("tanh", &[]),
            Activation::Silu => ("silu", &[]),
            Activation::HardSwish => ("hard swish", &[]),
            Activation::Gelu => ("gelu", &[]),
            Activation::GeluTanh => ("gelu tanh", &[]),
            Activation::Softplus => ("softplus", &[]),
            Activation::Exp => ("exp", &[]),
            Activation::Log => ("log", &[]),
            Activation::Sqrt => ("sqrt", &[]),
            Activation::Abs => ("abs", &[]),
            Activation::Neg => ("neg", &[]),
            Activation::Reciprocal => ("reciprocal", &[]),
            Activation::Erf => ("erf", &[]),
            Activation::Sin => ("sin", &[]),
            Activation::Cos => ("cos", &[]),
            Activation::Tan => ("tan", &[]),
            Activation::Asin => ("asin", &[]),
            Activation::Acos => ("acos", &[]),
            Activation::Atan => ("atan", &[]),
            Activation::Sinh => ("sinh", &[]),
            Activation::Cosh => ("cosh", &[]),
            Activation::Asinh => ("asinh", &[]),
            Activation::Acosh => ("acosh", &[]),
            Activation::Atanh => ("atanh", &[]),
            Activation::Floor => ("floor", &[]),
            Activation::Ceil => ("ceil", &[]),
            Activation::Round => ("round", &[]),
            Activation::Quantise(low, high) => ("quantise", &[*low, *high]),
        };
        self.tag(tag);
        reals.iter().for_each(|x| self.real(*x));
    }
}

fn binary_tag(binary: Binary) -> &'static str {
    match binary {
        Binary::Add => "add",
        Binary::Sub => "sub",
        Binary::Mul => "mul",
        Binary::Div => "div",
        Binary::Pow => "pow",
        Binary::Max => "max",
        Binary::Min => "min",
    }
}

fn reduction_tag(kind: Reduction) -> &'static str {
    match kind {
        Reduction::Mean => "reduce mean",
        Reduction::Sum => "reduce sum",
        Reduction::Max => "reduce max",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every op, and the same with each of its attributes changed.
    fn ops() -> Vec<Op> {
        let [a, b, c, d] = [0, 1, 2, 3].map(ParamId);
        let window = |kernel, stride, pads, ceil| Window { kernel, stride, pads, ceil };
        let conv =
            |bias, stride, dilation, pads, groups| Op::Conv2d { weight: a, bias, stride, dilation, pads, groups };
        let norm = |gamma, beta, eps| Op::BatchNorm { mean: a, var: b, gamma, beta, eps };
        let act = Op::Act;
        let reduce = |kind, axes: &[usize], keep| Op::Reduce { kind, axes: axes.to_vec(), keep };
        let average = |window, count_pads| Op::AvgPool { window, count_pads };
        vec![
            Op::Input,
            Op::Param(a),
            conv(None, [1, 2], [1, 1], [0, 0, 0, 0], 1),
            conv(Some(b), [1, 2], [1, 1], [0, 0, 0, 0], 1),
            conv(None, [2, 1], [1, 1], [0, 0, 0, 0], 1),
            conv(None, [1, 2], [1, 2], [0, 0, 0, 0], 1),
            conv(None, [1, 2], [1, 1], [0, 0, 0, 1], 1),
            conv(None, [1, 2], [1, 1], [0, 0, 0, 0], 2),
            Op::Linear { weight: a, bias: None },
            Op::Linear { weight: a, bias: Some(b) },
            Op::MatMul,
            norm(None, None, 1e-5),
            norm(Some(c), None, 1e-5),
            norm(None, Some(c), 1e-5),
            norm(Some(c), Some(d), 1e-5),
            norm(None, None, 1e-3),
            Op::MeanSparse { mean: a, var: b, threshold: c, axis: 1 },
            Op::MeanSparse { mean: a, var: b, threshold: c, axis: 2 },
            Op::LayerNorm { gamma: None, beta: None, eps: 1e-5 },
            Op::LayerNorm { gamma: Some(a), beta: None, eps: 1e-5 },
            Op::LayerNorm { gamma: None, beta: Some(a), eps: 1e-5 },
            Op::LayerNorm { gamma: None, beta: None, eps: 1e-6 },
            Op::Attention { heads: 2, scale: 0.5 },
            Op::Attention { heads: 4, scale: 0.5 },
            Op::Attention { heads: 2, scale: 0.25 },
            act(Activation::Relu),
            act(Activation::LeakyRelu(0.1)),
            act(Activation::LeakyRelu(0.2)),
            act(Activation::Elu(0.1)),
            act(Activation::Clip(0., 6.)),
            act(Activation::Clip(0., f64::INFINITY)),
            act(Activation::Clip(-1., 6.)),
            act(Activation::Sigmoid),
            act(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
            act(Activation::HardSigmoid { alpha: 0.5, beta: 0.2 }),
            act(Activation::Tanh),
            act(Activation::Silu),
            act(Activation::HardSwish),
            act(Activation::Gelu),
            act(Activation::GeluTanh),
            act(Activation::Softplus),
            act(Activation::Exp),
            act(Activation::Log),
            act(Activation::Sqrt),
            act(Activation::Abs),
            act(Activation::Neg),
            act(Activation::Reciprocal),
            act(Activation::Erf),
            act(Activation::Sin),
            act(Activation::Cos),
            Op::Binary(Binary::Add),
            Op::Binary(Binary::Sub),
            Op::Binary(Binary::Mul),
            Op::Binary(Binary::Div),
            Op::Binary(Binary::Pow),
            Op::Binary(Binary::Max),
            Op::Binary(Binary::Min),
            Op::Softmax { axis: 1 },
            Op::Softmax { axis: 2 },
            Op::LogSoftmax { axis: 1 },
            Op::LogSoftmax { axis: 2 },
            Op::MaxPool(window([2, 2], [2, 2], [0; 4], false)),
            Op::MaxPool(window([2, 2], [2, 2], [0; 4], true)),
            Op::MaxPool(window([3, 2], [2, 2], [0; 4], false)),
            Op::MaxPool(window([2, 2], [2, 1], [0; 4], false)),
            Op::MaxPool(window([2, 2], [2, 2], [1, 0, 0, 0], false)),
            average(window([2, 2], [2, 2], [0; 4], false), false),
            average(window([2, 2], [2, 2], [0; 4], false), true),
            average(window([2, 2], [2, 2], [0; 4], true), false),
            Op::KeepTop { k: 1 },
            Op::KeepTop { k: 2 },
            reduce(Reduction::Mean, &[1], false),
            reduce(Reduction::Sum, &[1], false),
            reduce(Reduction::Max, &[1], false),
            reduce(Reduction::Max, &[1, 2], false),
            reduce(Reduction::Max, &[1], true),
            Op::Reshape { row: vec![] },
            Op::Reshape { row: vec![4] },
            Op::Reshape { row: vec![2, 2] },
            Op::Transpose { axes: vec![0, 2, 1] },
            Op::Transpose { axes: vec![0, 1, 2] },
            Op::Concat { axis: 1 },
            Op::Concat { axis: 2 },
            Op::Slice { axis: 1, start: 0, end: 4, step: 1 },
            Op::Slice { axis: 2, start: 0, end: 4, step: 1 },
            Op::Slice { axis: 1, start: 1, end: 4, step: 1 },
            Op::Slice { axis: 1, start: 0, end: 3, step: 1 },
            Op::Slice { axis: 1, start: 0, end: 4, step: 2 },
            Op::Pad { pads: vec![(0, 1)], value: 0. },
            Op::Pad { pads: vec![(1, 0)], value: 0. },
            Op::Pad { pads: vec![(0, 1), (0, 0)], value: 0. },
            Op::Pad { pads: vec![(0, 1)], value: -0. },
        ]
    }

    /// Ops that came later, likewise: the list above is never added to.
    fn newer() -> Vec<Op> {
        let act = Op::Act;
        vec![
            act(Activation::Tan),
            act(Activation::Asin),
            act(Activation::Acos),
            act(Activation::Atan),
            act(Activation::Sinh),
            act(Activation::Cosh),
            act(Activation::Asinh),
            act(Activation::Acosh),
            act(Activation::Atanh),
            act(Activation::Floor),
            act(Activation::Ceil),
            act(Activation::Round),
            act(Activation::Quantise(0., 255.)),
            act(Activation::Quantise(0., 127.)),
            act(Activation::Quantise(-128., 127.)),
            Op::Choose,
            Op::Pick { from: [0, 1].into(), row: vec![2] },
            Op::Pick { from: [1, 0].into(), row: vec![2] },
            Op::Pick { from: [0, 1].into(), row: vec![1, 2] },
            Op::Pick { from: [0].into(), row: vec![1] },
            Op::Sorted { k: 1, largest: true },
            Op::Sorted { k: 2, largest: true },
            Op::Sorted { k: 1, largest: false },
            Op::GridSample { nearest: false, edge: Edge::Zeros, corners: false },
            Op::GridSample { nearest: true, edge: Edge::Zeros, corners: false },
            Op::GridSample { nearest: false, edge: Edge::Border, corners: false },
            Op::GridSample { nearest: false, edge: Edge::Reflection, corners: false },
            Op::GridSample { nearest: false, edge: Edge::Zeros, corners: true },
        ]
    }

    fn bytes(op: &Op) -> Vec<u8> {
        let mut words = Words::default();
        words.op(op, &mut |p| p.0);
        words.0
    }

    #[test]
    fn no_op_has_the_bytes_of_another_nor_begins_with_them() {
        let ops = || [ops(), newer()].concat();
        let all: Vec<Vec<u8>> = ops().iter().map(bytes).collect();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate().filter(|(j, _)| *j != i) {
                assert!(!b.starts_with(a), "{:?} and {:?}", ops()[i], ops()[j]);
            }
        }
    }

    /// Digests of earlier versions stand in baselines and run folders: these bytes may only ever get longer.
    #[test]
    fn ops_have_the_bytes_they_always_had() {
        let of = |ops: &[Op]| {
            let mut hash = blake3::Hasher::new();
            ops.iter().for_each(|op| {
                hash.update(&bytes(op));
            });
            hash.finalize().to_hex().to_string()
        };
        assert_eq!(of(&ops()), "fe71bee4cb77549f980e4b4d57283112abe435f8f0aed1e7d1d14d43bb524792");
        assert_eq!(of(&newer()), "ccead4ab1c6297def0ba31fbb01f056e49133be27b1f582c582b5346fbbc5bc1");
    }
}
