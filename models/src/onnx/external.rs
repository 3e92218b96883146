//! Weights that lie in files beside the graph's (`net.onnx.data`), as PyTorch writes them by default. Whoever writes the .onnx
//! file chooses which file is opened: only plain files within its own folder are, and only the bytes a tensor has room for.

use super::array::{bytes_of, sizes};
use super::proto::{Entry, GraphProto, TensorProto};
use crate::bytes::{self as files, MAX_BYTES};
use prost::Message;
use prost::bytes::Bytes;
use robust_core::{Error, Result};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// What may be read apart from the bytes of the graph's file.
#[derive(Debug, Clone, Copy)]
pub enum Beside<'a> {
    /// No file at all: the graph came as bytes.
    Nothing,
    /// Files in the folder of the graph's own file.
    Of(&'a Path),
}

/// How many times the tensors may read each byte of the files: shared weights are written twice at most.
const READINGS: u64 = 2;
/// Entries of a tensor's account of where its bytes are: a name, a start, a length, a checksum.
const MAX_PARTS: usize = 16;
const INSIDE: &str = "or put the weights inside the .onnx file: torch.onnx.export(model, x, \"net.onnx\", dynamo=True, external_data=False)";

/// Gives every tensor whose bytes are elsewhere its bytes. Those of one file are shared, not copied. Returns how many bytes all
/// files have.
///
/// # Errors
/// Kind `Load`, with the tensor and the file, for files that are missing, are no plain files of the folder or are too short.
pub fn fetch(graph: &mut GraphProto, beside: Beside) -> Result<usize> {
    let mut shelf = Shelf { beside, names: HashMap::new(), files: HashMap::new(), held: 0, used: 0 };
    let attributes = graph.node.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(attributes).filter(|t| t.data_location == 1) {
        let bytes = shelf.bytes(tensor).map_err(|e| e.within(format!("cannot load tensor `{}`", tensor.name)))?;
        tensor.raw_data = bytes;
        tensor.data_location = 0;
        tensor.external_data = vec![];
    }
    Ok(shelf.held as usize)
}

/// The files opened so far.
struct Shelf<'a> {
    beside: Beside<'a>,
    /// By the names that the tensors give.
    names: HashMap<String, Bytes>,
    /// By their own paths: one file has any number of names (`w`, `./w`, `././w`), and is read once.
    files: HashMap<PathBuf, Bytes>,
    /// Bytes of all of them.
    held: u64,
    /// Bytes of all tensors so far.
    used: u64,
}

/// Where a tensor's bytes are.
struct Place {
    file: String,
    offset: u64,
    length: Option<u64>,
}

impl Shelf<'_> {
    fn bytes(&mut self, tensor: &TensorProto) -> Result<Bytes> {
        let Place { file, offset, length } = place(tensor)?;
        let Beside::Of(graph) = self.beside else {
            return Err(fail(format!("its data is in another file, `{file}`, of which nothing was given")));
        };
        let needed = sizes(&tensor.dims).and_then(|dims| bytes_of(tensor.data_type, &dims)).ok_or_else(|| {
            fail(format!("its element type {} or its dimensions are not supported", tensor.data_type))
        })?;
        if length.is_some_and(|l| l != needed) {
            let shown = length.unwrap_or_default();
            return Err(fail(format!("its dimensions need {needed} bytes, {shown} are set aside in `{file}`")));
        }
        let whole = self.open(graph, &file)?;
        let end = offset.checked_add(needed).filter(|&end| end <= whole.len() as u64).ok_or_else(|| {
            let have = whole.len();
            fail(format!("its {needed} bytes from byte {offset} on reach beyond the {have} of `{file}`"))
                .hint(format!("`{file}` is cut short or belongs to another export: copy both files again"))
        })?;
        self.used = self.used.saturating_add(needed);
        if self.used > READINGS.saturating_mul(self.held) {
            return Err(fail(format!("the tensors up to it take more than {READINGS} times the bytes of their files")));
        }
        Ok(whole.slice(offset as usize..end as usize))
    }

    /// The whole file, read once.
    fn open(&mut self, graph: &Path, name: &str) -> Result<Bytes> {
        if let Some(known) = self.names.get(name) {
            return Ok(known.clone());
        }
        if self.files.is_empty() && files::is_packed(graph)? {
            let why =
                format!("its data is in another file, `{name}`; a packed .onnx.gz has to hold its weights itself");
            return Err(fail(why).hint(format!("unpack it beside `{name}` and name the .onnx file, {INSIDE}")));
        }
        let path = within(graph.parent().unwrap_or(Path::new("")), name)?;
        if let Some(known) = self.files.get(&path) {
            self.names.insert(name.to_string(), known.clone());
            return Ok(known.clone());
        }
        let broken = |e: std::io::Error| fail(format!("`{name}` cannot be read ({e})"));
        let mut file = std::fs::File::open(&path).map_err(broken)?;
        let about = file.metadata().map_err(broken)?;
        let room = MAX_BYTES.saturating_sub(self.held);
        if !about.is_file() || about.len() > room {
            let why = format!("`{name}` has {} bytes; all files of a model may have {MAX_BYTES}", about.len());
            return Err(fail(why));
        }
        let mut bytes = Vec::with_capacity(about.len() as usize);
        file.by_ref().take(about.len()).read_to_end(&mut bytes).map_err(broken)?;
        self.held += bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        self.names.insert(name.to_string(), bytes.clone());
        self.files.insert(path, bytes.clone());
        Ok(bytes)
    }
}

fn fail(why: String) -> Error {
    Error::new(robust_core::Kind::Load, why)
}

fn place(tensor: &TensorProto) -> Result<Place> {
    if tensor.external_data.len() > MAX_PARTS {
        return Err(fail(format!("the account of where its data is has {} parts", tensor.external_data.len())));
    }
    let mut found = Place { file: String::new(), offset: 0, length: None };
    for entry in &tensor.external_data {
        let Entry { key, value } =
            Entry::decode(entry.clone()).map_err(|e| fail(format!("where its data is cannot be read ({e})")))?;
        let number = || {
            let read = value.parse::<u64>();
            read.map_err(|_| fail(format!("`{key}` of its data is `{value}`, not a number of bytes")))
        };
        match key.as_str() {
            "offset" => found.offset = number()?,
            "length" => found.length = Some(number()?),
            "location" => found.file = value,
            _ => {}
        }
    }
    match found.file.is_empty() {
        true => Err(fail("its data is in another file, whose name is missing".into())),
        false => Ok(found),
    }
}

/// The path of a plain file that really lies in `folder`.
fn within(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    // A backslash parts folders on one system and belongs to a name on another.
    if !plain || name.contains(['\\', '\0', ':']) {
        let why =
            format!("its data is in `{name}`; only names of files within the folder of the .onnx file are followed");
        return Err(fail(why).hint(format!("put the file there and name it alone when exporting, {INSIDE}")));
    }
    let missing = |_| {
        fail(format!("its data is in `{name}`, which is not beside the .onnx file"))
            .hint(format!("copy `{name}` into the folder of the .onnx file, {INSIDE}"))
    };
    let path = folder.join(name).canonicalize().map_err(missing)?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let root = folder.canonicalize().map_err(|e| fail(format!("its folder cannot be found ({e})")))?;
    if !path.starts_with(&root) {
        return Err(fail(format!("its data is in `{name}`, a link that leads out of the folder of the .onnx file"))
            .hint("copy the file itself into the folder".to_string()));
    }
    // Before it is opened: a pipe would wait for a writer.
    match path.metadata() {
        Ok(about) if about.is_file() => Ok(path),
        _ => Err(fail(format!("its data is in `{name}`, which is no plain file"))),
    }
}
