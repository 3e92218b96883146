//! A cache of unpacked archives, which believes nothing that it did not write.

use super::blob::{Blob, Bounded, megabytes, reason};
use super::query::Query;
use flate2::read::MultiGzDecoder;
use robust_core::{Error, Result};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Where unpacked archives are kept, if anywhere: the folder a data set's `?cache=` or the environment's
/// `ROBUST_CACHE` names. A file there is named by the digest of the packed one and appears whole or not at all; beside it
/// stands the digest of its own content, which it must have whenever it is used.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    pub dir: Option<PathBuf>,
    /// Believe no digest that lies there: unpack once more, and compare.
    pub anew: bool,
}

/// An unpacked archive in the cache.
pub(super) struct Kept {
    pub blob: Blob,
    pub note: String,
}

impl Cache {
    pub fn of(query: &Query) -> Self {
        let asked = query.get("cache").map(PathBuf::from);
        let dir = asked.or_else(|| std::env::var_os("ROBUST_CACHE").filter(|dir| !dir.is_empty()).map(PathBuf::from));
        Self { dir, anew: query.anew }
    }

    /// The tar in a gzip'd archive of that digest; `None` without a cache.
    pub fn tar(&self, packed: &Blob, hash: blake3::Hash) -> Result<Option<Kept>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let (path, proof) = (dir.join(format!("{}.tar", hash.to_hex())), dir.join(format!("{}.b3", hash.to_hex())));
        let there = path.is_file();
        if there && let Some(blob) = self.sound(packed, &path, &proof)? {
            let note = format!("found unpacked in {}: {}", dir.display(), megabytes(blob.len()));
            return Ok(Some(Kept { blob, note }));
        }
        let fail = |e: io::Error| Error::write(dir.display(), reason(e));
        std::fs::create_dir_all(dir).map_err(fail)?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(fail)?;
        let content = copied(packed, &mut file).map_err(fail)?;
        file.as_file().sync_all().map_err(fail)?;
        file.persist(&path).map_err(|e| fail(e.error))?;
        write_beside(&proof, content).map_err(fail)?;
        let blob = Blob::open(&path)?;
        let note = match there {
            true => format!("the unpacked copy in {} was altered: it was unpacked anew", dir.display()),
            false => format!("unpacked to {} of {}, kept for the next time", megabytes(blob.len()), dir.display()),
        };
        Ok(Some(Kept { blob, note }))
    }

    /// The copy in the cache, if it is what the archive unpacks to: by the digest that was written with it, or by
    /// unpacking once more.
    fn sound(&self, packed: &Blob, path: &Path, proof: &Path) -> Result<Option<Blob>> {
        let fail = |e: io::Error| Error::load(path.display(), reason(e));
        let blob = Blob::open(path)?;
        let known = recorded(proof).filter(|_| !self.anew);
        let content = match known {
            Some(content) => content,
            None => copied(packed, &mut io::sink()).map_err(fail)?,
        };
        if blob.digest().map_err(fail)? != content {
            return Ok(None);
        }
        if recorded(proof) != Some(content) {
            // Where nothing can be written, the next one unpacks once more, too.
            write_beside(proof, content).ok();
        }
        Ok(Some(blob))
    }
}

/// The digest in a file of the cache, where there is one.
fn recorded(proof: &Path) -> Option<blake3::Hash> {
    let mut text = String::new();
    File::open(proof).ok()?.take(100).read_to_string(&mut text).ok()?;
    blake3::Hash::from_hex(text.trim()).ok()
}

fn write_beside(proof: &Path, content: blake3::Hash) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(proof.parent().unwrap_or(Path::new(".")))?;
    writeln!(file, "{}", content.to_hex())?;
    file.persist(proof).map(|_| ()).map_err(|e| e.error)
}

/// Unpacks a gzip'd archive into `to`; the digest of what came out.
fn copied(packed: &Blob, to: &mut impl Write) -> io::Result<blake3::Hash> {
    let mut reader = Bounded::new(MultiGzDecoder::new(packed.reader()), packed.len());
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; 1 << 16]);
    loop {
        let n = match reader.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if n == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
    }
}
