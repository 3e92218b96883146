//! Names of model files.

use std::path::Path;

/// torch.save has no ending of its own; `.pth.tar` is not a tar archive.
pub(crate) const TORCH: &[&str] = &[".pth", ".pt", ".pt2", ".bin", ".ckpt", ".pkl", ".pth.tar", ".pt.tar"];

/// Whether a file name is one of a format we read.
pub(crate) fn is_model_file(name: &str) -> bool {
    let name = name.to_lowercase();
    [".onnx", ".onnx.gz", ".safetensors"].iter().chain(TORCH).any(|end| name.ends_with(end))
}

/// The name of a file without what tells its format.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = [".gz", ".tar", ".onnx", ".safetensors"];
    ends.iter().chain(TORCH).fold(name.as_ref(), |n, end| n.strip_suffix(end).unwrap_or(n)).to_string()
}
