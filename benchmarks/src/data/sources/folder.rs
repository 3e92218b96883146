//! ImageFolder: one folder per class, in a directory or in a tar archive. Classes, labels and the order of samples are
//! torchvision's: class folders sorted by name; within one, folders sorted by path and then files by name. Folders whose
//! names are numbers have their labels by number ([`numbering`]). A list of classes, beside the folders or named by
//! `?classes=FILE`, gives them other labels: a part of ImageNet keeps its own. Hidden folders and `__MACOSX` are not classes.

use crate::data::archive;
use crate::data::blob::Blob;
use crate::data::cache::Cache;
use crate::data::classes;
use crate::data::classes::Classes;
use crate::data::fixed;
use crate::data::images::{ImageSet, Images, joined, preprocess};
use crate::data::numbering;
use crate::data::place::existing;
use crate::data::query::Query;
use crate::data::reader::{Found, Labelling, base_name};
use crate::data::source::Source;
use crate::data::tree::{EntryPlace, Store, Tree, is_hidden_folder, walk};
use rayon::prelude::*;
use robust_core::{DataCard, Error, PREPROCESSING, Result};
use robust_imaging::size;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(super) const SOURCE: Source = Source {
    scheme: "folder",
    summary: "ImageFolder: one folder of PNG, JPEG, WebP, PPM, BMP or TIFF images per class, as it is or as .tar or .tar.gz",
    example: "folder:imagenet/val?resize=256&crop=224&interpolation=bilinear",
    params: &[&PREPROCESSING, &["classes", "subset", "cache", "offset"]],
    recognises: |path, _| Ok(path.is_dir() || archive::is_tar(&path.to_string_lossy())),
    open: |place, query| open(&existing(place)?, query),
};

/// What torchvision reads: `wds:` has the same without the dots.
const READ: [&str; 10] = [".png", ".jpg", ".jpeg", ".webp", ".ppm", ".pgm", ".pbm", ".bmp", ".tif", ".tiff"];
/// One level above the class folders, they would be taken for classes.
const SPLITS: [&str; 5] = ["train", "val", "valid", "validation", "test"];

fn wanted(path: &str) -> bool {
    classes::is_list(path) || (path.contains('/') && named_as(path, &READ))
}

/// What tools leave behind: `.ipynb_checkpoints`, `__MACOSX`, files of attributes.
fn is_hidden(path: &str) -> bool {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    file.starts_with("._") || folders.split('/').any(is_hidden_folder)
}

fn named_as(path: &str, endings: &[&str]) -> bool {
    let (path, longest) = (path.as_bytes(), endings.iter().map(|e| e.len()).max().unwrap_or(0));
    let end = path[path.len().saturating_sub(longest)..].to_ascii_lowercase();
    endings.iter().any(|ending| end.ends_with(ending.as_bytes()))
}

/// `folder:PATH?classes=FILE|sorted|natural|numbers|imagenet&subset=robustbench` and how to preprocess.
fn open(path: &Path, query: &Query) -> Result<Found> {
    let subject = path.display().to_string();
    let prepare = preprocess(query)?;
    let (store, mut tree, mut notes, hash) = if path.is_dir() {
        (Store::Folder(path.to_path_buf()), walk(path, &wanted)?, vec![], None)
    } else {
        let archive = archive::open(path, &wanted, &Cache::of(query))?;
        (Store::Packed(archive.blob), archive.tree, archive.notes, Some(archive.hash))
    };
    let (lists, images) = std::mem::take(&mut tree.files).into_iter().partition(|(path, ..)| classes::is_list(path));
    tree.files = images;
    let list = listed(query, &store, lists, &mut notes)?;
    let (folders, mut samples) = index(&subject, tree, hash.is_some(), &mut notes)?;
    let fixed = chosen(&subject, query, &mut samples)?;
    let asked = query.get("classes").filter(|way| numbering::WAYS[..3].contains(way));
    // A list's labels stand for those of the numbers, whose notes would only confuse.
    let mut counted = vec![];
    let numbering::Numbering { mut names, labels, mut labelling } = numbering::number(&folders, asked, &mut counted)?;
    let mut digests = digests(hash, &store, &folders, &mut samples);
    let mut name = format!("folder:{}", base_name(path));
    let mut imagenet = fixed && fixed::wnids().eq(names.iter().map(String::as_str));
    match fitting(list, &folders, &mut notes)? {
        Some((list, labels)) => {
            samples.iter_mut().for_each(|sample| sample.label = labels[sample.label as usize]);
            notes.push(format!("labels are those of {}, {} classes", list.name, list.classes.names.len()));
            digests = digests.map(|digest| digest.map(|d| joined(&d, &list.hash.to_string())));
            name += &format!("?classes={}", list.name);
            imagenet = fixed && fixed::wnids().zip(0..).all(|(wnid, label)| list.classes.label(&wnid) == Ok(label));
            names = list.classes.names;
            labelling = if list.asked { Labelling::Told } else { Labelling::Listed };
        }
        None => {
            notes.append(&mut counted);
            // What the files hold says nothing of how their folders are numbered.
            if labels.iter().zip(0..).any(|(label, place)| *label != place) {
                digests = digests.map(|digest| digest.map(|d| joined(&d, &names.join("\n"))));
            }
            samples.iter_mut().for_each(|sample| sample.label = labels[sample.label as usize]);
        }
    }
    let source = Folder { store, samples, labelling };
    if fixed && names.len() != fixed::CLASSES && query.get("subset").is_some() {
        let why = format!("{} classes are not ImageNet's, so labels would be others than RobustBench's", names.len());
        return Err(Error::load(subject, why)
            .hint("keep the folders of classes without images, or name a list of all 1,000: `?subset=robustbench&classes=FILE`"));
    }
    if fixed && names.len() == fixed::CLASSES {
        name += if name.contains('?') { "&" } else { "?" };
        name += &fixed_name(&source, imagenet, &mut notes);
        digests = digests.map(|digest| digest.map(|d| joined(&d, "subset=robustbench")));
    }
    let [digest, formerly] = digests;
    let digest = digest.unwrap_or_default();
    let card = DataCard { name, digest, samples: source.samples.len() as u64, classes: Some(names) };
    Ok(Found { data: Box::new(ImageSet::new(card, source, prepare).named_formerly(formerly)), notes })
}

/// What the name of the fixed set says of its images and labels: what makes published numbers no measure for it.
fn fixed_name(source: &Folder, imagenet: bool, notes: &mut Vec<String>) -> String {
    let mut name = "subset=robustbench".to_string();
    notes.push(format!("the {} images of ImageNet that RobustBench evaluates on", source.samples.len()));
    if let Some(side) = source.copied() {
        notes.push(format!(
            "all of them have the size or the shorter side {side}, so they are copies: published numbers are not compared"
        ));
        name += &format!("&copies={side}");
    }
    if !imagenet {
        notes.push(
            "the 1,000 classes are not known to be ImageNet's in their order (n01440764, ...): published numbers are not compared"
                .into(),
        );
        name += "&labels=others";
    }
    name
}

/// Keeps the images of `?subset=`; whether what is left is the set, also where nobody asked.
fn chosen(subject: &str, query: &Query, samples: &mut Vec<Sample>) -> Result<bool> {
    let Some(set) = query.get("subset") else { return Ok(fixed::is_whole(samples.iter().map(|s| &*s.name))) };
    let mut kept = fixed::select(subject, set, samples.iter().map(|s| &*s.name))?.into_iter();
    samples.retain(|_| kept.next().unwrap_or_default());
    Ok(true)
}

/// A list of classes, and whether the user named it.
struct List {
    name: String,
    hash: blake3::Hash,
    classes: Classes,
    asked: bool,
}

/// The labels that a list has for the folders, if it has them all.
fn fitting(list: Option<List>, folders: &[String], notes: &mut Vec<String>) -> Result<Option<(List, Vec<u32>)>> {
    let Some(list) = list else { return Ok(None) };
    let labels: Result<Vec<u32>, String> = folders.iter().map(|folder| list.classes.label(folder)).collect();
    match labels {
        Ok(labels) => Ok(Some((list, labels))),
        Err(why) if list.asked => Err(Error::load(&list.name, why)),
        // A file that merely has the name is not the user's word.
        Err(why) => {
            notes.push(format!("{} is not used: {why}", list.name));
            Ok(None)
        }
    }
}

/// The list `?classes=` names, else one beside the class folders.
fn listed(
    query: &Query,
    store: &Store,
    lists: Vec<(String, u64, EntryPlace)>,
    notes: &mut Vec<String>,
) -> Result<Option<List>> {
    let parse = |name: &str, blob: Blob, asked: bool| {
        if blob.len() > classes::MAX_LIST {
            return Err(Error::load(name, format!("{} bytes are not a list of classes", blob.len())));
        }
        let bytes = blob.read_all().map_err(|e| Error::load(name, e))?;
        let classes = Classes::parse(name, &bytes)?;
        Ok(Some(List { name: base_name(Path::new(name)), hash: classes.hash(&bytes), classes, asked }))
    };
    match (query.get("classes"), lists.first()) {
        (Some("sorted" | "natural" | "numbers"), _) | (None, None) => Ok(None),
        (Some("imagenet"), _) => {
            let text: String = fixed::wnids().map(|wnid| wnid + "\n").collect();
            parse("imagenet", Blob::memory(text.into_bytes()), true)
        }
        (Some(file), _) => {
            let blob = Blob::open(Path::new(file));
            let hint = |e: Error| numbering::unknown(file).map_or(e.clone(), |hint| e.hint(hint));
            parse(file, blob.map_err(hint)?, true)
        }
        (None, Some((name, _, place))) => {
            // A file that merely has the name is not the user's word.
            let list = store.blob(name, *place).map_err(|why| Error::load(name, why));
            list.and_then(|blob| parse(name, blob, false)).or_else(|e| {
                notes.push(format!("{name} is not used: {}", e.message));
                Ok(None)
            })
        }
    }
}

#[derive(Debug)]
struct Sample {
    label: u32,
    name: Box<str>,
    size: u64,
    place: EntryPlace,
    /// Of the content, for files of a folder.
    hash: Option<blake3::Hash>,
}

struct Folder {
    store: Store,
    samples: Vec<Sample>,
    labelling: Labelling,
}

/// Images looked at to tell originals, which have many sizes, from copies.
const COPIES: usize = 64;

impl Folder {
    /// The size of all images, or else the shorter side of all, as far as some of them tell. Copies that were compressed again
    /// without resizing, and those of which only the larger ones were made smaller, look like originals.
    fn copied(&self) -> Option<String> {
        let step = self.samples.len().div_ceil(COPIES).max(1);
        let looked = self.samples.iter().step_by(step);
        let sizes: Vec<_> = looked.filter_map(|s| size(&self.store.bytes(&s.name, s.place).ok()?).ok()).collect();
        let &(height, width) = sizes.first()?;
        let shorter = height.min(width);
        match () {
            () if sizes.iter().all(|s| *s == (height, width)) => Some(format!("{height}x{width}")),
            () if sizes.iter().all(|(h, w)| *h.min(w) == shorter) => Some(shorter.to_string()),
            () => None,
        }
    }
}

impl Images for Folder {
    fn label(&self, id: u64) -> u32 {
        self.samples[id as usize].label
    }

    fn name(&self, id: u64) -> String {
        self.samples[id as usize].name.to_string()
    }

    fn bytes(&self, id: u64) -> Result<Vec<u8>, String> {
        let sample = &self.samples[id as usize];
        self.store.bytes(&sample.name, sample.place)
    }

    fn labelling(&self) -> Labelling {
        self.labelling
    }

    fn hash(&self, id: u64) -> Option<blake3::Hash> {
        self.samples[id as usize].hash
    }

    fn written(&self) -> Option<String> {
        self.store.written().then(|| "the archive of the data set".to_string())
    }
}

/// Class folders sorted by name, and samples in their order with the place of their folder as label. An archive's folders above the class folders are stripped.
fn index(subject: &str, tree: Tree, packed: bool, notes: &mut Vec<String>) -> Result<(Vec<String>, Vec<Sample>)> {
    let Tree { files, folders, .. } = tree;
    let (hidden, mut images): (Vec<_>, Vec<_>) = files.into_iter().partition(|(path, ..)| is_hidden(path));
    if let Some((first, ..)) = hidden.first() {
        let count = hidden.len();
        notes.push(format!("{count} files that are hidden or lie in hidden folders are passed over, such as {first}"));
    }
    if images.is_empty() {
        return Err(Error::load(subject, "no images in it")
            .hint("one folder of .png, .jpg or .webp images per class is wanted: CLASS/NAME.png; shards of a WebDataset are `wds:`"));
    }
    let above = if packed { common_folders(&images) } else { 0 };
    if above > 0 {
        notes.push(format!("class folders are those in {}", &images[0].0[..above]));
    }
    let shared = images[0].0[..above].to_string();
    for (path, ..) in &mut images {
        path.drain(..above);
    }
    if images.iter().all(|(path, ..)| SPLITS.contains(&class_of(path)) && path.matches('/').count() > 1) {
        let splits: BTreeSet<&str> = images.iter().map(|(path, ..)| class_of(path)).collect();
        let splits: Vec<&str> = splits.into_iter().collect();
        let error = Error::load(subject, format!("holds splits, not classes: {}", splits.join(", ")));
        return Err(error.hint(format!("name one of them: `folder:{subject}/{}`", splits[0])));
    }
    // Of entries with one name the last counts, as if they were unpacked over each other.
    images.reverse();
    images.sort_by(|(a, ..), (b, ..)| order_key(a).cmp(&order_key(b)));
    images.dedup_by(|(a, ..), (b, ..)| a == b);
    let mut classes: BTreeSet<String> = images.iter().map(|(path, ..)| class_of(path).to_string()).collect();
    let above = folders.iter().filter_map(|path| path.strip_prefix(&shared)).map(class_of);
    let (hidden, plain): (BTreeSet<&str>, BTreeSet<&str>) = above.partition(|class| is_hidden_folder(class));
    notes.extend(hidden.iter().map(|class| format!("hidden folder {class} is not a class")));
    for class in plain.into_iter().filter(|class| !class.is_empty()) {
        if classes.insert(class.to_string()) {
            notes.push(format!("class folder {class} holds no images; it keeps its label"));
        }
    }
    let classes: Vec<String> = classes.into_iter().collect();
    let labels: BTreeMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let samples = images.into_iter().map(|(path, size, place)| {
        let label = labels.get(class_of(&path)).copied().unwrap_or_default();
        Sample { label, name: path.into(), size, place, hash: None }
    });
    let samples = samples.collect();
    Ok((classes, samples))
}

fn order_key(path: &str) -> (&str, &str, &str) {
    let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
    (class_of(path), dir, file)
}

fn class_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Length of the folders all images share, keeping two levels for class and file.
fn common_folders(images: &[(String, u64, EntryPlace)]) -> usize {
    let mut above = 0;
    while let Some((first, _)) = images[0].0[above..].split_once('/') {
        let next = above + first.len() + 1;
        let shared = &images[0].0[..next];
        if !images.iter().all(|(path, ..)| path.strip_prefix(shared).is_some_and(|rest| rest.contains('/'))) {
            break;
        }
        above = next;
    }
    above
}

/// What names the set: an archive's own digest, or that of every file of a folder. The second is what earlier versions
/// named a folder by.
fn digests(
    archive: Option<blake3::Hash>,
    store: &Store,
    classes: &[String],
    samples: &mut [Sample],
) -> [Option<String>; 2] {
    let text = |hash: blake3::Hash| Some(hash.to_hex().to_string());
    if let Some(hash) = archive {
        return [text(hash), None];
    }
    let formerly = list_digest(classes, samples);
    samples.par_iter_mut().filter(|sample| matches!(sample.place, EntryPlace::File)).for_each(|sample| {
        let blob = store.blob(&sample.name, sample.place).ok();
        sample.hash = blob.and_then(|blob| blob.digest().ok());
        if sample.hash.is_none() {
            sample.place = EntryPlace::Nowhere("cannot be read");
        }
    });
    [text(content_digest(classes, samples)), text(formerly)]
}

/// Over the class names, and every image's path and content. Of what cannot be read it is the size that counts.
fn content_digest(classes: &[String], samples: &[Sample]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let name = |hasher: &mut blake3::Hasher, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    name(&mut hasher, "folder by content");
    hasher.update(&(classes.len() as u64).to_le_bytes());
    classes.iter().for_each(|class| name(&mut hasher, class));
    for sample in samples {
        name(&mut hasher, &sample.name);
        match &sample.hash {
            Some(hash) => hasher.update(&[1]).update(hash.as_bytes()),
            None => hasher.update(&[0]).update(&sample.size.to_le_bytes()),
        };
    }
    hasher.finalize()
}

/// As earlier versions had it: class names, and every image's path and size.
fn list_digest(classes: &[String], samples: &[Sample]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for class in classes {
        hasher.update(class.as_bytes()).update(b"\n");
    }
    for sample in samples {
        hasher.update(sample.name.as_bytes()).update(b"\0").update(&sample.size.to_le_bytes());
    }
    hasher.finalize()
}
