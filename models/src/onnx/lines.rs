//! Ops along axes that are made of the engine's: products, running sums, norms, entries in order of size.

use super::arithmetic::Steps;
use super::call::{Call, Graph, Value, one};
use crate::compose::MADE;
use candle_core::{Device, Tensor};
use robust_core::Result;
use robust_engine::{Activation, Binary, NodeId, Op, Reduction};

/// `id` with axis `axis` last, and the order that brings it back.
fn last(s: &mut Steps, id: NodeId, axis: usize) -> Result<(NodeId, Option<Vec<usize>>)> {
    let rank = s.graph.builder.shape(id).rank();
    if axis + 1 == rank {
        return Ok((id, None));
    }
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(axis, rank - 1);
    Ok((s.node(Op::Transpose { axes: axes.clone() }, &[id])?, Some(axes)))
}

fn back(s: &mut Steps, id: NodeId, order: Option<Vec<usize>>) -> Result<NodeId> {
    order.map_or(Ok(id), |axes| s.node(Op::Transpose { axes }, &[id]))
}

/// Products along axes: of halves of what is left, so that zeros have their slopes and signs are kept.
pub fn product(s: &mut Steps, x: NodeId, (axes, keep): (Vec<usize>, bool)) -> Result<NodeId> {
    let mut out = x;
    for &axis in &axes {
        loop {
            let left = s.graph.builder.shape(out).row[axis - 1];
            if left == 1 {
                break;
            }
            let half = left / 2;
            let mut part = |start: usize, end: usize| s.node(Op::Slice { axis, start, end, step: 1 }, &[out]);
            let (a, b) = (part(0, half)?, part(half, 2 * half)?);
            let rest = if left % 2 == 1 { Some(part(left - 1, left)?) } else { None };
            let both = s.two(Binary::Mul, a, b)?;
            out = match rest {
                Some(rest) => s.node(Op::Concat { axis }, &[both, rest])?,
                None => both,
            };
        }
    }
    if keep {
        return Ok(out);
    }
    let row = &s.graph.builder.shape(out).row;
    let row = (0..row.len()).filter(|i| !axes.contains(&(i + 1))).map(|i| row[i]).collect();
    s.node(Op::Reshape { row }, &[out])
}

/// Entries of a line that one matrix may mix: its square is a weight.
const MAX_LINE: usize = 1 << 12;

/// Running sums: a product with a triangle of ones.
pub fn running_sums(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = match call.short_ints(1)?[..] {
        [axis] => call.row_axis(axis, shape.rank())?,
        _ => return Err(call.fail("its axis is not a single number")),
    };
    let (exclusive, reverse) = (call.int("exclusive", 0)? != 0, call.int("reverse", 0)? != 0);
    let n = shape.row[axis - 1];
    if n > MAX_LINE {
        return Err(call.fail(format!("sums along {n} entries are beyond {MAX_LINE}")));
    }
    graph.spend(call, &[n, n])?;
    let counts = |i: usize, j: usize| match (reverse, exclusive) {
        (false, false) => j <= i,
        (false, true) => j < i,
        (true, false) => j >= i,
        (true, true) => j > i,
    };
    let entries: Vec<f32> = (0..n * n).map(|at| f32::from(counts(at / n, at % n))).collect();
    let matrix = Tensor::from_vec(entries, (n, n), &Device::Cpu)?;
    let weight = graph.derived(&format!("{MADE}{}", call.out()), ".sums", matrix);
    let mut s = Steps::new(graph, call);
    let (turned, order) = last(&mut s, id, axis)?;
    let sums = s.node(Op::Linear { weight, bias: None }, &[turned])?;
    one(back(&mut s, sums, order)?)
}

/// 1 at the first of the largest entries and 0 elsewhere, with no slope.
pub fn hardmax(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    // Before opset 13 all axes from `axis` on are one.
    let (axis, flat) = match call.opset {
        13.. => (call.row_axis(call.int("axis", -1)?, shape.rank())?, false),
        _ => (call.row_axis(call.int("axis", 1)?, shape.rank())?, true),
    };
    let mut s = Steps::new(graph, call);
    let (turned, order) = match flat && axis + 1 < shape.rank() {
        true => {
            let row = [&shape.row[..axis - 1], &[shape.row[axis - 1..].iter().product()]].concat();
            (s.node(Op::Reshape { row }, &[id])?, None)
        }
        false => last(&mut s, id, axis)?,
    };
    let line = s.graph.builder.shape(turned).rank() - 1;
    // At least 1, so that what stays is told from what becomes 0.
    let turned_down = s.act(Activation::Neg, turned)?;
    let least = s.node(Op::Reduce { kind: Reduction::Max, axes: vec![line], keep: true }, &[turned_down])?;
    let above = s.two(Binary::Add, turned, least)?;
    let above = s.by(Binary::Add, above, 1.)?;
    let kept = s.node(Op::KeepTop { k: 1 }, &[above])?;
    let mask = s.above(kept)?;
    let made = back(&mut s, mask, order)?;
    if s.graph.builder.shape(made).row == shape.row {
        return one(made);
    }
    one(s.node(Op::Reshape { row: shape.row }, &[made])?)
}

/// The largest or smallest entries of each line. Where they were is an output that is not computed.
pub fn top(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", -1)?, shape.rank())?;
    let k = match call.opset {
        10.. => match call.short_ints(1)?[..] {
            [k] => k,
            _ => return Err(call.fail("its k is not a single number")),
        },
        _ => call.int("k", 0)?,
    };
    let size = shape.row[axis - 1];
    let k = usize::try_from(k).ok().filter(|k| (1..=size).contains(k));
    let k = k.ok_or_else(|| call.fail(format!("its k is not one of 1 to {size} entries")))?;
    let largest = call.int("largest", 1)? != 0;
    let mut s = Steps::new(graph, call);
    let (turned, order) = last(&mut s, id, axis)?;
    let sorted = s.node(Op::Sorted { k, largest }, &[turned])?;
    one(back(&mut s, sorted, order)?)
}

/// Mean 0 and variance 1 over `axes`.
pub fn mean_variance(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axes = call.ints("axes")?.map_or(vec![0, 2, 3], <[i64]>::to_vec);
    let axes = axes.iter().map(|&a| call.row_axis(a, shape.rank())).collect::<Result<Vec<_>>>()?;
    let mut s = Steps::new(graph, call);
    let mean = |s: &mut Steps, x| s.node(Op::Reduce { kind: Reduction::Mean, axes: axes.clone(), keep: true }, &[x]);
    let middle = mean(&mut s, id)?;
    let off = s.two(Binary::Sub, id, middle)?;
    let squares = s.two(Binary::Mul, off, off)?;
    let variance = mean(&mut s, squares)?;
    let root = root(&mut s, variance)?;
    let root = s.by(Binary::Add, root, 1e-9)?;
    one(s.two(Binary::Div, off, root)?)
}

/// The slope of a root at 0 is infinite; zeros have none here, as in PyTorch's norms.
fn root(s: &mut Steps, x: NodeId) -> Result<NodeId> {
    let floor = s.act(Activation::Clip(1e-30, f64::INFINITY), x)?;
    s.act(Activation::Sqrt, floor)
}

/// Entries divided by the norm of their line.
pub fn lp_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", -1)?, shape.rank())?;
    let mut s = Steps::new(graph, call);
    let sum = |s: &mut Steps, x| s.node(Op::Reduce { kind: Reduction::Sum, axes: vec![axis], keep: true }, &[x]);
    let norm = match call.int("p", 2)? {
        1 => {
            let sizes = s.act(Activation::Abs, id)?;
            sum(&mut s, sizes)?
        }
        2 => {
            let squares = s.two(Binary::Mul, id, id)?;
            let sum = sum(&mut s, squares)?;
            root(&mut s, sum)?
        }
        p => return Err(call.fail(format!("p = {p} is neither 1 nor 2"))),
    };
    // A line of zeros stays one.
    let norm = s.act(Activation::Clip(1e-30, f64::INFINITY), norm)?;
    one(s.two(Binary::Div, id, norm)?)
}

/// Entries divided by the root of the mean of squares over all axes from `axis` on, times a scale.
pub fn rms_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", -1)?, shape.rank())?;
    let eps = call.float("epsilon", 1e-5)?;
    let scale = graph.any(call, 1)?;
    let mut s = Steps::new(graph, call);
    let squares = s.two(Binary::Mul, id, id)?;
    let axes = (axis..shape.rank()).collect();
    let mean = s.node(Op::Reduce { kind: Reduction::Mean, axes, keep: true }, &[squares])?;
    let mean = s.by(Binary::Add, mean, eps)?;
    let root = s.act(Activation::Sqrt, mean)?;
    let normed = s.two(Binary::Div, id, root)?;
    one(s.two(Binary::Mul, normed, scale)?)
}

/// The lower or upper triangle of the last two axes, zeros elsewhere.
pub fn triangle(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let &[.., h, w] = &shape.row[..] else { return Err(call.fail("its input has less than two axes in a row")) };
    let k = call.scalar(1)?.unwrap_or(0.);
    let upper = call.int("upper", 1)? != 0;
    graph.spend(call, &[h, w])?;
    let stays = |at: usize| {
        let off = (at % w) as f64 - (at / w) as f64;
        f32::from(if upper { off >= k } else { off <= k })
    };
    let mask = Tensor::from_vec((0..h * w).map(stays).collect::<Vec<f32>>(), (h, w), &Device::Cpu)?;
    let param = graph.derived(&format!("{MADE}{}", call.out()), ".triangle", mask);
    let mut s = Steps::new(graph, call);
    let mask = s.node(Op::Param(param), &[])?;
    one(s.two(Binary::Mul, id, mask)?)
}

/// The same value in the other one's type, which is a floating one.
pub fn cast_like(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    match call.need(1)? {
        Value::Known(like) if like.tensor().is_none() => {
            Err(call.fail("the image's values are cast to integers, which have no gradient"))
        }
        _ => one(graph.any(call, 0)?),
    }
}

/// One value times the gate of another.
pub fn swiglu(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (a, b) = (graph.any(call, 0)?, graph.any(call, 1)?);
    let alpha = call.float("alpha", 1.)?;
    let mut s = Steps::new(graph, call);
    let gate = s.swish(a, alpha)?;
    one(s.two(Binary::Mul, gate, b)?)
}
