//! One file, from the hub into the cache: resumed where it stopped, checked, and only then given its name.

use super::client::{Client, HubAnswer, Meta, Trouble};
use super::settings::{Progress, Settings};
use super::store::Store;
use crate::files::hf::cache::Wanted;
use ring::digest::{Context, SHA256};
use robust_core::{Error, Kind, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// Tries in a row that bring nothing, and tries of one file in all.
const TRIES: u32 = 5;
const MAX_TRIES: u32 = 50;
const CHUNK: usize = 1 << 17;
/// Between two looks at whether to stop while waiting.
const BLINK: Duration = Duration::from_millis(100);

pub struct Download<'a> {
    pub client: &'a Client<'a>,
    pub settings: &'a Settings,
    pub store: &'a Store,
    pub wanted: &'a Wanted,
    pub commit: &'a str,
}

impl Download<'_> {
    /// Brings a file of at most `most` bytes into the snapshot, unless it is there; gives its size.
    ///
    /// # Errors
    /// Kind `Load` for what the hub does not give or gives wrongly, `Write` for what cannot be kept, `Interrupted`.
    pub fn bring(&self, name: &str, most: u64) -> Result<u64> {
        if let Ok(there) = self.store.snapshot(self.commit).join(name).metadata() {
            return Ok(there.len());
        }
        let meta = persist(self.settings, &mut || self.client.meta(self.wanted, self.commit, name))?;
        if meta.size > most {
            let why = format!("{name} has {} bytes; up to {most} are supported", meta.size);
            return Err(self.wanted.missing(why));
        }
        let blob = self.store.blob(&meta.etag).map_err(|e| e.within(name))?;
        let there = || blob.metadata().is_ok_and(|m| m.is_file() && m.len() == meta.size);
        if !there() {
            let lock = self.store.lock(&meta.etag, &mut || rest(self.settings, BLINK, name))?;
            // Somebody else may have fetched it while we waited.
            if !there() {
                self.fetch(name, &meta, &blob, &Store::incomplete(&blob, &lock))?;
            }
        }
        self.store.name(self.commit, name, &blob)?;
        Ok(meta.size)
    }

    fn fetch(&self, name: &str, meta: &Meta, blob: &Path, draft: &Path) -> Result<()> {
        let (mut idle, mut best) = (0, 0);
        for _ in 0..MAX_TRIES {
            let (file, arrived) = Store::open(draft)?;
            best = best.max(arrived);
            let trouble = match self.attempt(name, meta, file, draft, arrived) {
                Ok(file) => return Store::settle(file, draft, blob),
                Err(trouble) => trouble,
            };
            let (error, wait) = match trouble {
                Trouble::Passing(error, wait) => (error, wait),
                Trouble::Final(error) => return Err(error),
            };
            let now = draft.metadata().map_or(0, |m| m.len());
            idle = if now > best { 0 } else { idle + 1 };
            if idle >= TRIES {
                return Err(self.kept(error, now));
            }
            rest(self.settings, wait.unwrap_or(self.settings.pause * 2u32.pow(idle)), name)?;
        }
        Err(self.wanted.missing(format!("{name}: the connection broke {MAX_TRIES} times")))
    }

    fn kept(&self, error: Error, arrived: u64) -> Error {
        match arrived {
            0 => error,
            n => error.hint(format!("{n} bytes have arrived and are kept: the same command goes on from there")),
        }
    }

    /// One connection: what is missing of the file, to the end, and the check.
    fn attempt(&self, name: &str, meta: &Meta, mut file: File, draft: &Path, arrived: u64) -> HubAnswer<File> {
        let disk = |e: std::io::Error| Trouble::Final(Error::write(draft.display(), e));
        let size = meta.size;
        let start = if arrived > size { 0 } else { arrived };
        let content = match start < size {
            true => Some(self.client.content(self.wanted, self.commit, name, (start, size))?),
            false => None,
        };
        // The other side may begin at the beginning all the same.
        let start = content.as_ref().map_or(start, |c| c.from);
        let mut hash = Context::new(&SHA256);
        file.set_len(start).map_err(disk)?;
        file.seek(SeekFrom::Start(0)).map_err(disk)?;
        digest(&mut (&file).take(start), &mut hash).map_err(disk)?;
        file.seek(SeekFrom::Start(start)).map_err(disk)?;
        let end = match content {
            Some(content) => self.receive(name, (start, size), content.body, &mut |bytes| {
                hash.update(bytes);
                file.write_all(bytes).map_err(disk)
            })?,
            None => start,
        };
        if end > size {
            let _ = std::fs::remove_file(draft);
            let why = format!("{name}: more than the {size} bytes that were announced are sent");
            return Err(Trouble::Final(self.wanted.missing(why)));
        }
        if end < size {
            let why = self.wanted.missing(format!("{name}: the connection ended after {end} of {size} bytes"));
            return Err(Trouble::Passing(why, None));
        }
        let found = hex(hash.finish().as_ref());
        if is_sha256(&meta.etag) && !meta.etag.eq_ignore_ascii_case(&found) {
            let _ = std::fs::remove_file(draft);
            let why = self.wanted.missing(format!("{name}: its sha256 is {found}, the hub says {}", meta.etag));
            let why =
                why.hint("nothing of it is kept: if it happens again, something on the way to the hub changes files");
            // Of what was put together from two connections either half may be wrong.
            return Err(if start > 0 { Trouble::Passing(why, None) } else { Trouble::Final(why) });
        }
        Ok(file)
    }

    /// Reads to the end, or to one byte more than was announced; gives where that is.
    fn receive(
        &self,
        name: &str,
        (start, size): (u64, u64),
        mut body: Box<dyn Read>,
        keep: &mut dyn FnMut(&[u8]) -> HubAnswer<()>,
    ) -> HubAnswer<u64> {
        let (mut buffer, mut at) = (vec![0; CHUNK], start);
        loop {
            self.tell(name, at, size)?;
            let room = usize::try_from(size - at + 1).unwrap_or(CHUNK).min(CHUNK);
            let n = body.read(&mut buffer[..room]).map_err(|e| self.client.cut(&e))?;
            at += n as u64;
            if n == 0 || at > size {
                return Ok(at);
            }
            keep(&buffer[..n])?;
        }
    }

    fn tell(&self, file: &str, done: u64, of: u64) -> Result<()> {
        let progress = Progress { model: &self.wanted.model, file, done, of };
        match self.settings.watch.as_ref().is_none_or(|watch| watch(&progress)) {
            true => Ok(()),
            false => Err(stopped(file)),
        }
    }
}

fn stopped(file: &str) -> Error {
    Error::new(Kind::Interrupted, format!("stopped while downloading {file}"))
        .hint("what has arrived is kept: the same command goes on from there")
}

/// Asks until there is an answer, with longer and longer pauses.
pub fn persist<T>(settings: &Settings, ask: &mut dyn FnMut() -> HubAnswer<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Passing(error, _)) if tries + 1 >= TRIES => return Err(error),
            Err(Trouble::Passing(_, wait)) => rest(settings, wait.unwrap_or(settings.pause * 2u32.pow(tries)), "")?,
        }
        tries += 1;
    }
}

/// Waits, unless told to stop.
fn rest(settings: &Settings, how_long: Duration, file: &str) -> Result<()> {
    let mut left = how_long;
    loop {
        let progress = Progress { model: "", file, done: 0, of: 0 };
        if settings.watch.as_ref().is_some_and(|watch| !watch(&progress)) {
            return Err(stopped(file));
        }
        if left.is_zero() {
            return Ok(());
        }
        let nap = left.min(BLINK);
        std::thread::sleep(nap);
        left -= nap;
    }
}

fn digest(from: &mut impl Read, hash: &mut Context) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The etags of large files are their hashes, those of small ones are git's.
fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.chars().all(|c| c.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
