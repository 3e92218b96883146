//! The weights in a checkpoint.

use super::advice::{by_export, by_hand, by_script};
use super::node::{Id, Node};
use super::pickle::Pickle;
use super::sniff::{root, sniff};
use super::storage::Storages;
use super::{legacy, script, search, tensor, zip};
use crate::weights::View;
use robust_core::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Memory that the tensors of even the smallest file may take.
pub(super) const SMALLEST: usize = 1 << 20;
const SHOWN: usize = 5;

/// The tensors of one state dict, and what a user should know of how they were found.
#[derive(Debug)]
pub(crate) struct Checkpoint<'a> {
    pub tensors: Vec<View<'a>>,
    pub notes: Vec<String>,
}

/// Reads the state dict under `key` (a dotted path), or else the one found by itself; see `search::ORDER`.
///
/// # Errors
/// Kind `Load` for damaged, older and other files, with the opcode or global at fault and the conversion that helps; kind
/// `Usage` for a key that is not there.
pub(crate) fn read<'a>(bytes: &'a [u8], key: Option<&str>) -> Result<Checkpoint<'a>> {
    sniff(bytes)?;
    let Opened { pickle, storages, notes } = open(bytes)?;
    let mut found = search::find(&pickle, key)?;
    found.notes.extend(notes);
    let budget = bytes.len().saturating_mul(2).max(SMALLEST);
    let mut file = File { pickle: &pickle, storages: &storages, len: bytes.len(), budget };
    let read = match pickle.node(found.dict) {
        Node::Object { .. } => file.modules(found.dict, found.notes).map_err(|e| hinted(e, by_script()))?,
        Node::Instance { .. } => {
            let export = by_export(&format!("{}.state_dict()", python(&found.path)));
            file.modules(found.dict, found.notes).map_err(|e| hinted(e, export))?
        }
        Node::Dict(entries) => file.dict(entries, &found.path, found.notes)?,
        _ => return Err(Error::internal("the weights found are not a dict")),
    };
    if read.tensors.is_empty() {
        let what = if found.path.is_empty() { "the file".into() } else { format!("`{}`", found.path) };
        return Err(Error::new(Kind::Load, format!("{what} holds no tensors")));
    }
    Ok(read)
}

/// A file's object and where its tensors' elements are.
struct Opened<'a> {
    pickle: Pickle<'a>,
    storages: Storages<'a>,
    notes: Vec<String>,
}

fn open(bytes: &[u8]) -> Result<Opened<'_>> {
    if legacy::begins(bytes) {
        let legacy::Legacy { pickle, storages, left } =
            legacy::read(bytes).map_err(|e| hinted(e, by_hand("d.get('state_dict', d)")))?;
        let more = (left > 0).then(|| format!("{left} bytes behind the last tensor of the file are not read"));
        return Ok(Opened { pickle, storages, notes: more.into_iter().collect() });
    }
    let zip = zip::Archive::open(bytes)?;
    let root = root(&zip)?;
    if zip.get(&format!("{root}byteorder")) == Some(b"big") {
        return Err(Error::load("the file", "it was written on a big-endian machine").hint(by_hand("d")));
    }
    let script = zip.get(&format!("{root}constants.pkl")).is_some();
    let other = || if script { by_script() } else { by_hand("d['state_dict']") };
    let pickle =
        Pickle::read(zip.get(&format!("{root}data.pkl")).unwrap_or_default()).map_err(|e| hinted(e, other()))?;
    if script && !matches!(pickle.node(pickle.root), Node::Object { .. }) {
        let why = format!("it is a TorchScript program whose data is {}, not a module", pickle.describe(pickle.root));
        return Err(Error::load("the file", why).hint(by_script()));
    }
    Ok(Opened { pickle, storages: Storages::Zip(zip, root), notes: vec![] })
}

/// What the values of a pickle refer to, and what they may still become.
struct File<'f, 'a> {
    pickle: &'f Pickle<'a>,
    storages: &'f Storages<'a>,
    /// Bytes of the whole file.
    len: usize,
    budget: usize,
}

impl<'a> File<'_, 'a> {
    /// The tensors of a state dict.
    fn dict(&mut self, entries: &[(Id, Id)], path: &str, mut notes: Vec<String>) -> Result<Checkpoint<'a>> {
        let pickle = self.pickle;
        let (mut tensors, mut left, mut others) = (BTreeMap::new(), vec![], 0);
        for &(key, value) in entries {
            let name = pickle.text(key);
            match (name, pickle.node(value)) {
                (Some(name), Node::Tensor { .. }) => {
                    let tensor = self.tensor(name, value).map_err(|e| e.hint(by_hand(&python(path))))?;
                    tensors.insert(name, tensor);
                }
                (Some(name), Node::Opaque(by)) if tensor::rebuilds(pickle, *by) => {
                    return Err(self.unknown(name, value).hint(by_hand(&python(path))));
                }
                _ => {
                    others += 1;
                    if others <= SHOWN {
                        left.push(name.map_or_else(|| pickle.describe(key), |n| format!("`{}`", n.escape_debug())));
                    }
                }
            }
        }
        if others > 0 {
            let more = if others > SHOWN { ", ..." } else { "" };
            notes.push(format!("{others} entries are not tensors and left out: {}{more}", left.join(", ")));
        }
        Ok(Checkpoint { tensors: tensors.into_values().collect(), notes })
    }

    /// The tensors of a TorchScript program's module or of a pickled one.
    fn modules(&mut self, module: Id, mut notes: Vec<String>) -> Result<Checkpoint<'a>> {
        let found = script::tensors(self.pickle, module, 2 * self.len)?;
        let read = |(name, value): (String, Id)| match self.pickle.node(value) {
            Node::Opaque(_) => Err(self.unknown(&name, value)),
            _ => self.tensor(&name, value),
        };
        let tensors = found.into_iter().map(read).collect::<Result<_>>()?;
        notes.push(match self.pickle.module(module) {
            Some(class) => format!(
                "the weights are in a whole module, {}: its tensors are read, its code is not run",
                self.pickle.describe(class)
            ),
            None => "the file is a TorchScript program: its tensors are read, its code is not run".into(),
        });
        Ok(Checkpoint { tensors, notes })
    }

    fn tensor(&mut self, name: &str, value: Id) -> Result<View<'a>> {
        let read = tensor::read(self.pickle, self.storages, value, &mut self.budget);
        let (dtype, shape, data) = read
            .map_err(|e| Error::new(e.kind, format!("cannot load tensor `{}`: {}", name.escape_debug(), e.message)))?;
        Ok((name.to_string(), dtype, shape, data))
    }

    fn unknown(&self, name: &str, value: Id) -> Error {
        let why = format!("it is {}, which is not understood", self.pickle.describe(value));
        Error::load(format!("tensor `{}`", name.escape_debug()), why)
    }
}

/// The error with a hint, where it has none.
fn hinted(error: Error, hint: String) -> Error {
    if error.hint.is_some() { error } else { error.hint(hint) }
}

/// How Python reaches a path of the file.
fn python(path: &str) -> String {
    let parts = path.split('.').filter(|p| !p.is_empty());
    parts.fold("d".to_string(), |d, part| match part.parse::<usize>() {
        Ok(index) => format!("{d}[{index}]"),
        Err(_) => format!("{d}['{}']", part.escape_debug()),
    })
}
