//! ImageFolder: one folder per class, in a directory or in a tar archive. Classes, labels and the order of samples are
//! torchvision's: class folders sorted by name; within one, folders sorted by path and then files by name.

use super::archive;
use super::blob::Blob;
use super::rows::{Bad, assemble, shape_text};
use super::{Opened, base_name};
use candle_core::Device;
use robust_core::{DataCard, Dataset, Error, InputKind, Loaded, Result, View};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const READ: [&str; 3] = [".png", ".jpg", ".jpeg"];
/// Images to torchvision, so samples here too, that fail by name: dropping them would change every later id.
const UNREAD: [&str; 6] = [".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"];
/// Most entries and bytes of names an archive or a directory may make us remember.
const MAX_ENTRIES: usize = 4 << 20;
const MAX_NAMES: usize = 512 << 20;
const MAX_DEPTH: usize = 64;
/// Largest packed image read.
pub(super) const MAX_IMAGE: u64 = 256 << 20;
/// How many images, from the first, are looked at to tell whether the set fits a model.
const PROBES: usize = 8;
/// No model takes more pixels, so larger images are not decoded to learn whether they are grey.
const MAX_PROBED: usize = 4 << 20;
/// One level above the class folders, they would be taken for classes.
const SPLITS: [&str; 5] = ["train", "val", "valid", "validation", "test"];

/// Where the bytes of an image are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the file of its name below the root.
    File,
    Span(u64, u64),
    /// Nowhere they can be read from, and why.
    Nowhere(&'static str),
}

/// What was found below a root: paths joined by `/`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub images: Vec<(String, u64, Place)>,
    pub folders: BTreeSet<String>,
    names: usize,
}

impl Tree {
    /// Remembers a file if its name is an image's.
    pub fn file(&mut self, path: String, size: u64, place: Place) -> Result<(), String> {
        let place = match place {
            _ if named_as(&path, &UNREAD) => Place::Nowhere("is neither PNG nor JPEG"),
            _ if size > MAX_IMAGE => Place::Nowhere("is too large for an image"),
            place => place,
        };
        self.count(&path)?;
        self.images.push((path, size, place));
        Ok(())
    }

    pub fn folder(&mut self, path: String) -> Result<(), String> {
        self.count(&path)?;
        self.folders.insert(path);
        Ok(())
    }

    fn count(&mut self, path: &str) -> Result<(), String> {
        self.names += path.len();
        if self.images.len() + self.folders.len() >= MAX_ENTRIES || self.names > MAX_NAMES {
            return Err(format!("more than {MAX_ENTRIES} entries or {MAX_NAMES} bytes of names"));
        }
        Ok(())
    }
}

pub(super) fn is_image(path: &str) -> bool {
    named_as(path, &READ) || named_as(path, &UNREAD)
}

fn named_as(path: &str, endings: &[&str]) -> bool {
    let (path, longest) = (path.as_bytes(), endings.iter().map(|e| e.len()).max().unwrap_or(0));
    let end = path[path.len().saturating_sub(longest)..].to_ascii_lowercase();
    endings.iter().any(|ending| end.ends_with(ending.as_bytes()))
}

/// `folder:PATH`.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let subject = path.display().to_string();
    let (store, tree, mut notes, hash) = if path.is_dir() {
        (Store::Folder(path.to_path_buf()), walk(path)?, vec![], None)
    } else {
        let archive = archive::open(path)?;
        (Store::Packed(archive.blob), archive.tree, archive.notes, Some(archive.hash))
    };
    let (classes, samples) = index(&subject, tree, hash.is_some(), &mut notes)?;
    let digest = hash.unwrap_or_else(|| list_digest(&classes, &samples));
    let card = DataCard {
        name: format!("folder:{}", base_name(path)),
        digest: digest.to_hex().to_string(),
        samples: samples.len() as u64,
        classes: Some(classes),
    };
    let mut set = Folder { card, store, samples, probes: vec![] };
    set.probes = (0..set.samples.len().min(PROBES)).filter_map(|id| set.probe(id)).collect();
    Ok(Opened { data: Box::new(set), notes })
}

/// Everything below the class folders of a directory, following links as torchvision does.
fn walk(root: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut queue = vec![(root.to_path_buf(), String::new(), 0)];
    let mut visited = 0;
    while let Some((dir, prefix, depth)) = queue.pop() {
        let fail = |why: String| Error::load(dir.display(), why);
        visited += 1;
        if depth > MAX_DEPTH || visited > MAX_ENTRIES {
            return Err(fail(format!("more than {MAX_DEPTH} folders deep or {MAX_ENTRIES} folders")));
        }
        for entry in dir.read_dir().map_err(|e| fail(e.to_string()))? {
            let entry = entry.map_err(|e| fail(e.to_string()))?;
            let kind = entry.file_type().map_err(|e| fail(e.to_string()))?;
            let target = if kind.is_symlink() { entry.path().metadata() } else { entry.metadata() };
            let name = entry.file_name();
            let path = format!("{prefix}{}", name.to_string_lossy());
            let lossy = name.to_str().is_none();
            match target {
                Ok(target) if target.is_dir() => {
                    if kind.is_symlink() && leads_back(&dir, &entry.path()) {
                        return Err(Error::load(entry.path().display(), "a link to a folder that it is in"));
                    }
                    if depth == 0 {
                        tree.folder(path.clone()).map_err(fail)?;
                    }
                    queue.push((entry.path(), path + "/", depth + 1));
                }
                _ if depth == 0 || !is_image(&path) => {}
                Ok(target) if target.is_file() => {
                    let place = if lossy { Place::Nowhere("has a name that is not UTF-8") } else { Place::File };
                    tree.file(path, target.len(), place).map_err(fail)?;
                }
                Ok(_) => tree.file(path, 0, Place::Nowhere("is not a file")).map_err(fail)?,
                Err(_) => tree.file(path, 0, Place::Nowhere("cannot be reached")).map_err(fail)?,
            }
        }
    }
    Ok(tree)
}

fn leads_back(dir: &Path, link: &Path) -> bool {
    match (dir.canonicalize(), link.canonicalize()) {
        (Ok(dir), Ok(target)) => dir.starts_with(target),
        _ => false,
    }
}

#[derive(Debug)]
struct Sample {
    label: u32,
    name: Box<str>,
    size: u64,
    place: Place,
}

/// Class names and samples in their order. An archive's folders above the class folders are stripped.
fn index(subject: &str, tree: Tree, packed: bool, notes: &mut Vec<String>) -> Result<(Vec<String>, Vec<Sample>)> {
    let Tree { mut images, folders, .. } = tree;
    if images.is_empty() {
        return Err(Error::load(subject, "no images in it")
            .hint("one folder of .png or .jpg images per class is wanted: CLASS/NAME.png"));
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
    for folder in folders.iter().filter_map(|path| path.strip_prefix(&shared)) {
        let class = class_of(folder);
        if !class.is_empty() && classes.insert(class.to_string()) {
            notes.push(format!("class folder {class} holds no images; it keeps its label"));
        }
    }
    let classes: Vec<String> = classes.into_iter().collect();
    let samples = images.into_iter().map(|(path, size, place)| {
        let label = classes.binary_search_by(|class| class.as_str().cmp(class_of(&path))).unwrap_or_default() as u32;
        Sample { label, name: path.into(), size, place }
    });
    Ok((classes.clone(), samples.collect()))
}

fn order_key(path: &str) -> (&str, &str, &str) {
    let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
    (class_of(path), dir, file)
}

fn class_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Length of the folders all images share, keeping two levels for class and file.
fn common_folders(images: &[(String, u64, Place)]) -> usize {
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

enum Store {
    Folder(PathBuf),
    Packed(Blob),
}

struct Folder {
    card: DataCard,
    store: Store,
    samples: Vec<Sample>,
    probes: Vec<Probe>,
}

/// What an image is like: size, and whether its channels are equal throughout.
struct Probe {
    height: usize,
    width: usize,
    grey: bool,
}

impl Folder {
    fn bytes(&self, sample: &Sample) -> Result<Vec<u8>, String> {
        let blob = match (&self.store, sample.place) {
            (_, Place::Nowhere(why)) => return Err(why.to_string()),
            (Store::Packed(blob), Place::Span(start, len)) => {
                blob.slice(start, len).ok_or("lies outside the archive")?
            }
            (Store::Folder(root), Place::File) => Blob::open(&root.join(&*sample.name)).map_err(|e| e.message)?,
            _ => return Err("has no place".to_string()),
        };
        if blob.len() > MAX_IMAGE {
            return Err("is too large for an image".to_string());
        }
        blob.read_all().map_err(|e| e.to_string())
    }

    fn probe(&self, id: usize) -> Option<Probe> {
        let bytes = self.bytes(&self.samples[id]).ok()?;
        let (height, width) = robust_imaging::size(&bytes).ok()?;
        if height * width > MAX_PROBED {
            return Some(Probe { height, width, grey: false });
        }
        let pixels = robust_imaging::decode(&bytes, 3).ok()?.pixels;
        let plane = height * width;
        let grey = pixels[..plane] == pixels[plane..2 * plane] && pixels[..plane] == pixels[2 * plane..];
        Some(Probe { height, width, grey })
    }

    /// Channels, height and width the view wants, once it is clear that the first images have them.
    fn fit(&self, view: &View) -> Result<[usize; 3]> {
        let input = &view.input;
        let first = self.probes.first();
        let wanted = match (input.kind, input.shape.as_slice(), first) {
            (InputKind::Tokens, ..) => None,
            (_, &[c, h, w], _) if c == 1 || c == 3 => Some([c, h, w]),
            // One channel has one order, so a flat input can take it as it lies.
            (_, &[d], Some(p)) if p.grey && p.height * p.width == d => Some([1, p.height, p.width]),
            _ => None,
        };
        let fits = |[c, h, w]: [usize; 3]| {
            let like = |p: &Probe| p.height == h && p.width == w && (c == 3 || p.grey);
            self.probes.is_empty() || self.probes.iter().any(like)
        };
        wanted.filter(|&wanted| fits(wanted)).ok_or_else(|| {
            let got =
                first.map_or("images".to_string(), |p| shape_text(&[if p.grey { 1 } else { 3 }, p.height, p.width]));
            let why = format!("the model wants {}, the data set has {got}", shape_text(&input.shape));
            Error::load(&self.card.name, why).hint("resize or convert the images first: no resizing is built in yet")
        })
    }

    fn pixels(&self, id: u64, [c, h, w]: [usize; 3]) -> Result<Vec<f32>, String> {
        let bytes = self.bytes(&self.samples[id as usize])?;
        // The size first: an odd image need not be decoded to be refused.
        let (height, width) = robust_imaging::size(&bytes).map_err(|e| e.message)?;
        if (height, width) != (h, w) {
            return Err(format!("is {height}x{width}, the model wants {h}x{w}"));
        }
        Ok(robust_imaging::decode(&bytes, c).map_err(|e| e.message)?.pixels)
    }
}

impl Dataset for Folder {
    fn card(&self) -> &DataCard {
        &self.card
    }

    fn load(&self, ids: &[u64], view: &View, device: &Device) -> Result<Loaded> {
        let wanted = self.fit(view)?;
        let name = |id: u64| &self.samples[id as usize].name;
        assemble(
            ids,
            self.card.samples,
            view,
            device,
            |id| self.samples[id as usize].label,
            |id| self.pixels(id, wanted).map_err(|why| Bad::Sample(format!("{}: {why}", name(id)))),
        )
    }
}
