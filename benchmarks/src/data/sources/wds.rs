//! WebDataset: tar shards of files that belong together by their name up to the first dot, `KEY.jpg` and `KEY.cls` (a
//! number) or `KEY.json` (with a `label`). Samples keep the order of the shards, sorted by name, and within them.

use crate::data::archive;
use crate::data::blob::{Blob, digest_of};
use crate::data::cache::Cache;
use crate::data::images::{ImageSet, Images, preprocess};
use crate::data::place::existing;
use crate::data::query::Query;
use crate::data::reader::{Found, base_name};
use crate::data::source::{Source, never};
use crate::data::tree::{EntryPlace, Store, Tree, is_hidden_folder};
use robust_core::{DataCard, Error, PREPROCESSING, Result};
use std::path::{Path, PathBuf};

pub(super) const SOURCE: Source = Source {
    scheme: "wds",
    summary: "WebDataset: tar shards of KEY.jpg (png, webp, ppm, bmp, tif) with KEY.cls or KEY.json",
    example: "wds:shards/val-{000..049}.tar?resize=256&crop=224",
    params: &[&PREPROCESSING, &["cache", "offset"]],
    recognises: never,
    open,
};

const IMAGES: [&str; 10] = ["jpg", "jpeg", "png", "webp", "ppm", "pgm", "pbm", "bmp", "tif", "tiff"];
const LABELS: [&str; 2] = ["cls", "json"];
/// Under which names a label is looked for in JSON.
const KEYS: [&str; 4] = ["label", "cls", "class", "class_id"];
const MAX_LABEL: u64 = 1 << 20;
const MAX_SHARDS: usize = 100_000;

/// `wds:PATH`: a shard, a folder of shards, or a pattern such as `val-{000..049}.tar`.
fn open(place: &str, query: &Query) -> Result<Found> {
    let prepare = preprocess(query)?;
    let shards = shards(place)?;
    let cache = Cache::of(query);
    let mut set = Shards { stores: vec![], samples: vec![] };
    let (mut notes, mut digests, mut ignored) = (vec![], vec![], 0);
    for path in &shards {
        let archive = archive::open(path, &wanted, &cache)?;
        digests.push((base_name(path), archive.hash));
        notes.extend(archive.notes);
        let store = Store::Packed(archive.blob);
        ignored += gather(&path.display().to_string(), &store, archive.tree, &mut set)?;
        set.stores.push(store);
    }
    if set.samples.is_empty() {
        return Err(Error::load(place, "no images in it").hint("KEY.jpg and KEY.cls are wanted in each tar"));
    }
    if ignored > 0 {
        notes.push(format!("{ignored} entries without an image are passed over"));
    }
    let digests: Vec<(&str, blake3::Hash)> = digests.iter().map(|(name, hash)| (name.as_str(), *hash)).collect();
    let card = DataCard {
        name: format!("wds:{}", base_name(Path::new(place))),
        digest: digest_of(&digests),
        samples: set.samples.len() as u64,
        classes: None,
    };
    Ok(Found { data: Box::new(ImageSet::new(card, set, prepare)), notes })
}

/// The shards in the order of their names.
fn shards(place: &str) -> Result<Vec<PathBuf>> {
    if let Some((start, end)) = place.find('{').zip(place.find('}')).filter(|_| !Path::new(place).exists()) {
        let range = place.get(start + 1..end).and_then(|range| range.split_once(".."));
        let numbers = range.and_then(|(a, b)| Some((a.len(), a.parse::<usize>().ok()?, b.parse::<usize>().ok()?)));
        let (width, first, last) = numbers.filter(|(_, a, b)| a <= b && b - a < MAX_SHARDS).ok_or_else(|| {
            Error::usage(format!("`{place}` is not a pattern of shards")).hint("such as `val-{000..049}.tar`")
        })?;
        let name = |i: usize| format!("{}{i:0width$}{}", &place[..start], &place[end + 1..]);
        return (first..=last).map(|i| existing(&name(i))).collect();
    }
    let path = existing(place)?;
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let fail = |e: std::io::Error| Error::load(place, e);
    let mut found = vec![];
    for entry in path.read_dir().map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.file_name().is_some_and(|name| archive::is_tar(&name.to_string_lossy())) {
            found.push(path);
        }
    }
    found.sort();
    match found.len() {
        0 => Err(Error::load(place, "no .tar files in it").hint("a folder of images is `folder:`")),
        1..=MAX_SHARDS => Ok(found),
        n => Err(Error::load(place, format!("{n} shards, at most {MAX_SHARDS} are read"))),
    }
}

fn wanted(path: &str) -> bool {
    !path.split('/').any(is_hidden_folder)
        && split(path).is_some_and(|(_, end)| IMAGES.contains(&end.as_str()) || LABELS.contains(&end.as_str()))
}

/// Key and ending: the first dot of the last component divides them.
fn split(path: &str) -> Option<(&str, String)> {
    let name = path.rfind('/').map_or(0, |at| at + 1);
    let dot = name + path[name..].find('.')?;
    Some((&path[..dot], path[dot + 1..].to_ascii_lowercase()))
}

/// What is known of one key so far.
#[derive(Default)]
struct Parts {
    key: String,
    image: Option<(Box<str>, EntryPlace)>,
    label: Option<u32>,
}

/// Files of one key follow each other. Returns how many keys had no image.
fn gather(subject: &str, store: &Store, tree: Tree, set: &mut Shards) -> Result<u64> {
    let fail = |why: String| Error::load(subject, why);
    let shard = set.stores.len() as u32;
    let mut finish = |parts: Parts| match parts {
        Parts { image: None, .. } => Ok(1),
        Parts { image: Some((name, place)), label: Some(label), .. } => {
            set.samples.push(Sample { shard, label, name, place });
            Ok(0)
        }
        Parts { key, .. } => Err(fail(format!("sample {key} has no label")).hint("KEY.cls or a `label` in KEY.json")),
    };
    let (mut parts, mut ignored) = (None::<Parts>, 0);
    for (path, _, place) in tree.files {
        let Some((key, ending)) = split(&path) else { continue };
        if parts.as_ref().is_none_or(|parts| parts.key != key) {
            let done = parts.replace(Parts { key: key.to_string(), ..Parts::default() });
            ignored += done.map(&mut finish).transpose()?.unwrap_or(0);
        }
        let Some(parts) = &mut parts else { continue };
        if IMAGES.contains(&ending.as_str()) {
            if parts.image.is_some() {
                return Err(fail(format!("sample {key} has two images")));
            }
            parts.image = Some((path.as_str().into(), place));
        } else {
            let own = |why: String| fail(format!("{path}: {why}"));
            let label = label(&store.blob(&path, place).map_err(own)?, &ending).map_err(own)?;
            match (parts.label, label) {
                (Some(a), Some(b)) if a != b => return Err(own(format!("label {b}, but {a} beside it"))),
                (known, found) => parts.label = found.or(known),
            }
        }
    }
    ignored += parts.map(finish).transpose()?.unwrap_or(0);
    Ok(ignored)
}

/// `None` for JSON without a label.
fn label(blob: &Blob, ending: &str) -> Result<Option<u32>, String> {
    if blob.len() > MAX_LABEL {
        return Err(format!("{} bytes are not a label", blob.len()));
    }
    let bytes = blob.read_all().map_err(|e| e.to_string())?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text:.40}` is not a class number"));
    if ending == "cls" {
        return number(String::from_utf8_lossy(&bytes).trim()).map(Some);
    }
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    match KEYS.iter().find_map(|key| json.get(key)) {
        None => Ok(None),
        Some(value) => number(&value.to_string()).map(Some),
    }
}

struct Sample {
    shard: u32,
    label: u32,
    name: Box<str>,
    place: EntryPlace,
}

struct Shards {
    stores: Vec<Store>,
    samples: Vec<Sample>,
}

impl Images for Shards {
    fn label(&self, id: u64) -> u32 {
        self.samples[id as usize].label
    }

    fn name(&self, id: u64) -> String {
        self.samples[id as usize].name.to_string()
    }

    fn bytes(&self, id: u64) -> Result<Vec<u8>, String> {
        let sample = &self.samples[id as usize];
        self.stores[sample.shard as usize].bytes(&sample.name, sample.place)
    }

    fn written(&self) -> Option<String> {
        let at = self.stores.iter().position(Store::written)?;
        Some(format!("shard {} of the data set", at + 1))
    }
}
