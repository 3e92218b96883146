//! `open_clip_config.json`, and the weights beside it.

use crate::files::hf::{is_transformers, weights};
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use std::path::Path;

pub const CONFIG: &str = "open_clip_config.json";
/// In the order in which OpenCLIP looks for them.
pub const WEIGHTS: [&str; 4] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
];

/// Settings that are used, or that the tensors tell. Others change what is computed and are refused.
const MODEL: [&str; 6] = ["embed_dim", "quick_gelu", "custom_text", "vision_cfg", "text_cfg", "init_logit_bias"];

/// Whether a folder is one of OpenCLIP's. Many hold transformers' layout too, which is then the one that is read.
pub fn is_folder(path: &Path) -> bool {
    path.join(CONFIG).is_file() && !(is_transformers(path) && weights::any(path))
}

/// The settings of the model, and of its images.
pub(crate) fn settings(path: &Path) -> Result<(Config, Option<Config>)> {
    let all = Config::read(&path.join(CONFIG))?;
    let missing =
        || Error::load(path.join(CONFIG).display(), "it has no `model_cfg`").hint("download the folder again");
    let model = all.section("model_cfg").ok_or_else(missing)?;
    model.only(&MODEL, "such models are not supported here: export the image tower to ONNX")?;
    Ok((model, all.section("preprocess_cfg")))
}

pub(crate) fn part(model: &Config, key: &str) -> Result<Config> {
    model
        .section(key)
        .ok_or_else(|| Error::load(CONFIG, format!("it has no `{key}`")).hint("download the folder again"))
}

/// The weights of a folder.
pub(crate) fn tensors(path: &Path) -> Result<(StateDict, &'static str)> {
    let Some(name) = WEIGHTS.into_iter().find(|w| path.join(w).is_file()) else {
        return Err(Error::load(path.display(), format!("it holds neither {} nor {}", WEIGHTS[0], WEIGHTS[2]))
            .hint("download the weights too, not the settings alone"));
    };
    Ok((weights::one(path, name)?, name))
}

pub(crate) fn strange(key: &str, why: impl std::fmt::Display) -> Error {
    Error::load(format!("`{key}` in {CONFIG}"), why)
}

/// The arguments of a layer or tokenizer, none but these.
pub(crate) fn arguments(c: &Config, key: &str, known: &[&str], instead: &str) -> Result<Option<Config>> {
    let Some(said) = c.section(key) else {
        return if c.has(key) { Err(strange(key, "it is not a list of names and values")) } else { Ok(None) };
    };
    said.only(known, instead)?;
    Ok(Some(said))
}
