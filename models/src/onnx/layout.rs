//! Ops that move entries without computing: reshape, transpose, slice, pad and their kin. The batch axis stays first.

use super::array::{Array, MAX_RANK, Num, is_float};
use super::call::{Call, Graph, Value, one};
use super::select::{padded, select};
use super::views::{MAX_EXTENT, permutation, shape as shape_of};
use crate::compose::MADE;
use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use robust_engine::{Binary, NodeId, Op, Shape};

/// Stands for the batch in a list of sizes.
const BATCH: usize = usize::MAX;

fn full(shape: &Shape) -> Vec<usize> {
    std::iter::once(BATCH).chain(shape.row.iter().copied()).collect()
}

/// A reshape that keeps the batch, or the value itself if nothing changes.
fn to_row(graph: &mut Graph, call: &Call, (id, shape): (NodeId, Shape), row: Vec<usize>) -> Result<Vec<Value>> {
    if shape.row == row { one(id) } else { one(graph.node(call, Op::Reshape { row }, &[id])?) }
}

fn without_batch(call: &Call, dims: Vec<usize>) -> Result<Vec<usize>> {
    match dims.split_first() {
        Some((&BATCH, row)) => Ok(row.to_vec()),
        _ => Err(call.fail("it moves the batch axis away from the front")),
    }
}

pub fn identity(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    if call.op() == "Dropout" && (call.int("training_mode", 0)? != 0 || call.scalar(2)?.is_some_and(|t| t != 0.)) {
        return Err(call.fail("it is in training mode").hint("export the model in eval mode"));
    }
    one(graph.rows(call, 0)?.0)
}

pub fn cast(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let to = call.int("to", 1)?;
    // Comparisons are 0 and 1 in any type.
    if let Value::Node(id) = call.need(0)?
        && graph.masks.contains(id)
    {
        return one(*id);
    }
    if !is_float(to) {
        return Err(call.fail(format!("the image's values are cast to element type {to}, which has no gradient")));
    }
    one(graph.any(call, 0)?)
}

pub fn shape(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let shape = match call.need(0)? {
        Value::Node(id) => graph.builder.shape(*id).clone(),
        Value::Known(array) => Shape::constant(array.dims.clone()),
        Value::ByRow(_) => return Err(call.fail("the shape of indices by row is not supported")),
    };
    let batch = shape.batched.then_some(Num::BATCH);
    let all = batch.into_iter().chain(shape.row.iter().map(|&d| Num::known(d as i64))).collect();
    Ok(vec![shape_of(call, all)?.into()])
}

pub fn flatten(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = match call.int("axis", 1)? {
        end if end == shape.rank() as i64 => shape.rank(),
        a => call.axis(a, shape.rank())?,
    };
    if axis == 0 || shape.row[..axis - 1].iter().any(|&d| d != 1) {
        return Err(call.fail(format!("flattening at axis {axis} merges the batch axis with others")));
    }
    let row = vec![shape.len()];
    to_row(graph, call, (id, shape), row)
}

pub fn reshape(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let row = reshape_row(graph.fixed_batch, call, &shape)?;
    to_row(graph, call, (id, shape), row)
}

/// The new dimensions of one row; anything that would merge or split the batch axis is refused.
fn reshape_row(fixed_batch: Option<usize>, call: &Call, shape: &Shape) -> Result<Vec<usize>> {
    let mut target = call.known_nums(1)?;
    let shown = || {
        let dims = target.iter().map(|n| n.value().map_or("batch".into(), |v| v.to_string()));
        dims.take(MAX_RANK).collect::<Vec<String>>().join(", ")
    };
    let text = shown();
    if call.int("allowzero", 0)? == 0 {
        for (i, t) in target.iter_mut().enumerate().filter(|(_, t)| **t == Num::known(0)) {
            *t = match i.checked_sub(1) {
                None => Num::BATCH,
                Some(j) => match shape.row.get(j) {
                    Some(&d) => Num::known(d as i64),
                    None => return Err(call.fail(format!("there is no dimension {i} to keep"))),
                },
            };
        }
    }
    let merges = || {
        call.fail(format!("reshaping [batch, {:?}] to [{text}] merges or splits the batch axis", shape.row))
            .hint("export with a dynamic batch axis and keep images apart: rows must not mix")
    };
    let (first, rest) = target.split_first().ok_or_else(merges)?;
    let kept = *first == Num::BATCH || fixed_batch.is_some_and(|b| *first == Num::known(b as i64));
    let mut rest = rest.iter().map(|n| n.value()).collect::<Option<Vec<i64>>>().ok_or_else(merges)?;
    let product = |dims: &[i64]| dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d).filter(|&n| n > 0));
    let size = shape.len() as i64;
    if let (true, Some(open)) = (kept, rest.iter().position(|&d| d == -1)) {
        rest[open] = 1;
        rest[open] = product(&rest).filter(|p| size % p == 0).map_or(0, |p| size / p);
    }
    if (!kept && *first != Num::known(-1)) || product(&rest) != Some(size) {
        return Err(merges());
    }
    Ok(rest.iter().map(|&d| d as usize).collect())
}

pub fn transpose(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axes = permutation(call, shape.rank())?;
    if axes[0] != 0 {
        return Err(call.fail(format!("the permutation {axes:?} moves the batch axis")).hint(super::call::BATCH_HINT));
    }
    // Back to channels first, as the image came.
    if let (Some((turned, image)), [0, 3, 1, 2]) = (graph.turned, &axes[..])
        && turned == id
    {
        return one(image);
    }
    one(graph.node(call, Op::Transpose { axes }, &[id])?)
}

/// `dims` without the axes to squeeze: the listed ones, or every one of size 1.
pub fn squeezed(call: &Call, dims: &[usize]) -> Result<Vec<usize>> {
    let axes = match call.list("axes", 1)? {
        Some(list) => list.iter().map(|&a| call.axis(a, dims.len())).collect::<Result<Vec<_>>>()?,
        None => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
    };
    if let Some(&bad) = axes.iter().find(|&&a| dims[a] != 1) {
        return Err(call.fail(match dims[bad] {
            BATCH => "it removes the batch axis".to_string(),
            size => format!("axis {bad} has size {size}, not 1"),
        }));
    }
    Ok((0..dims.len()).filter(|i| !axes.contains(i)).map(|i| dims[i]).collect())
}

/// `dims` with axes of size 1 at the listed places of the result.
pub fn unsqueezed(call: &Call, dims: &[usize]) -> Result<Vec<usize>> {
    let list = call.list("axes", 1)?.ok_or_else(|| call.fail("its axes are missing"))?;
    let rank = dims.len().saturating_add(list.len());
    if rank > MAX_RANK {
        return Err(call.fail(format!("{rank} axes are beyond {MAX_RANK}")));
    }
    let axes = list.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?;
    let mut old = dims.iter();
    let out: Vec<usize> =
        (0..rank).filter_map(|i| if axes.contains(&i) { Some(1) } else { old.next().copied() }).collect();
    if out.len() == rank { Ok(out) } else { Err(call.fail(format!("axes {list:?} repeat"))) }
}

pub fn squeeze(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    if graph.fixed_batch == Some(1) && call.list("axes", 1)?.is_none() {
        return Err(call.fail("without axes it also removes the batch axis of size 1"));
    }
    let row = without_batch(call, squeezed(call, &full(&shape))?)?;
    to_row(graph, call, (id, shape), row)
}

pub fn unsqueeze(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let row = without_batch(call, unsqueezed(call, &full(&shape))?)?;
    to_row(graph, call, (id, shape), row)
}

/// One axis of a Slice.
pub struct SliceSpec {
    pub axis: usize,
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

impl SliceSpec {
    /// The first entry and how many follow at `step`, for an axis of `dim` entries, by Python's rules.
    pub fn bounds(&self, dim: usize) -> (i64, usize) {
        let dim = dim as i64;
        let place = |v: i64| if v < 0 { v.saturating_add(dim) } else { v };
        let (low, high) = if self.step > 0 { (0, dim) } else { (-1, dim - 1) };
        let (start, end) = (place(self.start).clamp(low, high), place(self.end).clamp(low, high));
        let span = if self.step > 0 { end - start } else { start - end };
        if span <= 0 {
            return (0, 0);
        }
        (start, ((span - 1) as u64 / self.step.unsigned_abs()) as usize + 1)
    }
}

/// The axes a Slice works on; an end at the batch size means "to the last row".
pub fn slice_specs(call: &Call, rank: usize) -> Result<Vec<SliceSpec>> {
    // Before opset 10 they were attributes.
    let old = |name: &str| call.ints(name).map(|l| l.map(<[i64]>::to_vec));
    let starts = old("starts")?.map_or_else(|| call.short_ints(1), Ok)?;
    let ends = match old("ends")? {
        Some(list) => list.into_iter().map(Num::known).collect(),
        None => call.known_nums(2)?,
    };
    let axes = match (old("axes")?, call.input(3)) {
        (Some(list), _) => list,
        (None, Some(_)) => call.short_ints(3)?,
        (None, None) => (0..starts.len() as i64).collect(),
    };
    let steps = match call.input(4) {
        Some(_) => call.short_ints(4)?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || starts.len() > rank {
        return Err(call.fail("its starts, ends, axes and steps differ in number"));
    }
    let spec = |i: usize| {
        let axis = call.axis(axes[i], rank)?;
        let end = match ends[i].value() {
            Some(v) => v,
            None if axis == 0 && ends[i] == Num::BATCH => i64::MAX,
            None => return Err(call.fail("an end depends on the batch size")),
        };
        if steps[i] == 0 {
            return Err(call.fail("a step is 0"));
        }
        Ok(SliceSpec { axis, start: starts[i], end, step: steps[i] })
    };
    (0..starts.len()).map(spec).collect()
}

pub fn slice(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (mut id, shape) = graph.rows(call, 0)?;
    let specs = slice_specs(call, shape.rank())?;
    let everything = |s: &SliceSpec| s.start == 0 && s.end == i64::MAX && s.step == 1;
    for spec in specs.iter().filter(|s| s.axis != 0 || !everything(s)) {
        let axis = spec.axis;
        if axis == 0 {
            return Err(call.across());
        }
        let (start, count) = spec.bounds(shape.row[axis - 1]);
        if count == 0 {
            return Err(call.fail(format!("the slice of axis {axis} is empty")));
        }
        if spec.step < 0 && count > 1 {
            let list: Vec<usize> = (0..count as i64).map(|i| (start + i * spec.step) as usize).collect();
            id = select(graph, call, id, axis, &list)?;
            continue;
        }
        let start = start as usize;
        let step = if count == 1 { 1 } else { usize::try_from(spec.step).unwrap_or(1) };
        let end = start + (count - 1) * step + 1;
        id = graph.step(call, &format!("axis{axis}"), Op::Slice { axis, start, end, step }, &[id])?;
    }
    one(id)
}

pub fn split(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", 0)?, shape.rank())?;
    let sizes = split_sizes(call, shape.row[axis - 1])?;
    let mut start = 0;
    let part = |(size, name): (&usize, &String)| {
        let op = Op::Slice { axis, start, end: start + size, step: 1 };
        start += size;
        Ok(Value::Node(graph.builder.node(name.clone(), op, &[id])?))
    };
    sizes.iter().zip(&call.node.output).map(part).collect()
}

/// How an axis of `dim` entries is split.
pub fn split_sizes(call: &Call, dim: usize) -> Result<Vec<usize>> {
    let parts = call.node.output.len().max(1);
    let sizes: Vec<usize> = match call.list("split", 1)? {
        Some(list) => list.iter().map(|&s| usize::try_from(s).unwrap_or(0)).collect(),
        None => {
            let size = dim.div_ceil(parts); // the last part may be smaller
            (0..parts).map(|i| size.min(dim.saturating_sub(i * size))).collect()
        }
    };
    if sizes.len() != parts
        || sizes.contains(&0)
        || sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(dim)
    {
        return Err(call.fail(format!("{parts} parts of sizes {sizes:?} do not make up an axis of size {dim}")));
    }
    Ok(sizes)
}

/// Entries along an axis of an image, in any order.
pub fn gather(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", 0)?, shape.rank())?;
    let dim = shape.row[axis - 1];
    let list = call.known_ints(1)?.into_iter().map(|i| call.place(i, dim)).collect::<Result<Vec<_>>>()?;
    if list.len() > MAX_EXTENT as usize {
        return Err(call.fail(format!("it picks {} entries", list.len())));
    }
    let Array { dims, .. } = &**call.known(1)?;
    let neighbours = list.windows(2).all(|w| w[1] == w[0] + 1);
    let part = match list.first() {
        Some(&start) if neighbours => {
            let op = Op::Slice { axis, start, end: start + list.len(), step: 1 };
            if dims.len() == 1 {
                return one(graph.node(call, op, &[id])?);
            }
            graph.step(call, "slice", op, &[id])?
        }
        _ => select(graph, call, id, axis, &list)?,
    };
    if dims.len() == 1 {
        return one(part);
    }
    let row = [&shape.row[..axis - 1], dims, &shape.row[axis..]].concat();
    one(graph.node(call, Op::Reshape { row }, &[part])?)
}

pub fn concat(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let inputs = (0..call.inputs.len()).map(|i| graph.any(call, i)).collect::<Result<Vec<_>>>()?;
    let rank = inputs.first().map_or(0, |&i| graph.builder.shape(i).rank());
    let axis = call.row_axis(call.int("axis", 0)?, rank)?;
    one(graph.node(call, Op::Concat { axis }, &inputs)?)
}

/// Axes of one entry repeated. The batch stays as it is.
pub fn expand(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let target = call.known_nums(1)?;
    let rank = shape.rank() - call.hidden;
    let missing = rank.checked_sub(target.len()).ok_or_else(|| {
        call.fail(format!("{rank} axes become {}, so that the batch axis is no longer the first", target.len()))
    })?;
    let rows = Num { fixed: 0, per_row: graph.windows(id) as i64 };
    let fixed = graph.fixed_batch.map(|b| (b * graph.windows(id)) as i64);
    let batch = |n: &Num| *n == rows || n.value().is_some_and(|v| v == 1 || fixed == Some(v));
    let mut times = vec![1; shape.rank()];
    for (i, n) in target.iter().enumerate() {
        let axis = call.axis((i + missing) as i64, shape.rank())?;
        let size = n.value().and_then(|v| usize::try_from(v).ok());
        match (axis, size) {
            (0, _) if batch(n) => {}
            (0, _) => return Err(call.fail("it repeats the batch axis")),
            (_, Some(size)) if size == shape.row[axis - 1] || size == 1 => {}
            (_, Some(size)) if size > 1 && shape.row[axis - 1] == 1 => times[axis] = size,
            _ => return Err(call.fail(format!("axis {axis} of {:?} cannot be repeated so", shape.row))),
        }
    }
    if times.iter().all(|&t| t == 1) {
        return one(id);
    }
    // A product with ones repeats the entries and adds up their slopes.
    graph.spend(call, &times)?;
    let ones = Tensor::ones(times, DType::F32, &Device::Cpu)?;
    let param = graph.derived(&format!("{MADE}{}", call.out()), ".ones", ones);
    let ones = graph.step(call, "ones", Op::Param(param), &[])?;
    one(graph.node(call, Op::Binary(Binary::Mul), &[id, ones])?)
}

pub fn pad(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let mode = call.text("mode", "constant")?;
    let (id, shape) = graph.rows(call, 0)?;
    // Before opset 11 they were attributes, as was the value.
    let amounts = call.list("pads", 1)?.ok_or_else(|| call.fail("its pads are missing"))?;
    let axes = match call.input(3) {
        Some(_) => call.short_ints(3)?.iter().map(|&a| call.axis(a, shape.rank())).collect::<Result<Vec<_>>>()?,
        None => {
            (0..(shape.rank() - call.hidden) as i64).map(|a| call.axis(a, shape.rank())).collect::<Result<Vec<_>>>()?
        }
    };
    if amounts.len() != 2 * axes.len() || amounts.iter().any(|a| !(-MAX_EXTENT..=MAX_EXTENT).contains(a)) {
        return Err(call.fail(format!("pads {amounts:?} do not fit {} axes, or are far too large", axes.len())));
    }
    let mut pads = vec![(0, 0); shape.rank()];
    for (i, &axis) in axes.iter().enumerate() {
        pads[axis] = (amounts[i], amounts[i + axes.len()]);
    }
    if pads[0] != (0, 0) {
        return Err(call.fail("it pads the batch axis"));
    }
    let value = call.scalar(2)?.map_or_else(|| call.float("value", 0.), Ok)?;
    let mut id = id;
    for (axis, &(before, after)) in pads.iter().enumerate().filter(|(_, p)| **p != (0, 0)) {
        // What constants are added to is padded below; entries are taken away here.
        let (before, after) = if mode == "constant" { (before.min(0), after.min(0)) } else { (before, after) };
        if (before, after) != (0, 0) {
            let list = padded(&mode, shape.row[axis - 1], before, after).map_err(|why| call.fail(why))?;
            graph.spend(call, &[list.len()])?;
            id = select(graph, call, id, axis, &list)?;
        }
    }
    let pads: Vec<(usize, usize)> =
        pads[1..].iter().map(|&(before, after)| (before.max(0) as usize, after.max(0) as usize)).collect();
    if mode != "constant" || pads.iter().all(|&p| p == (0, 0)) {
        return one(id);
    }
    one(graph.node(call, Op::Pad { pads, value }, &[id])?)
}
