//! Files that a reader sees whole or not at all.

use robust_core::{Error, Result, files};
use std::path::Path;

/// File name of a path, for messages that should not hold a whole path.
pub fn short(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

pub(crate) fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::WouldBlock => "another process is writing to this run: wait for it",
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
            "free some space, or lift the limit on the size of files"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "name a place you may write to"
        }
        std::io::ErrorKind::NotFound => "make its folder first, or name another place",
        std::io::ErrorKind::NotADirectory => "a part of this path is a file: name another place",
        _ => "mend this, then run the same command again",
    };
    Error::write(path.display(), error).hint(hint)
}

/// Writes beside, syncs, renames: readers see the old file or the new one, whole.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write(path, bytes).map_err(|e| cannot_write(path, e))
}

/// [`write_atomic`] for a file that stands alone: what killed writers left beside it is cleared away.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    files::sweep(files::folder_of(path));
    write_atomic(path, bytes)
}
