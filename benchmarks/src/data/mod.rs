//! Data readers: one file per format, all behind [`open`].
//!
//! Every reader keeps memory proportional to the rows asked for (plus a few bytes per sample for labels and positions),
//! treats what it reads as hostile, and never runs or extracts anything. Packed data is unpacked once to a temporary
//! file without a name.
//!
//! Digests are blake3 over the content: of the file (archives, `npz:` and `safetensors:` with the names of the arrays
//! used), of both files (`npy:`), of the unpacked contents (`mnist:`), and for folders over the list of class names and
//! of every image's relative path and size, not the pixels.

mod archive;
mod array;
mod blob;
mod builtin;
mod folder;
mod mnist;
mod npy;
mod npz;
mod rows;
mod safetensors;
mod spec;

use robust_core::{Dataset, Result};
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
        scheme: "folder",
        summary: "ImageFolder: one folder of PNG and JPEG images per class, as it is or as .tar or .tar.gz",
        example: "folder:imagenet/val",
    },
    Source {
        scheme: "npz",
        summary: "arrays x (or images, data) and y (or labels, targets) of an .npz file",
        example: "npz:cifar10.npz?x=x_test&y=y_test",
    },
    Source { scheme: "npy", summary: "two .npy files, images and labels", example: "npy:x_test.npy,y_test.npy" },
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
    spec::open(spec)
}

/// The last part of a path: names of data sets hold no machine's folders.
fn base_name(path: &Path) -> String {
    let full = path.canonicalize();
    let name = path.file_name().or_else(|| full.as_ref().ok().and_then(|full| full.file_name()));
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
