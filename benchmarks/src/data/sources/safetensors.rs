//! Images and labels as two tensors of a .safetensors file.

use crate::data::array::Array;
use crate::data::array_set::ArraySet;
use crate::data::blob::{Blob, digest_of};
use crate::data::dtype::{Dtype, ElementKind};
use crate::data::named::{chosen, pick_arrays};
use crate::data::place::existing;
use crate::data::query::Query;
use crate::data::reader::{Found, base_name};
use crate::data::source::{Source, ends_with};
use robust_core::{DataCard, Error, Result};
use safetensors::tensor::Metadata;
use std::path::Path;

pub(super) const SOURCE: Source = Source {
    scheme: "safetensors",
    summary: "tensors x (or images, data) and y (or labels, targets) of a .safetensors file",
    example: "safetensors:cifar10.safetensors",
    params: &[&["x", "y", "offset", "domain"]],
    recognises: |path, _| Ok(ends_with(path, ".safetensors")),
    open: |place, query| open(&existing(place)?, query),
};

/// Far beyond two tensors; the format's own limit of 100 MB would cost several times that once parsed.
const MAX_HEADER: u64 = 4 << 20;

/// `safetensors:FILE?x=NAME&y=NAME`.
fn open(path: &Path, query: &Query) -> Result<Found> {
    let blob = Blob::open(path)?;
    let subject = path.display().to_string();
    let fail = |why: String| Error::load(&subject, why);
    let mut len = [0; 8];
    blob.read_at(0, &mut len).map_err(|_| fail("too short for a safetensors header".to_string()))?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER {
        return Err(fail(format!(
            "not a safetensors file of images: a header of {len} bytes, at most {MAX_HEADER} are read"
        )));
    }
    let header = blob.slice(8, len).ok_or_else(|| fail("truncated in the header".to_string()))?;
    let header = header.read_all().map_err(|e| fail(e.to_string()))?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| fail(format!("header: {e}")))?;
    let (held, promised) = (blob.len() - 8 - len, header.data_len() as u64);
    if held != promised {
        return Err(fail(format!("the header promises {promised} bytes of tensors, the file has {held}")));
    }
    let (x, y, notes) = {
        let names = header.offset_keys();
        let (x, y) = pick_arrays(&subject, &names, query)?;
        (x.to_string(), y.map(str::to_string), vec![chosen(x, y)])
    };
    let tensor = |name: &str| tensor(&format!("{subject} (`{name}`)"), &blob, &header, 8 + len, name);
    let (images, labels) = (tensor(&x)?, y.as_deref().map(tensor).transpose()?);
    let hash = blob.digest().map_err(|e| fail(e.to_string()))?;
    let name = format!("safetensors:{}", base_name(path));
    let names: Vec<_> = [x.as_str()].into_iter().chain(y.as_deref()).map(|name| (name, hash)).collect();
    let card = DataCard { name, digest: digest_of(&names), samples: 0, classes: None };
    Ok(ArraySet::new(&subject, card, images, labels.as_ref())?.found(notes))
}

fn tensor(what: &str, blob: &Blob, header: &Metadata, data: u64, name: &str) -> Result<Array> {
    use safetensors::Dtype as Stored;
    let info = header.info(name).ok_or_else(|| Error::load(what, "not in the header"))?;
    let dtype = match info.dtype {
        Stored::U8 => Dtype::U8,
        Stored::U16 => Dtype::little(ElementKind::Unsigned, 2),
        Stored::U32 => Dtype::little(ElementKind::Unsigned, 4),
        Stored::U64 => Dtype::little(ElementKind::Unsigned, 8),
        Stored::I8 => Dtype::little(ElementKind::Signed, 1),
        Stored::I16 => Dtype::little(ElementKind::Signed, 2),
        Stored::I32 => Dtype::little(ElementKind::Signed, 4),
        Stored::I64 => Dtype::little(ElementKind::Signed, 8),
        Stored::BOOL => Dtype::little(ElementKind::Bool, 1),
        Stored::F16 => Dtype::little(ElementKind::Float, 2),
        Stored::F32 => Dtype::little(ElementKind::Float, 4),
        Stored::F64 => Dtype::little(ElementKind::Float, 8),
        other => {
            return Err(Error::load(what, format!("elements of type {other:?} are not read"))
                .hint("integers, booleans, F16, F32 and F64 are: `x.float()`"));
        }
    };
    let (from, to) = info.data_offsets;
    let span = blob.slice(data + from as u64, (to - from) as u64);
    Array::new(what, span.ok_or_else(|| Error::load(what, "truncated"))?, info.shape.clone(), dtype)
}
