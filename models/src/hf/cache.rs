//! `hf:org/name[@revision]`: folders that the hub's tools have put into their cache. Nothing is downloaded.

use robust_core::{Error, Result, nearest};
use std::path::{Path, PathBuf};

/// Bytes of a file that names a revision: a hash and perhaps a line's end.
const MAX_REF: u64 = 256;

/// The folder of a cached model.
///
/// # Errors
/// Kind `Usage` for what is no name of a model, kind `Load` where the cache lacks it.
pub fn cached(name: &str) -> Result<PathBuf> {
    let set = |key: &str| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE")).map(|h| h.join(".cache"));
    let root = set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|h| h.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").or_else(home).map(|c| c.join("huggingface/hub")));
    match root {
        Some(root) => find(&root, name),
        None => Err(Error::usage("the hub's cache has no place: neither HF_HOME nor HOME is set")),
    }
}

/// What reports call a folder: its own name, or in the cache the model's, not the revision's.
pub fn label(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name =
        |p: Option<&Path>| p.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let above = path.parent();
    let cached = name(above) == "snapshots";
    let model = name(above.and_then(Path::parent));
    match model.strip_prefix("models--").filter(|_| cached) {
        Some(model) => model.rsplit("--").next().unwrap_or(model).to_string(),
        None => name(Some(&path)),
    }
}

fn plain(part: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty() && part.len() <= 128 && !part.starts_with('.') && part.chars().all(legal) && !part.contains("--")
}

fn find(root: &Path, name: &str) -> Result<PathBuf> {
    let (model, revision) = name.split_once('@').unwrap_or((name, "main"));
    let parts: Vec<&str> = model.split('/').collect();
    if !(1..=2).contains(&parts.len()) || !parts.iter().all(|p| plain(p)) || !revision.split('/').all(plain) {
        return Err(
            Error::usage(format!("`hf:{name}` is no name of a model")).hint("for instance `hf:facebook/dinov2-small`")
        );
    }
    let wanted = format!("models--{}", parts.join("--"));
    let folder = root.join(&wanted);
    let missing = |why: String| {
        Error::load(format!("`hf:{name}`"), why).hint(format!(
            "nothing is downloaded here: `hf download {model}` puts it there, and HF_HOME says where the cache is"
        ))
    };
    if !folder.is_dir() {
        let known: Vec<String> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .take(10_000)
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        let close = nearest(&wanted, known.iter().map(String::as_str))
            .map(|n| format!("; there is `hf:{}`", n.trim_start_matches("models--").replace("--", "/")));
        return Err(missing(format!("it is not in the cache {}{}", root.display(), close.unwrap_or_default())));
    }
    let reference = folder.join("refs").join(revision);
    let hash = match reference.is_file() {
        true => {
            let bytes = crate::files::read_small(&reference, MAX_REF)?;
            let text = String::from_utf8_lossy(&bytes).trim().to_string();
            if !plain(&text) {
                return Err(missing(format!("{} holds no revision", reference.display())));
            }
            text
        }
        false => revision.to_string(),
    };
    let snapshot = folder.join("snapshots").join(&hash);
    match snapshot.is_dir() {
        true => Ok(snapshot),
        false => Err(missing(format!("the cache has no revision `{revision}` of it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use robust_core::Kind;

    #[test]
    fn a_name_is_found_by_branch_and_by_revision_and_never_outside_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("models--org--net");
        std::fs::create_dir_all(model.join("snapshots/abc123")).unwrap();
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::write(model.join("refs/main"), "abc123\n").unwrap();
        let expected = model.join("snapshots/abc123");
        for name in ["org/net", "org/net@main", "org/net@abc123"] {
            assert_eq!(find(root.path(), name).unwrap(), expected, "{name}");
            assert_eq!(label(&expected), "net");
        }
        for (name, kind, part) in [
            ("org/nett", Kind::Load, "there is `hf:org/net`"),
            ("org/net@v2", Kind::Load, "no revision `v2`"),
            ("../net", Kind::Usage, "no name of a model"),
            ("org/net@../../x", Kind::Usage, "no name of a model"),
            ("org/a/b", Kind::Usage, "no name of a model"),
            ("", Kind::Usage, "no name of a model"),
        ] {
            let error = find(root.path(), name).unwrap_err();
            assert!(error.kind == kind && error.message.contains(part), "{name}: {error}");
        }
        std::fs::write(model.join("refs/main"), "../../../etc").unwrap();
        assert!(find(root.path(), "org/net").unwrap_err().message.contains("holds no revision"));
    }
}
