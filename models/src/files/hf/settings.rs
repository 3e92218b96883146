//! What a folder's settings say without its weights.

use crate::options::Options;
use crate::settings::Config;
use robust_core::{Error, Result};
use std::path::Path;

/// Whether a folder has settings that say what transformers would build.
pub(crate) fn is_transformers(path: &Path) -> bool {
    Config::read(&path.join("config.json")).is_ok_and(|c| c.has("model_type"))
}

/// The names of the classes that a settings file lists, where it lists one for each.
pub(crate) fn class_names(settings: &Path) -> Option<Vec<String>> {
    Config::read(settings).ok()?.names("id2label")
}

/// Refuses parameters that a folder's settings decide.
///
/// # Errors
/// Kind `Usage`.
pub(crate) fn settled(options: &Options) -> Result<()> {
    let Options { arch, strip, key, variant, activation, heads, .. } = options;
    match [arch, strip, key, variant, activation, heads].iter().any(|o| o.is_some()) {
        true => Err(Error::usage(
            "a folder's config.json says what it is: of the parameters, `mean`, `std`, `input`, `pool` and the preprocessing apply",
        )),
        false => Ok(()),
    }
}
