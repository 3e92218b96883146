//! Where the elements of tensors are: members of a zip archive since PyTorch 1.6, before it one after the other behind the
//! pickle, each with its number of elements in front.

use super::node::{Id, Node};
use super::pickle::Pickle;
use super::zip::Archive;
use ::safetensors::Dtype;
use robust_core::{Error, Kind, Result};
use std::collections::BTreeMap;

/// torch's storage classes; a tensor's element type is its storage's.
const CLASSES: &[(&[u8], Dtype, usize)] = &[
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

pub(super) fn bad(why: impl Into<String>) -> Error {
    Error::new(Kind::Load, why)
}

/// The storages of a file.
pub(super) enum Storages<'a> {
    /// Members of an archive, under this folder.
    Zip(Archive<'a>, &'a str),
    /// By name.
    Behind(BTreeMap<&'a str, &'a [u8]>),
}

/// The elements that a tensor's place is counted in.
pub(super) struct Elements<'a> {
    pub dtype: Dtype,
    /// Bytes of one.
    pub width: usize,
    pub len: usize,
    pub data: &'a [u8],
}

impl<'a> Storages<'a> {
    fn get(&self, key: &str) -> Option<&'a [u8]> {
        match self {
            Storages::Zip(zip, root) => zip.get(&format!("{root}data/{key}")),
            Storages::Behind(all) => all.get(key).copied(),
        }
    }

    /// The elements of a storage, or of the part of it that is meant; all claims checked against the bytes that are there.
    pub fn elements(&self, pickle: &Pickle, id: Id) -> Result<Elements<'a>> {
        let &Node::Storage { class, key, len, view } = pickle.node(id) else {
            return Err(bad(format!("its data is {}, which is not understood", pickle.describe(id))));
        };
        let (dtype, width) = class_of(pickle, class)?;
        let key = pickle.text(key).ok_or_else(|| bad("its storage has no name"))?;
        let data = self.get(key);
        let data = data.ok_or_else(|| bad(format!("its storage `{}` is not in the file", key.escape_debug())))?;
        let len = natural(pickle, len, "number of elements")?;
        if len.checked_mul(width).is_none_or(|n| n > data.len()) {
            return Err(bad(format!(
                "its storage claims {len} elements of {width} bytes, the file has {} bytes",
                data.len()
            )));
        }
        if let Node::None = pickle.node(view) {
            return Ok(Elements { dtype, width, len, data });
        }
        let Some(&[_, start, part]) = pickle.items(view) else {
            return Err(bad(format!("the part of its storage is {}", pickle.describe(view))));
        };
        let (start, part) = (natural(pickle, start, "part's offset")?, natural(pickle, part, "part's size")?);
        if start.checked_add(part).is_none_or(|end| end > len) {
            return Err(bad(format!("{part} elements at {start} leave its storage of {len} elements")));
        }
        Ok(Elements { dtype, width, len: part, data: &data[start * width..(start + part) * width] })
    }
}

/// Element type of a storage class, and the bytes of an element.
pub(super) fn class_of(pickle: &Pickle, class: Id) -> Result<(Dtype, usize)> {
    let known = match pickle.global(class) {
        // Of the GPU's classes (`torch.cuda.FloatStorage`) the file is the same.
        Some((b"torch" | b"torch.cuda", class)) => CLASSES.iter().find(|(name, ..)| *name == class),
        _ => None,
    };
    let &(_, dtype, width) =
        known.ok_or_else(|| bad(format!("its elements are of {}, which is not understood", pickle.describe(class))))?;
    Ok((dtype, width))
}

pub(super) fn natural(pickle: &Pickle, id: Id, what: &str) -> Result<usize> {
    match pickle.node(id) {
        Node::Int(n) => usize::try_from(*n).map_err(|_| bad(format!("its {what} {n} is negative"))),
        _ => Err(bad(format!("its {what} is {}", pickle.describe(id)))),
    }
}
