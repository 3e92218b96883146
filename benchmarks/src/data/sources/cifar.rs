//! CIFAR-10 and CIFAR-100 as published, binary or pickled by Python, in a folder or in the archive they come in. Images
//! are read where they lie: rows of 3x32x32 bytes.

use crate::data::archive;
use crate::data::array::Array;
use crate::data::array_set::ArraySet;
use crate::data::blob::{Blob, digest_of};
use crate::data::cache::Cache;
use crate::data::pickle::{Object, Pickle};
use crate::data::place::existing;
use crate::data::query::Query;
use crate::data::reader::{Found, base_name};
use crate::data::source::Source;
use crate::data::tree::{EntryPlace, Store, Tree};
use robust_core::{DataCard, Error, Result, nearest};
use std::path::Path;

pub(super) const TEN: Source = Source {
    scheme: "cifar10",
    summary: "CIFAR-10 as published: folder or .tar.gz of binary or Python batches",
    example: "cifar10:cifar-10-python.tar.gz?split=test",
    params: &[&["split", "cache", "offset"]],
    recognises: |path, _| Ok(is_here(path) == Some(Cifar::Ten)),
    open: |place, query| open(&existing(place)?, Cifar::Ten, query),
};

pub(super) const HUNDRED: Source = Source {
    scheme: "cifar100",
    summary: "CIFAR-100 as published, with fine or coarse labels",
    example: "cifar100:cifar-100-binary?labels=fine",
    params: &[&["split", "labels", "cache", "offset"]],
    recognises: |path, _| Ok(is_here(path) == Some(Cifar::Hundred)),
    open: |place, query| open(&existing(place)?, Cifar::Hundred, query),
};

const ROW: [usize; 3] = [3, 32, 32];
const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const BATCHES: [&str; 5] = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];
/// What the archives unpack to.
const BELOW: [&str; 5] = ["", "cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary"];
/// Lists of names are read whole.
const MAX_NAMES: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cifar {
    Ten,
    Hundred,
}

impl Cifar {
    /// The files of a split, without the binary version's `.bin`.
    fn files(self, train: bool) -> &'static [&'static str] {
        match (self, train) {
            (Cifar::Ten, false) => &["test_batch"],
            (Cifar::Ten, true) => &BATCHES,
            (Cifar::Hundred, false) => &["test"],
            (Cifar::Hundred, true) => &["train"],
        }
    }

    fn scheme(self) -> &'static str {
        if self == Cifar::Ten { "cifar10" } else { "cifar100" }
    }

    /// Where names of classes are kept: pickled, binary.
    fn meta(self, coarse: bool) -> [&'static str; 2] {
        match (self, coarse) {
            (Cifar::Ten, _) => ["batches.meta", "batches.meta.txt"],
            (Cifar::Hundred, false) => ["meta", "fine_label_names.txt"],
            (Cifar::Hundred, true) => ["meta", "coarse_label_names.txt"],
        }
    }
}

/// Which of the two a folder looks like.
fn is_here(dir: &Path) -> Option<Cifar> {
    let has = |name: &str| BELOW.iter().any(|below| dir.join(below).join(name).is_file());
    match () {
        _ if has("test_batch") || has("test_batch.bin") => Some(Cifar::Ten),
        _ if has("fine_label_names.txt") || (has("meta") && has("test")) => Some(Cifar::Hundred),
        _ => None,
    }
}

/// `cifar10:PATH?split=test|train`, `cifar100:PATH?split=test|train&labels=fine|coarse`.
fn open(path: &Path, kind: Cifar, query: &Query) -> Result<Found> {
    let one_of = |key: &str, known: [&'static str; 2]| match query.get(key) {
        None => Ok(known[0]),
        Some(asked) => known.into_iter().find(|k| *k == asked).ok_or_else(|| {
            let hint = nearest(asked, known).unwrap_or(known[0]);
            Error::usage(format!("unknown {key} `{asked}`")).hint(format!("did you mean `{key}={hint}`?"))
        }),
    };
    let (split, labels) = (one_of("split", ["test", "train"])?, one_of("labels", ["fine", "coarse"])?);
    let (train, coarse) = (split == "train", labels == "coarse");
    let parts = Parts::find(path, kind, train, coarse, &Cache::of(query))?;
    let subject = path.display().to_string();
    let hash = |(name, blob): &(String, Blob)| Ok((name.clone(), blob.digest().map_err(|e| Error::load(name, e))?));
    let mut digests = parts.data.iter().map(hash).collect::<Result<Vec<_>>>()?;
    let mut name = format!("{}:{}?split={split}", kind.scheme(), base_name(path));
    if kind == Cifar::Hundred {
        digests.push(("labels".to_string(), blake3::hash(labels.as_bytes())));
        name += &format!("&labels={labels}");
    }
    let digests: Vec<(&str, blake3::Hash)> = digests.iter().map(|(name, hash)| (name.as_str(), *hash)).collect();
    let (images, labels) = match parts.pickled {
        true => pickled(&subject, &parts.data, kind, coarse)?,
        false => binary(&subject, parts.data, kind, coarse)?,
    };
    let classes = match parts.names {
        Some((name, blob)) => Some(names(&name, &blob, coarse)?),
        None => (kind == Cifar::Ten).then(|| CLASSES.map(str::to_string).to_vec()),
    };
    let known = classes.as_ref().map_or(if coarse { 20 } else { 100 }, Vec::len);
    if let Some((id, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= known) {
        return Err(Error::load(&subject, format!("label {label} of sample {id}: there are {known} classes")));
    }
    let card = DataCard { name, digest: digest_of(&digests), samples: 0, classes: None };
    let data = ArraySet::with_labels(&subject, card, images, labels)?.with_classes(classes);
    Ok(Found { data: Box::new(data), notes: parts.notes })
}

/// The files of one split, by their names.
struct Parts {
    data: Vec<(String, Blob)>,
    names: Option<(String, Blob)>,
    pickled: bool,
    notes: Vec<String>,
}

impl Parts {
    fn find(path: &Path, kind: Cifar, train: bool, coarse: bool, cache: &Cache) -> Result<Self> {
        let wanted = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let files = kind.files(train).iter();
            files.into_iter().any(|file| name == *file || name.strip_suffix(".bin") == Some(file))
                || kind.meta(coarse).contains(&name)
        };
        let (store, tree, notes) = if path.is_dir() {
            (Store::Folder(path.to_path_buf()), beside(path, &wanted)?, vec![])
        } else {
            let archive = archive::open(path, &wanted, cache)?;
            (Store::Packed(archive.blob), archive.tree, archive.notes)
        };
        let find = |name: &str| {
            let is = |(path, ..): &&(String, u64, EntryPlace)| path.rsplit('/').next() == Some(name);
            // The last of a name counts, as if the archive were unpacked.
            tree.files.iter().rev().find(is).map(|(path, _, place)| {
                let blob = store.blob(path, *place).map_err(|why| Error::load(path, why))?;
                Ok::<_, Error>((name.to_string(), blob))
            })
        };
        let files = kind.files(train);
        let mut missing = files[0].to_string();
        for pickled in [true, false] {
            let mut data = vec![];
            for file in files {
                let file = if pickled { file.to_string() } else { format!("{file}.bin") };
                match find(&file).transpose()? {
                    Some(found) => data.push(found),
                    None if !data.is_empty() => missing = file,
                    None => break,
                }
            }
            if data.len() == files.len() {
                let names = find(kind.meta(coarse)[usize::from(!pickled)]).transpose()?;
                return Ok(Self { data, names, pickled, notes });
            }
        }
        Err(Error::load(path.display(), format!("no file {missing} (or .bin) in it"))
            .hint(format!("the folder or archive as published is wanted: {}", kind.scheme())))
    }
}

/// The wanted files of a folder and of the folders the archives unpack to.
fn beside(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
    let mut tree = Tree::default();
    for below in BELOW {
        let Ok(listing) = dir.join(below).read_dir() else { continue };
        for entry in listing.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let (true, Ok(file)) = (wanted(&name), entry.path().metadata())
                && file.is_file()
            {
                let path = if below.is_empty() { name } else { format!("{below}/{name}") };
                tree.file(path, file.len(), EntryPlace::File).map_err(|why| Error::load(dir.display(), why))?;
            }
        }
    }
    Ok(tree)
}

fn binary(subject: &str, data: Vec<(String, Blob)>, kind: Cifar, coarse: bool) -> Result<(Array, Vec<u32>)> {
    let skip = if kind == Cifar::Ten { 1 } else { 2 };
    let images = Array::records(subject, data.into_iter().map(|(_, blob)| blob).collect(), &ROW, skip)?;
    // CIFAR-100 has the coarse label first.
    let which = if kind == Cifar::Ten || coarse { 0 } else { 1 };
    let labels = images.skipped(subject)?.iter().map(|skipped| u32::from(skipped[which])).collect();
    Ok((images, labels))
}

fn pickled(subject: &str, data: &[(String, Blob)], kind: Cifar, coarse: bool) -> Result<(Array, Vec<u32>)> {
    let key = match (kind, coarse) {
        (Cifar::Ten, _) => "labels",
        (Cifar::Hundred, false) => "fine_labels",
        (Cifar::Hundred, true) => "coarse_labels",
    };
    let (mut blobs, mut labels) = (vec![], vec![]);
    for (name, blob) in data {
        let what = format!("{subject} ({name})");
        let fail = |why: String| Error::load(&what, why);
        let pickle = Pickle::read(blob).map_err(fail)?;
        let Some(Object::Array { shape, bytes }) = pickle.entry("data").map_err(fail)? else {
            return Err(fail("no array `data` in it".to_string()));
        };
        let own = pickle.integers(key).map_err(fail)?;
        let rows = match shape.as_slice() {
            [rows, 3072] | [rows, 3, 32, 32] => *rows,
            _ => return Err(fail(format!("`data` has shape {shape:?}, rows of 3072 are wanted"))),
        };
        let held = blob.slice(bytes.0, bytes.1).filter(|held| held.len() / 3072 == rows && held.len() % 3072 == 0);
        blobs.push(held.ok_or_else(|| fail(format!("`data` of shape {shape:?} has {} bytes", bytes.1)))?);
        if own.len() as u64 != rows {
            return Err(fail(format!("{rows} images but {} labels", own.len())));
        }
        for label in own {
            labels.push(u32::try_from(label).map_err(|_| fail(format!("label {label} is not a class number")))?);
        }
    }
    Ok((Array::records(subject, blobs, &ROW, 0)?, labels))
}

fn names(name: &str, blob: &Blob, coarse: bool) -> Result<Vec<String>> {
    let fail = |why: String| Error::load(name, why);
    if blob.len() > MAX_NAMES {
        return Err(fail(format!("{} bytes are not a list of names", blob.len())));
    }
    if name.ends_with(".txt") {
        let text = blob.read_all().map_err(|e| fail(e.to_string()))?;
        let text = String::from_utf8_lossy(&text);
        return Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect());
    }
    let key = match name {
        "meta" if coarse => "coarse_label_names",
        "meta" => "fine_label_names",
        _ => "label_names",
    };
    Pickle::read(blob).and_then(|pickle| pickle.strings(key)).map_err(fail)
}
