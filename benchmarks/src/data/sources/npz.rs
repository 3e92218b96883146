//! NumPy's archives of arrays: a zip file of .npy files, stored or deflated.

use super::npy;
use crate::data::array_set::ArraySet;
use crate::data::blob::{Blob, Cursor, digest_of, megabytes, reason, spool};
use crate::data::named::{chosen, pick_arrays};
use crate::data::place::existing;
use crate::data::query::Query;
use crate::data::reader::{Found, base_name};
use crate::data::source::{Source, ends_with};
use robust_core::{DataCard, Error, Result};
use std::io::BufReader;
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

pub(super) const SOURCE: Source = Source {
    scheme: "npz",
    summary: "arrays x (or images, data) and y (or labels, targets) of an .npz file",
    example: "npz:cifar10.npz?x=x_test&y=y_test",
    params: &[&["x", "y", "offset", "domain"]],
    recognises: |path, _| Ok(ends_with(path, ".npz")),
    open: |place, query| open(&existing(place)?, query),
};

/// `npz:FILE?x=NAME&y=NAME`.
fn open(path: &Path, query: &Query) -> Result<Found> {
    let blob = Blob::open(path)?;
    let subject = path.display().to_string();
    let mut zip = ZipArchive::new(blob.reader()).map_err(|e| unreadable(&subject, e))?;
    let mut names = vec![];
    for name in zip.file_names() {
        let name = name.map_err(|e| unreadable(&subject, e))?;
        names.push(name.strip_suffix(".npy").unwrap_or(&name).to_string());
    }
    let (x, y) = pick_arrays(&subject, &names, query)?;
    let mut notes = vec![chosen(x, y)];
    let mut array = |name: &str| {
        npy::array(&format!("{subject} (`{name}`)"), &member(&subject, &mut zip, &blob, name, &mut notes)?)
    };
    let (images, labels) = (array(x)?, y.map(array).transpose()?);
    let hash = blob.digest().map_err(|e| Error::load(&subject, e))?;
    let name = format!("npz:{}", base_name(path));
    let names: Vec<_> = [x].into_iter().chain(y).map(|name| (name, hash)).collect();
    let card = DataCard { name, digest: digest_of(&names), samples: 0, classes: None };
    Ok(ArraySet::new(&subject, card, images, labels.as_ref())?.found(notes))
}

/// The bytes of one member: a span of the archive where it is stored, else unpacked to a scratch file.
fn member(
    subject: &str,
    zip: &mut ZipArchive<BufReader<Cursor>>,
    archive: &Blob,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Blob> {
    let full = format!("{name}.npy");
    let full = if zip.index_for_name(&full).is_some() { full } else { name.to_string() };
    let mut file = zip.by_name(&full).map_err(|e| unreadable(subject, e))?;
    let fail = |e: std::io::Error| Error::load(format!("{subject} (`{name}`)"), reason(e));
    if file.compression() != CompressionMethod::Stored {
        let packed = file.compressed_size();
        let unpacked = spool(&mut file, packed).map_err(fail)?;
        notes.push(format!("unpacked `{name}` to {} of temporary space", megabytes(unpacked.len())));
        return Ok(unpacked);
    }
    // Rows are read past the zip reader, so its checksum is asked for once, here.
    let len = std::io::copy(&mut file, &mut std::io::sink()).map_err(fail)?;
    let span = file.data_start().and_then(|start| archive.slice(start, len));
    span.ok_or_else(|| Error::load(subject, format!("`{name}` lies outside the file")))
}

fn unreadable(subject: &str, error: zip::result::ZipError) -> Error {
    Error::load(subject, error.to_string().to_lowercase())
}
