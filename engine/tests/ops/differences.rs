//! Central differences in f64 against the pullbacks, for inputs and weights.

use crate::cases::{self, Case, normals};
use candle_core::{DType, Device, Tensor};
use robust_engine::*;
use std::sync::Arc;

const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `<seed, net(x)>`.
fn loss(net: &Reference, x: &Tensor, seed: &[f64]) -> f64 {
    flat(&net.forward(x).unwrap()).iter().zip(seed).map(|(a, b)| a * b).sum()
}

/// The same network with one weight replaced.
fn with_param(net: &Network, p: ParamId, value: &Tensor) -> Network {
    let mut b = Builder::new();
    for (i, param) in net.params().iter().enumerate() {
        b.param(&param.name, if i == p.0 { value.clone() } else { param.value.clone() });
    }
    for node in net.nodes() {
        match node.op {
            Op::Input => b.input(&node.name, net.input_row()).unwrap(),
            _ => b.node(&node.name, node.op.clone(), &node.inputs).unwrap(),
        };
    }
    b.finish(net.output()).unwrap()
}

/// Compares `grad` with differences of `f` around `at`, at every entry of small tensors and some of large ones.
fn compare(name: &str, at: &Tensor, grad: &Tensor, f: impl Fn(&Tensor) -> f64) {
    assert_eq!(at.dims(), grad.dims(), "{name}");
    let (values, grad) = (flat(at), flat(grad));
    let scale = grad.iter().fold(1e-3f64, |m, g| m.max(g.abs()));
    let every = values.len().div_ceil(60);
    for i in (0..values.len()).step_by(every) {
        let moved = |by: f64| {
            let mut v = values.clone();
            v[i] += by;
            f(&Tensor::from_vec(v, at.dims(), &Device::Cpu).unwrap())
        };
        let slope = (moved(STEP) - moved(-STEP)) / (2. * STEP);
        assert!((slope - grad[i]).abs() <= TOLERANCE * scale, "{name}: entry {i}: {slope} against {}", grad[i]);
    }
}

fn check(case: &Case) {
    let net = Reference::new(case.net.clone(), DType::F64).unwrap();
    let x = case.input(2).to_dtype(DType::F64).unwrap();
    let mut tape = net.trace(&x, &[]).unwrap();
    let seed = normals(7, 7, tape.output().dims()).to_dtype(DType::F64).unwrap();
    let weights = flat(&seed);
    let seeds = [(case.net.output(), seed)];
    let dx = tape.pull(&seeds).unwrap();
    compare(&case.name, &x, &dx, |x| loss(&net, x, &weights));
    let wanted: Vec<ParamId> = (0..case.net.params().len()).map(ParamId).collect();
    let grads = tape.pull_params(&seeds, &wanted).unwrap();
    for (&p, grad) in wanted.iter().zip(&grads) {
        let param = &case.net.params()[p.0];
        compare(&format!("{}: weight `{}`", case.name, param.name), &param.value, grad, |value| {
            let moved = Arc::new(with_param(&case.net, p, value));
            loss(&Reference::new(moved, DType::F64).unwrap(), &x, &weights)
        });
    }
}

#[test]
fn every_pullback_agrees_with_central_differences() {
    cases::all().iter().for_each(check);
}

#[test]
fn seeds_at_inner_values_add_up() {
    let net = Arc::new(cases::mnist(12, [3, 4], 9, 3));
    let r = Reference::new(net.clone(), DType::F64).unwrap();
    let x = normals(1, 1, &[2, 1, 12, 12]);
    let inner = net.find("flat").unwrap();
    let mut tape = r.trace(&x, &[inner]).unwrap();
    let a = normals(1, 2, tape.value(inner).unwrap().dims()).to_dtype(DType::F64).unwrap();
    let b = normals(1, 3, tape.output().dims()).to_dtype(DType::F64).unwrap();
    let (seed_a, seed_b) = ((inner, a), (net.output(), b));
    let both = flat(&tape.pull(&[seed_a.clone(), seed_b.clone()]).unwrap());
    let (one, two) = (flat(&tape.pull(&[seed_a]).unwrap()), flat(&tape.pull(&[seed_b]).unwrap()));
    for (i, both) in both.iter().enumerate() {
        assert!((both - one[i] - two[i]).abs() < 1e-12);
    }
    assert!(one.iter().any(|v| *v != 0.) && two.iter().any(|v| *v != 0.));
}
