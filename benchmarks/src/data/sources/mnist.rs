//! MNIST's own files (IDX), and every set that is shipped the same way: Fashion-MNIST, KMNIST, EMNIST.

use crate::data::array::Array;
use crate::data::array_set::ArraySet;
use crate::data::blob::{Blob, digest_of, megabytes, reason, spool};
use crate::data::dtype::Dtype;
use crate::data::place::existing;
use crate::data::query::Query;
use crate::data::reader::{Found, base_name};
use crate::data::source::Source;
use flate2::read::MultiGzDecoder;
use robust_core::{DataCard, Error, Result, nearest};
use std::path::{Path, PathBuf};

pub(super) const SOURCE: Source = Source {
    scheme: "mnist",
    summary: "folder of IDX files, plain or .gz (MNIST, Fashion-MNIST, KMNIST)",
    example: "mnist:data/mnist?split=test",
    params: &[&["split", "offset"]],
    recognises: |path, _| Ok(path.is_dir() && is_here(path)),
    open: |place, query| open(&existing(place)?, query),
};

const SPLITS: [(&str, &str); 2] = [("test", "t10k"), ("train", "train")];
/// Where torchvision keeps them below the folder one names.
const BELOW: [&str; 3] = ["", "raw", "MNIST/raw"];

/// `mnist:DIR?split=test|train`.
fn open(dir: &Path, query: &Query) -> Result<Found> {
    let split = query.get("split").unwrap_or("test");
    let Some((_, prefix)) = SPLITS.iter().find(|(name, _)| *name == split) else {
        let hint = nearest(split, SPLITS.map(|(name, _)| name)).unwrap_or("test");
        return Err(Error::usage(format!("unknown split `{split}`")).hint(format!("did you mean `split={hint}`?")));
    };
    let mut notes = vec![];
    let images = idx_bytes(&locate(dir, prefix, "images", 3)?, &mut notes)?;
    let labels = idx_bytes(&locate(dir, prefix, "labels", 1)?, &mut notes)?;
    let name = format!("mnist:{}?split={split}", base_name(dir));
    Ok(Found { data: Box::new(pair(&dir.display().to_string(), name, &images, &labels)?), notes })
}

/// Whether a folder looks like one of IDX files.
fn is_here(dir: &Path) -> bool {
    SPLITS.iter().any(|(_, prefix)| locate(dir, prefix, "images", 3).is_ok())
}

/// A data set from the contents of two IDX files. The digest is that of the unpacked contents.
pub(super) fn pair(subject: &str, name: String, images: &Blob, labels: &Blob) -> Result<ArraySet> {
    let within = |part: &str| format!("{subject} ({part})");
    let fail = |e: std::io::Error| Error::load(subject, e);
    let parts = [("images", images.digest().map_err(fail)?), ("labels", labels.digest().map_err(fail)?)];
    let card = DataCard { name, digest: digest_of(&parts), samples: 0, classes: None };
    let set =
        ArraySet::new(subject, card, idx(&within("images"), images, 3)?, Some(&idx(&within("labels"), labels, 1)?))?;
    // The files hold no names; letters and merged classes (EMNIST) are not digits.
    let digits = set.all_labels().iter().all(|&label| label < 10);
    Ok(set.with_classes(digits.then(|| (0..10).map(|d: u32| d.to_string()).collect())))
}

fn locate(dir: &Path, prefix: &str, part: &str, rank: u32) -> Result<PathBuf> {
    let names = ["-", "."].map(|sep| format!("{prefix}-{part}{sep}idx{rank}-ubyte"));
    let candidates = BELOW.iter().flat_map(|below| {
        let names = &names;
        ["", ".gz"]
            .into_iter()
            .flat_map(move |end| names.iter().map(move |n| dir.join(below).join(format!("{n}{end}"))))
    });
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::load(dir.display(), format!("no file {} in it", names[0]))
            .hint("the four IDX files of MNIST are wanted, as they are or as .gz")
    })
}

/// The contents, unpacked to a scratch file where they are packed.
fn idx_bytes(path: &Path, notes: &mut Vec<String>) -> Result<Blob> {
    let blob = Blob::open(path)?;
    let fail = |e: std::io::Error| Error::load(path.display(), reason(e));
    if blob.head(2).map_err(fail)? != [0x1F, 0x8B] {
        return match path.extension().is_some_and(|e| e == "gz") {
            true => Err(Error::load(path.display(), "not a gzip file")),
            false => Ok(blob),
        };
    }
    let unpacked = spool(MultiGzDecoder::new(blob.reader()), blob.len()).map_err(fail)?;
    if unpacked.len() > 10 << 20 {
        notes.push(format!("unpacked {} to {} of temporary space", path.display(), megabytes(unpacked.len())));
    }
    Ok(unpacked)
}

/// An IDX file of bytes with `rank` dimensions; images gain the one channel they have.
fn idx(subject: &str, blob: &Blob, rank: usize) -> Result<Array> {
    let header_len = 4 + 4 * rank;
    let head = blob.head(header_len).map_err(|e| Error::load(subject, e))?;
    let Some((magic, dims)) = head.split_first_chunk::<4>().filter(|_| head.len() == header_len) else {
        return Err(Error::load(subject, format!("{} bytes are too few for an IDX header", head.len())));
    };
    let (magic, wanted) = (u32::from_be_bytes(*magic), 0x800 | rank as u32);
    if magic != wanted {
        return Err(Error::load(
            subject,
            format!("starts with {magic:#010x}, an IDX file of bytes with {wanted:#010x}"),
        ));
    }
    let (dims, _) = dims.as_chunks::<4>();
    let mut shape: Vec<usize> = dims.iter().map(|d| u32::from_be_bytes(*d) as usize).collect();
    if rank == 3 {
        shape.insert(1, 1);
    }
    let body = blob.slice(header_len as u64, blob.len() - header_len as u64);
    Array::new(subject, body.ok_or_else(|| Error::load(subject, "truncated"))?, shape, Dtype::U8)
}
