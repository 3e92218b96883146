//! A tensor's bytes out of its storage: strides honoured, everything the pickle claims checked against what is there.

use super::pickle::{Id, Node, Pickle};
use super::zip::Archive;
use ::safetensors::Dtype;
use robust_core::{Error, Kind, Result};
use std::borrow::Cow;

const MAX_RANK: usize = 32;

/// torch's storage classes; a tensor's element type is its storage's.
const STORAGES: &[(&[u8], Dtype, usize)] = &[
    (b"FloatStorage", Dtype::F32, 4),
    (b"DoubleStorage", Dtype::F64, 8),
    (b"HalfStorage", Dtype::F16, 2),
    (b"BFloat16Storage", Dtype::BF16, 2),
    (b"LongStorage", Dtype::I64, 8),
    (b"IntStorage", Dtype::I32, 4),
    (b"ShortStorage", Dtype::I16, 2),
    (b"CharStorage", Dtype::I8, 1),
    (b"ByteStorage", Dtype::U8, 1),
    (b"BoolStorage", Dtype::BOOL, 1),
];

fn bad(why: impl Into<String>) -> Error {
    Error::new(Kind::Load, why)
}

/// One tensor's place in its storage, checked.
struct Place<'a> {
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
    zip: &Archive<'a>,
    root: &str,
    id: Id,
    budget: &mut usize,
) -> Result<(Dtype, Vec<usize>, Cow<'a, [u8]>)> {
    let place = place(pickle, zip, root, id)?;
    let bytes = place.shape.iter().try_fold(place.width, |n, &d| n.checked_mul(d));
    let bytes = bytes.filter(|n| n <= budget).ok_or_else(|| {
        bad(format!("its shape {:?} needs more memory than the whole file accounts for", place.shape))
    })?;
    *budget -= bytes;
    let data = gather(&place, bytes)?;
    Ok((place.dtype, place.shape, data))
}

fn place<'a>(pickle: &Pickle, zip: &Archive<'a>, root: &str, id: Id) -> Result<Place<'a>> {
    let &Node::Tensor { storage, offset, size, stride } = pickle.node(id) else {
        return Err(bad(format!("it is {}", pickle.describe(id))));
    };
    let &Node::Storage { class, key, len } = pickle.node(storage) else {
        return Err(bad(format!("its data is {}, which is not understood", pickle.describe(storage))));
    };
    let known = match pickle.global(class) {
        Some((b"torch", class)) => STORAGES.iter().find(|(name, ..)| *name == class),
        _ => None,
    };
    let &(_, dtype, width) =
        known.ok_or_else(|| bad(format!("its elements are of {}, which is not understood", pickle.describe(class))))?;
    let key = pickle.text(key).ok_or_else(|| bad("its storage has no name"))?;
    let data = zip.get(&format!("{root}data/{key}"));
    let data = data.ok_or_else(|| bad(format!("its storage `{}` is not in the file", key.escape_debug())))?;
    let len = natural(pickle, len, "number of elements")?;
    if len.checked_mul(width).is_none_or(|n| n > data.len()) {
        return Err(bad(format!(
            "its storage claims {len} elements of {width} bytes, the file has {} bytes",
            data.len()
        )));
    }
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
    Ok(Place { dtype, width, data, offset, shape, stride })
}

fn natural(pickle: &Pickle, id: Id, what: &str) -> Result<usize> {
    match pickle.node(id) {
        Node::Int(n) => usize::try_from(*n).map_err(|_| bad(format!("its {what} {n} is negative"))),
        _ => Err(bad(format!("its {what} is {}", pickle.describe(id)))),
    }
}

fn gather<'a>(place: &Place<'a>, bytes: usize) -> Result<Cow<'a, [u8]>> {
    let Place { width, data, offset, shape, stride, .. } = place;
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
