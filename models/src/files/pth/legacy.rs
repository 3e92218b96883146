//! Files of torch.save before PyTorch 1.6, and with its zip format turned off: five pickles (a magic number, the version of the
//! format, the machine, the object, the names of the storages), then the storages in the order of their names, each a number of
//! elements in eight bytes and the elements.

use super::advice;
use super::node::Node;
use super::pickle::Pickle;
use super::storage::{Storages, class_of, natural};
use robust_core::{Error, Result};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The magic number as every pickle protocol since 2 writes it.
pub(super) const MAGIC: &[u8] = &[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// From the protocol's number to the magic number: nothing, or the head of a frame.
const BEFORE: [usize; 2] = [2, 11];
const VERSION: usize = 1001;

/// The object of a file and its storages, and the bytes behind the last storage.
pub(super) struct Legacy<'a> {
    pub pickle: Pickle<'a>,
    pub storages: Storages<'a>,
    pub left: usize,
}

/// Whether the file begins as one of this kind.
pub(super) fn begins(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
        && BEFORE.into_iter().any(|at| bytes.get(at..).is_some_and(|rest| rest.starts_with(MAGIC)))
}

/// # Errors
/// Kind `Load` for what is damaged or claims more than is there.
pub(super) fn read(bytes: &[u8]) -> Result<Legacy<'_>> {
    let mut at = 0;
    let mut next = |what| next(bytes, &mut at, what);
    next("its magic number")?;
    let version = next("its version")?;
    match version.node(version.root) {
        Node::Int(n) if *n == VERSION as i64 => {}
        _ => return Err(file(format!("its format is not version {VERSION} of PyTorch's before 1.6"))),
    }
    let machine = next("what it says of its machine")?;
    let little = machine.entry(machine.root, "little_endian").map(|id| machine.node(id));
    if let Some(Node::Bool(false)) = little {
        return Err(Error::load("the file", "it was written on a big-endian machine").hint(advice::by_hand("d")));
    }
    let pickle = next("its object")?;
    let names = next("its list of storages")?;
    let (storages, end) = storages(bytes, at, &pickle, &names)?;
    Ok(Legacy { pickle, storages: Storages::Behind(storages), left: bytes.len() - end })
}

/// The pickle at `at`, which moves behind it.
fn next<'a>(bytes: &'a [u8], at: &mut usize, what: &str) -> Result<Pickle<'a>> {
    let (pickle, used) = Pickle::first(&bytes[*at..]).map_err(|e| e.within(what))?;
    *at += used;
    Ok(pickle)
}

fn file(why: String) -> Error {
    Error::load("the file", why).hint("copy or download it again")
}

/// The storages by name, and where the last one ends. How wide an element is only the object says.
fn storages<'a>(
    bytes: &'a [u8],
    mut at: usize,
    pickle: &Pickle<'a>,
    names: &Pickle<'a>,
) -> Result<(BTreeMap<&'a str, &'a [u8]>, usize)> {
    let mut said = BTreeMap::new();
    for node in pickle.nodes() {
        if let &Node::Storage { class, key, len, .. } = node
            && let Some(name) = pickle.text(key)
        {
            said.entry(name).or_insert((class, len));
        }
    }
    let list = names.items(names.root);
    let list = list.ok_or_else(|| file(format!("its list of storages is {}", names.describe(names.root))))?;
    let mut found = BTreeMap::new();
    for &id in list {
        let name = names.text(id).ok_or_else(|| file(format!("a storage's name is {}", names.describe(id))))?;
        let shown = || format!("the storage `{}`", name.escape_debug());
        let &(class, len) = said.get(name).ok_or_else(|| file(format!("{} belongs to no tensor", shown())))?;
        let claim = class_of(pickle, class).and_then(|(_, width)| Ok((width, natural(pickle, len, "size")?)));
        let (width, len) = claim.map_err(|e| e.within(shown()))?;
        let written = bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u64::from_le_bytes(*n));
        let written = written.ok_or_else(|| file(format!("it ends before {}: truncated?", shown())))?;
        if written != len as u64 {
            return Err(file(format!("{} has {written} elements, {len} are expected", shown())));
        }
        let (start, size) = (at + 8, len.checked_mul(width));
        let end = size.and_then(|n| start.checked_add(n)).filter(|&end| end <= bytes.len());
        let end = end.ok_or_else(|| {
            let rest = bytes.len() - start;
            file(format!("{} claims {len} elements of {width} bytes, the file has {rest} more: truncated?", shown()))
        })?;
        match found.entry(name) {
            Entry::Vacant(free) => free.insert(&bytes[start..end]),
            Entry::Occupied(_) => return Err(file(format!("{} is there twice", shown()))),
        };
        at = end;
    }
    Ok((found, at))
}
