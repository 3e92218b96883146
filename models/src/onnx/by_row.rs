//! Integers that grow with the row: exporters write an average over all places as a gather whose indices are `k i + j` for row
//! `i` and entry `j < k`. Known at import, but for a batch of any size.

use super::array::all;
use super::call::{ByRow, Call, Graph, Value, one};
use robust_core::{Error, Result};
use robust_engine::Op;
use std::rc::Rc;

/// The call's value where it makes or reads such integers.
pub fn lower(graph: &mut Graph, call: &Call) -> Result<Option<Vec<Value>>> {
    let reads = call.inputs.iter().flatten().any(|v| matches!(v, Value::ByRow(_)));
    if !reads {
        return Ok(start(call)?.map(made));
    }
    if call.op() == "Gather" {
        return gather(graph, call).map(Some);
    }
    let fail = || refuse(call);
    let out = match (call.op(), &call.inputs[..]) {
        ("Identity" | "Cast", [Some(Value::ByRow(x))]) => return Ok(Some(vec![Value::ByRow(Rc::clone(x))])),
        ("Unsqueeze", [Some(Value::ByRow(x)), ..]) => {
            let axes = call.list("axes", 1)?.unwrap_or_default();
            let rank = x.dims.len() + 1 + axes.len();
            let axes = axes.iter().map(|&a| call.row_axis(a, rank)).collect::<Result<Vec<_>>>()?;
            let mut old = x.dims.iter();
            let dims: Option<Vec<usize>> =
                (1..rank).map(|i| if axes.contains(&i) { Some(1) } else { old.next().copied() }).collect();
            graph.spend(call, &[x.entries.len()])?;
            ByRow { dims: dims.ok_or_else(fail)?, ..x.as_ref().clone() }
        }
        ("Add" | "Mul" | "Sub", [Some(Value::ByRow(x)), Some(Value::Known(y))]) => {
            with(graph, call, x, &y.dims, &y.known_ints().ok_or_else(fail)?)?
        }
        ("Add" | "Mul", [Some(Value::Known(y)), Some(Value::ByRow(x))]) => {
            with(graph, call, x, &y.dims, &y.known_ints().ok_or_else(fail)?)?
        }
        _ => return Err(fail()),
    };
    Ok(Some(made(out)))
}

fn made(x: ByRow) -> Vec<Value> {
    vec![Value::ByRow(Rc::new(x))]
}

fn refuse(call: &Call) -> Error {
    call.fail("its indices depend on the batch size in a way that is not supported").hint(super::call::BATCH_HINT)
}

/// `Range(0, batch, 1)`.
fn start(call: &Call) -> Result<Option<ByRow>> {
    if call.op() != "Range" || call.inputs.iter().flatten().any(|v| matches!(v, Value::Node(_))) {
        return Ok(None);
    }
    let num = |i: usize| call.known(i).ok().and_then(|a| a.nums()).and_then(|n| n.first().copied());
    match (num(0), num(1), num(2)) {
        (Some(zero), Some(super::array::Num::BATCH), Some(step))
            if zero.value() == Some(0) && step.value() == Some(1) =>
        {
            Ok(Some(ByRow { dims: vec![], entries: vec![0], each: 1 }))
        }
        _ => Ok(None),
    }
}

/// Sum or product with a constant that is the same for every row.
fn with(graph: &mut Graph, call: &Call, x: &ByRow, dims: &[usize], values: &[i64]) -> Result<ByRow> {
    let rank = x.dims.len() + 1;
    let leads = dims.len() == rank && dims.first() != Some(&1);
    if dims.len() > rank || leads || values.is_empty() {
        return Err(refuse(call));
    }
    let mut other = vec![1; rank - dims.len()];
    other.extend(dims);
    let own = [[1].as_slice(), x.dims.as_slice()].concat();
    let out = super::views::broadcast(&own, &other).ok_or_else(|| refuse(call))?;
    graph.spend(call, &out)?;
    let at = |dims: &[usize]| super::views::View::of(dims).expand(&out).indices();
    let op = |a: i64, b: i64| match call.op() {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        _ => a.checked_mul(b),
    };
    let pairs = at(&own).into_iter().zip(at(&other));
    let entries = all(pairs.len(), pairs.map(|(i, j)| op(x.entries[i as usize], values[j as usize])));
    let each = match (call.op(), values) {
        ("Mul", [by]) => x.each.checked_mul(*by),
        ("Mul", _) => None,
        _ => Some(x.each),
    };
    Ok(ByRow {
        dims: out[1..].to_vec(),
        entries: entries.ok_or_else(|| refuse(call))?,
        each: each.ok_or_else(|| refuse(call))?,
    })
}

/// Entries of each row's own part of a value flattened to `[n k]`.
fn gather(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (Some(Value::Node(id)), Some(Value::ByRow(x))) = (call.input(0), call.input(1)) else {
        return Err(refuse(call));
    };
    let (id, k) = (*id, graph.windows(*id));
    let flat = graph.builder.shape(id).row == [k] && call.int("axis", 0)? == 0 && !graph.fronted(id);
    let own = x.each == k as i64 && x.entries.iter().all(|e| (0..k as i64).contains(e));
    if !flat || !own {
        return Err(call
            .fail("its indices reach into other rows, so that rows would depend on their neighbours")
            .hint(super::call::BATCH_HINT));
    }
    let first = x.entries.first().copied().unwrap_or(0);
    if !x.entries.iter().enumerate().all(|(i, e)| *e == first + i as i64) {
        return Err(call.fail("it picks entries that are not neighbours, which is not supported"));
    }
    let (start, end) = (first as usize, first as usize + x.entries.len());
    let part = graph.step(call, "part", Op::Slice { axis: 1, start, end, step: 1 }, &[id])?;
    one(graph.node(call, Op::Reshape { row: x.dims.clone() }, &[part])?)
}
