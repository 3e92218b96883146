//! Blocks of networks: pools behind convolutions, gates and branches, norms and attention.

use crate::cases::{Case, Gen, act, case, convolve, dense, norm};
use robust_engine::*;

/// Convolutions with a maximum pool behind their ReLU or before it: few channels, many, and in between.
pub fn pooled() -> Vec<Case> {
    let plain = Window { kernel: [2, 2], stride: [2, 2], pads: [0; 4], ceil: false };
    let forms = [
        ([3, 11, 9], 20, 5, plain, false),
        ([3, 11, 9], 20, 5, Window { ceil: true, ..plain }, true),
        ([2, 13, 10], 7, 3, Window { kernel: [3, 2], stride: [3, 4], pads: [1, 1, 0, 0], ceil: true }, false),
        ([2, 13, 10], 7, 3, Window { kernel: [3, 3], stride: [2, 2], pads: [1; 4], ceil: false }, true),
        ([13, 10, 12], 20, 3, plain, true),
        ([13, 11, 9], 12, 3, plain, false),
        ([13, 11, 9], 33, 3, Window { ceil: true, ..plain }, true),
        ([14, 9, 11], 17, 5, plain, true),
        ([14, 9, 11], 17, 5, Window { ceil: true, ..plain }, false),
        ([14, 9, 11], 17, 5, Window { kernel: [3, 3], ..plain }, false),
    ];
    let build = |(i, (row, o, k, window, first)): (usize, ([usize; 3], usize, usize, Window, bool))| {
        case(format!("pooled conv {row:?} -> {o}, k{k}, {window:?}, relu first {first}"), |b| {
            let mut g = Gen::new(4100 + i as u64);
            let x = b.input("x", &row).unwrap();
            let mut h = convolve(b, &mut g, x, o, k, 1);
            for relu in [first, !first] {
                h = match relu {
                    true => act(b, h, Activation::Relu),
                    false => b.node("pool", Op::MaxPool(window), &[h]).unwrap(),
                };
            }
            convolve(b, &mut g, h, 4, 1, 1)
        })
    };
    let mut all: Vec<Case> = forms.into_iter().enumerate().map(build).collect();
    // A norm with a ReLU is stored beside a convolution's own result elsewhere; behind a pool it must not be.
    for (row, k) in [([3, 10, 8], 5), ([13, 10, 12], 3)] {
        all.push(case(format!("pooled conv {row:?}, k{k}, then a norm with a ReLU"), |b| {
            let mut g = Gen::new(4150);
            let x = b.input("x", &row).unwrap();
            let h = convolve(b, &mut g, x, 20, k, 1);
            let h = b.node("pool", Op::MaxPool(plain), &[h]).unwrap();
            let h = norm(b, &mut g, h, true);
            let h = act(b, h, Activation::Relu);
            convolve(b, &mut g, h, 4, 3, 1)
        }));
    }
    all
}

/// Squeeze and excitation, a gated pair, and channels put together, padded and cut in a convolutional net.
pub fn gates() -> Vec<Case> {
    let mul = Op::Binary(Binary::Mul);
    let squeezed = |swapped: bool| {
        case(format!("squeeze and excitation, swapped {swapped}"), |b| {
            let mut g = Gen::new(4200);
            let x = b.input("x", &[3, 7, 6]).unwrap();
            let h = convolve(b, &mut g, x, 10, 3, 1);
            let h = act(b, h, Activation::HardSwish);
            let mean = Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: true };
            let s = b.node("squeeze", mean, &[h]).unwrap();
            let s = convolve(b, &mut g, s, 4, 1, 1);
            let s = act(b, s, Activation::Silu);
            let s = convolve(b, &mut g, s, 10, 1, 1);
            let s = act(b, s, Activation::HardSigmoid { alpha: 0.2, beta: 0.5 });
            let y = b.node("excite", mul.clone(), &if swapped { [s, h] } else { [h, s] }).unwrap();
            let y = b.node("add", Op::Binary(Binary::Add), &[y, h]).unwrap();
            convolve(b, &mut g, y, 5, 1, 1)
        })
    };
    let mut all = vec![squeezed(false), squeezed(true)];
    all.push(case("a gated pair, and a square", |b| {
        let mut g = Gen::new(4201);
        let x = b.input("x", &[5, 6]).unwrap();
        let [a, c] = [0; 2].map(|_| dense(b, &mut g, x, 9));
        let a = act(b, a, Activation::GeluTanh);
        let y = b.node("gated", mul.clone(), &[a, c]).unwrap();
        let y = b.node("square", mul.clone(), &[y, y]).unwrap();
        dense(b, &mut g, y, 4)
    }));
    all.push(case("the mean of all tokens", |b| {
        let x = b.input("x", &[7, 19]).unwrap();
        let mean = Op::Reduce { kind: Reduction::Mean, axes: vec![1], keep: false };
        let y = b.node("mean", mean, &[x]).unwrap();
        dense(b, &mut Gen::new(4203), y, 3)
    }));
    all.push(case("branches of channels", |b| {
        let mut g = Gen::new(4202);
        let x = b.input("x", &[3, 7, 6]).unwrap();
        let [p, q] = [18, 5].map(|o| convolve(b, &mut g, x, o, 3, 1));
        let p = act(b, p, Activation::Relu);
        let y = b.node("joined", Op::Concat { axis: 1 }, &[p, q, p]).unwrap();
        let y = b.node("cut", Op::Slice { axis: 1, start: 2, end: 40, step: 3 }, &[y]).unwrap();
        let y = b.node("rows", Op::Slice { axis: 2, start: 1, end: 6, step: 2 }, &[y]).unwrap();
        let y = b.node("pad", Op::Pad { pads: vec![(0, 2), (1, 0), (2, 1)], value: -0.5 }, &[y]).unwrap();
        let y = convolve(b, &mut g, y, 6, 3, 1);
        act(b, y, Activation::Elu(0.7))
    }));
    all
}

/// A linear layer without bias: the gradient of a bias of keys is zero, and has no scale to compare by.
fn keys(b: &mut Builder, g: &mut Gen<'_>, x: NodeId) -> NodeId {
    let width = *b.shape(x).row.last().unwrap();
    let weight = b.param("keys", (g.tensor(&[width, width]) * (1. / (width as f64).sqrt())).unwrap());
    b.node("keys", Op::Linear { weight, bias: None }, &[x]).unwrap()
}

/// Layer norms, attention, and a block of an encoder made of them.
pub fn encoders() -> Vec<Case> {
    let layer_norm = |b: &mut Builder, g: &mut Gen<'_>, x: NodeId, affine: bool| {
        let c = [*b.shape(x).row.last().unwrap()];
        let gamma = affine.then(|| b.param("gamma", g.positive(&c)));
        let beta = affine.then(|| b.param("beta", g.tensor(&c)));
        b.node("norm", Op::LayerNorm { gamma, beta, eps: 1e-3 }, &[x]).unwrap()
    };
    let mut all = vec![];
    for (row, affine) in [(vec![7], true), (vec![3, 20], true), (vec![2, 3, 37], false)] {
        all.push(case(format!("layer norm of {row:?}, affine {affine}"), |b| {
            let x = b.input("x", &row).unwrap();
            layer_norm(b, &mut Gen::new(3200), x, affine)
        }));
    }
    for (windows, repeated, alike) in [(None, true, false), (Some(3), true, false), (Some(3), false, true)] {
        let name = format!("attention with a bias, windows {windows:?}, one for all {repeated}, heads alike {alike}");
        all.push(case(name, |b| {
            let (mut g, width, heads) = (Gen::new(3350), 12, 3);
            let lead: Vec<usize> = windows.into_iter().collect();
            let row = |tokens: usize| [&lead[..], &[tokens, width]].concat();
            let x = b.input("x", &row(9)).unwrap();
            let axis = lead.len() + 1;
            let [first, second] = [(0, 4), (2, 9)]
                .map(|(start, end)| b.node("part", Op::Slice { axis, start, end, step: 1 }, &[x]).unwrap());
            let [q, v] = [first, second].map(|part| dense(b, &mut g, part, width));
            let k = keys(b, &mut g, second);
            let lead = windows.map(|w| if repeated { 1 } else { w });
            let dims: Vec<usize> = [1].into_iter().chain(lead).chain([if alike { 1 } else { heads }, 4, 7]).collect();
            let bias = b.param("bias", g.tensor(&dims));
            let bias = b.node("bias", Op::Param(bias), &[]).unwrap();
            b.node("mixed", Op::Attention { heads, scale: 0.4 }, &[q, k, v, bias]).unwrap()
        }));
    }
    for (asking, asked, width, heads) in [(5, 5, 8, 2), (3, 18, 9, 1), (17, 4, 40, 5)] {
        all.push(case(format!("attention of {asking} over {asked}, {heads} heads of {width}"), |b| {
            let mut g = Gen::new(3300);
            let x = b.input("x", &[asking + asked, width]).unwrap();
            let [first, second] = [(0, asking), (asking, asking + asked)]
                .map(|(start, end)| b.node("part", Op::Slice { axis: 1, start, end, step: 1 }, &[x]).unwrap());
            let [q, v] = [first, second].map(|part| dense(b, &mut g, part, width));
            let k = keys(b, &mut g, second);
            b.node("mixed", Op::Attention { heads, scale: 0.4 }, &[q, k, v]).unwrap()
        }));
    }
    all.push(case("encoder block", |b| {
        let mut g = Gen::new(3400);
        let x = b.input("x", &[3, 8, 8]).unwrap();
        let patches = convolve(b, &mut g, x, 12, 4, 4);
        let area = b.shape(patches).row[1] * b.shape(patches).row[2];
        let flat = b.node("flat", Op::Reshape { row: vec![12, area] }, &[patches]).unwrap();
        let tokens = b.node("tokens", Op::Transpose { axes: vec![0, 2, 1] }, &[flat]).unwrap();
        let place = b.param("places", g.tensor(&[1, area, 12]));
        let place = b.node("places", Op::Param(place), &[]).unwrap();
        let h = b.node("placed", Op::Binary(Binary::Add), &[tokens, place]).unwrap();
        let n = layer_norm(b, &mut g, h, true);
        let [q, v] = [0, 1].map(|_| dense(b, &mut g, n, 12));
        let k = keys(b, &mut g, n);
        let mixed = b.node("mixed", Op::Attention { heads: 3, scale: 0.5 }, &[q, k, v]).unwrap();
        let mixed = dense(b, &mut g, mixed, 12);
        let h = b.node("res", Op::Binary(Binary::Add), &[h, mixed]).unwrap();
        let n = layer_norm(b, &mut g, h, true);
        let wide = dense(b, &mut g, n, 24);
        let wide = act(b, wide, Activation::Gelu);
        let narrow = dense(b, &mut g, wide, 12);
        let h = b.node("res2", Op::Binary(Binary::Add), &[h, narrow]).unwrap();
        let n = layer_norm(b, &mut g, h, false);
        let first = b.node("first", Op::Slice { axis: 1, start: 0, end: 1, step: 1 }, &[n]).unwrap();
        let first = b.node("row", Op::Reshape { row: vec![12] }, &[first]).unwrap();
        dense(b, &mut g, first, 5)
    }));
    all
}
