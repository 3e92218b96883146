//! The fixture folder: arrays by name, and the index.

use ndarray::{ArrayD, Axis};
use ndarray_npy::ReadNpyExt;
use robust_imaging::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folder, or `None` with a printed reason.
pub fn root() -> Option<PathBuf> {
    let base = std::env::var_os("ROBUST_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"), PathBuf::from);
    let root = base.join("corruptions");
    if !root.join("index.json").is_file() {
        eprintln!("skipped: no {}", root.join("index.json").display());
        return None;
    }
    Some(root)
}

pub fn index(root: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(root.join("index.json")).unwrap()).unwrap()
}

/// Whether the index lists a file, with a printed reason where it does not.
pub fn listed(root: &Path, name: &str) -> bool {
    let there = index(root)["files"].get(name).is_some();
    if !there {
        eprintln!("skipped: the index lists no {name}");
    }
    there
}

pub struct Npz {
    zip: zip::ZipArchive<File>,
    pub names: Vec<String>,
}

impl Npz {
    pub fn open(root: &Path, name: &str) -> Self {
        let zip = zip::ZipArchive::new(File::open(root.join(name)).unwrap()).unwrap();
        let names = zip.file_names().map(|n| n.unwrap().trim_end_matches(".npy").to_string()).collect();
        Self { zip, names }
    }

    pub fn bytes(&mut self, name: &str) -> ArrayD<u8> {
        self.array(name)
    }

    pub fn array<T: ndarray_npy::ReadableElement>(&mut self, name: &str) -> ArrayD<T> {
        ArrayD::read_npy(self.zip.by_name(&format!("{name}.npy")).unwrap()).unwrap()
    }
}

/// Image `i` of `[n, h, w, c]` or `[n, h, w]`.
pub fn picture(array: &ArrayD<u8>, i: usize) -> Bytes {
    let one = array.index_axis(Axis(0), i);
    let shape = one.shape().to_vec();
    let channels = shape.get(2).copied().unwrap_or(1);
    Bytes::new(shape[0], shape[1], channels, one.iter().copied().collect()).unwrap()
}

/// The part of an image that starts at (y, x).
pub fn window(image: &Bytes, y: usize, x: usize, h: usize, w: usize) -> Vec<u8> {
    let c = image.channels;
    (y..y + h).flat_map(|y| image.samples[(y * image.width + x) * c..][..w * c].iter().copied()).collect()
}

/// Largest difference and how many differ.
pub fn gap(a: &[u8], b: &[u8]) -> (u8, usize) {
    assert_eq!(a.len(), b.len());
    let differ = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    (differ.clone().max().unwrap_or(0), differ.filter(|d| *d > 0).count())
}

/// Names in the index's windows with their place.
pub fn windows(root: &Path) -> BTreeMap<String, [usize; 4]> {
    let index = index(root);
    let side = |v: &serde_json::Value, k: &str| v[k].as_u64().unwrap() as usize;
    let object = index["windows"].as_object().unwrap();
    object.iter().map(|(k, v)| (k.clone(), [side(v, "y"), side(v, "x"), side(v, "h"), side(v, "w")])).collect()
}
