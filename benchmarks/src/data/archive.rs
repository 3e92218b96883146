//! Tar archives, plain (read in place) or gzip'd: unpacked once, to a scratch file or to a cache. Entries are found by
//! position and never extracted by name; long names are read here, with a bound, because the archive's own word decides
//! how long they are.

use super::blob::{Blob, Bounded, megabytes, reason, scratch, settle};
use super::cache::Cache;
use super::tree::{EntryPlace, MAX_FILE, Tree};
use flate2::read::MultiGzDecoder;
use robust_core::{Error, Result};
use std::io::{self, Read};
use std::path::Path;
use tar::{Entries, Entry, EntryType, PaxExtensions};

/// Longest name and longest block of extended attributes read.
const MAX_NAME: usize = 4096;
const MAX_EXTENSION: u64 = 64 << 10;

/// The wanted files of an archive: where they are, and the digest of the archive as it was found.
pub(super) struct Archive {
    pub blob: Blob,
    pub tree: Tree,
    pub notes: Vec<String>,
    pub hash: blake3::Hash,
}

/// Which paths are of interest; what is not is passed over.
pub(super) type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// Whether a name is a tar archive's.
pub(super) fn is_tar(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

pub(super) fn open(path: &Path, wanted: Wanted<'_>, cache: &Cache) -> Result<Archive> {
    let packed = Blob::open(path)?;
    let fail = |e: io::Error| Error::load(path.display(), reason(e)).hint("a folder, .tar or .tar.gz is wanted");
    let head = packed.head(4).map_err(fail)?;
    let hash = packed.digest().map_err(fail)?;
    if head.starts_with(b"PK") {
        return Err(fail(io::Error::other("a zip archive")));
    }
    if !head.starts_with(&[0x1F, 0x8B]) {
        let tree = in_place(&packed, wanted).map_err(fail)?;
        return Ok(Archive { blob: packed, tree, notes: vec![], hash });
    }
    if let Some(kept) = cache.tar(&packed, hash)? {
        let tree = in_place(&kept.blob, wanted).map_err(fail)?;
        return Ok(Archive { blob: kept.blob, tree, notes: vec![kept.note], hash });
    }
    let (blob, tree) = unpack(&packed, wanted).map_err(fail)?;
    let size = megabytes(blob.len());
    let notes = vec![format!("unpacked {} files to {size} of temporary space", tree.files.len())];
    Ok(Archive { blob, tree, notes, hash })
}

fn in_place(archive: &Blob, wanted: Wanted<'_>) -> io::Result<Tree> {
    let mut reader = tar::Archive::new(archive.reader());
    let mut end = 0;
    let tree = scan(reader.entries_with_seek()?.raw(true), wanted, &mut |entry, _| {
        let (start, size) = (entry.raw_file_position(), entry.header().entry_size()?);
        end = start.saturating_add(size).saturating_add(511) & !511;
        Ok(EntryPlace::Span(start, size))
    })?;
    // Seeking beyond the end is not an error, and a cut between two entries looks like an end.
    match archive.slice(end, 512).map(|closing| closing.read_all()).transpose()? {
        Some(block) if block.iter().all(|&b| b == 0) => Ok(tree),
        _ => Err(io::Error::other("truncated: no closing block of zeros")),
    }
}

fn unpack(archive: &Blob, wanted: Wanted<'_>) -> io::Result<(Blob, Tree)> {
    let mut reader = tar::Archive::new(Bounded::new(MultiGzDecoder::new(archive.reader()), archive.len()));
    let mut spooled = scratch()?;
    let mut at = 0;
    let tree = scan(reader.entries()?.raw(true), wanted, &mut |entry, kept| {
        let (start, size) = (at, entry.header().entry_size()?);
        if kept {
            at += io::copy(entry, &mut spooled)?;
            if at - start != size {
                return Err(io::Error::other("truncated inside a file"));
            }
        }
        Ok(EntryPlace::Span(start, size))
    })?;
    // The checksum is at the very end.
    io::copy(&mut reader.into_inner(), &mut io::sink())?;
    Ok((settle(spooled)?, tree))
}

/// Walks the headers. `visit` is shown every entry, with whether its bytes are wanted, and says where they are.
fn scan<'a, R: Read>(
    entries: Entries<'a, R>,
    wanted: Wanted<'_>,
    visit: &mut dyn FnMut(&mut Entry<'a, R>, bool) -> io::Result<EntryPlace>,
) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut next = Next::default();
    for entry in entries {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if next.read(&mut entry, kind)? {
            visit(&mut entry, false)?;
            continue;
        }
        let Next { name, sparse } = std::mem::take(&mut next);
        let raw = name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let path = normal(&raw)?;
        let size = entry.header().entry_size()?;
        // macOS puts a file of attributes beside each file: `._name`.
        let kept = !path.starts_with("._") && !path.contains("/._") && wanted(&path);
        // Before there was a type for folders, they ended in a slash.
        if kind.is_dir() || (kind.is_file() && raw.ends_with(b"/")) {
            visit(&mut entry, false)?;
            tree.folder(path).map_err(io::Error::other)?;
        } else if !kept {
            visit(&mut entry, false)?;
        } else {
            let plain = matches!(kind, EntryType::Regular | EntryType::Continuous) && !sparse;
            let place = visit(&mut entry, plain && size <= MAX_FILE)?;
            let place =
                if plain { place } else { EntryPlace::Nowhere("is a link or another special entry of the archive") };
            tree.file(path, size, place).map_err(io::Error::other)?;
        }
    }
    Ok(tree)
}

/// What entries that describe the next one have said of it.
#[derive(Default)]
struct Next {
    name: Option<Vec<u8>>,
    sparse: bool,
}

impl Next {
    /// Whether the entry is such a description; if so, it is taken in.
    fn read<R: Read>(&mut self, entry: &mut Entry<R>, kind: EntryType) -> io::Result<bool> {
        match kind {
            EntryType::GNULongName => {
                let mut name = attributes(entry)?;
                name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
                self.name = Some(name);
            }
            EntryType::XHeader => {
                let block = attributes(entry)?;
                for extension in PaxExtensions::new(&block) {
                    let extension = extension?;
                    match extension.key_bytes() {
                        b"path" => self.name = Some(extension.value_bytes().to_vec()),
                        b"size" => return Err(io::Error::other("an entry too large for an archive of images")),
                        key => self.sparse |= key.starts_with(b"GNU.sparse"),
                    }
                }
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn attributes<R: Read>(entry: &mut Entry<R>) -> io::Result<Vec<u8>> {
    let size = entry.header().entry_size()?;
    let mut bytes = vec![];
    entry.take(MAX_EXTENSION).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(io::Error::other(format!("attributes of {size} bytes: truncated or beyond {MAX_EXTENSION}")));
    }
    Ok(bytes)
}

/// A name as components joined by `/`. It is only ever a label, so `..` means nothing.
fn normal(raw: &[u8]) -> io::Result<String> {
    if raw.len() > MAX_NAME {
        return Err(io::Error::other(format!("a name of {} bytes, at most {MAX_NAME} are read", raw.len())));
    }
    let text = String::from_utf8_lossy(raw);
    Ok(text.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/"))
}
