//! Text towers of transformers' folders.

use super::known::KNOWN;
use super::rules::{End, Rules};
use super::tower::{Home, TextTower, Weights};
use crate::families::vit::transformers::Sizes;
use crate::settings::Config;
use robust_core::{Error, Result};
use std::path::Path;

/// What transformers leave out of `text_config` because it is usual.
const CLIP_USUAL: [(&str, usize); 6] = [
    ("vocab_size", 49408),
    ("hidden_size", 512),
    ("intermediate_size", 2048),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 8),
    ("max_position_embeddings", 77),
];
const SIGLIP_USUAL: [(&str, usize); 6] = [
    ("vocab_size", 32000),
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("max_position_embeddings", 64),
];

/// The text tower of a folder.
pub(super) fn of_transformers(path: &Path) -> Result<TextTower> {
    let both = Config::read(&path.join("config.json"))?;
    let kind = both.text("model_type").unwrap_or_default().to_string();
    let clip = kind == "clip";
    if !clip && kind != "siglip" {
        let why = match both.section("text_config") {
            Some(_) => format!("the text tower of a `{kind}` folder is not known here"),
            None => format!("a `{kind}` folder has no text tower"),
        };
        return Err(Error::load(path.display(), why).hint(KNOWN));
    }
    let Some(c) = both.section("text_config") else {
        return Err(Error::load(path.join("config.json").display(), "it has no `text_config`"));
    };
    let c = c.or_usual(if clip { &CLIP_USUAL } else { &SIGLIP_USUAL });
    let sizes = Sizes::of(&c, if clip { 1e-5 } else { 1e-6 }, if clip { "quick_gelu" } else { "gelu_pytorch_tanh" })?;
    // Files from before the end token was settled say 2 and mean the largest.
    let end = match c.size_or("eos_token_id", 2)? {
        _ if !clip => End::Last,
        2 => End::Largest,
        eos => End::Token(eos),
    };
    let home = match clip {
        true => Home::Clip(sizes, both.size_or("projection_dim", 512)?),
        false => {
            let out = c.size_or("projection_size", sizes.width)?;
            Home::SigLip(sizes, out)
        }
    };
    Ok(TextTower {
        place: path.display().to_string(),
        folder: path.into(),
        weights: Weights::Folder(both),
        home,
        words: c.size("vocab_size")?,
        longest: c.size("max_position_embeddings")?,
        end,
        rules: if clip { Rules::Clip } else { Rules::SigLip },
        notes: vec![],
    })
}
