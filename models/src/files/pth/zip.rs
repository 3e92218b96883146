//! The members of a zip archive as slices of the file. torch.save stores without compression, so nothing is unpacked and
//! nothing can expand; names are looked up, never used as paths. torch.jit.save compresses a program's code, which is never read.

use robust_core::{Error, Result};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const END_SIZE: usize = 22;
/// In a field of 32 bits: the value is in the 64-bit extension.
const ELSEWHERE: u64 = 0xffff_ffff;

pub(super) struct Archive<'a> {
    /// A compressed member has no data here.
    members: BTreeMap<&'a str, Option<&'a [u8]>>,
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::load("the file", format!("its zip archive is damaged ({why})")).hint("copy or download it again")
}

/// `len` bytes at `at`, if they are there.
fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    let end = at.checked_add(len).filter(|&end| end <= bytes.len());
    end.map(|end| &bytes[at..end]).ok_or_else(|| damaged(format!("{len} bytes at {at} are beyond its end")))
}

/// A little-endian number of `len` bytes, up to 8.
fn number(bytes: &[u8], at: usize, len: usize) -> Result<u64> {
    Ok(slice(bytes, at, len)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
}

fn place(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| damaged(format!("a member at {n}")))
}

impl<'a> Archive<'a> {
    /// # Errors
    /// Kind `Load` for damage, two members of one name, names that point outside, compression and encryption.
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let (count, size, start) = directory(bytes)?;
        let mut rest = slice(bytes, start, size)?;
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let (name, data, used) = member(bytes, start, rest)?;
            rest = &rest[used..];
            if name.ends_with('/') {
                continue;
            }
            match members.entry(name) {
                Entry::Vacant(free) => free.insert(data),
                Entry::Occupied(_) => {
                    return Err(Error::load(
                        "the file",
                        format!("it has two members called `{}`", name.escape_debug()),
                    )
                    .hint("no tool writes this by accident: do not trust it"));
                }
            };
        }
        Ok(Self { members })
    }

    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.members.get(name).copied().flatten()
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.members.keys().copied()
    }
}

/// Members, size and start of the central directory.
fn directory(bytes: &[u8]) -> Result<(u64, usize, usize)> {
    let last = bytes.len().checked_sub(END_SIZE).ok_or_else(|| damaged("it is too short"))?;
    // A comment of up to 65535 bytes may follow.
    let fits =
        |at: &usize| bytes[*at..].starts_with(END) && number(bytes, at + 20, 2).is_ok_and(|n| n as usize == last - at);
    let lowest = last.saturating_sub(usize::from(u16::MAX));
    let end = (lowest..=last).rev().find(fits).ok_or_else(|| damaged("it has no directory: truncated?"))?;
    let [count, size, start] = [(10, 2), (12, 4), (16, 4)].map(|(at, len)| number(bytes, end + at, len));
    let (mut count, mut size, mut start) = (count?, size?, start?);
    if count == 0xffff || size == ELSEWHERE || start == ELSEWHERE {
        let locator = end.checked_sub(20).filter(|&at| bytes[at..].starts_with(LOCATOR_64));
        let locator = locator.ok_or_else(|| damaged("its 64-bit directory is missing"))?;
        let at = place(number(bytes, locator + 8, 8)?)?;
        if slice(bytes, at, 56)?[..4] != *END_64 {
            return Err(damaged("its 64-bit directory is not where it should be"));
        }
        (count, size, start) = (number(bytes, at + 32, 8)?, number(bytes, at + 40, 8)?, number(bytes, at + 48, 8)?);
    }
    Ok((count, place(size)?, place(start)?))
}

/// Name and data of the directory's next entry, and the entry's length.
fn member<'a>(bytes: &'a [u8], directory: usize, entry: &'a [u8]) -> Result<(&'a str, Option<&'a [u8]>, usize)> {
    if !entry.starts_with(CENTRAL) {
        return Err(damaged("an entry of its directory is not an entry"));
    }
    let field = |at: usize, len: usize| number(entry, at, len);
    let [name_len, extra_len, comment_len] = [field(28, 2)?, field(30, 2)?, field(32, 2)?].map(|n| n as usize);
    let raw = slice(entry, 46, name_len)?;
    let name = std::str::from_utf8(raw).map_err(|_| damaged("a member's name is not UTF-8"))?;
    if name.starts_with('/') || name.contains(['\\', '\0', ':']) || name.split('/').any(|part| part == "..") {
        return Err(Error::load("the file", format!("a member's name `{}` points outside it", name.escape_debug()))
            .hint("no tool writes this by accident: do not trust it"));
    }
    let (flags, method) = (field(8, 2)?, field(10, 2)?);
    let packed = method != 0;
    let code = || name.rsplit('/').skip(1).any(|folder| folder == "code");
    if flags & 1 != 0 || packed && !code() {
        let how = if flags & 1 != 0 { "encrypted" } else { "compressed" };
        return Err(Error::load(
            "the file",
            format!("its member `{}` is {how}, torch.save stores", name.escape_debug()),
        )
        .hint("save the checkpoint again with torch.save"));
    }
    let mut sizes = [field(24, 4)?, field(20, 4)?, field(42, 4)?];
    extend(slice(entry, 46 + name_len, extra_len)?, &mut sizes)?;
    let [size, stored, offset] = sizes;
    if size != stored && !packed {
        return Err(damaged(format!("`{}` has two sizes", name.escape_debug())));
    }
    let (stored, at) = (place(stored)?, place(offset)?);
    let header = slice(bytes, at, 30)?;
    let (local_name, local_extra) = (number(header, 26, 2)? as usize, number(header, 28, 2)? as usize);
    if !header.starts_with(LOCAL) || slice(bytes, at + 30, local_name)? != raw {
        return Err(damaged(format!("`{}` is not where its directory says", name.escape_debug())));
    }
    let data = slice(&bytes[..directory], at + 30 + local_name + local_extra, stored)?;
    Ok((name, (!packed).then_some(data), slice(entry, 0, 46 + name_len + extra_len + comment_len)?.len()))
}

/// Fills in the sizes that are in the 64-bit extension.
fn extend(mut extra: &[u8], sizes: &mut [u64; 3]) -> Result<()> {
    while extra.len() >= 4 {
        let (id, len) = (number(extra, 0, 2)?, number(extra, 2, 2)? as usize);
        let body = slice(extra, 4, len)?;
        if id == 1 {
            let wanted = sizes.iter_mut().filter(|s| **s == ELSEWHERE);
            for (i, size) in wanted.enumerate() {
                *size = number(body, 8 * i, 8)?;
            }
        }
        extra = &extra[4 + len..];
    }
    Ok(())
}
