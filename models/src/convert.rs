//! Checkpoints rewritten as safetensors, which any tool can read and none can be harmed by.

use crate::files::pth;
use crate::files::safetensors::{parse, views};
use crate::weights::View;
use ::safetensors::tensor::TensorInfo;
use robust_core::{Error, Result, files};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes the weights of a `.pth` or safetensors file to `output` (`.safetensors`): the state dict alone, names, types and
/// shapes as they are. The file appears whole or not at all. Returns what a user should know. As with models, `IN?key=PATH`
/// says where in a checkpoint the state dict is.
///
/// # Errors
/// Kind `Usage` for an output of another name, kind `Load` for an input that cannot be read, kind `Write` for the rest.
pub fn convert(input: &Path, output: &Path) -> Result<Vec<String>> {
    if output.extension().is_none_or(|e| !e.eq_ignore_ascii_case("safetensors")) {
        return Err(Error::usage(format!("`{}` is not the name of a safetensors file", output.display()))
            .hint("call it OUT.safetensors"));
    }
    let asked = input.to_str().filter(|_| !input.exists()).and_then(|s| s.split_once("?key="));
    let (input, key) = asked.map_or((input, None), |(path, key)| (Path::new(path), Some(key)));
    if [".onnx", ".onnx.gz"].iter().any(|end| input.to_string_lossy().to_lowercase().ends_with(end)) {
        return Err(Error::usage(format!(
            "`{}` is an ONNX file: a graph with its weights, loaded as it is",
            input.display()
        ))
        .hint("`robust convert` is for weights alone; name the file with --model"));
    }
    let bytes = crate::bytes::read(input)?;
    let within = |e: Error| e.within(input.display());
    let (tensors, mut notes): (Vec<View>, _) =
        if input.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
            if key.is_some() {
                return Err(Error::usage("`key` is for .pth checkpoints: a safetensors file holds one state dict"));
            }
            (views(&parse(&bytes).map_err(within)?).collect(), vec![])
        } else {
            let read = pth::read(&bytes, key).map_err(within)?;
            (read.tensors, read.notes)
        };
    notes.push(format!("{} tensors written to {}", tensors.len(), output.display()));
    write(&tensors, &BTreeMap::from([("format", "pt".to_string())]), output)?;
    Ok(notes)
}

/// A safetensors file that appears whole or not at all; `about` is its metadata. The same tensors are the same bytes: the format's own
/// library takes the metadata from a hash map, whose order is another in every process.
pub(crate) fn write(tensors: &[View], about: &BTreeMap<&str, String>, output: &Path) -> Result<()> {
    files::sweep(files::folder_of(output));
    let write = || {
        let mut draft = BufWriter::new(files::Draft::new(output)?);
        lay(tensors, about, &mut draft)?;
        draft.into_inner()?.finish(true)
    };
    write().map_err(|e| Error::write(output.display(), e))
}

/// The length of the header in eight bytes, the header in JSON with spaces up to a multiple of eight, the tensors one after the
/// other: the wide types first, so that each is aligned, and by name.
fn lay(tensors: &[View], about: &BTreeMap<&str, String>, file: &mut impl Write) -> std::io::Result<()> {
    let mut order: Vec<&View> = tensors.iter().collect();
    order.sort_by(|(a, wide, ..), (b, other, ..)| other.cmp(wide).then(a.cmp(b)));
    let mut header = format!("{{\"__metadata__\":{}", serde_json::to_string(about)?);
    let mut at = 0;
    for (name, dtype, shape, data) in &order {
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (at, at + data.len()) };
        header += &format!(",{}:{}", serde_json::to_string(name)?, serde_json::to_string(&info)?);
        at += data.len();
    }
    header.push('}');
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    order.iter().try_for_each(|(_, _, _, data)| file.write_all(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::{Dtype, tensor::TensorView};
    use std::collections::HashMap;

    #[test]
    fn files_are_those_of_the_formats_own_library_and_always_the_same() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.safetensors");
        let tensors: Vec<View> = vec![
            ("b\"1\u{e9}".into(), Dtype::F32, vec![2, 1], vec![1; 8].into()),
            ("half".into(), Dtype::BF16, vec![1], vec![2; 2].into()),
            ("none".into(), Dtype::F64, vec![0, 3], vec![].into()),
            ("count".into(), Dtype::I64, vec![], vec![3; 8].into()),
            ("a".into(), Dtype::F32, vec![1], vec![4; 4].into()),
        ];
        write(&tensors, &BTreeMap::from([("format", "pt".to_string())]), &path).unwrap();
        let views = tensors.iter().map(|(n, d, s, b)| (n, TensorView::new(*d, s.clone(), b).unwrap()));
        let about = HashMap::from([("format".to_string(), "pt".to_string())]);
        assert_eq!(std::fs::read(&path).unwrap(), ::safetensors::serialize(views, Some(about)).unwrap());
        // Many entries, in their order.
        let keys: Vec<String> = (10..40).map(|i| format!("k{i}")).collect();
        let about = keys.iter().rev().map(|k| (k.as_str(), String::new())).collect();
        write(&tensors, &about, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let places: Vec<usize> = keys.iter().map(|k| text.find(k).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        // A graph is no weights alone.
        let error = convert(&place.path().join("net.onnx"), &path).unwrap_err();
        assert!(error.kind == robust_core::Kind::Usage && error.message.contains("an ONNX file"), "{error}");
        // A file that cannot be written leaves nothing.
        assert!(write(&tensors, &about, &place.path().join("no/a.safetensors")).is_err());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
