//! A tensor's bytes out of its storage: strides honoured, everything the pickle claims checked against what is there.

use super::node::{Id, Node};
use super::pickle::Pickle;
use super::storage::{Elements, Storages, bad, natural};
use ::safetensors::Dtype;
use robust_core::Result;
use std::borrow::Cow;

const MAX_RANK: usize = 32;

/// One tensor's place in its storage, checked.
struct StridedView<'a> {
    dtype: Dtype,
    /// Bytes of one element.
    width: usize,
    data: &'a [u8],
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// Element type, shape and row-major bytes; the bytes are copied only where the tensor is not contiguous.
/// `budget` is what copies and views may still amount to: a small file must not become much memory.
pub(super) fn read<'a>(
    pickle: &Pickle,
    storages: &Storages<'a>,
    id: Id,
    budget: &mut usize,
) -> Result<(Dtype, Vec<usize>, Cow<'a, [u8]>)> {
    let place = place(pickle, storages, id)?;
    let bytes = place.shape.iter().try_fold(place.width, |n, &d| n.checked_mul(d));
    let bytes = bytes.filter(|n| n <= budget).ok_or_else(|| {
        bad(format!("its shape {:?} needs more memory than the whole file accounts for", place.shape))
    })?;
    *budget -= bytes;
    let data = gather(&place, bytes)?;
    Ok((place.dtype, place.shape, data))
}

fn place<'a>(pickle: &Pickle, storages: &Storages<'a>, id: Id) -> Result<StridedView<'a>> {
    let &Node::Tensor { storage, offset, size, stride } = pickle.node(id) else {
        return Err(bad(format!("it is {}", pickle.describe(id))));
    };
    let Elements { dtype, width, len, data } = storages.elements(pickle, storage)?;
    let list = |id: Id, what: &str| -> Result<Vec<usize>> {
        let items = pickle.items(id).ok_or_else(|| bad(format!("its {what} is {}", pickle.describe(id))))?;
        if items.len() > MAX_RANK {
            return Err(bad(format!("it has {} axes", items.len())));
        }
        items.iter().map(|&i| natural(pickle, i, what)).collect()
    };
    let (shape, stride) = (list(size, "size")?, list(stride, "stride")?);
    let offset = natural(pickle, offset, "offset")?;
    if shape.len() != stride.len() {
        return Err(bad(format!("it has {} sizes and {} strides", shape.len(), stride.len())));
    }
    let last =
        shape.iter().zip(&stride).try_fold(offset, |n, (&d, &s)| n.checked_add(d.saturating_sub(1).checked_mul(s)?));
    if !shape.contains(&0) && last.is_none_or(|n| n >= len) {
        return Err(bad(format!(
            "shape {shape:?} with strides {stride:?} at {offset} leaves its storage of {len} elements"
        )));
    }
    Ok(StridedView { dtype, width, data, offset, shape, stride })
}

fn gather<'a>(place: &StridedView<'a>, bytes: usize) -> Result<Cow<'a, [u8]>> {
    let StridedView { width, data, offset, shape, stride, .. } = place;
    if bytes == 0 {
        return Ok(Cow::Borrowed(&[]));
    }
    let mut expected = 1;
    let row_major = shape.iter().zip(stride).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    });
    if row_major {
        let start = offset * width;
        return Ok(Cow::Borrowed(&data[start..start + bytes]));
    }
    let mut out = Vec::with_capacity(bytes);
    let mut index = vec![0; shape.len()];
    let mut at = *offset;
    while out.len() < bytes {
        out.extend_from_slice(&data[at * width..][..*width]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += stride[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= stride[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(Cow::Owned(out))
}

/// Whether a global makes tensors: an entry made by it is a tensor we cannot read, not something beside the weights.
pub(super) fn rebuilds(pickle: &Pickle, global: Id) -> bool {
    pickle.global(global).is_some_and(|(module, name)| module.starts_with(b"torch") && name.starts_with(b"_rebuild"))
}
