//! The reference in training mode: batch statistics, running updates, dropout, weights that are replaced.

use crate::parity::distance;
use candle_core::{DType, Device, Tensor};
use robust_core::{Draw, RowKey};
use robust_engine::*;
use safetensors::SafeTensors;
use std::sync::Arc;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/training.safetensors");

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        Self(std::fs::read(FILE).unwrap())
    }

    fn get(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let values: Vec<f64> = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        Tensor::from_vec(values, view.shape(), &Device::Cpu).unwrap()
    }

    /// The network of `training.py`, and its weights by their names there.
    fn network(&self) -> Arc<Network> {
        let mut b = Builder::new();
        let mut x = b.input("x", &[2, 6, 6]).unwrap();
        let param = |b: &mut Builder, name: &str| b.param(name, self.get(&format!("w.{name}")));
        for (layer, stride, pad, eps) in [(0, 1, 1, 1e-5), (3, 2, 0, 1e-3)] {
            let weight = param(&mut b, &format!("{layer}.weight"));
            let bias = (layer == 3).then(|| param(&mut b, "3.bias"));
            let conv = Op::Conv2d { weight, bias, stride: [stride; 2], dilation: [1, 1], pads: [pad; 4], groups: 1 };
            x = b.node("conv", conv, &[x]).unwrap();
            let [gamma, beta, mean, var] = ["weight", "bias", "running_mean", "running_var"]
                .map(|part| param(&mut b, &format!("{}.{part}", layer + 1)));
            let norm = Op::BatchNorm { mean, var, gamma: Some(gamma), beta: Some(beta), eps };
            x = b.node("norm", norm, &[x]).unwrap();
            x = b.node("relu", Op::Act(Activation::Relu), &[x]).unwrap();
        }
        x = b.node("flat", Op::Reshape { row: vec![12] }, &[x]).unwrap();
        let (weight, bias) = (param(&mut b, "7.weight"), Some(param(&mut b, "7.bias")));
        let y = b.node("y", Op::Linear { weight, bias }, &[x]).unwrap();
        Arc::new(b.finish(y).unwrap())
    }
}

fn keys(n: u64) -> Vec<RowKey> {
    (0..n).map(RowKey::of).collect()
}

#[test]
fn training_with_batch_statistics_is_pytorchs() {
    let golden = Golden::read();
    let net = golden.network();
    let keys = keys(5);
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        let reference = Reference::new(net.clone(), dtype).unwrap();
        let mut tape = reference.trace_in(Mode::Train(&draw), &golden.get("x"), &[]).unwrap();
        let seeds = [(net.output(), golden.get("g"))];
        let mut pairs = vec![("y".to_string(), tape.output().clone()), ("dx".to_string(), tape.pull(&seeds).unwrap())];
        let trained: Vec<ParamId> =
            (0..net.params().len()).filter(|i| !net.params()[*i].name.contains("running")).map(ParamId).collect();
        for (p, d) in trained.iter().zip(tape.pull_params(&seeds, &trained).unwrap()) {
            pairs.push((format!("d.{}", net.params()[p.0].name), d));
        }
        let seen = tape.statistics();
        assert_eq!(seen.len(), 2);
        for s in &seen {
            for (p, batch) in [(s.mean, &s.batch_mean), (s.var, &s.batch_var)] {
                let Param { name, value } = &net.params()[p.0];
                let after = BatchStatistics::mix(&value.to_vec1::<f64>().unwrap(), batch, 0.1);
                pairs.push((format!("after.{name}"), Tensor::new(after, &Device::Cpu).unwrap()));
            }
        }
        for (name, ours) in pairs {
            let d = distance(&ours, &golden.get(&name));
            assert!(d <= tolerance, "{name} in {dtype:?} differs by {d}");
        }
    }
}

#[test]
fn a_batch_norm_in_training_refuses_a_single_value_per_channel() {
    let mut b = Builder::new();
    let x = b.input("x", &[2, 1, 1]).unwrap();
    let [mean, var] = ["mean", "var"].map(|n| b.param(n, Tensor::ones(2, DType::F32, &Device::Cpu).unwrap()));
    let y = b.node("y", Op::BatchNorm { mean, var, gamma: None, beta: None, eps: 1e-5 }, &[x]).unwrap();
    let reference = Reference::new(Arc::new(b.finish(y).unwrap()), DType::F32).unwrap();
    let keys = keys(1);
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let one = Tensor::zeros((1, 2, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let error = reference.trace_in(Mode::Train(&draw), &one, &[]).err().unwrap();
    assert!(error.to_string().contains("more than one value per channel"), "{error}");
}

/// A quarter is dropped, what passes is scaled, gradients go through the same mask, a row's mask is its own.
#[test]
fn dropout_drops_its_share_and_scales_the_rest() {
    let (n, width) = (64, 400);
    let mut b = Builder::new();
    let x = b.input("x", &[width]).unwrap();
    let y = b.node("y", Op::Dropout { rate: 0.25 }, &[x]).unwrap();
    let net = Arc::new(b.finish(y).unwrap());
    let reference = Reference::new(net.clone(), DType::F32).unwrap();
    let ones = Tensor::ones((n, width), DType::F32, &Device::Cpu).unwrap();
    let keys = keys(n as u64);
    let draw = |rows| Draw { seed: 3, stream: 0, turn: 0, rows };
    let all = draw(&keys);
    let mut tape = reference.trace_in(Mode::Train(&all), &ones, &[]).unwrap();
    let out = tape.output().to_vec2::<f32>().unwrap();
    let flat: Vec<f32> = out.concat();
    assert!(flat.iter().all(|v| *v == 0. || *v == (1. / 0.75) as f32));
    // 25,600 entries: the share's standard deviation is 0.0027.
    let dropped = flat.iter().filter(|v| **v == 0.).count() as f64 / flat.len() as f64;
    assert!((dropped - 0.25).abs() < 0.012, "{dropped} were dropped");
    assert_eq!(tape.pull(&[(net.output(), ones.clone())]).unwrap().to_vec2::<f32>().unwrap(), out);
    let alone = draw(&keys[9..10]);
    let tape = reference.trace_in(Mode::Train(&alone), &ones.narrow(0, 9, 1).unwrap(), &[]).unwrap();
    assert_eq!(tape.output().to_vec2::<f32>().unwrap()[0], out[9]);
    // In evaluation it is the identity, for plans too.
    assert_eq!(reference.forward(&ones).unwrap().to_vec2::<f32>().unwrap(), ones.to_vec2::<f32>().unwrap());
    let plan = CpuPlan::new(&reference, Precision::Fast, &[]).unwrap();
    assert_eq!(plan.forward(&ones).unwrap().to_vec2::<f32>().unwrap(), ones.to_vec2::<f32>().unwrap());
}

/// Every interpreter computes with replaced weights what it computes for a network built with them, bit for bit.
#[test]
fn weights_can_be_replaced_under_a_compiled_graph() {
    let golden = Golden::read();
    let net = golden.network();
    let doubled = net.params().replaced(net.params().iter().map(|p| (&p.value * 2.).unwrap()));
    let other = Arc::new(net.with_params(doubled.clone()).unwrap());
    assert_ne!(digest(&net), digest(&other));
    let x = golden.get("x");
    let interpreters: [(Box<dyn Interpreter>, Purpose); 4] = [
        (Box::new(OpByOp(DType::F32)), Purpose::Exact),
        (Box::new(OpByOp(DType::F64)), Purpose::Double),
        (Box::new(Cpu::chosen().unwrap()), Purpose::Search),
        (Box::new(Cpu::chosen().unwrap()), Purpose::Exact),
    ];
    for (interpreter, purpose) in interpreters {
        let run = |resident: Arc<dyn Resident>| {
            let out = resident.compile(purpose, &[]).unwrap().forward(&x).unwrap();
            out.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap()
        };
        let resident = interpreter.load(net.clone()).unwrap();
        let (before, built) = (run(resident.clone()), run(interpreter.load(other.clone()).unwrap()));
        let replaced = run(resident.with_params(doubled.clone()).unwrap());
        assert_eq!(replaced, built, "{}", interpreter.name());
        assert_ne!(replaced, before, "{}", interpreter.name());
        assert_eq!(interpreter.device(), "cpu");
    }
    let short: Params = net.params().iter().skip(1).cloned().collect();
    assert!(net.with_params(short).err().unwrap().to_string().contains("expected 13 weights, got 12"));
    let wrong = net.params().replaced(net.params().iter().map(|p| p.value.flatten_all().unwrap()));
    assert!(net.with_params(wrong).err().unwrap().to_string().contains("expected weight `0.weight` [4, 2, 3, 3]"));
}
