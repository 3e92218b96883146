//! Windows merged with the batch: exporters reshape `[n, ...]` to `[n * windows, ...]` and back. Such a value is kept as
//! `[n, windows, ...]`, and the few ops that occur between the two reshapes are told where its axes really are.

use super::array::Num;
use super::call::{Call, Graph, Value, one};
use super::extents::{pads, sizes};
use super::proto::AttributeProto;
use super::views::MAX_EXTENT;
use super::views::{permutation, shape as shape_of};
use robust_core::Result;
use robust_engine::{NodeId, Op, Pair};

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
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LpNormalization",
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
                    .hint(super::call::BATCH_HINT));
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
        "Conv" | "MaxPool" | "AveragePool" => return stacked(graph, call, windows, &plain),
        "Flatten" => return flatten(graph, call),
        op if TRAILING.contains(&op) || super::pointwise::ACTIVATIONS.contains(&op) => {
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

/// All axes before one into the batch, all others into a line.
pub fn flatten(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let before = graph.windows(id);
    let lead = usize::from(before > 1);
    let axis = match call.int("axis", 1)? {
        end if end == (shape.rank() - lead) as i64 => shape.rank() - lead,
        a => call.axis(a, shape.rank() - lead)?,
    };
    if axis == 0 {
        return Err(call.across());
    }
    let (merged, line) = shape.row.split_at(axis - 1 + lead);
    let windows = merged.iter().product::<usize>();
    let size = line.iter().product();
    let row = if windows > 1 { vec![windows, size] } else { vec![size] };
    let out = if row == shape.row && windows == before { id } else { shaped(graph, call, row, id)? };
    graph.merge(out, windows);
    one(out)
}

/// A convolution or a pool of images merged with the batch: they are stacked one above the other with borders between them, so that one
/// call sees all, and the rows that saw two images are left out.
fn stacked(
    graph: &mut Graph,
    call: &Call,
    windows: usize,
    plain: impl Fn(&mut Graph, &Call) -> Result<Vec<Value>>,
) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let &[many, channels, h, w] = &shape.row[..] else {
        return Err(call.fail("of values merged with the batch only images [n, c, h, w] are supported"));
    };
    let kernel: Pair = match call.op() {
        "Conv" => match call.known(1)?.dims[..] {
            [.., kh, kw] if call.known(1)?.dims.len() == 4 => [kh, kw],
            _ => return Err(call.fail("its weight is not that of an image")),
        },
        _ => sizes(call, "kernel_shape", 1, 1)?,
    };
    if kernel.iter().any(|k| !(1..=MAX_EXTENT as usize).contains(k)) {
        return Err(call.fail(format!("a kernel of {} x {}", kernel[0], kernel[1])));
    }
    let (stride, dilation): (Pair, Pair) = (sizes(call, "strides", 1, 1)?, sizes(call, "dilations", 1, 1)?);
    let pads = pads(call, [h, w], kernel, stride, dilation, false)?;
    let plainly = call.op() == "Conv" || call.int("ceil_mode", 0)? == 0 && dilation == [1, 1];
    if !plainly || call.op() == "AveragePool" && pads != [0; 4] && call.int("count_include_pad", 0)? == 0 {
        return Err(call.fail(
            "pools that round up, are dilated or do not count pads are not supported on values merged with the batch",
        ));
    }
    let span = (kernel[0] - 1) * dilation[0] + 1;
    let padded = h + pads[0] + pads[2];
    let Some(room) = padded.checked_sub(span) else { return Err(call.fail("its kernel is larger than its image")) };
    let rows = room / stride[0] + 1;
    // Every image begins at a window.
    let each = padded.div_ceil(stride[0]) * stride[0];
    let value = if call.op() == "MaxPool" { f64::NEG_INFINITY } else { 0. };
    let turned = graph.step(call, "turned", Op::Transpose { axes: vec![0, 2, 1, 3, 4] }, &[id])?;
    let border = vec![(0, 0), (0, 0), (pads[0], each - h - pads[0]), (0, 0)];
    let border = match each > h {
        true => graph.step(call, "border", Op::Pad { pads: border, value }, &[turned])?,
        false => turned,
    };
    let stack = graph.step(call, "stack", Op::Reshape { row: vec![channels, many * each, w] }, &[border])?;
    let mut node = call.node.clone();
    node.attribute.retain(|a| !["pads", "auto_pad"].contains(&a.name.as_str()));
    let ints = [0, pads[1], 0, pads[3]].map(|p| p as i64).to_vec();
    node.attribute.push(AttributeProto { name: "pads".into(), kind: 7, ints, ..Default::default() });
    node.output = vec![format!("{}/stacked", call.out())];
    let mut inputs = call.inputs.clone();
    inputs[0] = Some(Value::Node(stack));
    let made = plain(graph, &Call { node: &node, opset: call.opset, inputs, hidden: 0 })?;
    let Some(&Value::Node(made)) = made.first() else { return Err(call.fail("it makes no value")) };
    let &[out, high, wide] = &graph.builder.shape(made).row[..] else { return Err(call.fail("it makes no image")) };
    let all = many * each / stride[0];
    let full = match all.checked_sub(high) {
        Some(0) => made,
        Some(less) => {
            let pads = vec![(0, 0), (0, less), (0, 0)];
            graph.step(call, "full", Op::Pad { pads, value: 0. }, &[made])?
        }
        None => return Err(call.fail("it makes more rows than it has windows")),
    };
    let row = vec![out, many, each / stride[0], wide];
    let apart = graph.step(call, "apart", Op::Reshape { row }, &[full])?;
    let cut = match rows < each / stride[0] {
        true => graph.step(call, "cut", Op::Slice { axis: 3, start: 0, end: rows, step: 1 }, &[apart])?,
        false => apart,
    };
    let back = graph.node(call, Op::Transpose { axes: vec![0, 2, 1, 3, 4] }, &[cut])?;
    graph.merge(back, windows);
    one(back)
}
