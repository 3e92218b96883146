//! One network, several interpreters: each against the reference in f64.

use crate::cases::{self, normals};
use candle_core::{DType, Tensor};
use robust_engine::*;

/// A gradient that is zero in exact arithmetic (a bias before a softmax) has no scale of its own.
const FLOOR: f64 = 0.1;

/// `max |a - b| / max |b|`.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let flat = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (a, b) = (flat(a), flat(b));
    let top = b.iter().fold(FLOOR, |m, v| m.max(v.abs()));
    let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    // NaN must not hide behind `max`.
    differences.fold(0., |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) }) / top
}

#[test]
fn f32_agrees_with_f64_in_values_and_gradients() {
    for case in cases::all() {
        let x = case.input(3);
        let run = |dtype| {
            let net = Reference::new(case.net.clone(), dtype).unwrap();
            let mut tape = net.trace_params(&x, &[]).unwrap();
            let seeds = [(case.net.output(), normals(3, 1, tape.output().dims()))];
            let wanted: Vec<ParamId> = (0..case.net.params().len()).map(ParamId).collect();
            let weights = tape.pull_params(&seeds, &wanted).unwrap();
            let dx = tape.pull(&seeds).unwrap();
            assert_eq!(tape.output().dtype(), dtype);
            [tape.output().clone(), dx].into_iter().chain(weights).collect::<Vec<_>>()
        };
        for (i, (single, double)) in run(DType::F32).iter().zip(&run(DType::F64)).enumerate() {
            let d = distance(single, double);
            assert!(d <= 1e-5, "{}: result {i} differs by {d}", case.name);
        }
    }
}

#[test]
fn a_wrong_input_is_a_load_error_with_both_shapes() {
    let net = std::sync::Arc::new(cases::mnist(12, [3, 4], 9, 3));
    let r = Reference::new(net, DType::F32).unwrap();
    let error = r.forward(&normals(1, 1, &[2, 3, 12, 12])).unwrap_err();
    assert_eq!(error.kind, robust_core::Kind::Load);
    assert!(error.message.contains("[n, 1, 12, 12]") && error.message.contains("[2, 3, 12, 12]"), "{error}");
    let bytes = Tensor::zeros((1, 1, 12, 12), DType::U8, &candle_core::Device::Cpu).unwrap();
    assert_eq!(r.forward(&bytes).unwrap_err().kind, robust_core::Kind::Load);
}

#[test]
fn constants_that_expand_beyond_memory_are_refused_before_they_do() {
    let mut b = Builder::new();
    let ones = |dims: (usize, usize)| Tensor::ones(dims, DType::F32, &candle_core::Device::Cpu).unwrap();
    let x = b.input("x", &[1 << 14]).unwrap();
    let (tall, wide) = (b.param("tall", ones((1 << 14, 1))), b.param("wide", ones((1, 1 << 14))));
    let (tall, wide) = (b.node("tall", Op::Param(tall), &[]).unwrap(), b.node("wide", Op::Param(wide), &[]).unwrap());
    let square = b.node("square", Op::Binary(Binary::Add), &[tall, wide]).unwrap();
    let again = b.node("again", Op::Act(Activation::Relu), &[square]).unwrap();
    let y = b.node("y", Op::MatMul, &[x, again]).unwrap();
    let error = Reference::new(std::sync::Arc::new(b.finish(y).unwrap()), DType::F32).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, robust_core::Kind::Load);
}

#[test]
fn hostile_strides_and_dilations_neither_panic_nor_overflow() {
    let huge = usize::MAX;
    for (stride, pads) in [([huge, huge], [0; 4]), ([huge, 1], [1, 1, 1, 1]), ([3, huge - 1], [1, 0, 0, 1])] {
        let window = Window { kernel: [2, 2], stride, pads, ceil: true };
        let mut b = Builder::new();
        let x = b.input("x", &[2, 4, 4]).unwrap();
        let weight = b.param("w", normals(1, 1, &[2, 2, 1, 2]));
        let conv = Op::Conv2d { weight, bias: None, stride, dilation: [huge, 1], pads, groups: 1 };
        let conv = b.node("conv", conv, &[x]).unwrap();
        let first = Op::Reduce { kind: Reduction::Sum, axes: vec![2, 3], keep: true };
        let pools = [Op::MaxPool(window), Op::AvgPool { window, count_pads: true }];
        let mut parts: Vec<NodeId> = pools.into_iter().map(|op| b.node("pool", op, &[x]).unwrap()).collect();
        parts.push(conv);
        let cut = Op::Slice { axis: 3, start: 3, end: 4, step: huge };
        parts.push(b.node("cut", cut, &[x]).unwrap());
        let parts: Vec<NodeId> = parts.iter().map(|&p| b.node("sum", first.clone(), &[p]).unwrap()).collect();
        let y = b.node("y", Op::Concat { axis: 1 }, &parts).unwrap();
        let net = std::sync::Arc::new(b.finish(y).unwrap());
        let r = Reference::new(net.clone(), DType::F64).unwrap();
        let mut tape = r.trace(&normals(2, 2, &[2, 2, 4, 4]), &[]).unwrap();
        let seed = tape.output().ones_like().unwrap();
        assert_eq!(tape.pull(&[(net.output(), seed)]).unwrap().dims(), [2, 2, 4, 4]);
    }
}
