//! Windows merged with the batch: exporters reshape `[n, ...]` to `[n * windows, ...]` and back. Such a value is kept as
//! `[n, windows, ...]`, and the few ops that occur between the two reshapes are told where its axes really are.

use super::array::Num;
use super::call::{Call, Graph, Value, one};
use super::fold::{permutation, shape as shape_of};
use robust_core::Result;
use robust_engine::{NodeId, Op};

/// Ops that look at trailing axes alone, or at every entry for itself.
const TRAILING: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "MatMul",
    "Abs",
    "Clip",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "Sqrt",
    "Neg",
    "Sin",
    "Cos",
    "Identity",
    "Cast",
    "Dropout",
];

/// Ops that are told axes by number.
const SHIFTED: &[&str] = &[
    "Concat",
    "Expand",
    "Gather",
    "LayerNormalization",
    "LogSoftmax",
    "Pad",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "ReduceSumSquare",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
];

/// The windows of a call's inputs, if any of them has some.
pub fn of(graph: &Graph, call: &Call) -> Result<Option<usize>> {
    let counts = call.inputs.iter().flatten().filter_map(|v| match v {
        Value::Node(id) => Some(graph.windows(*id)),
        Value::Known(_) | Value::ByRow(_) => None,
    });
    let mut found: Vec<usize> = counts.collect();
    found.dedup();
    match found[..] {
        [] | [1] => Ok(None),
        [n] => Ok(Some(n)),
        _ => Err(call.fail("it mixes values whose batch axis is merged with others and values where it is not")),
    }
}

/// An op on values with `windows` merged into the batch axis.
pub fn lower(
    graph: &mut Graph,
    call: &Call,
    windows: usize,
    plain: impl Fn(&mut Graph, &Call) -> Result<Vec<Value>>,
) -> Result<Vec<Value>> {
    let out = match call.op() {
        "Reshape" => return reshape(graph, call),
        "Shape" => {
            let (_, shape) = graph.rows(call, 0)?;
            let rest = shape.row[1..].iter().map(|&d| Num::known(d as i64));
            let all = std::iter::once(Num { fixed: 0, per_row: windows as i64 }).chain(rest).collect();
            return Ok(vec![shape_of(call, all)?.into()]);
        }
        "Transpose" => {
            let (id, shape) = graph.rows(call, 0)?;
            let axes = permutation(call, shape.rank() - 1)?;
            if axes[0] != 0 {
                return Err(call
                    .fail(format!("the permutation {axes:?} moves the batch axis"))
                    .hint(super::BATCH_HINT));
            }
            let axes = std::iter::once(0).chain(axes.iter().map(|a| a + 1)).collect();
            one(graph.node(call, Op::Transpose { axes }, &[id])?)?
        }
        "Softmax" => {
            let (id, shape) = graph.rows(call, 0)?;
            let axis = call.row_axis(call.int("axis", -1)?, shape.rank() - 1)?;
            if call.opset < 13 && axis + 2 != shape.rank() {
                return Err(call.fail("before opset 13 it is supported over the last axis alone"));
            }
            one(graph.node(call, Op::Softmax { axis: axis + 1 }, &[id])?)?
        }
        op if TRAILING.contains(&op) => {
            // A constant of one entry per window was repeated for every row of the batch before it was merged.
            for (i, value) in call.inputs.iter().enumerate() {
                if let Some(Value::Known(array)) = value
                    && graph.rank_of(call) == array.dims.len()
                    && ![1, windows].contains(&array.dims[0])
                {
                    return Err(call.fail(format!("input {i} differs along the merged batch axis")));
                }
            }
            plain(graph, call)?
        }
        op if SHIFTED.contains(&op) => {
            let inputs = call.inputs.clone();
            plain(graph, &Call { node: call.node, opset: call.opset, inputs, hidden: 1 })?
        }
        // Channels come where the op looks for them, and go back.
        "BatchNormalization" => {
            let (id, shape) = graph.rows(call, 0)?;
            if shape.rank() < 3 {
                return Err(call.fail("its input has no channels"));
            }
            let axes: Vec<usize> = [0, 2, 1].into_iter().chain(3..shape.rank()).collect();
            let turned = graph.step(call, "turned", Op::Transpose { axes: axes.clone() }, &[id])?;
            let mut inputs = call.inputs.clone();
            inputs[0] = Some(Value::Node(turned));
            match plain(graph, &Call { node: call.node, opset: call.opset, inputs, hidden: 0 })?.first() {
                Some(&Value::Node(normed)) => one(graph.step(call, "back", Op::Transpose { axes }, &[normed])?)?,
                _ => return Err(call.fail("it makes no value")),
            }
        }
        _ => {
            return Err(call
                .fail("its input has the batch axis merged with others, which is not supported here")
                .hint("export with a dynamic batch axis and keep images apart: rows must not mix"));
        }
    };
    for value in &out {
        if let Value::Node(id) = value {
            graph.merge(*id, windows);
        }
    }
    Ok(out)
}

/// A reshape whose result may have windows merged into the batch axis, or have them no more.
pub fn reshape(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let before = graph.windows(id);
    let mut target = call.known_nums(1)?;
    let merges = || {
        call.fail(format!("reshaping [batch, {:?}] merges or splits the batch axis", shape.row))
            .hint("export with a dynamic batch axis and keep images apart: rows must not mix")
    };
    if call.int("allowzero", 0)? == 0 {
        let lead = usize::from(before > 1);
        for (i, t) in target.iter_mut().enumerate().filter(|(_, t)| **t == Num::known(0)) {
            *t = match i.checked_sub(1) {
                None => Num { fixed: 0, per_row: before as i64 },
                Some(j) => shape.row.get(j + lead).map(|&d| Num::known(d as i64)).ok_or_else(merges)?,
            };
        }
    }
    let (first, rest) = target.split_first().ok_or_else(merges)?;
    let mut rest = rest.iter().map(|n| n.value()).collect::<Option<Vec<i64>>>().ok_or_else(merges)?;
    let size = shape.len() as i64;
    let product = |dims: &[i64]| dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d).filter(|&n| n > 0));
    let batch = graph.fixed_batch.map(|b| b as i64);
    let windows = match (first.value(), batch) {
        (None, _) if first.fixed == 0 && first.per_row > 0 => Some(first.per_row),
        (Some(-1), _) => product(&rest).filter(|p| size % p == 0).map(|p| size / p),
        (Some(n), Some(b)) if n > 0 && n % b == 0 => Some(n / b),
        _ => None,
    };
    let windows = windows.ok_or_else(merges)?;
    if let Some(open) = rest.iter().position(|&d| d == -1) {
        rest[open] = 1;
        let all = product(&rest).and_then(|p| p.checked_mul(windows)).filter(|p| size % p == 0);
        rest[open] = all.map_or(0, |p| size / p);
    }
    if product(&rest).and_then(|p| p.checked_mul(windows)) != Some(size) {
        return Err(merges());
    }
    let lead = (windows > 1).then_some(windows as usize);
    let row: Vec<usize> = lead.into_iter().chain(rest.iter().map(|&d| d as usize)).collect();
    let out = if row == shape.row && windows as usize == before { id } else { shaped(graph, call, row, id)? };
    if windows > 1 {
        graph.merge(out, windows as usize);
    }
    one(out)
}

fn shaped(graph: &mut Graph, call: &Call, row: Vec<usize>, id: NodeId) -> Result<NodeId> {
    graph.node(call, Op::Reshape { row }, &[id])
}
