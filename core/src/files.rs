//! Reading files that strangers made, and writing files that are whole or not there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Opens a file and says how many bytes it has. Pipes, sockets and devices are refused before anything waits on them or
/// reads them without end.
///
/// # Errors
/// Those of the system, and kind `InvalidInput` for anything but a file.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    plain(&path.metadata()?)?;
    let file = File::open(path)?;
    // The name may mean something else by now.
    let facts = file.metadata()?;
    plain(&facts)?;
    Ok((file, facts.len()))
}

fn plain(facts: &std::fs::Metadata) -> io::Result<()> {
    let what = match (facts.is_file(), facts.is_dir()) {
        (true, _) => return Ok(()),
        (_, true) => "it is a folder, not a file",
        _ => "it is a pipe or a device, not a file: save what it gives to a file first",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// The bytes of a file that may have at most `most` of them, as many as it had when it was opened.
///
/// # Errors
/// Those of [`open`], and kind `InvalidData` for a longer file, of which nothing is read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > most {
        let why = format!("it has {length} bytes; at most {most} are read");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = vec![];
    bytes.try_reserve_exact(length as usize).map_err(|e| io::Error::new(io::ErrorKind::OutOfMemory, e))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`read`] for UTF-8 text.
///
/// # Errors
/// Those of [`read`], and kind `InvalidData` for other bytes.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("it is not UTF-8 text: {}", e.utf8_error())))
}

/// A file in the making, under a name of its own beside the place it is for. It takes that place when it is finished;
/// one that is dropped before is removed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    place: PathBuf,
    finished: bool,
}

/// Names tried for one draft.
const TRIES: usize = 10_000;

impl Draft {
    /// Begins a file that is to be at `place`. Nothing that is there is touched, and no link is followed: the name is new.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(place: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TRIES {
            let name = format!(".robust-{}-{}.part", std::process::id(), COUNT.fetch_add(1, Relaxed));
            let path = folder_of(place).join(name);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            };
            // The lock says that its writer lives. Where there are no locks, nothing is ever swept either.
            let swept = matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) || !is_same(&path, &file);
            if !swept {
                return Ok(Self { file, path, place: place.to_path_buf(), finished: false });
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no name is free for a temporary file"))
    }

    /// Puts the file in its place, replacing what was there. `durable` waits until it would survive a loss of power.
    ///
    /// # Errors
    /// Those of the system; the place then holds what it held, or the whole new file.
    pub fn finish(mut self, durable: bool) -> io::Result<()> {
        if durable {
            self.file.sync_all()?;
        }
        std::fs::rename(&self.path, &self.place)?;
        self.finished = true;
        if durable { File::open(folder_of(&self.place))?.sync_all() } else { Ok(()) }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // It is of no use to anybody; that it cannot be removed changes nothing.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Writes a file whole and durably, or not at all. What is not a file and no folder, such as `/dev/null`, is written to.
///
/// # Errors
/// Those of the system.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let mut draft = Draft::new(path)?;
    draft.write_all(bytes)?;
    draft.finish(true)
}

/// Whether a name is one that [`Draft`] gives.
pub fn is_draft(name: &std::ffi::OsStr) -> bool {
    let inner = name.to_str().and_then(|n| n.strip_prefix(".robust-")?.strip_suffix(".part"));
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    inner.and_then(|n| n.split_once('-')).is_some_and(|(process, count)| number(process) && number(count))
}

/// Removes the drafts in a folder whose writers were killed. What cannot be removed stays, silently.
pub fn sweep(folder: &Path) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten().filter(|e| is_draft(&e.file_name())) {
        if !entry.file_type().is_ok_and(|t| t.is_file()) {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// Whether `path` still is the very file that was opened. Systems without numbers for files can say only that there is one.
pub fn is_same(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(ours)) = (path.symlink_metadata(), file.metadata()) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (there.dev(), there.ino()) == (ours.dev(), ours.ino())
    }
    #[cfg(not(unix))]
    {
        there.is_file() && ours.is_file()
    }
}

/// The folder a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            folder.read_dir().unwrap().map(|e| e.unwrap().file_name().to_str().unwrap().to_string()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_beside_it_is_touched() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("a.part"), "mine").unwrap();
        std::fs::write(at("a.html"), "old").unwrap();
        write(&at("a.html"), b"new").unwrap();
        assert_eq!(names(place.path()), ["a.html", "a.part"]);
        assert_eq!(
            (std::fs::read(at("a.html")).unwrap(), std::fs::read(at("a.part")).unwrap()),
            (b"new".into(), b"mine".into())
        );
        // Given up before its end: the old one stays.
        let mut draft = Draft::new(&at("a.html")).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert_eq!((names(place.path()).len(), std::fs::read(at("a.html")).unwrap()), (2, b"new".into()));
        assert!(write(&at("no/a.html"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_way_of_a_draft_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("precious"), "mine").unwrap();
        // The next names that drafts of this process may take.
        for n in 0..200 {
            let name = format!(".robust-{}-{n}.part", std::process::id());
            std::os::unix::fs::symlink(at("precious"), at(&name)).unwrap();
        }
        write(&at("a"), b"new").unwrap();
        assert_eq!(
            (std::fs::read(at("precious")).unwrap(), std::fs::read(at("a")).unwrap()),
            (b"mine".into(), b"new".into())
        );
    }

    #[test]
    fn only_drafts_of_the_dead_are_swept() {
        let place = tempfile::tempdir().unwrap();
        let alive = Draft::new(&place.path().join("a")).unwrap();
        for name in [".robust-1-1.part", ".robust-1-x.part", ".robust-1.part", "robust-1-1.part", "a.part"] {
            std::fs::write(place.path().join(name), "").unwrap();
        }
        sweep(place.path());
        let left = names(place.path());
        assert!(!left.iter().any(|n| n == ".robust-1-1.part") && left.len() == 5, "{left:?}");
        alive.finish(true).unwrap();
        assert!(place.path().join("a").exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_read_and_long_files_neither() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [Path::new("/dev/zero"), place.path(), &socket] {
            assert_eq!(read(path, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
        let file = place.path().join("f");
        std::fs::write(&file, [255; 11]).unwrap();
        assert!(read(&file, 10).unwrap_err().to_string().contains("11 bytes"));
        assert_eq!(read(&file, 11).unwrap().len(), 11);
        assert!(read_text(&file, 11).unwrap_err().to_string().contains("UTF-8"));
    }
}
