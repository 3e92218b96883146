//! An axis in front of the batch: exporters split queries, keys and values by moving the axis of three to the front and taking
//! its entries. Such a value is kept as `[n, a, ...]` (`[n, windows, a, ...]` where windows are merged with the batch), and the
//! few ops that occur until the axis is gone are told where it really is.

use super::array::Num;
use super::call::{Call, Graph, Value, one};
use super::fold::{permutation, shape as shape_of};
use super::layout::{slice_specs, split_sizes};
use robust_core::Result;
use robust_engine::{NodeId, Op};

/// Whether the call reads such a value.
pub fn is(graph: &Graph, call: &Call) -> bool {
    call.inputs.iter().flatten().any(|v| matches!(v, Value::Node(id) if graph.fronted(*id)))
}

/// Axes of ours before those of the file's other ones: the batch, and the windows merged into it.
fn lead(graph: &Graph, id: NodeId) -> usize {
    if graph.windows(id) > 1 { 2 } else { 1 }
}

/// A transpose that brings one axis before the batch, and nothing else.
pub fn begin(graph: &mut Graph, call: &Call) -> Result<Option<Vec<Value>>> {
    let (id, shape) = match call.input(0) {
        Some(Value::Node(id)) if call.op() == "Transpose" => (*id, graph.builder.shape(*id).clone()),
        _ => return Ok(None),
    };
    let lead = lead(graph, id);
    let perm = permutation(call, shape.rank() + 1 - lead)?;
    if !shape.batched || perm.get(1) != Some(&0) {
        return Ok(None);
    }
    let own = |axis: usize| axis + lead - 1;
    let rest = perm[2..].iter().map(|&a| own(a));
    let axes = (0..lead).chain(std::iter::once(own(perm[0]))).chain(rest).collect();
    let out = graph.node(call, Op::Transpose { axes }, &[id])?;
    let windows = graph.windows(id);
    graph.merge(out, windows);
    graph.put_front(out);
    Ok(Some(vec![Value::Node(out)]))
}

/// An op on a value with an axis in front of the batch.
pub fn lower(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let (front, windows) = (lead(graph, id), graph.windows(id));
    let first = |axis: i64| call.axis(axis, shape.rank() + 1 - front).is_ok_and(|a| a == 0);
    let refuse = |what: &str| {
        let why = format!("{what} while an axis lies in front of the batch, which is not supported here");
        call.fail(why).hint(super::BATCH_HINT)
    };
    // Only the first input is looked at below; such a value may be another one.
    let size = match shape.row.get(front - 1) {
        Some(&size) if graph.fronted(id) => size,
        _ => return Err(refuse(&format!("{} joins values", call.op()))),
    };
    let cut = |graph: &mut Graph, what: &str, start: usize, end: usize| -> Result<NodeId> {
        let part = graph.step(call, what, Op::Slice { axis: front, start, end, step: 1 }, &[id])?;
        graph.merge(part, windows);
        graph.put_front(part);
        Ok(part)
    };
    match call.op() {
        "Identity" | "Cast" | "Dropout" => one(id),
        "Shape" => {
            let batch = Num { fixed: 0, per_row: windows as i64 };
            let rest = shape.row[front..].iter().map(|&d| Num::known(d as i64));
            let all = [Num::known(size as i64), batch].into_iter().chain(rest).collect();
            Ok(vec![shape_of(call, all)?.into()])
        }
        "Slice" => {
            let specs = slice_specs(call, shape.rank() + 1 - front)?;
            let [spec] = specs.as_slice() else { return Err(refuse("it slices several axes")) };
            let (start, count) = spec.bounds(size);
            match spec.axis == 0 && spec.step == 1 && count > 0 {
                true => one(cut(graph, "part", start as usize, start as usize + count)?),
                false => Err(refuse("it slices another axis")),
            }
        }
        "Split" if first(call.int("axis", 0)?) => {
            let mut start = 0;
            let mut parts = vec![];
            for (i, n) in split_sizes(call, size)?.into_iter().enumerate() {
                parts.push(Value::Node(cut(graph, &format!("part{i}"), start, start + n)?));
                start += n;
            }
            Ok(parts)
        }
        "Gather" if first(call.int("axis", 0)?) && call.known(1)?.dims.is_empty() => {
            let at = match call.short_ints(1)?[..] {
                [i] => call.axis(i, size)?,
                _ => return Err(refuse("it gathers several entries")),
            };
            let part = cut(graph, "part", at, at + 1)?;
            back(graph, call, part, front, windows)
        }
        "Squeeze" if call.list("axes", 1)?.is_some_and(|a| matches!(a[..], [a] if first(a))) => {
            if size != 1 {
                return Err(refuse(&format!("it removes an axis of {size} entries")));
            }
            back(graph, call, id, front, windows)
        }
        op => Err(refuse(&format!("{op} is asked for"))),
    }
}

/// The value without its axis of one entry in front.
fn back(graph: &mut Graph, call: &Call, id: NodeId, front: usize, windows: usize) -> Result<Vec<Value>> {
    let mut row = graph.builder.shape(id).row.clone();
    row.remove(front - 1);
    let out = graph.node(call, Op::Reshape { row }, &[id])?;
    graph.merge(out, windows);
    one(out)
}
