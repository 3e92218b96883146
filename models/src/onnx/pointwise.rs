//! Activations and elementwise arithmetic.

use super::array::Array;
use super::call::{Call, Graph, Value, one};
use crate::compose::MADE;
use candle_core::DType;
use robust_core::Result;
use robust_engine::{Activation, Binary, Op};

/// Ops that look at every entry for itself.
pub const ACTIVATIONS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
    "Sqrt",
    "Tan",
    "Tanh",
];

pub fn activation(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let act = match call.op() {
        "Relu" => Activation::Relu,
        "LeakyRelu" => Activation::LeakyRelu(call.float("alpha", 0.01)?),
        "Elu" => Activation::Elu(call.float("alpha", 1.)?),
        "Clip" => clip(call)?,
        "Sigmoid" => Activation::Sigmoid,
        "HardSigmoid" => Activation::HardSigmoid { alpha: call.float("alpha", 0.2)?, beta: call.float("beta", 0.5)? },
        "HardSwish" => Activation::HardSwish,
        "Tanh" => Activation::Tanh,
        "Gelu" => match call.text("approximate", "none")?.as_str() {
            "tanh" => Activation::GeluTanh,
            "none" => Activation::Gelu,
            other => return Err(call.fail(format!("approximation `{other}` is unknown"))),
        },
        "Softplus" => Activation::Softplus,
        "Exp" => Activation::Exp,
        "Log" => Activation::Log,
        "Sqrt" => Activation::Sqrt,
        "Abs" => Activation::Abs,
        "Neg" => Activation::Neg,
        "Reciprocal" => Activation::Reciprocal,
        "Sin" => Activation::Sin,
        "Cos" => Activation::Cos,
        "Tan" => Activation::Tan,
        "Asin" => Activation::Asin,
        "Acos" => Activation::Acos,
        "Atan" => Activation::Atan,
        "Sinh" => Activation::Sinh,
        "Cosh" => Activation::Cosh,
        "Asinh" => Activation::Asinh,
        "Acosh" => Activation::Acosh,
        "Atanh" => Activation::Atanh,
        "Floor" => Activation::Floor,
        "Ceil" => Activation::Ceil,
        "Round" => Activation::Round,
        _ => Activation::Erf,
    };
    let x = graph.any(call, 0)?;
    one(graph.node(call, Op::Act(act), &[x])?)
}

/// Bounds are inputs; opsets before 11 had attributes, which some writers still use.
fn clip(call: &Call) -> Result<Activation> {
    let bound = |i: usize, name: &str, default: f64| match call.scalar(i)? {
        Some(v) => Ok(v),
        None => call.float(name, default),
    };
    let (low, high) = (bound(1, "min", f64::NEG_INFINITY)?, bound(2, "max", f64::INFINITY)?);
    // Also refuses NaN, and bounds the wrong way round, on which runtimes disagree.
    if low <= high {
        Ok(Activation::Clip(low, high))
    } else {
        Err(call.fail(format!("its bounds {low} and {high} are not in order")))
    }
}

pub fn binary(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let kind = match call.op() {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        _ => Binary::Pow,
    };
    // Exponents may be integers.
    let second = match call.input(1) {
        Some(Value::Known(array)) if call.op() == "Pow" && array.tensor().is_none() => {
            let values = call.known_ints(1)?.into_iter().map(|v| v as f64).collect();
            graph.spend(call, &array.dims)?;
            let floats = Array::floats(format!("{MADE}{}", call.out()), array.dims.clone(), values, DType::F32)?;
            let param = graph.weight(call, &floats)?;
            graph.step(call, "exponent", Op::Param(param), &[])?
        }
        _ => graph.any(call, 1)?,
    };
    let pair = [graph.any(call, 0)?, second];
    one(graph.node(call, Op::Binary(kind), &pair)?)
}

/// Max and Min of any number of values.
pub fn extremum(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let kind = Op::Binary(if call.op() == "Max" { Binary::Max } else { Binary::Min });
    let mut best = graph.any(call, 0)?;
    for i in 1..call.inputs.len() {
        let next = graph.any(call, i)?;
        best = match i + 1 == call.inputs.len() {
            true => graph.node(call, kind.clone(), &[best, next])?,
            false => graph.step(call, &i.to_string(), kind.clone(), &[best, next])?,
        };
    }
    one(best)
}
