//! PyTorch's values and gradients of small ops, kinks and ties included (`../golden/make.py` wrote them).

use crate::parity::distance;
use candle_core::{DType, Device, Tensor};
use robust_engine::*;
use safetensors::SafeTensors;
use serde_json::Value;
use std::sync::Arc;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ops.safetensors");

fn size(v: &Value) -> usize {
    v.as_u64().unwrap() as usize
}
fn sizes<const N: usize>(v: &Value) -> [usize; N] {
    std::array::from_fn(|i| size(&v[i]))
}

fn activation(name: &str) -> Option<Activation> {
    use Activation::*;
    Some(match name {
        "relu" => Relu,
        "leaky_relu" => LeakyRelu(0.1),
        "elu" => Elu(0.7),
        "clip" => Clip(-0.5, 6.),
        "sigmoid" => Sigmoid,
        "hard_sigmoid" => HardSigmoid { alpha: 1. / 6., beta: 0.5 },
        "tanh" => Tanh,
        "silu" => Silu,
        "hard_swish" => HardSwish,
        "gelu" => Gelu,
        "gelu_tanh" => GeluTanh,
        "softplus" => Softplus,
        "exp" => Exp,
        "abs" => Abs,
        "neg" => Neg,
        "erf" => Erf,
        "sin" => Sin,
        "cos" => Cos,
        "log" => Log,
        "sqrt" => Sqrt,
        "reciprocal" => Reciprocal,
        "tan" => Tan,
        "asin" => Asin,
        "acos" => Acos,
        "atan" => Atan,
        "sinh" => Sinh,
        "cosh" => Cosh,
        "asinh" => Asinh,
        "acosh" => Acosh,
        "atanh" => Atanh,
        "floor" => Floor,
        "ceil" => Ceil,
        "round" => Round,
        "fake_quantize" => Quantise(-3., 4.),
        _ => return None,
    })
}

fn binary(name: &str) -> Option<Binary> {
    use Binary::*;
    Some(match name {
        "add" => Add,
        "sub" => Sub,
        "mul" => Mul,
        "div" => Div,
        "pow" => Pow,
        "max" => Max,
        "min" => Min,
        _ => return None,
    })
}

/// The op of a case whose weights are `p`.
fn op(case: &Value, p: &[ParamId]) -> Op {
    let window = || {
        let ceil = case["ceil"].as_bool().unwrap();
        Window { kernel: sizes(&case["kernel"]), stride: sizes(&case["stride"]), pads: sizes(&case["pads"]), ceil }
    };
    let reduce = |kind| {
        let axes = case["axes"].as_array().unwrap().iter().map(size).collect();
        Op::Reduce { kind, axes, keep: false }
    };
    match case["op"].as_str().unwrap() {
        "conv" => Op::Conv2d {
            weight: p[0],
            bias: Some(p[1]),
            stride: sizes(&case["stride"]),
            dilation: sizes(&case["dilation"]),
            pads: sizes(&case["pads"]),
            groups: size(&case["groups"]),
        },
        "max_pool" => Op::MaxPool(window()),
        "avg_pool" => Op::AvgPool { window: window(), count_pads: case["count"].as_bool().unwrap() },
        "batch_norm" => {
            let eps = case["eps"].as_f64().unwrap();
            Op::BatchNorm { mean: p[0], var: p[1], gamma: Some(p[2]), beta: Some(p[3]), eps }
        }
        "mean_sparse" => Op::MeanSparse { mean: p[0], var: p[1], threshold: p[2], axis: size(&case["axis"]) },
        "linear" => Op::Linear { weight: p[0], bias: Some(p[1]) },
        "softmax" => Op::Softmax { axis: size(&case["axis"]) },
        "log_softmax" => Op::LogSoftmax { axis: size(&case["axis"]) },
        "reduce_max" => reduce(Reduction::Max),
        "reduce_mean" => reduce(Reduction::Mean),
        "reduce_sum" => reduce(Reduction::Sum),
        "matmul" => Op::MatMul,
        "sorted" => Op::Sorted { k: size(&case["k"]), largest: case["largest"].as_bool().unwrap() },
        "pick" => {
            let from: Vec<u32> = case["from"].as_array().unwrap().iter().map(|v| size(v) as u32).collect();
            Op::Pick { row: vec![from.len()], from: from.into() }
        }
        "grid_sample" => {
            let edge = match case["edge"].as_str().unwrap() {
                "zeros" => Edge::Zeros,
                "border" => Edge::Border,
                _ => Edge::Reflection,
            };
            let nearest = case["mode"] == "nearest";
            Op::GridSample { nearest, edge, corners: case["corners"].as_bool().unwrap() }
        }
        name => activation(name).map(Op::Act).or(binary(name).map(Op::Binary)).unwrap_or_else(|| panic!("op `{name}`")),
    }
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let bytes = std::fs::read(FILE).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
    let tensor = |name: String| {
        let view = file.tensor(&name).ok()?;
        let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Some(Tensor::from_vec(values, view.shape(), &Device::Cpu).unwrap())
    };
    assert!(cases.len() > 60, "the file holds {} cases", cases.len());
    for (i, case) in cases.iter().enumerate() {
        let get = |name: &str| tensor(format!("{i}.{name}")).unwrap();
        let x = get("x");
        let mut b = Builder::new();
        let mut inputs = vec![b.input("x", &x.dims()[1..]).unwrap()];
        let params: Vec<ParamId> = (0..).map_while(|k| tensor(format!("{i}.p{k}"))).map(|t| b.param("p", t)).collect();
        let op = op(case, &params);
        if matches!(op, Op::Binary(_) | Op::MatMul | Op::GridSample { .. }) {
            inputs.push(b.node("p", Op::Param(params[0]), &[]).unwrap());
        }
        let y = b.node("y", op, &inputs).unwrap_or_else(|e| panic!("{case}: {e}"));
        let net = Arc::new(b.finish(y).unwrap());
        for (dtype, tolerance) in [(DType::F64, 1e-6), (DType::F32, 1e-5)] {
            let reference = Reference::new(net.clone(), dtype).unwrap();
            let mut tape = reference.trace(&x, &[]).unwrap();
            let seeds = [(net.output(), get("g"))];
            let dx = tape.pull(&seeds).unwrap();
            let mut pairs = vec![(tape.output().clone(), get("y")), (dx, get("dx"))];
            for (k, d) in tape.pull_params(&seeds, &params).unwrap().into_iter().enumerate() {
                pairs.push((d, get(&format!("dp{k}"))));
            }
            for (k, (ours, theirs)) in pairs.iter().enumerate() {
                let d = distance(ours, theirs);
                assert!(d <= tolerance, "{case} in {dtype:?}: result {k} differs by {d}\n{ours}\n{theirs}");
            }
        }
    }
}
