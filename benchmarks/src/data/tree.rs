//! What lies below a root, a directory or an archive: paths joined by `/`, bounded in number and length.

use super::blob::Blob;
use robust_core::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most entries and bytes of names an archive or a directory may make us remember.
const MAX_ENTRIES: usize = 4 << 20;
const MAX_NAMES: usize = 512 << 20;
const MAX_DEPTH: usize = 64;
/// Largest file read from a tree: no image is larger, nor any part of CIFAR.
pub(super) const MAX_FILE: u64 = 256 << 20;

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy)]
pub(super) enum EntryPlace {
    /// In the file of its name below the root.
    File,
    Span(u64, u64),
    /// Nowhere they can be read from, and why.
    Nowhere(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub files: Vec<(String, u64, EntryPlace)>,
    pub folders: BTreeSet<String>,
    names: usize,
}

impl Tree {
    pub fn file(&mut self, path: String, size: u64, place: EntryPlace) -> Result<(), String> {
        let place = if size > MAX_FILE { EntryPlace::Nowhere("is too large for an image") } else { place };
        self.count(&path)?;
        self.files.push((path, size, place));
        Ok(())
    }

    pub fn folder(&mut self, path: String) -> Result<(), String> {
        self.count(&path)?;
        self.folders.insert(path);
        Ok(())
    }

    fn count(&mut self, path: &str) -> Result<(), String> {
        self.names += path.len();
        if self.files.len() + self.folders.len() >= MAX_ENTRIES || self.names > MAX_NAMES {
            return Err(format!("more than {MAX_ENTRIES} entries or {MAX_NAMES} bytes of names"));
        }
        Ok(())
    }
}

/// What tools leave behind beside class folders: `.ipynb_checkpoints`, `__MACOSX`.
pub(super) fn is_hidden_folder(name: &str) -> bool {
    name.starts_with('.') && name != ".." || name == "__MACOSX"
}

/// Every wanted file below a directory, following links as torchvision does; folders only of the first level.
pub(super) fn walk(root: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
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
                _ if !wanted(&path) => {}
                Ok(target) if target.is_file() => {
                    let place =
                        if lossy { EntryPlace::Nowhere("has a name that is not UTF-8") } else { EntryPlace::File };
                    tree.file(path, target.len(), place).map_err(fail)?;
                }
                Ok(_) => tree.file(path, 0, EntryPlace::Nowhere("is not a file")).map_err(fail)?,
                Err(_) => tree.file(path, 0, EntryPlace::Nowhere("cannot be reached")).map_err(fail)?,
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

/// Where a tree's files are read from.
pub(super) enum Store {
    Folder(PathBuf),
    Packed(Blob),
}

impl Store {
    /// The place of a file as bytes that can be read.
    pub fn blob(&self, name: &str, place: EntryPlace) -> Result<Blob, String> {
        let blob = match (self, place) {
            (_, EntryPlace::Nowhere(why)) => return Err(why.to_string()),
            (Store::Packed(blob), EntryPlace::Span(start, len)) => {
                blob.slice(start, len).ok_or("lies outside the archive")?
            }
            (Store::Folder(root), EntryPlace::File) => Blob::open(&root.join(name)).map_err(|e| e.message)?,
            _ => return Err("has no place".to_string()),
        };
        match blob.len() > MAX_FILE {
            true => Err("is too large for an image".to_string()),
            false => Ok(blob),
        }
    }

    /// Whether an archive was written to since it was opened. Files of a folder are opened anew each time.
    pub fn written(&self) -> bool {
        matches!(self, Store::Packed(blob) if blob.written())
    }

    pub fn bytes(&self, name: &str, place: EntryPlace) -> Result<Vec<u8>, String> {
        self.blob(name, place)?.read_all().map_err(|e| e.to_string())
    }
}
