//! Bytes that rows are read from by position: a span of a file, an unpacked temporary file, or memory.

use robust_core::{Error, Result};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// What unpacking may always grow to, and beyond that how many times the packed size: images hardly compress, bombs do.
const FREE_GROWTH: u64 = 1 << 30;
const MAX_RATIO: u64 = 64;

/// A span of bytes, cheap to clone and read from many threads at once.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    bytes: Bytes,
    start: u64,
    len: u64,
}

#[derive(Debug, Clone)]
enum Bytes {
    File(Arc<Held>),
    Memory(Arc<[u8]>),
}

/// An open file, and how it was then: a file that is replaced keeps its content for whoever holds it open, one that is
/// written to does not.
#[derive(Debug)]
struct Held {
    file: File,
    len: u64,
    modified: Option<SystemTime>,
}

impl Held {
    fn of(file: File) -> io::Result<Self> {
        let (len, modified) = stamp(&file)?;
        Ok(Self { file, len, modified })
    }
}

fn stamp(file: &File) -> io::Result<(u64, Option<SystemTime>)> {
    let now = file.metadata()?;
    Ok((now.len(), now.modified().ok()))
}

impl Blob {
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |e: io::Error| Error::load(path.display(), e);
        // Opening a pipe would wait for a writer for ever.
        if !path.metadata().map_err(fail)?.is_file() {
            return Err(Error::load(path.display(), "not a file"));
        }
        Self::of(File::open(path).map_err(fail)?).map_err(fail)
    }

    pub fn of(file: File) -> io::Result<Self> {
        let held = Held::of(file)?;
        let len = held.len;
        Ok(Self { bytes: Bytes::File(Arc::new(held)), start: 0, len })
    }

    /// Whether its file was written to since it was opened, by its length and time of change.
    pub fn written(&self) -> bool {
        match &self.bytes {
            Bytes::File(held) => stamp(&held.file).is_ok_and(|now| now != (held.len, held.modified)),
            Bytes::Memory(_) => false,
        }
    }

    pub fn memory(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { bytes: Bytes::Memory(bytes.into()), start: 0, len }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The part from `start` of `len` bytes; `None` when it does not lie within.
    pub fn slice(&self, start: u64, len: u64) -> Option<Self> {
        let inside = start.checked_add(len)? <= self.len;
        inside.then(|| Self { bytes: self.bytes.clone(), start: self.start + start, len })
    }

    /// Fills `out` from `at`; an end of file on the way is an error.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if at.checked_add(out.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.bytes {
            Bytes::File(held) => read_file_at(&held.file, self.start + at, out),
            Bytes::Memory(bytes) => {
                let from = (self.start + at) as usize;
                let part = bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(part);
                Ok(())
            }
        }
    }

    /// Every byte of a span the caller has bounded.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut out = vec![0; self.len as usize];
        self.read_at(0, &mut out)?;
        Ok(out)
    }

    /// The first bytes, at most `most`.
    pub fn head(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; self.len.min(most as u64) as usize];
        self.read_at(0, &mut out)?;
        Ok(out)
    }

    /// A sequential, buffered reader from the start; seeking is within the span.
    pub fn reader(&self) -> io::BufReader<Cursor> {
        io::BufReader::with_capacity(1 << 16, Cursor { blob: self.clone(), at: 0 })
    }

    pub fn digest(&self) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.reader())?;
        Ok(hasher.finalize())
    }
}

#[cfg(unix)]
fn read_file_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_file_at(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (at, out) = (at + n as u64, &mut out[n..]),
        }
    }
    Ok(())
}

pub(super) struct Cursor {
    blob: Blob,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.blob.len.saturating_sub(self.at).min(out.len() as u64) as usize;
        self.blob.read_at(self.at, &mut out[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let at = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::End(by) => self.blob.len.checked_add_signed(by),
            io::SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// A reader of unpacked bytes that gives up where they outgrow what `packed` bytes may become.
pub(super) struct Bounded<R> {
    inner: R,
    packed: u64,
    unpacked: u64,
}

impl<R: Read> Bounded<R> {
    pub fn new(inner: R, packed: u64) -> Self {
        Self { inner, packed, unpacked: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.unpacked += n as u64;
        if self.unpacked > FREE_GROWTH.max(self.packed.saturating_mul(MAX_RATIO)) {
            return Err(io::Error::other(format!(
                "{} packed bytes unpack to more than {}",
                self.packed, self.unpacked
            )));
        }
        Ok(n)
    }
}

/// A temporary file without a name: gone with the last handle, however the process ends.
pub(super) fn scratch() -> io::Result<io::BufWriter<File>> {
    Ok(io::BufWriter::with_capacity(1 << 16, tempfile::tempfile()?))
}

/// What was written to a scratch file.
pub(super) fn settle(scratch: io::BufWriter<File>) -> io::Result<Blob> {
    Blob::of(scratch.into_inner().map_err(|e| e.into_error())?)
}

/// Unpacks everything `reader` gives into a scratch file.
pub(super) fn spool(reader: impl Read, packed: u64) -> io::Result<Blob> {
    let mut file = scratch()?;
    io::copy(&mut Bounded::new(reader, packed), &mut file)?;
    file.flush()?;
    settle(file)
}

/// One digest for a data set made of named parts.
pub(super) fn digest_of(parts: &[(&str, blake3::Hash)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in parts {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(hash.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// An I/O error in words: what ends too early is most often a file that was cut.
pub(super) fn reason(error: io::Error) -> String {
    // The tar reader has a word of its own and no kind.
    match error.kind() == io::ErrorKind::UnexpectedEof || error.to_string().starts_with("unexpected EOF") {
        true => "truncated: unexpected end of file".to_string(),
        false => error.to_string(),
    }
}

/// A size in words, for notes.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_its_own_bytes_and_no_others() {
        let mut file = scratch().unwrap();
        file.write_all(b"0123456789").unwrap();
        for blob in [settle(file).unwrap(), Blob::memory(b"0123456789".to_vec())] {
            let part = blob.slice(2, 5).unwrap().slice(1, 3).unwrap();
            assert_eq!(part.read_all().unwrap(), b"345");
            assert!(part.read_at(1, &mut [0; 3]).is_err());
            assert!(blob.slice(8, 3).is_none() && blob.slice(u64::MAX, 2).is_none());
            let mut text = String::new();
            part.reader().read_to_string(&mut text).unwrap();
            assert_eq!(text, "345");
        }
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let mut bomb = Bounded::new(io::repeat(0), 10);
        assert!(io::copy(&mut bomb, &mut io::sink()).unwrap_err().to_string().contains("10 packed bytes"));
    }
}
