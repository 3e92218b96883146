//! Entries of an image that constants say the places of: gathered, scattered, cut out.

use super::array::Array;
use super::call::{Call, Graph, Value, one};
use super::select::select;
use super::views::MAX_EXTENT;
use super::views::View;
use robust_core::Result;
use robust_engine::{Binary, NOWHERE, NodeId, Op};
use std::rc::Rc;
use std::sync::Arc;

/// Entries of `id` by their places in a row; `list` has one for each entry of `row`.
pub(super) fn pick(graph: &mut Graph, call: &Call, id: NodeId, list: Vec<u32>, row: Vec<usize>) -> Result<NodeId> {
    graph.spend(call, &[list.len()])?;
    graph.step(call, &format!("picked{}", id.0), Op::Pick { from: Arc::from(list), row }, &[id])
}

/// Places that are the same for every row: input `i` `[n or 1, ...]` without its first axis.
fn each_row(graph: &Graph, call: &Call, i: usize) -> Result<(Vec<usize>, Vec<i64>)> {
    let array: &Array = call.known(i)?;
    let values = call.known_ints(i)?;
    let Some((&rows, dims)) = array.dims.split_first() else { return Err(call.fail("its indices have no axes")) };
    let size = dims.iter().product::<usize>();
    let alike = size > 0 && values.chunks(size).all(|c| *c == values[..size]);
    if !alike || !array.per_image && graph.fixed_batch != Some(rows) {
        return Err(call.fail("its indices differ from image to image").hint(super::call::BATCH_HINT));
    }
    Ok((dims.to_vec(), values[..size].to_vec()))
}

/// Indices into a row for those along each axis: `[..., k]` places along the first `k` axes behind the batch, the batch's own axis not
/// among them.
fn nd_places(
    graph: &mut Graph,
    call: &Call,
    row: &[usize],
    dims: &[usize],
    values: &[i64],
) -> Result<(Vec<usize>, Vec<u32>)> {
    let depth = dims.last().copied().unwrap_or(0);
    if depth == 0 || depth > row.len() {
        return Err(call.fail(format!("indices {dims:?} do not fit a value of {} axes", row.len() + 1)));
    }
    let (outer, inner) = row.split_at(depth);
    let size: usize = inner.iter().product();
    graph.spend(call, &[values.len() / depth, size])?;
    let mut list = vec![];
    for place in values.chunks(depth) {
        let mut at = 0;
        for (&p, &dim) in place.iter().zip(outer) {
            at = at * dim + call.place(p, dim)?;
        }
        list.extend((at * size..(at + 1) * size).map(|i| i as u32));
    }
    Ok(([&dims[..dims.len() - 1], inner].concat(), list))
}

pub fn gather_nd(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    match call.int("batch_dims", 0)? {
        1 => {}
        0 => {
            return Err(
                call.fail("its indices run along the batch axis, so that rows would depend on their neighbours")
            );
        }
        more => return Err(call.fail(format!("batch_dims = {more} is not supported; 1 is"))),
    }
    let (dims, values) = each_row(graph, call, 1)?;
    let (row, list) = nd_places(graph, call, &shape.row, &dims, &values)?;
    one(pick(graph, call, id, list, row)?)
}

/// For each index of the indices, the place in a row of that entry along `axis`.
fn element_places(call: &Call, row: &[usize], axis: usize, dims: &[usize], values: &[i64]) -> Result<Vec<u32>> {
    let fits = dims.len() == row.len() && dims.iter().zip(row).enumerate().all(|(i, (d, r))| i + 1 == axis || d <= r);
    if !fits {
        return Err(call.fail(format!("indices {dims:?} do not fit rows {row:?}")));
    }
    let full = View::of(row);
    let mut view = View { dims: dims.to_vec(), strides: full.strides.clone(), offset: 0 };
    let step = full.strides[axis - 1];
    view.strides[axis - 1] = 0;
    let starts = view.indices();
    let place = |(start, &v): (u32, &i64)| Ok((i64::from(start) + call.place(v, row[axis - 1])? as i64 * step) as u32);
    starts.into_iter().zip(values).map(place).collect()
}

pub fn gather_elements(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", 0)?, shape.rank())?;
    let (dims, values) = each_row(graph, call, 1)?;
    graph.spend(call, &dims)?;
    let list = element_places(call, &shape.row, axis, &dims, &values)?;
    one(pick(graph, call, id, list, dims)?)
}

/// Writes updates to places of the data. Either may depend on the image, the places may not.
pub fn scatter(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (data, updates) = (row(graph, call, 0)?, row(graph, call, 2)?);
    graph.spend(call, &data)?;
    let list = match call.op() {
        "ScatterND" => {
            let (dims, values) = without_rows(graph, call)?;
            nd_places(graph, call, &data, &dims, &values)?.1
        }
        _ => {
            let axis = call.row_axis(call.int("axis", 0)?, data.len() + 1)?;
            let (dims, values) = each_row(graph, call, 1)?;
            graph.spend(call, &dims)?;
            element_places(call, &data, axis, &dims, &values)?
        }
    };
    let many = updates.iter().product::<usize>();
    if list.len() != many {
        return Err(call.fail(format!("{many} updates for {} places", list.len())));
    }
    // Which update each entry gets, if any.
    let all = data.iter().product::<usize>();
    let mut from = vec![NOWHERE; all];
    let reduction = call.text("reduction", "none")?;
    for (i, &at) in list.iter().enumerate() {
        if from[at as usize] != NOWHERE && reduction != "none" {
            return Err(
                call.fail(format!("several updates of one place with reduction `{reduction}` are not supported"))
            );
        }
        from[at as usize] = i as u32;
    }
    let both = data_and_updates(graph, call, [all, many])?;
    if reduction == "none" {
        let own = |(i, &at): (usize, &u32)| if at == NOWHERE { i as u32 } else { (all as u32).saturating_add(at) };
        let list = from.iter().enumerate().map(own).collect();
        return one(pick(graph, call, both, list, data)?);
    }
    one(combined(graph, call, (both, &from, many), &reduction, data)?)
}

/// One row of input `i`, which has the batch axis or one entry for all images.
fn row(graph: &Graph, call: &Call, i: usize) -> Result<Vec<usize>> {
    match call.need(i)? {
        Value::Node(id) if graph.builder.shape(*id).batched => Ok(graph.builder.shape(*id).row.clone()),
        Value::Known(array) if array.dims.first() == Some(&1) && (array.per_image || graph.fixed_batch == Some(1)) => {
            Ok(array.dims[1..].to_vec())
        }
        _ => Err(call.fail(format!("input {i} has no batch axis")).hint(super::call::BATCH_HINT)),
    }
}

/// Inputs 0 and 2, flattened, one behind the other.
fn data_and_updates(graph: &mut Graph, call: &Call, sizes: [usize; 2]) -> Result<NodeId> {
    let mut parts = vec![];
    for (i, n) in [0, 2].into_iter().zip(sizes) {
        let id = graph.any(call, i)?;
        let row = if graph.builder.shape(id).batched { vec![n] } else { vec![1, n] };
        parts.push(graph.step(call, &format!("flat{i}"), Op::Reshape { row }, &[id])?);
    }
    graph.step(call, "both", Op::Concat { axis: 1 }, &parts)
}

/// The data, where entry `i` is combined with update `from[i]` if there is one. `both` holds the data and then the `many` updates.
fn combined(
    graph: &mut Graph,
    call: &Call,
    (both, from, many): (NodeId, &[u32], usize),
    reduction: &str,
    data: Vec<usize>,
) -> Result<NodeId> {
    let kind = match reduction {
        "add" => Binary::Add,
        "mul" => Binary::Mul,
        "max" => Binary::Max,
        "min" => Binary::Min,
        other => return Err(call.fail(format!("reduction `{other}` is unknown"))),
    };
    let all = from.len();
    graph.spend(call, &[3, all])?;
    let touched: Vec<u32> = (0..all as u32).filter(|&i| from[i as usize] != NOWHERE).collect();
    let others: Vec<u32> = touched.iter().map(|&i| all as u32 + from[i as usize]).collect();
    let n = touched.len();
    let mut back: Vec<u32> = (0..all as u32).collect();
    touched.iter().enumerate().for_each(|(k, &i)| back[i as usize] = (all + many + k) as u32);
    let left = graph.step(call, "left", Op::Pick { from: touched.into(), row: vec![n] }, &[both])?;
    let right = graph.step(call, "right", Op::Pick { from: others.into(), row: vec![n] }, &[both])?;
    let joined = graph.step(call, "joined", Op::Binary(kind), &[left, right])?;
    let every = graph.step(call, "every", Op::Concat { axis: 1 }, &[both, joined])?;
    pick(graph, call, every, back, data)
}

/// ScatterND's places `[n, ..., k]` of a fixed batch, whose first number is the row itself, without it.
fn without_rows(graph: &Graph, call: &Call) -> Result<(Vec<usize>, Vec<i64>)> {
    let array = Rc::clone(call.known(1)?);
    let values = call.known_ints(1)?;
    let across = || call.fail("its indices run along the batch axis, so that rows would depend on their neighbours");
    let (Some(&depth), Some(&rows)) = (array.dims.last(), array.dims.first()) else { return Err(across()) };
    let own = depth > 1 && array.dims.len() > 1 && graph.fixed_batch == Some(rows) && rows > 0;
    let per_row = if own { values.len() / rows } else { return Err(across()) };
    let mut rest: Option<Vec<i64>> = None;
    for (n, chunk) in values.chunks(per_row.max(1)).enumerate() {
        if chunk.chunks(depth).any(|p| p[0] != n as i64) {
            return Err(across());
        }
        let here: Vec<i64> = chunk.chunks(depth).flat_map(|p| p[1..].to_vec()).collect();
        match &rest {
            Some(first) if *first != here => return Err(call.fail("its indices differ from image to image")),
            _ => rest = Some(here),
        }
    }
    let mut dims = array.dims[1..].to_vec();
    dims.iter_mut().next_back().into_iter().for_each(|d| *d = depth - 1);
    Ok((dims, rest.unwrap_or_default()))
}

/// Entries of an axis that a constant list of truths keeps.
pub fn compress(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    if !call.has("axis") {
        return Err(call.fail("without an axis it takes entries of the whole batch"));
    }
    let axis = call.row_axis(call.int("axis", 0)?, shape.rank())?;
    let kept: Vec<usize> =
        call.known_ints(1)?.into_iter().enumerate().filter(|(_, v)| *v != 0).map(|(i, _)| i).collect();
    if kept.iter().any(|&i| i >= shape.row[axis - 1]) {
        return Err(call.fail(format!("it keeps entries beyond the {} of axis {axis}", shape.row[axis - 1])));
    }
    one(select(graph, call, id, axis, &kept)?)
}

/// The middle of an image, or the image in the middle of zeros.
pub fn center(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (mut id, shape) = graph.rows(call, 0)?;
    let wanted = call.short_ints(1)?;
    let axes = match call.ints("axes")? {
        Some(list) => list.iter().map(|&a| call.row_axis(a, shape.rank())).collect::<Result<Vec<_>>>()?,
        None => return Err(call.fail("without axes it crops the batch too")),
    };
    if axes.len() != wanted.len() {
        return Err(call.fail("its axes and sizes differ in number"));
    }
    let mut pads = vec![(0, 0); shape.row.len()];
    for (&axis, &size) in axes.iter().zip(&wanted) {
        let (dim, size) = (shape.row[axis - 1], usize::try_from(size).unwrap_or(0));
        if !(1..=MAX_EXTENT as usize).contains(&size) {
            return Err(call.fail(format!("an axis of {size} entries")));
        }
        if size < dim {
            let start = (dim - size) / 2;
            id = graph.step(
                call,
                &format!("axis{axis}"),
                Op::Slice { axis, start, end: start + size, step: 1 },
                &[id],
            )?;
        } else {
            let before = (size - dim) / 2;
            pads[axis - 1] = (before, size - dim - before);
        }
    }
    if pads.iter().all(|p| *p == (0, 0)) {
        return one(id);
    }
    one(graph.node(call, Op::Pad { pads, value: 0. }, &[id])?)
}
