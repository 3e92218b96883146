//! The cache as the hub's own tools lay it out: contents in `blobs/` by their etag, names in `snapshots/COMMIT/`, branches in
//! `refs/`, and in `.no_exist/COMMIT/` the names that a revision does not have. Either side finds what the other has put there.

use crate::files::hf::cache::{Wanted, plain};
use robust_core::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub struct Store {
    /// The model's folder.
    folder: PathBuf,
    locks: PathBuf,
}

/// Held while a content is fetched; other processes, Python's too, wait.
pub struct Lock {
    /// `None` where the file system knows no locks.
    file: Option<File>,
}

fn fail(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |e| Error::write(path.display(), e).hint("HF_HOME says where the cache is: is there room, and may you write there?")
}

impl Store {
    pub fn new(root: &Path, wanted: &Wanted) -> Self {
        Self { folder: root.join(wanted.folder()), locks: root.join(".locks").join(wanted.folder()) }
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a content lies, once whole.
    ///
    /// # Errors
    /// Kind `Load` for an etag that is not a name of a file.
    pub fn blob(&self, etag: &str) -> Result<PathBuf> {
        let reserved = [".incomplete", ".lock"].iter().any(|end| etag.ends_with(end));
        match plain(etag) && !reserved {
            true => Ok(self.folder.join("blobs").join(etag)),
            false => Err(Error::load("an answer of the hub", "its ETag is not a name for a file")),
        }
    }

    /// Where what has arrived of a content is kept: by name where a lock guards it, else for this process alone.
    pub fn incomplete(blob: &Path, lock: &Lock) -> PathBuf {
        let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        blob.with_file_name(match lock.file {
            Some(_) => format!("{name}.incomplete"),
            None => format!("{name}.{}.incomplete", std::process::id()),
        })
    }

    /// Waits until nobody else fetches this content, or `wait` fails.
    pub fn lock(&self, etag: &str, wait: &mut dyn FnMut() -> Result<()>) -> Result<Lock> {
        fs::create_dir_all(&self.locks).map_err(fail(&self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { file: Some(file) }),
                Err(TryLockError::WouldBlock) => wait()?,
                // Some network file systems have no locks.
                Err(TryLockError::Error(_)) => return Ok(Lock { file: None }),
            }
        }
    }

    /// Remembers what a branch or tag stands for.
    pub fn refer(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|there| there == commit) {
            return Ok(());
        }
        self.write(&path, commit.as_bytes())
    }

    fn denial(&self, commit: &str, name: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(name)
    }

    /// Remembers that a revision has no such file.
    pub fn deny(&self, commit: &str, name: &str) -> Result<()> {
        let path = self.denial(commit, name);
        if path.is_file() { Ok(()) } else { self.write(&path, b"") }
    }

    pub fn is_denied(&self, commit: &str, name: &str) -> bool {
        self.denial(commit, name).is_file()
    }

    /// A small file, whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(fail(folder))?;
        let draft = draft_of(path);
        fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path)).map_err(fail(path))
    }

    /// Opens what is to become a content, and says how much of it is there.
    pub fn open(path: &Path) -> Result<(File, u64)> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder).map_err(fail(folder))?;
        // Never through a link that somebody has laid there.
        if path.symlink_metadata().is_ok_and(|m| !m.is_file()) {
            fs::remove_file(path).map_err(fail(path))?;
        }
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(fail(path))?;
        let length = file.metadata().map_err(fail(path))?.len();
        Ok((file, length))
    }

    /// Makes what has arrived the content.
    pub fn settle(file: File, from: &Path, blob: &Path) -> Result<()> {
        file.sync_all().map_err(fail(from))?;
        drop(file);
        fs::rename(from, blob).map_err(fail(blob))
    }

    /// Gives a content its name in a snapshot: a relative link, or a copy where there are no links.
    pub fn name(&self, commit: &str, name: &str, blob: &Path) -> Result<()> {
        let folder = self.snapshot(commit);
        fs::create_dir_all(&folder).map_err(fail(&folder))?;
        let path = folder.join(name);
        let draft = draft_of(&path);
        let etag = blob.file_name().unwrap_or_default();
        // What an earlier, interrupted process of this number left.
        let _ = fs::remove_file(&draft);
        let laid = link(&Path::new("../../blobs").join(etag), &draft).is_ok() && draft.is_file();
        if !laid {
            let _ = fs::remove_file(&draft);
            fs::copy(blob, &draft).map_err(fail(&draft))?;
        }
        fs::rename(&draft, &path).map_err(fail(&path))
    }
}

/// A name beside a file that no other writer uses.
fn draft_of(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed)))
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    // The other separator is not understood in links.
    std::os::windows::fs::symlink_file(to.to_string_lossy().replace('/', "\\"), at)
}

#[cfg(not(any(unix, windows)))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
