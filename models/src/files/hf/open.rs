//! A folder of the hub, whichever package wrote it.

use super::folder;
use crate::files::folder::Folder;
use crate::files::open_clip;
use crate::options::Options;
use robust_core::Result;
use std::path::Path;

/// Whether a folder is one of these, or one of OpenCLIP's.
pub fn is_folder(path: &Path) -> bool {
    path.join("config.json").is_file() || open_clip::is_folder(path)
}

/// Builds the network of a folder.
///
/// # Errors
/// Kind `Load` for settings and weights that are missing, damaged, not supported or do not belong together; kind `Usage`
/// for options that do not fit.
pub(crate) fn read(path: &Path, options: &Options) -> Result<Folder> {
    if open_clip::is_folder(path) { open_clip::read(path, options) } else { folder::read(path, options) }
}
