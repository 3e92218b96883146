//! `hf:org/name[@revision]`: a folder in the cache of the hub's tools. Without the feature `hub` nothing is downloaded; with it,
//! [`crate::hub`] brings what is missing.

use super::hf::cache::{Wanted, root};
use robust_core::Result;
use std::path::PathBuf;

/// The folder of a model, from the cache or, in a build with the feature `hub`, brought there first.
///
/// # Errors
/// Kind `Usage` for what is not a name of a model, kind `Load` where the cache lacks it and it cannot be had, kind
/// `Interrupted` where a download was stopped.
pub fn cached(name: &str) -> Result<PathBuf> {
    let wanted = Wanted::parse(name)?;
    let place = root(&|key| std::env::var_os(key))?;
    #[cfg(feature = "hub")]
    return crate::files::hub::fetch(&crate::files::hub::Settings::of_this_process, &place, &wanted);
    #[cfg(not(feature = "hub"))]
    crate::files::hf::cache::find(&place, &wanted).map_err(|e| {
        e.hint(format!(
            "this build downloads nothing: `hf download {}` puts it there (HF_HOME says where the cache is), or build with \
             `--features hub`",
            wanted.model
        ))
    })
}

/// Brings the tokenizer of a model whose folder [`cached`] gives, where a build with the feature `hub` can have it.
///
/// # Errors
/// Kind `Usage` for what is not a name of a model, kind `Interrupted`.
pub fn with_words(name: &str) -> Result<()> {
    let wanted = Wanted::parse(name)?;
    #[cfg(feature = "hub")]
    return crate::files::hub::fetch_words(
        &crate::files::hub::Settings::of_this_process,
        &root(&|key| std::env::var_os(key))?,
        &wanted,
    );
    #[cfg(not(feature = "hub"))]
    {
        drop(wanted);
        Ok(())
    }
}
