//! `hf:org/name[@revision]`: folders in the cache that the hub's tools share. Without the feature `hub` nothing is
//! downloaded; with it, [`crate::files::hub::fetch`] brings what is missing.

use robust_core::{Error, Result, nearest};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Bytes of a file that names a revision: a hash and perhaps a line's end.
const MAX_REF: u64 = 256;

/// Where the cache is: `HF_HUB_CACHE`, or `hub` in `HF_HOME`, by default `~/.cache/huggingface`.
pub(crate) fn root(var: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |key: &str| var(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    let root =
        set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")).or_else(|| home(var).map(|h| h.join("hub")));
    root.ok_or_else(|| Error::usage("the hub's cache has no place: neither HF_HOME nor HOME is set"))
}

/// The folder of the hub's tools: cache and token are in it.
pub(crate) fn home(var: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |key: &str| var(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = || set("HOME").or_else(|| set("USERPROFILE")).map(|h| h.join(".cache"));
    set("HF_HOME").or_else(|| set("XDG_CACHE_HOME").or_else(user).map(|c| c.join("huggingface")))
}

/// A model of the hub and one of its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `org/name`, or `name` alone.
    pub model: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Wanted {
    pub fn parse(name: &str) -> Result<Self> {
        let (model, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts: Vec<&str> = model.split('/').collect();
        if !(1..=2).contains(&parts.len()) || !parts.iter().all(|p| plain(p)) || !revision.split('/').all(plain) {
            return Err(Error::usage(format!("`hf:{name}` is not a name of a model"))
                .hint("for instance `hf:facebook/dinov2-small`"));
        }
        Ok(Self { model: model.to_string(), revision: revision.to_string() })
    }

    /// The model's folder below the cache's root.
    pub fn folder(&self) -> String {
        format!("models--{}", self.model.replace('/', "--"))
    }

    /// The error for what of it is not to be had.
    pub fn missing(&self, why: impl std::fmt::Display) -> Error {
        let at = if self.revision == "main" { String::new() } else { format!("@{}", self.revision) };
        Error::load(format!("`hf:{}{at}`", self.model), why)
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

/// A part of a name that is safe as a part of a path and of an address.
pub(crate) fn plain(part: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty() && part.len() <= 128 && !part.starts_with('.') && part.chars().all(legal) && !part.contains("--")
}

/// The snapshot of a revision.
///
/// # Errors
/// Kind `Load` where the cache has none.
pub(crate) fn find(root: &Path, wanted: &Wanted) -> Result<PathBuf> {
    let folder = root.join(wanted.folder());
    if !folder.is_dir() {
        let known: Vec<String> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .take(10_000)
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        let close = nearest(&wanted.folder(), known.iter().map(String::as_str))
            .map(|n| format!("; there is `hf:{}`", n.trim_start_matches("models--").replace("--", "/")));
        let why = format!("it is not in the cache {}{}", root.display(), close.unwrap_or_default());
        return Err(wanted.missing(why));
    }
    let reference = folder.join("refs").join(&wanted.revision);
    let hash = match reference.is_file() {
        true => {
            let bytes = crate::bytes::read_small(&reference, MAX_REF)?;
            let text = String::from_utf8_lossy(&bytes).trim().to_string();
            if !plain(&text) {
                return Err(wanted.missing(format!("{} holds no revision", reference.display())));
            }
            text
        }
        false => wanted.revision.clone(),
    };
    let snapshot = folder.join("snapshots").join(&hash);
    match snapshot.is_dir() {
        true => Ok(snapshot),
        false => Err(wanted.missing(format!("the cache has no revision `{}` of it", wanted.revision))),
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
        let find = |name: &str| Wanted::parse(name).and_then(|wanted| find(root.path(), &wanted));
        for name in ["org/net", "org/net@main", "org/net@abc123"] {
            assert_eq!(find(name).unwrap(), expected, "{name}");
            assert_eq!(label(&expected), "net");
        }
        for (name, kind, part) in [
            ("org/nett", Kind::Load, "there is `hf:org/net`"),
            ("org/net@v2", Kind::Load, "no revision `v2`"),
            ("../net", Kind::Usage, "not a name of a model"),
            ("org/net@../../x", Kind::Usage, "not a name of a model"),
            ("org/a/b", Kind::Usage, "not a name of a model"),
            ("", Kind::Usage, "not a name of a model"),
        ] {
            let error = find(name).unwrap_err();
            assert!(error.kind == kind && error.message.contains(part), "{name}: {error}");
        }
        std::fs::write(model.join("refs/main"), "../../../etc").unwrap();
        assert!(find("org/net").unwrap_err().message.contains("holds no revision"));
    }

    #[test]
    fn the_cache_is_where_the_hubs_tools_have_it() {
        let at = |vars: &[(&str, &str)]| {
            root(&|key| vars.iter().find(|(k, _)| *k == key).map(|(_, v)| OsString::from(v)))
                .map(|p| p.display().to_string())
        };
        let home = ("HOME", "/home/a");
        assert_eq!(at(&[home]).unwrap(), "/home/a/.cache/huggingface/hub");
        assert_eq!(at(&[home, ("XDG_CACHE_HOME", "/x")]).unwrap(), "/x/huggingface/hub");
        assert_eq!(at(&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]).unwrap(), "/h/hub");
        assert_eq!(at(&[home, ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).unwrap(), "/c");
        assert_eq!(at(&[home, ("HF_HUB_CACHE", "")]).unwrap(), "/home/a/.cache/huggingface/hub");
        assert_eq!(at(&[]).unwrap_err().kind, Kind::Usage);
    }
}
