//! Where data lie: the path that was typed, looked at.

use robust_core::{Error, Result, nearest};
use std::path::{Path, PathBuf};

/// The place and what follows its `?`; a path that is there wins over any reading of its question marks.
pub(super) fn split_query(text: &str) -> (&str, &str) {
    if Path::new(text).exists() { (text, "") } else { text.split_once('?').unwrap_or((text, "")) }
}

/// The path, or an error with the names beside it that come close.
pub(super) fn existing(place: &str) -> Result<PathBuf> {
    let path = PathBuf::from(place);
    if path.exists() {
        return Ok(path);
    }
    let error = Error::load(place, "no such file or folder");
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(error),
    };
    let Ok(listing) = folder.read_dir() else {
        return Err(error.hint(format!("the folder {} is not there either", folder.display())));
    };
    let mut names: Vec<String> =
        listing.take(10_000).flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Err(match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean {}?", folder.join(near).display())),
        None if wanted == "mnist" => error.hint("`builtin:mnist` needs no files"),
        None => error,
    })
}
