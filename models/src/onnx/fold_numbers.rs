//! Arithmetic entry by entry on values that are known at import.

use super::array::{Array, Num, all};
use super::call::{Call, Graph};
use super::views::{View, broadcast};
use candle_core::{DType, Tensor};
use robust_core::Result;

/// Two inputs brought to one shape: their entries' places, in pairs.
fn paired(graph: &mut Graph, call: &Call, a: &Array, b: &Array) -> Result<(Vec<usize>, Vec<u32>, Vec<u32>)> {
    let dims = broadcast(&a.dims, &b.dims)
        .ok_or_else(|| call.fail(format!("shapes {:?} and {:?} do not broadcast", a.dims, b.dims)))?;
    graph.spend(call, &dims)?;
    let at = |x: &Array| View::of(&x.dims).expand(&dims).indices();
    let (i, j) = (at(a), at(b));
    Ok((dims, i, j))
}

pub(super) fn choose(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (condition, yes, no) = (call.known(0)?, call.known(1)?, call.known(2)?);
    let truth = call.known_ints(0)?;
    let (dims, i, j) = paired(graph, call, yes, no)?;
    let both = Array::ints("", dims, vec![]);
    let (dims, k, at) = paired(graph, call, condition, &both)?;
    // Where each entry of the result comes from.
    let from = k.iter().zip(&at).map(|(&k, &at)| match truth[k as usize] {
        0 => Err(j[at as usize] as usize),
        _ => Ok(i[at as usize] as usize),
    });
    match (yes.nums(), no.nums(), yes.tensor(), no.tensor()) {
        (Some(yes), Some(no), ..) => {
            Ok(Array::ints(call.out(), dims, from.map(|at| at.map_or_else(|j| no[j], |i| yes[i])).collect()))
        }
        (.., Some(yes), Some(no)) => {
            let list = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
            let (dtype, yes, no) = (yes.dtype(), list(yes)?, list(no)?);
            Array::floats(call.out(), dims, from.map(|at| at.map_or_else(|j| no[j], |i| yes[i])).collect(), dtype)
        }
        _ => Err(call.fail("it chooses between numbers of two kinds")),
    }
}

pub(super) fn binary(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (a, b) = (call.known(0)?, call.known(1)?);
    let (dims, i, j) = paired(graph, call, a, b)?;
    let pairs = i.iter().zip(&j).map(|(&i, &j)| (i as usize, j as usize));
    if let (Some(x), Some(y)) = (a.nums(), b.nums()) {
        let op = |a: Num, b: Num| match call.op() {
            "Add" => a.add(b),
            "Sub" => a.sub(b),
            "Mul" => a.mul(b),
            "Div" => a.div(b),
            "Equal" => a.equal(b).map(|e| Num::known(i64::from(e))),
            "Greater" => Some(Num::known(i64::from(a.value()? > b.value()?))),
            "GreaterOrEqual" => Some(Num::known(i64::from(a.value()? >= b.value()?))),
            "Less" => Some(Num::known(i64::from(a.value()? < b.value()?))),
            "LessOrEqual" => Some(Num::known(i64::from(a.value()? <= b.value()?))),
            "And" => Some(Num::known(i64::from(a.value()? != 0 && b.value()? != 0))),
            "Or" => Some(Num::known(i64::from(a.value()? != 0 || b.value()? != 0))),
            // The result has the sign of the divisor.
            "Mod" => {
                let (a, b) = (a.value()?, b.value()?);
                let rest = a.checked_rem(b)?;
                Some(Num::known(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
            }
            _ => Some(Num::known(a.value()?.checked_pow(u32::try_from(b.value()?).ok()?)?)),
        };
        let values = all(pairs.len(), pairs.map(|(i, j)| op(x[i], y[j])));
        let values = values.ok_or_else(|| call.fail("this arithmetic overflows or depends on the batch size"))?;
        return Ok(Array::ints(call.out(), dims, values));
    }
    let (Some(s), Some(t)) = (a.tensor(), b.tensor()) else {
        return Err(call.fail("it mixes integers with floating point numbers"));
    };
    let dtype = if s.dtype() == DType::F64 { DType::F64 } else { t.dtype() };
    let (x, y) = (a.values().unwrap_or_default(), b.values().unwrap_or_default());
    let compare: Option<fn(&f64, &f64) -> bool> = match call.op() {
        "Equal" => Some(f64::eq),
        "Greater" => Some(f64::gt),
        "GreaterOrEqual" => Some(f64::ge),
        "Less" => Some(f64::lt),
        "LessOrEqual" => Some(f64::le),
        _ => None,
    };
    if let Some(holds) = compare {
        let truth = pairs.map(|(i, j)| Num::known(i64::from(holds(&x[i], &y[j])))).collect();
        return Ok(Array::ints(call.out(), dims, truth));
    }
    if call.op() == "Mod" {
        return Err(call.fail("remainders of floating point numbers are not supported"));
    }
    // In f64 and rounded once: for + - * / that is the f32 result to the bit.
    let op = |a: f64, b: f64| match call.op() {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        _ => a.powf(b),
    };
    Array::floats(call.out(), dims, pairs.map(|(i, j)| op(x[i], y[j])).collect(), dtype)
}

pub(super) fn unary(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = call.known(0)?;
    graph.spend(call, &from.dims)?;
    if let Some(nums) = from.nums() {
        let values = match call.op() {
            "Not" => all(nums.len(), nums.iter().map(|n| n.value().map(|v| Num::known(i64::from(v == 0))))),
            "Neg" => all(nums.len(), nums.iter().map(|n| n.mul(Num::known(-1)))),
            "Abs" => all(nums.len(), nums.iter().map(|n| n.value()?.checked_abs().map(Num::known))),
            _ => None,
        };
        let values = values.ok_or_else(|| call.fail("it is not defined on these integers"))?;
        return Ok(Array::ints(call.out(), from.dims.clone(), values));
    }
    let op: fn(f64) -> f64 = match call.op() {
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Sqrt" => f64::sqrt,
        "Neg" => |v| -v,
        "Abs" => f64::abs,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Reciprocal" => f64::recip,
        other => return Err(call.fail(format!("{other} is not defined on floating point numbers"))),
    };
    let dtype = from.tensor().map_or(DType::F32, Tensor::dtype);
    Array::floats(call.out(), from.dims.clone(), from.values().unwrap_or_default().into_iter().map(op).collect(), dtype)
}
