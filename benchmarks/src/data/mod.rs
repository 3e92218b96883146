//! Data readers: one file per format, all behind [`open`].
//!
//! Every reader keeps memory proportional to the rows asked for (plus a few bytes per sample for labels and positions),
//! treats what it reads as hostile, and never runs or extracts anything. Packed data is unpacked to a temporary file
//! without a name, or where `ROBUST_CACHE` (or `?cache=DIR`) names a folder, kept there by the packed file's digest.
//!
//! Digests are blake3 over the content: of the file (archives, shards, `npz:` and `safetensors:` with the names of the
//! arrays used), of both files (`npy:`), of the unpacked contents (`mnist:`, `cifar10:`), and for folders over the class
//! names and every image's relative path and content: all of its files are read once when it is opened, and each must
//! hash to the same whenever it is read again. Of files that stay open, length and time of change must stay as they
//! were. An unpacked copy in the cache is used only while it has the digest that it was written with. Parameters that
//! change labels or pixels enter the digest and the name.
//!
//! Values are pixels in `[0,1]`, or features where an array of floats leaves that range in most rows; `?domain=lo:hi` or `none`
//! says so otherwise. A single image has at most 64 Mi pixels ([`robust_imaging::MAX_PIXELS`]) and 16,384 a side; larger and
//! broken ones are samples that fail. `?offset=-1` is added to every label. What is decided is told in the notes of
//! [`open_with_notes`], what is met while samples are loaded in [`Dataset::remarks`].
//!
//! Sources of image files (`folder:`, `wds:`, `parquet:`) take `?resize=256&crop=224&interpolation=bicubic`: resizing of
//! the shorter side (or `HxW` exactly) and a crop from the centre, with the values Pillow and torchvision give. Of ImageNet's
//! validation images `folder:` takes `?subset=robustbench`, the 5,000 that RobustBench evaluates on, and recognises them.

mod archive;
mod array;
mod blob;
mod builtin;
mod cifar;
mod classes;
mod declared;
mod fixed;
mod folder;
mod images;
mod inspect;
mod labels;
mod mnist;
mod npy;
mod npz;
mod numbering;
#[cfg(feature = "parquet")]
mod parquet;
mod pickle;
mod rows;
mod safetensors;
mod spec;
mod tree;
mod values;
mod wds;

pub use classes::Classes;
pub use inspect::{ClassCount, DataFacts, inspect};
use robust_core::{Dataset, Preprocess, Result};
use std::path::Path;

/// A way to name a data set.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    pub scheme: &'static str,
    pub summary: &'static str,
    pub example: &'static str,
}

pub static SOURCES: &[Source] = &[
    Source {
        scheme: "builtin",
        summary: "data in the binary: `mnist`, the first 1,000 test images",
        example: "builtin:mnist",
    },
    Source {
        scheme: "mnist",
        summary: "folder of IDX files, plain or .gz (MNIST, Fashion-MNIST, KMNIST)",
        example: "mnist:data/mnist?split=test",
    },
    Source {
        scheme: "cifar10",
        summary: "CIFAR-10 as published: folder or .tar.gz of binary or Python batches",
        example: "cifar10:cifar-10-python.tar.gz?split=test",
    },
    Source {
        scheme: "cifar100",
        summary: "CIFAR-100 as published, with fine or coarse labels",
        example: "cifar100:cifar-100-binary?labels=fine",
    },
    Source {
        scheme: "folder",
        summary: "ImageFolder: one folder of PNG, JPEG, WebP, PPM, BMP or TIFF images per class, as it is or as .tar or .tar.gz",
        example: "folder:imagenet/val?resize=256&crop=224&interpolation=bilinear",
    },
    Source {
        scheme: "wds",
        summary: "WebDataset: tar shards of KEY.jpg (png, webp, ppm, bmp, tif) with KEY.cls or KEY.json",
        example: "wds:shards/val-{000..049}.tar?resize=256&crop=224",
    },
    Source {
        scheme: "parquet",
        summary: "Hugging Face image data sets: a .parquet file or a folder of them",
        example: "parquet:data/test-00000-of-00001.parquet?labels=fine_label",
    },
    Source {
        scheme: "npz",
        summary: "arrays x (or images, data) and y (or labels, targets) of an .npz file",
        example: "npz:cifar10.npz?x=x_test&y=y_test",
    },
    Source {
        scheme: "npy",
        summary: "two .npy files, images and labels; of CIFAR-10-C and its like one severity",
        example: "npy:gaussian_noise.npy,labels.npy?severity=3",
    },
    Source {
        scheme: "safetensors",
        summary: "tensors x (or images, data) and y (or labels, targets) of a .safetensors file",
        example: "safetensors:cifar10.safetensors",
    },
];

/// A data set and what the user should be told of how it was read.
pub struct Opened {
    pub data: Box<dyn Dataset>,
    /// One line each: arrays chosen, temporary space used, classes without images.
    pub notes: Vec<String>,
    pub labelling: Labelling,
}

/// Where labels come from: how far they can be trusted to be a model's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelling {
    /// They are numbers in the source.
    Stored,
    /// The place of a class folder among all, by name; by number where all names are numbers.
    Sorted,
    /// The number that is the folder's name.
    Numbers,
    /// A list of classes that lies beside the folders.
    Listed,
    /// As the user said.
    Told,
}

/// Opens what `spec` names: a scheme of [`SOURCES`], or a path that is looked at.
///
/// Errors: [`Kind::Usage`](robust_core::Kind::Usage) for unknown schemes and parameters;
/// [`Kind::Load`](robust_core::Kind::Load) for what is missing, damaged, empty or dishonest about its size.
pub fn open(spec: &str) -> Result<Box<dyn Dataset>> {
    open_with_notes(spec).map(|opened| opened.data)
}

/// [`open`], with the notes.
pub fn open_with_notes(spec: &str) -> Result<Opened> {
    let Found { data, notes } = spec::open(spec, spec::Ask::default())?;
    let labelling = data.labelling();
    Ok(Opened { data, notes, labelling })
}

/// [`open`] for whoever must not believe a cache: packed archives are unpacked once more, and what the cache holds of
/// them must be equal.
///
/// Errors: those of [`open`].
pub fn open_proven(spec: &str) -> Result<Box<dyn Dataset>> {
    Ok(spec::open(spec, spec::Ask { anew: true, ..Default::default() })?.data)
}

/// Points that somebody else made, to be judged: like [`open`], but arrays need no labels beside them, a single `.npy` file
/// will do, and the only array of a file is taken whatever its name. Labels of rows without any are 0.
///
/// Errors: those of [`open`].
pub fn open_points(spec: &str) -> Result<Box<dyn Dataset>> {
    Ok(spec::open(spec, spec::Ask { points: true, ..Default::default() })?.data)
}

/// The names of ImageNet's 1,000 classes in WordNet (`n01440764`), in the order of their labels: what `?classes=imagenet` takes.
pub fn wnids() -> impl Iterator<Item = String> {
    fixed::wnids()
}

/// A data set that can also be looked at without a model.
trait Reader: Dataset {
    /// Of an id below the number of samples.
    fn label(&self, id: u64) -> u32;

    /// What a sample is like as it is stored, after the source's own preprocessing. Of images at most `budget` pixels are
    /// decoded, which is lowered by them.
    fn natural(&self, id: u64, budget: &mut usize) -> Result<Natural, String>;

    fn labelling(&self) -> Labelling {
        Labelling::Stored
    }

    fn preprocess(&self) -> Option<Preprocess> {
        None
    }
}

/// Shape of a sample, and its least and greatest value where they were looked at.
struct Natural {
    shape: Vec<usize>,
    range: Option<(f32, f32)>,
}

/// [`Opened`], from the inside.
struct Found {
    data: Box<dyn Reader>,
    notes: Vec<String>,
}

impl Found {
    /// A set of arrays, which has notes of its own.
    fn of(mut set: array::ArraySet, mut notes: Vec<String>) -> Self {
        notes.append(&mut set.notes);
        Self { data: Box::new(set), notes }
    }
}

/// The last part of a path: names of data sets hold no machine's folders.
fn base_name(path: &Path) -> String {
    let full = path.canonicalize();
    let name = path.file_name().or_else(|| full.as_ref().ok().and_then(|full| full.file_name()));
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
