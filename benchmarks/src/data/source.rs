//! A row of the index of sources.

use super::query::{Ask, Query};
use super::reader::Found;
use robust_core::Result;
use std::path::Path;

/// A way to name a data set.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    pub scheme: &'static str,
    pub summary: &'static str,
    pub example: &'static str,
    /// Names of the parameters that it takes, in groups.
    pub(super) params: &'static [&'static [&'static str]],
    /// Whether a path without a scheme is this source's. The path exists, and no source before this one in the index has taken it.
    ///
    /// Errors: what to type instead, where the path is a part of what this source reads.
    pub(super) recognises: fn(&Path, Ask) -> Result<bool>,
    /// The data set at a place, which is not empty; of the query only `params` are set.
    pub(super) open: fn(&str, &Query) -> Result<Found>,
}

/// For [`Source::recognises`]: a source that is only ever named.
pub(super) fn never(_: &Path, _: Ask) -> Result<bool> {
    Ok(false)
}

/// Whether a path is a file whose name ends so, in letters of any size.
pub(super) fn ends_with(path: &Path, ending: &str) -> bool {
    !path.is_dir() && path.to_string_lossy().to_lowercase().ends_with(ending)
}
