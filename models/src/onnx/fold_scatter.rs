//! Entries written into, and summed from, arrays that are known at import: how exporters build tables of relative places.

use super::array::{Array, Data, Num, all};
use super::call::{Call, Graph};
use super::views::{View, pick};
use candle_core::Tensor;
use robust_core::Result;
use std::rc::Rc;

/// The data with the entries at `indices` (input 1, `[..., k]`: places along the first `k` axes) replaced by `updates` (input 2).
pub(super) fn scatter(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (data, index, updates) = (Rc::clone(call.known(0)?), call.known(1)?, Rc::clone(call.known(2)?));
    if call.text("reduction", "none")? != "none" {
        return Err(call.fail("reductions are not supported"));
    }
    let places = call.known_ints(1)?;
    let depth = index.dims.last().copied().unwrap_or(0);
    if depth == 0 || depth > data.dims.len() {
        return Err(call.fail(format!("indices {:?} do not fit data {:?}", index.dims, data.dims)));
    }
    let (outer, inner) = data.dims.split_at(depth);
    let size: usize = inner.iter().product();
    let lines = places.len() / depth;
    if lines.checked_mul(size) != Some(updates.len()) {
        return Err(call.fail(format!("{} updates for {lines} places of {size} entries", updates.len())));
    }
    graph.spend(call, &data.dims)?;
    // Which entry of the updates each entry of the result is, or its own.
    let mut from: Vec<Option<usize>> = vec![None; data.len()];
    for (i, place) in places.chunks(depth).enumerate() {
        let mut at = 0;
        for (&p, &dim) in place.iter().zip(outer) {
            at = at * dim + call.axis(p, dim)?;
        }
        (0..size).for_each(|j| from[at * size + j] = Some(i * size + j));
    }
    let data = match (&data.data, &updates.data) {
        (Data::Int(own), Data::Int(new)) => {
            Data::Int(own.iter().zip(&from).map(|(own, at)| at.map_or(*own, |i| new[i])).collect())
        }
        (Data::Float(own), Data::Float(new)) => {
            let list = |t: &Tensor| t.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>();
            let (values, new) = (list(own)?, list(new)?);
            let values = values.iter().zip(&from).map(|(own, at)| at.map_or(*own, |i| new[i])).collect();
            return Array::floats(call.out(), data.dims.clone(), values, own.dtype());
        }
        _ => return Err(call.fail("it writes numbers of one kind into another")),
    };
    Ok(Array::new(call.out(), call.known(0)?.dims.clone(), data))
}

/// The entries at `indices` (input 1, `[..., k]`: places along the first `k` axes).
pub(super) fn gather_nd(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (from, index) = (Rc::clone(call.known(0)?), Rc::clone(call.known(1)?));
    let depth = index.dims.last().copied().unwrap_or(0);
    if call.int("batch_dims", 0)? != 0 || depth == 0 || depth > from.dims.len() {
        return Err(call.fail(format!("indices {:?} do not fit data {:?}, or have batch_dims", index.dims, from.dims)));
    }
    let places = call.known_ints(1)?;
    let (outer, inner) = from.dims.split_at(depth);
    let size: usize = inner.iter().product();
    let dims = [&index.dims[..index.dims.len() - 1], inner].concat();
    graph.spend(call, &dims)?;
    let mut indices: Vec<u32> = Vec::with_capacity(places.len() / depth * size);
    for place in places.chunks(depth) {
        let mut at = 0;
        for (&p, &dim) in place.iter().zip(outer) {
            at = at * dim + call.axis(p, dim)?;
        }
        indices.extend((at * size..(at + 1) * size).map(|i| i as u32));
    }
    pick(call, &from, dims, indices)
}

/// `depth` entries for each index: one value at the index and another elsewhere.
pub(super) fn one_hot(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (index, values) = (call.known(0)?, Rc::clone(call.known(2)?));
    let depth = call.scalar(1)?.filter(|d| (1. ..=f64::from(1 << 20)).contains(d)).map(|d| d as usize);
    let (Some(depth), 2) = (depth, values.len()) else {
        return Err(call.fail("its depth or its values are not understood"));
    };
    let axis = call.axis(call.int("axis", -1)?, index.dims.len() + 1)?;
    let dims = [&index.dims[..axis], &[depth], &index.dims[axis..]].concat();
    graph.spend(call, &dims)?;
    let inner: usize = index.dims[axis..].iter().product();
    let at = call.known_ints(0)?;
    // Counted from the end where it is negative; beyond the ends nothing is hot.
    let hot = |k: usize| {
        let (outer, rest) = (k / (depth * inner.max(1)), k % (depth * inner.max(1)));
        let i = at[outer * inner + rest % inner.max(1)];
        let i = if i < 0 { i + depth as i64 } else { i };
        u32::from(i == (rest / inner.max(1)) as i64)
    };
    pick(call, &values, dims.clone(), (0..dims.iter().product()).map(hot).collect())
}

/// Sums, products and extremes of integers along axes.
pub(super) fn reduce_ints(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = Rc::clone(call.known(0)?);
    let rank = from.dims.len();
    let axes = match call.list("axes", 1)? {
        Some(list) => list.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let kept: Vec<usize> = (0..rank).map(|i| if axes.contains(&i) { 1 } else { from.dims[i] }).collect();
    graph.spend(call, &from.dims)?;
    let to = View::of(&kept).expand(&from.dims).indices();
    let join = |a: Num, b: Num| match call.op() {
        "ReduceSum" => a.add(b),
        "ReduceProd" => a.mul(b),
        "ReduceMax" => Some(Num::known(a.value()?.max(b.value()?))),
        _ => Some(Num::known(a.value()?.min(b.value()?))),
    };
    let mut made: Vec<Option<Num>> = vec![None; kept.iter().product()];
    for (value, at) in from.nums().unwrap_or_default().iter().zip(to) {
        let so_far = &mut made[at as usize];
        let next = so_far.map_or(Some(*value), |so_far| join(so_far, *value));
        *so_far = Some(next.ok_or_else(|| call.fail("it overflows or depends on the batch size"))?);
    }
    let sums = all(made.len(), made.into_iter()).ok_or_else(|| call.fail("it has no entries"))?;
    let dims = match call.int("keepdims", 1)? {
        0 => (0..rank).filter(|i| !axes.contains(i)).map(|i| from.dims[i]).collect(),
        _ => kept,
    };
    Ok(Array::ints(call.out(), dims, sums))
}
