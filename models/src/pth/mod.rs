//! PyTorch checkpoints (`.pth`, `.pt`, `.bin`) as torch.save writes them: since 1.6 a zip archive of one pickle and the
//! tensors' storages, before it pickles with the storages behind them; and TorchScript programs (torch.jit.save), whose modules are
//! named tensors as well. Only data is read: no class is loaded and nothing in the file is ever executed.

mod legacy;
#[cfg(test)]
mod legacy_tests;
mod opcodes;
mod pickle;
mod script;
mod search;
mod storage;
mod tensor;
#[cfg(test)]
mod tests;
mod zip;

use crate::EXPORT;
use crate::safetensors::View;
use pickle::{Node, Pickle};
use robust_core::{Error, Kind, Result};
use std::collections::BTreeMap;
use storage::Storages;

/// Memory that the tensors of even the smallest file may take.
const SMALLEST: usize = 1 << 20;
const SHOWN: usize = 5;

/// The tensors of one state dict, and what a user should know of how they were found.
#[derive(Debug)]
pub(crate) struct Checkpoint<'a> {
    pub tensors: Vec<View<'a>>,
    pub notes: Vec<String>,
}

/// The one-line conversion for what cannot be read; `weights` is what to save, `d` being the loaded file.
fn by_hand(weights: &str) -> String {
    format!(
        "export the model where its code is: {EXPORT}; or, if you trust the file and its tensors are those of an architecture known \
         here, convert it: python -c \"import torch, safetensors.torch as s; \
         d = torch.load('IN', map_location='cpu', weights_only=False); \
         s.save_file({{k: v.clone().contiguous() for k, v in {weights}.items() if torch.is_tensor(v)}}, 'OUT.safetensors')\""
    )
}

/// The same for a TorchScript program.
fn by_script() -> String {
    "if you trust the file, export it where PyTorch is: model = torch.jit.load('IN', map_location='cpu'); \
     torch.onnx.export(model, x, \"net.onnx\", dynamo=False); or convert its weights: python -c \"import torch, safetensors.torch as s; \
     d = torch.jit.load('IN', map_location='cpu').state_dict(); \
     s.save_file({k: v.clone().contiguous() for k, v in d.items()}, 'OUT.safetensors')\""
        .into()
}

/// The export of a network whose code is the user's own; `weights` as in [`by_hand`].
fn by_export(weights: &str) -> String {
    format!(
        "export it where its code is: python -c \"import torch; \
         model = torch.load('IN', map_location='cpu', weights_only=False).eval(); {}\" (the zeros have the shape of an image); \
         the weights alone, of a network that is known here: {}",
        crate::EXPORT,
        by_hand(weights)
    )
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
        _ => return Err(Error::internal("the weights found are no dict")),
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
    fn dict(
        &mut self,
        entries: &[(pickle::Id, pickle::Id)],
        path: &str,
        mut notes: Vec<String>,
    ) -> Result<Checkpoint<'a>> {
        let pickle = self.pickle;
        let (mut tensors, mut left, mut others) = (BTreeMap::new(), vec![], 0);
        for &(key, value) in entries {
            let name = pickle.text(key);
            match (name, pickle.node(value)) {
                (Some(name), Node::Tensor { .. }) => {
                    let tensor = self.tensor(name, value).map_err(|e| e.hint(by_hand(&python(path))))?;
                    tensors.insert(name, tensor);
                }
                (Some(name), Node::Opaque(by)) if rebuilds(pickle, *by) => {
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
            notes.push(format!("{others} entries are no tensors and left out: {}{more}", left.join(", ")));
        }
        Ok(Checkpoint { tensors: tensors.into_values().collect(), notes })
    }

    /// The tensors of a TorchScript program's module or of a pickled one.
    fn modules(&mut self, module: pickle::Id, mut notes: Vec<String>) -> Result<Checkpoint<'a>> {
        let found = script::tensors(self.pickle, module, 2 * self.len)?;
        let read = |(name, value): (String, pickle::Id)| match self.pickle.node(value) {
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

    fn tensor(&mut self, name: &str, value: pickle::Id) -> Result<View<'a>> {
        let read = tensor::read(self.pickle, self.storages, value, &mut self.budget);
        let (dtype, shape, data) = read
            .map_err(|e| Error::new(e.kind, format!("cannot load tensor `{}`: {}", name.escape_debug(), e.message)))?;
        Ok((name.to_string(), dtype, shape, data))
    }

    fn unknown(&self, name: &str, value: pickle::Id) -> Error {
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

/// Whether a global makes tensors: an entry made by it is a tensor we cannot read, not something beside the weights.
fn rebuilds(pickle: &Pickle, global: pickle::Id) -> bool {
    pickle.global(global).is_some_and(|(module, name)| module.starts_with(b"torch") && name.starts_with(b"_rebuild"))
}

/// The folder in the archive that holds the pickle, with its `/`.
fn root<'a>(zip: &zip::Archive<'a>) -> Result<&'a str> {
    let file = |why: &str, hint: String| Err(Error::load("the file", why).hint(hint));
    let roots: Vec<&str> =
        zip.names().filter_map(|n| n.strip_suffix("data.pkl")).filter(|r| r.is_empty() || r.ends_with('/')).collect();
    match roots[..] {
        [root] => Ok(root),
        [] if zip.names().any(|n| n.ends_with(".npy")) => file(
            "it is a numpy archive (.npz), not a checkpoint",
            "numpy arrays are data sets here: `--dataset npz:FILE`".into(),
        ),
        [] if zip.names().any(|n| n.ends_with("/archive_format")) => file(
            "it is a program of torch.export (.pt2), whose graph is not read here",
            "export it to ONNX where PyTorch is: torch.onnx.export(torch.export.load('IN'), (), \"net.onnx\", dynamo=True)".into(),
        ),
        [] if zip.names().any(|n| n.ends_with("/model.json")) => {
            file("it is a TorchScript program of PyTorch before 1.4, whose tensors are not in a pickle", by_script())
        }
        [] => file("it is a zip archive without a `data.pkl`: torch.save did not write it", by_hand("d")),
        _ => file("it has several pickles `data.pkl`", "no tool writes this by accident: do not trust it".into()),
    }
}

/// Tells files that are something else.
fn sniff(bytes: &[u8]) -> Result<()> {
    let file = |why: &str, hint: String| Err(Error::load("the file", why).hint(hint));
    let begins = |what: &[u8]| bytes.starts_with(what);
    match bytes {
        [] => file("it is empty", "copy or download it again".into()),
        _ if begins(b"PK\x03\x04") => Ok(()),
        _ if legacy::begins(bytes) => Ok(()),
        _ if bytes.get(257..262) == Some(b"ustar") => {
            file("it is a tar archive, as PyTorch wrote before 0.2 and as folders are packed", by_hand("d.get('state_dict', d)"))
        }
        _ if begins(b"version https://git-lfs") => {
            file("it is a Git LFS pointer, not the file itself", "fetch the file: `git lfs pull`".into())
        }
        _ if begins(b"<!") || begins(b"<html") => {
            file("it is a web page, not a checkpoint", "download the file itself, for instance with the browser".into())
        }
        [0x80, 2..=5, ..] => file(
            "it is a plain pickle (of numpy arrays or Python objects), which torch.save did not write",
            "save the weights as safetensors where they were made: safetensors.numpy.save_file(dict_of_arrays, 'OUT.safetensors')"
                .into(),
        ),
        _ if bytes.get(8) == Some(&b'{') => file("it looks like safetensors", "rename it to `.safetensors`".into()),
        _ => file("it is not a checkpoint that torch.save wrote", by_hand("d.get('state_dict', d)")),
    }
}
