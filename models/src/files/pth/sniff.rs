//! Whether bytes are a checkpoint at all, and what else they are.

use super::advice::{by_hand, by_script};
use super::{legacy, zip};
use robust_core::{Error, Result};

/// The folder in the archive that holds the pickle, with its `/`.
pub(super) fn root<'a>(zip: &zip::Archive<'a>) -> Result<&'a str> {
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
pub(super) fn sniff(bytes: &[u8]) -> Result<()> {
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
