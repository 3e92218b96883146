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
