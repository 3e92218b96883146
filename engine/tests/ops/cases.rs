//! Random small networks: each op in many forms, and whole nets. Every check runs over all of them.

use crate::blocks;
use candle_core::{Device, Tensor};
use robust_core::{Draw, RowKey, stream};
use robust_engine::*;
use std::sync::Arc;

/// Seeded choices.
pub struct Gen<'a> {
    pick: Box<dyn FnMut(u32) -> u32 + 'a>,
    id: u64,
    turn: u64,
}

pub fn normals(id: u64, turn: u64, dims: &[usize]) -> Tensor {
    let rows = [RowKey::of(id)];
    let draw = Draw { seed: 11, stream: stream("engine/tests"), turn, rows: &rows };
    draw.normal(dims, &Device::Cpu).unwrap().squeeze(0).unwrap()
}

impl Gen<'_> {
    pub fn new(id: u64) -> Self {
        let draw = Draw { seed: 12, stream: stream("engine/choices"), turn: 0, rows: &[] };
        let mut noise = draw.noise(&RowKey::of(id));
        Self { pick: Box::new(move |n| noise.index(n)), id, turn: 0 }
    }
    /// From `low` to `high`, both included.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        low + (self.pick)((high - low + 1) as u32) as usize
    }
    pub fn flip(&mut self) -> bool {
        (self.pick)(2) == 1
    }
    pub fn tensor(&mut self, dims: &[usize]) -> Tensor {
        self.turn += 1;
        normals(self.id, self.turn, dims)
    }
    /// Between 0.5 and 1.5 or so, never near zero.
    pub fn positive(&mut self, dims: &[usize]) -> Tensor {
        self.tensor(dims).tanh().unwrap().affine(0.5, 1.).unwrap()
    }
}

pub struct Case {
    pub name: String,
    pub net: Arc<Network>,
    /// The op needs inputs above zero.
    pub positive: bool,
}

pub fn case(name: impl Into<String>, build: impl FnOnce(&mut Builder) -> NodeId) -> Case {
    let name = name.into();
    let mut b = Builder::new();
    let out = build(&mut b);
    Case { net: Arc::new(b.finish(out).unwrap_or_else(|e| panic!("{name}: {e}"))), name, positive: false }
}

impl Case {
    /// `[n, input...]` of the case's kind.
    pub fn input(&self, n: usize) -> Tensor {
        let dims: Vec<usize> = [n].into_iter().chain(self.net.input_row().iter().copied()).collect();
        let x = normals(999, n as u64, &dims);
        if self.positive { x.tanh().unwrap().affine(0.5, 1.).unwrap() } else { x }
    }
}

fn on_input(name: &str, row: &[usize], op: Op) -> Case {
    case(format!("{name} {op:?} of {row:?}"), |b| {
        let x = b.input("x", row).unwrap();
        b.node("y", op, &[x]).unwrap()
    })
}

pub fn all() -> Vec<Case> {
    let mut all = vec![];
    for seed in 0..24 {
        all.push(conv(seed));
        all.push(pool(seed));
    }
    all.extend(wide_convs());
    all.extend(activations());
    all.extend(binaries());
    all.extend(linears());
    all.extend(bounded());
    all.extend(grids());
    all.extend(shapes());
    all.extend(blocks::encoders());
    all.push(preactivation());
    all.extend(blocks::pooled());
    all.extend(blocks::gates());
    all.extend([mnist_like(), residual(), attention()]);
    all
}

fn conv(seed: u64) -> Case {
    let mut g = Gen::new(seed);
    let groups = [1, 1, 2, 3][g.size(0, 3)];
    let (cg, og) = (g.size(1, 3), g.size(1, 3));
    let kernel = [g.size(1, 3), g.size(1, 3)];
    let (stride, dilation) = ([g.size(1, 3), g.size(1, 3)], [g.size(1, 2), g.size(1, 2)]);
    let pads = [g.size(0, 2), g.size(0, 2), g.size(0, 2), g.size(0, 2)];
    let row = [groups * cg, g.size(5, 9), g.size(5, 9)];
    let weight = g.tensor(&[groups * og, cg, kernel[0], kernel[1]]);
    let bias = g.flip().then(|| g.tensor(&[groups * og]));
    case(format!("conv {row:?} k{kernel:?} s{stride:?} d{dilation:?} p{pads:?} g{groups} og{og}"), |b| {
        let x = b.input("x", &row).unwrap();
        let weight = b.param("w", weight);
        let bias = bias.map(|t| b.param("b", t));
        b.node("y", Op::Conv2d { weight, bias, stride, dilation, pads, groups }, &[x]).unwrap()
    })
}

/// Convolutions that need several tiles, the pointwise path and the direct path.
fn wide_convs() -> Vec<Case> {
    type Form = ([usize; 3], [usize; 4], Pair, Pads, usize);
    let forms: [Form; 8] = [
        ([3, 41, 37], [5, 3, 3, 3], [1, 1], [1, 0, 2, 1], 1),
        ([8, 40, 40], [4, 8, 7, 7], [1, 2], [3, 3, 3, 3], 1),
        ([9, 5, 6], [7, 9, 1, 1], [1, 1], [0; 4], 1),
        ([8, 5, 6], [12, 4, 1, 1], [1, 1], [0; 4], 2),
        ([9, 7, 6], [7, 9, 1, 1], [2, 2], [0; 4], 1),
        ([6, 9, 8], [6, 1, 5, 5], [1, 1], [2; 4], 6),
        ([6, 9, 8], [12, 1, 3, 3], [2, 2], [1; 4], 6),
        ([1, 9, 8], [40, 1, 5, 5], [1, 1], [2; 4], 1),
    ];
    let build = |(i, form): (usize, Form)| {
        let (row, w, stride, pads, groups) = form;
        let mut g = Gen::new(100 + i as u64);
        let (weight, bias) = (g.tensor(&w), g.tensor(&[w[0]]));
        case(format!("conv {row:?} by {w:?}"), |b| {
            let x = b.input("x", &row).unwrap();
            let (weight, bias) = (b.param("w", weight), Some(b.param("b", bias)));
            b.node("y", Op::Conv2d { weight, bias, stride, dilation: [1, 1], pads, groups }, &[x]).unwrap()
        })
    };
    forms.into_iter().enumerate().map(build).collect()
}

fn pool(seed: u64) -> Case {
    let mut g = Gen::new(500 + seed);
    let kernel = [g.size(1, 4), g.size(1, 4)];
    let stride = [g.size(1, 4), g.size(1, 4)];
    let mut pad = |k: usize| g.size(0, k - 1);
    let pads = [pad(kernel[0]), pad(kernel[1]), pad(kernel[0]), pad(kernel[1])];
    let window = Window { kernel, stride, pads, ceil: g.flip() };
    let row = [g.size(1, 3), g.size(4, 9), g.size(4, 9)];
    let op = if seed.is_multiple_of(2) { Op::MaxPool(window) } else { Op::AvgPool { window, count_pads: g.flip() } };
    on_input("pool", &row, op)
}

fn activations() -> Vec<Case> {
    use Activation::*;
    let any = [
        Relu,
        LeakyRelu(0.1),
        Elu(0.7),
        Clip(-0.5, 0.8),
        Clip(0., f64::INFINITY),
        Sigmoid,
        HardSigmoid { alpha: 1. / 6., beta: 0.5 },
        Tanh,
        Silu,
        HardSwish,
        Gelu,
        GeluTanh,
        Softplus,
        Exp,
        Abs,
        Neg,
        Erf,
        Sin,
        Cos,
        Atan,
        Sinh,
        Cosh,
        Asinh,
        Floor,
        Ceil,
        Round,
    ];
    let above_zero = [Log, Sqrt, Reciprocal];
    let make = |act, positive| Case { positive, ..on_input("act", &[3, 7], Op::Act(act)) };
    any.into_iter().map(|a| make(a, false)).chain(above_zero.into_iter().map(|a| make(a, true))).collect()
}

fn binaries() -> Vec<Case> {
    use Binary::*;
    let mut all = vec![];
    for (i, kind) in [Add, Sub, Mul, Div, Pow, Max, Min].into_iter().enumerate() {
        // Against constants of every legal rank, on either side.
        for (j, dims) in
            [vec![], vec![5], vec![4, 1], vec![1, 4, 1], vec![3, 4, 5], vec![1, 3, 1, 1]].into_iter().enumerate()
        {
            for swapped in [false, true] {
                let c = Gen::new(1000 + (i * 10 + j) as u64).positive(&dims);
                let mut case = case(format!("{kind:?} [n, 3, 4, 5] with constant {dims:?} swapped {swapped}"), |b| {
                    let x = b.input("x", &[3, 4, 5]).unwrap();
                    let p = b.param("c", c);
                    let c = b.node("c", Op::Param(p), &[]).unwrap();
                    let inputs = if swapped { [c, x] } else { [x, c] };
                    b.node("y", Op::Binary(kind), &inputs).unwrap()
                });
                case.positive = true;
                all.push(case);
            }
        }
        // Two values of the batch, each repeated along an axis of the other; and one value twice.
        let mut crossed = case(format!("{kind:?} crossed"), |b| {
            let x = b.input("x", &[4, 5]).unwrap();
            let rows = b.node("rows", Op::Reduce { kind: Reduction::Mean, axes: vec![2], keep: true }, &[x]).unwrap();
            let cols = b.node("cols", Op::Reduce { kind: Reduction::Max, axes: vec![1], keep: true }, &[x]).unwrap();
            let y = b.node("y", Op::Binary(kind), &[rows, cols]).unwrap();
            let z = b.node("z", Op::Binary(kind), &[y, rows]).unwrap();
            b.node("twice", Op::Binary(Mul), &[z, z]).unwrap()
        });
        crossed.positive = true;
        all.push(crossed);
    }
    all
}

/// Functions of numbers within bounds.
fn bounded() -> Vec<Case> {
    let squeezed = |act: Activation, scale: f64, shift: f64| {
        case(format!("act {act:?} of bounded numbers"), |b| {
            let x = b.input("x", &[3, 7]).unwrap();
            let x = self::act(b, x, Activation::Tanh);
            let [scale, shift] = [scale, shift].map(|v| b.param("v", Tensor::new(v, &Device::Cpu).unwrap()));
            let [scale, shift] = [scale, shift].map(|p| b.node("v", Op::Param(p), &[]).unwrap());
            let x = b.node("scaled", Op::Binary(Binary::Mul), &[x, scale]).unwrap();
            let x = b.node("moved", Op::Binary(Binary::Add), &[x, shift]).unwrap();
            self::act(b, x, act)
        })
    };
    use Activation::*;
    vec![
        squeezed(Asin, 0.9, 0.),
        squeezed(Acos, 0.9, 0.),
        squeezed(Atanh, 0.9, 0.),
        squeezed(Tan, 1.2, 0.),
        squeezed(Acosh, 0.9, 2.5),
    ]
}

/// Images at places that are constants, that depend on the image, and of a constant image.
fn grids() -> Vec<Case> {
    let mut all = vec![];
    let rules = [Edge::Zeros, Edge::Border, Edge::Reflection].into_iter().flat_map(|e| [(e, false), (e, true)]);
    for (i, (edge, corners)) in rules.enumerate() {
        let op = Op::GridSample { nearest: false, edge, corners };
        let mut g = Gen::new(3300 + i as u64);
        let (image, places) = (g.tensor(&[1, 2, 4, 3]), g.tensor(&[1, 5, 2, 2]));
        for nearest in [false, true] {
            let op = Op::GridSample { nearest, edge, corners };
            all.push(case(format!("{op:?} at constant places"), |b| {
                let x = b.input("x", &[2, 4, 3]).unwrap();
                let p = b.param("places", places.clone());
                let places = match nearest {
                    // Nearest pixels have no slope, and differences none but at jumps.
                    true => b.node("places", Op::Param(p), &[]).unwrap(),
                    false => {
                        let places = b.node("places", Op::Param(p), &[]).unwrap();
                        act(b, places, Activation::Tanh)
                    }
                };
                b.node("y", op.clone(), &[x, places]).unwrap()
            }));
        }
        all.push(case(format!("{op:?} of a constant image"), |b| {
            let x = b.input("x", &[5, 2, 2]).unwrap();
            let p = b.param("image", image.clone());
            let image = b.node("image", Op::Param(p), &[]).unwrap();
            b.node("y", op.clone(), &[image, x]).unwrap()
        }));
        all.push(case(format!("{op:?} of a value at places of its own"), |b| {
            let x = b.input("x", &[2, 4, 3]).unwrap();
            let from: Vec<u32> = (0..20).map(|i| i % 24).collect();
            let places = b.node("picked", Op::Pick { from: from.into(), row: vec![5, 2, 2] }, &[x]).unwrap();
            b.node("y", op, &[x, places]).unwrap()
        }));
    }
    all
}

fn linears() -> Vec<Case> {
    let mut all = vec![];
    for (i, (row, o)) in
        [(vec![7], 5), (vec![33], 70), (vec![3, 6], 4), (vec![20, 6], 9), (vec![2, 9, 5], 1)].into_iter().enumerate()
    {
        let mut g = Gen::new(2000 + i as u64);
        let (weight, bias) = (g.tensor(&[o, row[row.len() - 1]]), (i != 2).then(|| g.tensor(&[o])));
        all.push(case(format!("linear {row:?} -> {o}"), |b| {
            let x = b.input("x", &row).unwrap();
            let (weight, bias) = (b.param("w", weight), bias.map(|t| b.param("b", t)));
            b.node("y", Op::Linear { weight, bias }, &[x]).unwrap()
        }));
    }
    // A constant on either side, with and without leading axes.
    let forms: [(&[usize], &[usize], bool); 6] = [
        (&[6], &[6, 4], false),
        (&[3, 6], &[6, 4], false),
        (&[2, 3, 6], &[6, 4], false),
        (&[2, 3, 6], &[2, 6, 4], false),
        (&[2, 3, 6], &[5, 3], true),
        (&[2, 3, 6], &[1, 1, 5, 3], true),
    ];
    for (i, (row, dims, left)) in forms.into_iter().enumerate() {
        let c = Gen::new(2100 + i as u64).tensor(dims);
        all.push(case(format!("matmul {row:?} with constant {dims:?} on the left {left}"), |b| {
            let x = b.input("x", row).unwrap();
            let p = b.param("c", c);
            let c = b.node("c", Op::Param(p), &[]).unwrap();
            b.node("y", Op::MatMul, &if left { [c, x] } else { [x, c] }).unwrap()
        }));
    }
    all.push(case("matmul of two values", |b| {
        let x = b.input("x", &[2, 3, 4]).unwrap();
        let t = b.node("t", Op::Transpose { axes: vec![0, 1, 3, 2] }, &[x]).unwrap();
        let one = b.node("one", Op::Slice { axis: 1, start: 1, end: 2, step: 1 }, &[t]).unwrap();
        b.node("y", Op::MatMul, &[x, one]).unwrap()
    }));
    all.push(one_weight_in_several_layers());
    all
}

/// As the file has it, over features in another order, scaled behind, with a residual sum.
fn one_weight_in_several_layers() -> Case {
    case("one weight in several layers", |b| {
        let mut g = Gen::new(2200);
        let x = b.input("x", &[5, 4, 3]).unwrap();
        let h = convolve(b, &mut g, x, 5, 1, 1);
        let mut h = b.node("flat", Op::Reshape { row: vec![60] }, &[h]).unwrap();
        let weight = b.param("w", (g.tensor(&[60, 60]) * 0.1).unwrap());
        let scale = b.param("s", g.tensor(&[60]));
        let scale = b.node("s", Op::Param(scale), &[]).unwrap();
        for i in 0..4 {
            let bias = (i % 2 == 1).then(|| b.param("b", g.tensor(&[60])));
            let y = b.node(format!("layer{i}"), Op::Linear { weight, bias }, &[h]).unwrap();
            let (kind, other) = if i == 1 { (Binary::Mul, scale) } else { (Binary::Add, h) };
            let y = b.node(format!("with{i}"), Op::Binary(kind), &[y, other]).unwrap();
            h = act(b, y, Activation::Sin);
        }
        h
    })
}

fn shapes() -> Vec<Case> {
    let row = [3, 4, 5];
    let reduce = |kind, axes: &[usize], keep| Op::Reduce { kind, axes: axes.to_vec(), keep };
    let mut all: Vec<Case> = [
        reduce(Reduction::Mean, &[2, 3], false),
        reduce(Reduction::Mean, &[1], true),
        reduce(Reduction::Sum, &[3, 1], false),
        reduce(Reduction::Sum, &[1, 2, 3], false),
        reduce(Reduction::Max, &[2], false),
        reduce(Reduction::Max, &[2, 3], true),
        Op::KeepTop { k: 2 },
        Op::KeepTop { k: 9 },
        Op::Sorted { k: 3, largest: true },
        Op::Sorted { k: 5, largest: false },
        Op::Pick { from: [59, 0, NOWHERE, 7, 7, 31].into(), row: vec![2, 3] },
        Op::Softmax { axis: 1 },
        Op::Softmax { axis: 3 },
        Op::LogSoftmax { axis: 2 },
        Op::Reshape { row: vec![5, 12] },
        Op::Transpose { axes: vec![0, 3, 1, 2] },
        Op::Slice { axis: 1, start: 1, end: 3, step: 1 },
        Op::Slice { axis: 3, start: 0, end: 5, step: 2 },
        Op::Pad { pads: vec![(0, 1), (2, 0), (1, 3)], value: 0.5 },
    ]
    .into_iter()
    .map(|op| on_input("shape", &row, op))
    .collect();
    all.push(case("concat of values and a constant, one value twice", |b| {
        let x = b.input("x", &row).unwrap();
        let part = b.node("part", Op::Slice { axis: 2, start: 1, end: 3, step: 1 }, &[x]).unwrap();
        let p = b.param("token", Gen::new(3000).tensor(&[1, 3, 2, 5]));
        let token = b.node("token", Op::Param(p), &[]).unwrap();
        b.node("y", Op::Concat { axis: 2 }, &[token, x, part, x]).unwrap()
    }));
    all.push(case("arithmetic on weights alone", |b| {
        let x = b.input("x", &[6]).unwrap();
        let mut g = Gen::new(3001);
        let (p, q) = (b.param("p", g.tensor(&[3, 4])), b.param("q", g.positive(&[4])));
        let (p, q) = (b.node("p", Op::Param(p), &[]).unwrap(), b.node("q", Op::Param(q), &[]).unwrap());
        let scaled = b.node("scaled", Op::Binary(Binary::Div), &[p, q]).unwrap();
        let soft = b.node("soft", Op::Softmax { axis: 0 }, &[scaled]).unwrap();
        let cut = b.node("cut", Op::Slice { axis: 0, start: 0, end: 3, step: 2 }, &[soft]).unwrap();
        let sum = b.node("sum", Op::Reduce { kind: Reduction::Sum, axes: vec![1], keep: true }, &[cut]).unwrap();
        let both = b.node("both", Op::Concat { axis: 1 }, &[cut, sum]).unwrap();
        let back = b.node("back", Op::Transpose { axes: vec![1, 0] }, &[both]).unwrap();
        let pad = b.node("pad", Op::Pad { pads: vec![(1, 0), (0, 0)], value: 0.25 }, &[back]).unwrap();
        b.node("y", Op::MatMul, &[x, pad]).unwrap()
    }));
    all.push(case("choices by a constant and by the value itself", |b| {
        let x = b.input("x", &[3, 5]).unwrap();
        let mask: Vec<f32> = (0..15).map(|i| f32::from(i % 4 == 1)).collect();
        let mask = b.param("mask", Tensor::from_vec(mask, (3, 5), &Device::Cpu).unwrap());
        let far = b.param("far", Tensor::new(f64::NEG_INFINITY, &Device::Cpu).unwrap());
        let line = b.param("line", Gen::new(3002).tensor(&[1, 1, 5]));
        let [mask, far, line] = [mask, far, line].map(|p| b.node("p", Op::Param(p), &[]).unwrap());
        let open = act(b, x, Activation::Relu);
        let own = b.node("own", Op::Choose, &[open, line, x]).unwrap();
        let scores = b.node("scores", Op::Choose, &[mask, far, own]).unwrap();
        b.node("soft", Op::Softmax { axis: 2 }, &[scores]).unwrap()
    }));
    for (row, axis) in [(vec![3, 5, 4], 1), (vec![3, 5, 4], 3), (vec![3, 5, 4], 2), (vec![7], 1), (vec![6, 20], 2)] {
        all.push(case(format!("mean sparse of {row:?} along {axis}"), |b| {
            let mut g = Gen::new(3200);
            let x = b.input("x", &row).unwrap();
            let h = act(b, x, Activation::LeakyRelu(0.3));
            let y = mean_sparse(b, &mut g, h, axis);
            // Its input is read twice.
            let y = b.node("both", Op::Binary(Binary::Mul), &[y, h]).unwrap();
            mean_sparse(b, &mut g, y, axis)
        }));
    }
    for (row, affine) in [(vec![4], true), (vec![3, 5, 4], true), (vec![3, 5, 4], false)] {
        all.push(case(format!("batch norm of {row:?}, affine {affine}"), |b| {
            let mut g = Gen::new(3100);
            let x = b.input("x", &row).unwrap();
            norm(b, &mut g, x, affine)
        }));
    }
    all
}

/// Blocks whose norms and ReLUs come before their convolutions.
fn preactivation() -> Case {
    case("pre-activation net", |b| {
        let mut g = Gen::new(4003);
        let x = b.input("x", &[3, 9, 7]).unwrap();
        let mut h = convolve(b, &mut g, x, 18, 3, 1);
        for stride in [1, 2] {
            let first = norm(b, &mut g, h, true);
            let first = act(b, first, Activation::Relu);
            let y = convolve(b, &mut g, first, 18, 3, stride);
            let y = norm(b, &mut g, y, true);
            let y = act(b, y, Activation::Relu);
            let y = convolve(b, &mut g, y, 18, 3, 1);
            let skip = if stride == 1 { h } else { convolve(b, &mut g, first, 18, 1, stride) };
            h = b.node("sum", Op::Binary(Binary::Add), &[skip, y]).unwrap();
        }
        let h = norm(b, &mut g, h, true);
        let h = act(b, h, Activation::Relu);
        let mean = b.node("mean", Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[h]).unwrap();
        dense(b, &mut g, mean, 5)
    })
}

pub fn norm(b: &mut Builder, g: &mut Gen<'_>, x: NodeId, affine: bool) -> NodeId {
    let c = [b.shape(x).row[0]];
    let (mean, var) = (b.param("mean", g.tensor(&c)), b.param("var", g.positive(&c)));
    let gamma = affine.then(|| b.param("gamma", g.positive(&c)));
    let beta = affine.then(|| b.param("beta", g.tensor(&c)));
    b.node(format!("norm{}", x.0), Op::BatchNorm { mean, var, gamma, beta, eps: 1e-3 }, &[x]).unwrap()
}

pub fn mean_sparse(b: &mut Builder, g: &mut Gen<'_>, x: NodeId, axis: usize) -> NodeId {
    let c = [b.shape(x).row[axis - 1]];
    let (mean, var) = (b.param("mean", g.tensor(&c)), b.param("var", g.positive(&c)));
    let threshold = b.param("threshold", Tensor::new(0.5f32, &Device::Cpu).unwrap());
    b.node(format!("sparse{}", x.0), Op::MeanSparse { mean, var, threshold, axis }, &[x]).unwrap()
}

pub fn convolve(b: &mut Builder, g: &mut Gen<'_>, x: NodeId, o: usize, k: usize, stride: usize) -> NodeId {
    let c = b.shape(x).row[0];
    let scale = 1. / ((c * k * k) as f64).sqrt();
    let weight = b.param("w", (g.tensor(&[o, c, k, k]) * scale).unwrap());
    let bias = Some(b.param("b", g.tensor(&[o])));
    let pads = [k / 2; 4];
    let op = Op::Conv2d { weight, bias, stride: [stride; 2], dilation: [1, 1], pads, groups: 1 };
    b.node(format!("conv{}", x.0), op, &[x]).unwrap()
}

pub fn dense(b: &mut Builder, g: &mut Gen<'_>, x: NodeId, o: usize) -> NodeId {
    let i = *b.shape(x).row.last().unwrap();
    let weight = b.param("w", (g.tensor(&[o, i]) * (1. / (i as f64).sqrt())).unwrap());
    let bias = Some(b.param("b", g.tensor(&[o])));
    b.node(format!("dense{}", x.0), Op::Linear { weight, bias }, &[x]).unwrap()
}

pub fn act(b: &mut Builder, x: NodeId, kind: Activation) -> NodeId {
    b.node(format!("act{}", x.0), Op::Act(kind), &[x]).unwrap()
}

/// The shape of the small digit classifiers: two convolutions with pools and two dense layers.
pub fn mnist(size: usize, c: [usize; 2], hidden: usize, k: usize) -> Network {
    let mut g = Gen::new(4000);
    let mut b = Builder::new();
    let mut h = b.input("x", &[1, size, size]).unwrap();
    for c in c {
        h = convolve(&mut b, &mut g, h, c, k, 1);
        h = act(&mut b, h, Activation::Relu);
        let window = Window { kernel: [2, 2], stride: [2, 2], pads: [0; 4], ceil: false };
        h = b.node(format!("pool{}", h.0), Op::MaxPool(window), &[h]).unwrap();
    }
    let width = b.shape(h).len();
    h = b.node("flat", Op::Reshape { row: vec![width] }, &[h]).unwrap();
    h = dense(&mut b, &mut g, h, hidden);
    h = act(&mut b, h, Activation::Relu);
    h = dense(&mut b, &mut g, h, 10);
    b.finish(h).unwrap()
}

fn mnist_like() -> Case {
    Case { name: "small digit net".into(), net: Arc::new(mnist(12, [3, 4], 9, 3)), positive: false }
}

fn residual() -> Case {
    case("residual net", |b| {
        let mut g = Gen::new(4001);
        let x = b.input("x", &[3, 9, 7]).unwrap();
        let stem = convolve(b, &mut g, x, 4, 3, 2);
        let stem = norm(b, &mut g, stem, true);
        let stem = act(b, stem, Activation::Relu);
        let inner = convolve(b, &mut g, stem, 4, 3, 1);
        let inner = norm(b, &mut g, inner, true);
        let inner = act(b, inner, Activation::Silu);
        let sum = b.node("sum", Op::Binary(Binary::Add), &[inner, stem]).unwrap();
        let mean = b.node("mean", Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[sum]).unwrap();
        dense(b, &mut g, mean, 5)
    })
}

/// One transformer block built of elementary ops: tokens, layer norm, attention, a residual.
fn attention() -> Case {
    case("attention net", |b| {
        let mut g = Gen::new(4002);
        let x = b.input("x", &[6, 8]).unwrap();
        let p = b.param("cls", g.tensor(&[1, 1, 8]));
        let cls = b.node("cls", Op::Param(p), &[]).unwrap();
        let h = b.node("tokens", Op::Concat { axis: 1 }, &[cls, x]).unwrap();
        let mean = b.node("m", Op::Reduce { kind: Reduction::Mean, axes: vec![2], keep: true }, &[h]).unwrap();
        let d = b.node("d", Op::Binary(Binary::Sub), &[h, mean]).unwrap();
        let sq = b.node("sq", Op::Binary(Binary::Mul), &[d, d]).unwrap();
        let var = b.node("v", Op::Reduce { kind: Reduction::Mean, axes: vec![2], keep: true }, &[sq]).unwrap();
        let sd = act(b, var, Activation::Sqrt);
        let normed = b.node("ln", Op::Binary(Binary::Div), &[d, sd]).unwrap();
        let [q, k, v] = std::array::from_fn(|_| {
            let y = dense(b, &mut g, normed, 8);
            let y = b.node("split", Op::Reshape { row: vec![7, 2, 4] }, &[y]).unwrap();
            b.node("heads", Op::Transpose { axes: vec![0, 2, 1, 3] }, &[y]).unwrap()
        });
        let kt = b.node("kt", Op::Transpose { axes: vec![0, 1, 3, 2] }, &[k]).unwrap();
        let scores = b.node("scores", Op::MatMul, &[q, kt]).unwrap();
        let weights = b.node("weights", Op::Softmax { axis: 3 }, &[scores]).unwrap();
        let mixed = b.node("mixed", Op::MatMul, &[weights, v]).unwrap();
        let mixed = b.node("merge", Op::Transpose { axes: vec![0, 2, 1, 3] }, &[mixed]).unwrap();
        let mixed = b.node("flat", Op::Reshape { row: vec![7, 8] }, &[mixed]).unwrap();
        let out = b.node("res", Op::Binary(Binary::Add), &[mixed, h]).unwrap();
        let out = act(b, out, Activation::Gelu);
        let first = b.node("first", Op::Slice { axis: 1, start: 0, end: 1, step: 1 }, &[out]).unwrap();
        let first = b.node("row", Op::Reshape { row: vec![8] }, &[first]).unwrap();
        dense(b, &mut g, first, 3)
    })
}
