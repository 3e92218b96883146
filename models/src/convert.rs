//! Checkpoints rewritten as safetensors, which any tool can read and none can be harmed by.

use crate::safetensors::{View, parse, views};
use crate::{files, pth};
use ::safetensors::tensor::TensorView;
use robust_core::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

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
    let bytes = files::read(input)?;
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
    write(&tensors, HashMap::from([("format".to_string(), "pt".to_string())]), output)?;
    Ok(notes)
}

/// A safetensors file that appears whole or not at all; `about` is its metadata.
pub(crate) fn write(tensors: &[View], about: HashMap<String, String>, output: &Path) -> Result<()> {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let partial: PathBuf = output.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let fail = |e: &dyn std::fmt::Display| Error::write(output.display(), e);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        TensorView::new(*dtype, shape.clone(), data).map(|view| (name, view)).map_err(|e| fail(&e))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let written = ::safetensors::serialize_to_file(views, Some(about), &partial)
        .map_err(|e| fail(&e))
        .and_then(|()| std::fs::File::open(&partial).and_then(|f| f.sync_all()).map_err(|e| fail(&e)))
        .and_then(|()| std::fs::rename(&partial, output).map_err(|e| fail(&e)));
    if written.is_err() {
        // Nothing is left behind; that it could not be removed is no news then.
        let _ = std::fs::remove_file(&partial);
    }
    written
}
