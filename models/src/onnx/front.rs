//! Axes in front of the batch: exporters split queries, keys and values by moving the axis of three to the front and taking its
//! entries, pick channels by bringing them to the front, and average over members stacked in front. A value `[a.., n, rest..]` of the
//! file is kept as `[n, a.., rest..]` (`[n, windows, a.., rest..]` where windows are merged with the batch), and the few ops that occur
//! until the axes are gone are told where they really are.

use super::array::Num;
use super::call::{Call, Graph, Value, one};
use super::layout::{slice_specs, split_sizes};
use super::select::select;
use super::views::{permutation, shape as shape_of};
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op, Reduction, Shape};

/// Whether the call reads such a value.
pub fn is(graph: &Graph, call: &Call) -> bool {
    call.inputs.iter().flatten().any(|v| matches!(v, Value::Node(id) if graph.fronts(*id) > 0))
}

/// Axes of ours before those of the file's other ones: the batch, and the windows merged into it.
fn lead(graph: &Graph, id: NodeId) -> usize {
    if graph.windows(id) > 1 { 2 } else { 1 }
}

/// A value with its axes as the file has them.
struct Seen {
    id: NodeId,
    shape: Shape,
    lead: usize,
    /// Axes in front of the batch.
    count: usize,
    windows: usize,
}

impl Seen {
    fn of(graph: &Graph, id: NodeId) -> Self {
        let (shape, lead) = (graph.builder.shape(id).clone(), lead(graph, id));
        Self { id, lead, count: graph.fronts(id), windows: graph.windows(id), shape }
    }

    /// Axes in the file.
    fn rank(&self) -> usize {
        self.shape.rank() + 1 - self.lead
    }

    /// Where axis `a` of the file is here.
    fn own(&self, a: usize) -> usize {
        match a {
            a if a < self.count => self.lead + a,
            a if a == self.count => 0,
            a => self.lead + a - 1,
        }
    }

    fn mark(&self, graph: &mut Graph, id: NodeId, count: usize) -> NodeId {
        graph.merge(id, self.windows);
        graph.put_front(id, count);
        id
    }
}

fn refuse(call: &Call, what: &str) -> Error {
    let why = format!("{what} while an axis lies in front of the batch, which is not supported here");
    call.fail(why).hint(super::call::BATCH_HINT)
}

/// A transpose that brings axes before the batch, and an axis of one entry put there.
pub fn begin(graph: &mut Graph, call: &Call) -> Result<Option<Vec<Value>>> {
    let id = match call.input(0) {
        Some(Value::Node(id)) if graph.builder.shape(*id).batched => *id,
        _ => return Ok(None),
    };
    let seen = Seen::of(graph, id);
    match call.op() {
        "Transpose" if permutation(call, seen.rank())?.first() != Some(&0) => transpose(graph, call, &seen).map(Some),
        "Unsqueeze" => {
            let axes = call.list("axes", 1)?.unwrap_or_default();
            let [axis] = axes[..] else { return Ok(None) };
            match call.axis(axis, seen.rank() + 1)? {
                0 => unsqueeze(graph, call, &seen, 0).map(Some),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn transpose(graph: &mut Graph, call: &Call, seen: &Seen) -> Result<Vec<Value>> {
    let perm = permutation(call, seen.rank())?;
    let count = perm.iter().position(|&p| p == seen.count).unwrap_or(0);
    let rest = perm.iter().filter(|&&p| p != seen.count).map(|&p| seen.own(p));
    let axes: Vec<usize> = (0..seen.lead).chain(rest).collect();
    let out = match axes.is_sorted() {
        true => graph.node(call, Op::Reshape { row: seen.shape.row.clone() }, &[seen.id])?,
        false => graph.node(call, Op::Transpose { axes }, &[seen.id])?,
    };
    one(seen.mark(graph, out, count))
}

/// An axis of one entry at place `at`, which is not behind the batch.
fn unsqueeze(graph: &mut Graph, call: &Call, seen: &Seen, at: usize) -> Result<Vec<Value>> {
    let mut row = seen.shape.row.clone();
    row.insert(seen.lead - 1 + at, 1);
    let out = graph.node(call, Op::Reshape { row }, &[seen.id])?;
    one(seen.mark(graph, out, seen.count + 1))
}

/// An op on a value with axes in front of the batch.
pub fn lower(graph: &mut Graph, call: &Call, plain: Option<super::call::Lower>) -> Result<Vec<Value>> {
    let (id, _) = graph.rows(call, 0)?;
    let seen = Seen::of(graph, id);
    if seen.count == 0 || call.inputs.iter().skip(1).any(|v| matches!(v, Some(Value::Node(_)))) {
        return together(graph, call, &seen, plain);
    }
    // Axes of a call that names one.
    let axis = |name: &str, default: i64| call.int(name, default).and_then(|a| call.axis(a, seen.rank()));
    match call.op() {
        "Identity" | "Cast" | "Dropout" => one(id),
        "Shape" => {
            let sizes = seen.shape.row[seen.lead - 1..].iter().map(|&d| Num::known(d as i64));
            let mut all: Vec<Num> = sizes.collect();
            all.insert(seen.count, Num { fixed: 0, per_row: seen.windows as i64 });
            Ok(vec![shape_of(call, all)?.into()])
        }
        "Transpose" => transpose(graph, call, &seen),
        "Unsqueeze" => match call.list("axes", 1)?.unwrap_or_default()[..] {
            [a] if call.axis(a, seen.rank() + 1)? <= seen.count => {
                unsqueeze(graph, call, &seen, call.axis(a, seen.rank() + 1)?)
            }
            _ => Err(refuse(call, "it adds another axis")),
        },
        "Slice" => slice(graph, call, &seen),
        "Split" if axis("axis", 0)? < seen.count => {
            let at = axis("axis", 0)?;
            let mut start = 0;
            let mut parts = vec![];
            for (i, n) in split_sizes(call, seen.shape.row[seen.own(at) - 1])?.into_iter().enumerate() {
                parts.push(Value::Node(cut(graph, call, &seen, (at, &format!("part{i}")), start, start + n)?));
                start += n;
            }
            Ok(parts)
        }
        "Gather" if axis("axis", 0)? < seen.count => gather(graph, call, &seen, axis("axis", 0)?),
        "GatherND" if call.int("batch_dims", 0)? == 0 => gather_nd(graph, call, &seen),
        "Squeeze" => match call.list("axes", 1)?.unwrap_or_default()[..] {
            [a] if call.axis(a, seen.rank())? < seen.count => {
                let at = call.axis(a, seen.rank())?;
                match seen.shape.row[seen.own(at) - 1] {
                    1 => without(graph, call, &seen, id, at),
                    size => Err(refuse(call, &format!("it removes an axis of {size} entries"))),
                }
            }
            _ => Err(refuse(call, "it removes another axis")),
        },
        "ReduceMean" | "ReduceSum" | "ReduceMax" => reduce(graph, call, &seen),
        op => match plain.filter(|_| super::pointwise::ACTIVATIONS.contains(&op)) {
            Some(plain) => marked(graph, call, &seen, plain),
            None => Err(refuse(call, &format!("{op} is asked for"))),
        },
    }
}

fn marked(graph: &mut Graph, call: &Call, seen: &Seen, plain: super::call::Lower) -> Result<Vec<Value>> {
    let made = plain(graph, call)?;
    for value in &made {
        if let Value::Node(out) = value {
            seen.mark(graph, *out, seen.count);
        }
    }
    Ok(made)
}

/// Several values whose axes lie alike: entry by entry, or one behind the other in front of the batch.
fn together(graph: &mut Graph, call: &Call, seen: &Seen, plain: Option<super::call::Lower>) -> Result<Vec<Value>> {
    let alike = call.inputs.iter().flatten().all(|v| match v {
        Value::Node(id) => {
            let other = Seen::of(graph, *id);
            other.count == seen.count && other.windows == seen.windows && other.rank() == seen.rank()
        }
        _ => false,
    });
    match (call.op(), plain) {
        ("Concat", _) if alike && seen.count > 0 => concat(graph, call, seen),
        ("Add" | "Sub" | "Mul" | "Div" | "Max" | "Min", Some(plain)) if alike => marked(graph, call, seen, plain),
        (op, _) => Err(refuse(call, &format!("{op} joins values"))),
    }
}

fn concat(graph: &mut Graph, call: &Call, seen: &Seen) -> Result<Vec<Value>> {
    let at = call.axis(call.int("axis", 0)?, seen.rank())?;
    if at == seen.count {
        return Err(call.across());
    }
    let mut inputs = vec![];
    for i in 0..call.inputs.len() {
        let (id, _) = graph.rows(call, i)?;
        inputs.push(id);
    }
    let out = graph.node(call, Op::Concat { axis: seen.own(at) }, &inputs)?;
    one(seen.mark(graph, out, seen.count))
}

fn reduce(graph: &mut Graph, call: &Call, seen: &Seen) -> Result<Vec<Value>> {
    let axes = call.list("axes", 1)?.unwrap_or_default();
    let axes = axes.iter().map(|&a| call.axis(a, seen.rank())).collect::<Result<Vec<_>>>()?;
    if axes.is_empty() || axes.contains(&seen.count) {
        return Err(call.across());
    }
    let kind = match call.op() {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" => Reduction::Sum,
        _ => Reduction::Max,
    };
    let keep = call.int("keepdims", 1)? != 0;
    let gone = if keep { 0 } else { axes.iter().filter(|a| **a < seen.count).count() };
    let mut own: Vec<usize> = axes.iter().map(|&a| seen.own(a)).collect();
    own.sort_unstable();
    own.dedup();
    let out = graph.node(call, Op::Reduce { kind, axes: own, keep }, &[seen.id])?;
    one(seen.mark(graph, out, seen.count - gone))
}

/// Entries `start..end` of an axis in front.
fn cut(
    graph: &mut Graph,
    call: &Call,
    seen: &Seen,
    (at, what): (usize, &str),
    start: usize,
    end: usize,
) -> Result<NodeId> {
    let part = graph.step(call, what, Op::Slice { axis: seen.own(at), start, end, step: 1 }, &[seen.id])?;
    Ok(seen.mark(graph, part, seen.count))
}

fn slice(graph: &mut Graph, call: &Call, seen: &Seen) -> Result<Vec<Value>> {
    let specs = slice_specs(call, seen.rank())?;
    let [spec] = specs.as_slice() else { return Err(refuse(call, "it slices several axes")) };
    if spec.axis >= seen.count {
        return Err(refuse(call, "it slices another axis"));
    }
    let (start, count) = spec.bounds(seen.shape.row[seen.own(spec.axis) - 1]);
    let list: Vec<usize> = (0..count as i64).map(|i| (start + i * spec.step) as usize).collect();
    let out = select(graph, call, seen.id, seen.own(spec.axis), &list)?;
    one(seen.mark(graph, out, seen.count))
}

fn gather(graph: &mut Graph, call: &Call, seen: &Seen, at: usize) -> Result<Vec<Value>> {
    let size = seen.shape.row[seen.own(at) - 1];
    let list = call.short_ints(1)?.iter().map(|&i| call.place(i, size)).collect::<Result<Vec<_>>>()?;
    match (call.known(1)?.dims.len(), &list[..]) {
        (0, &[i]) => {
            let part = cut(graph, call, seen, (at, "part"), i, i + 1)?;
            without(graph, call, seen, part, at)
        }
        (1, list) => {
            let out = select(graph, call, seen.id, seen.own(at), list)?;
            one(seen.mark(graph, out, seen.count))
        }
        _ => Err(refuse(call, "it gathers entries into several axes")),
    }
}

/// Entries by their places along all axes in front.
fn gather_nd(graph: &mut Graph, call: &Call, seen: &Seen) -> Result<Vec<Value>> {
    let dims = call.known(1)?.dims.clone();
    let values = call.known_ints(1)?;
    if dims.last() != Some(&seen.count) || seen.windows > 1 {
        return Err(refuse(call, "it gathers along other axes"));
    }
    let (front, rest) = seen.shape.row.split_at(seen.count);
    let mut list = vec![];
    for place in values.chunks(seen.count) {
        let mut at = 0;
        for (&p, &dim) in place.iter().zip(front) {
            at = at * dim + call.place(p, dim)?;
        }
        list.push(at);
    }
    graph.spend(call, &[list.len()])?;
    let row = [&[front.iter().product()], rest].concat();
    let flat = match seen.count {
        1 => seen.id,
        _ => graph.step(call, "flat", Op::Reshape { row }, &[seen.id])?,
    };
    let picked = select(graph, call, flat, 1, &list)?;
    let made = &dims[..dims.len() - 1];
    let row = [made, rest].concat();
    let out = graph.node(call, Op::Reshape { row }, &[picked])?;
    one(seen.mark(graph, out, made.len()))
}

/// `id` without axis `at` in front, which has one entry.
fn without(graph: &mut Graph, call: &Call, seen: &Seen, id: NodeId, at: usize) -> Result<Vec<Value>> {
    let mut row = graph.builder.shape(id).row.clone();
    row.remove(seen.own(at) - 1);
    let out = graph.node(call, Op::Reshape { row }, &[id])?;
    one(seen.mark(graph, out, seen.count - 1))
}
