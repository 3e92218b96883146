//! What a source gives: a data set that can also be looked at without a model.

use robust_core::{Dataset, Preprocess};
use std::path::Path;

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

/// A data set that can also be looked at without a model.
pub(super) trait Reader: Dataset {
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
pub(super) struct Natural {
    pub shape: Vec<usize>,
    pub range: Option<(f32, f32)>,
}

/// [`Opened`], from the inside.
pub(super) struct Found {
    pub data: Box<dyn Reader>,
    pub notes: Vec<String>,
}

/// The last part of a path: names of data sets hold no machine's folders.
pub(super) fn base_name(path: &Path) -> String {
    let full = path.canonicalize();
    let name = path.file_name().or_else(|| full.as_ref().ok().and_then(|full| full.file_name()));
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
