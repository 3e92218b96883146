//! Text towers of OpenCLIP's folders, and of files of its weights or OpenAI's.

use super::known::KNOWN;
use super::open_clip_layers::{EPS, OpenClipText, bare};
use super::rules::{Clean, End, Rules};
use super::tower::{Home, TextTower, Weights};
use crate::families::clip::openai::activation;
use crate::families::prefixes::stripped;
use crate::files::open_clip::settings::{CONFIG, arguments, part, settings, strange};
use crate::options::Options;
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use std::path::Path;

/// Heads of a text tower are this wide in all of them.
const HEAD: usize = 64;
/// Architectures whose files have a text tower too.
const TOWERS: [&str; 3] = ["clip", "clip-resnet", "clip-timm"];

const TEXT: [&str; 16] = [
    "context_length",
    "vocab_size",
    "width",
    "heads",
    "layers",
    "mlp_ratio",
    "ls_init_value",
    "hf_tokenizer_name",
    "tokenizer_kwargs",
    "pool_type",
    "eos_id",
    "proj_bias",
    "proj_type",
    "no_causal_mask",
    "norm_kwargs",
    "act_kwargs",
];

/// The text tower of a folder.
pub(super) fn of_folder(path: &Path) -> Result<TextTower> {
    let (model, _) = settings(path)?;
    let c = part(&model, "text_cfg")?;
    c.only(&TEXT, "such text towers are not supported here")?;
    let end = end(&c)?;
    Ok(TextTower {
        place: path.display().to_string(),
        folder: path.into(),
        weights: Weights::OpenClip,
        home: Home::OpenClip(OpenClipText::of(&c, model.flag_or("quick_gelu", false)?)?),
        words: c.size_or("vocab_size", 49408)?,
        longest: c.size_or("context_length", 77)?,
        end,
        rules: rules(&c)?,
        notes: vec![],
    })
}

/// Where a prompt is read.
fn end(c: &Config) -> Result<End> {
    let end = match c.text_or("pool_type", "argmax")? {
        "argmax" => End::Largest,
        "eos" => End::Token(c.size_or("eos_id", 2)?),
        // CLIP's own tokenizer fills prompts up with a word.
        "last" if c.text("hf_tokenizer_name").is_some() => End::Last,
        "last" => return Err(strange("pool_type", "`last` is supported here with `hf_tokenizer_name` alone")),
        other => return Err(strange("pool_type", format!("`{other}` is not supported here"))),
    };
    match c.flag_or("no_causal_mask", false)? && end != End::Last {
        // What fills a prompt up would count, and is not the same everywhere.
        true => Err(strange("no_causal_mask", "it is supported here with `pool_type` last alone")),
        false => Ok(end),
    }
}

/// Its own tokenizer is CLIP's; others are cleaned for as `tokenizer_kwargs` says.
fn rules(c: &Config) -> Result<Rules> {
    const INSTEAD: &str = "such tokenizers are not supported here: give token numbers (`--tokens FILE`)";
    let said = arguments(c, "tokenizer_kwargs", &["clean"], INSTEAD)?;
    let clean = match said.as_ref().and_then(|s| s.text("clean")) {
        None | Some("whitespace") => Clean::Spaces,
        Some("lower") => Clean::SpacesLower,
        Some("canonicalize") => Clean::PlainWords,
        Some(other) => return Err(strange("clean", format!("`{other}` is not known here"))),
    };
    match c.text("hf_tokenizer_name") {
        // CLIP's own cuts at white space and lowers all by itself.
        None if clean != Clean::PlainWords => Ok(Rules::Clip),
        _ => Ok(Rules::Other(clean)),
    }
}

/// The text tower of a file without settings: its sizes are those of the tensors.
pub(super) fn of_file(dict: StateDict, mut notes: Vec<String>, path: &Path, options: &Options) -> Result<TextTower> {
    if let Some(arch) = options.arch.as_deref().filter(|a| !TOWERS.contains(a)) {
        return Err(Error::usage(format!("`arch={arch}` has no text tower")).hint(KNOWN));
    }
    if let Some(variant) = &options.variant {
        return Err(Error::usage(format!("`variant={variant}` changes nothing: models with two towers have none")));
    }
    if options.pool.is_some() {
        return Err(Error::usage("`pool` is for folders of encoders"));
    }
    let dict = match &options.strip {
        Some(prefix) => stripped(&dict, prefix)?,
        None => dict,
    };
    if dict.names().any(|n| n.contains("trunk.attn_pool.")) {
        return Err(Error::load("the text tower", "no tensor of a SigLIP's tells how it reads a prompt")
            .hint(format!("give the folder with its {CONFIG}")));
    }
    let dict = bare(dict)?;
    let [words, width] = dict.sizes("token_embedding.weight")?;
    let [longest, _] = dict.sizes("positional_embedding")?;
    let heads = width / HEAD;
    if heads == 0 || !width.is_multiple_of(HEAD) {
        return Err(Error::load("the text tower", format!("its {width} channels are not heads of {HEAD}")));
    }
    let (act, note) = activation(&dict, options)?;
    notes.extend(note.map(|note| format!("the text tower's {note}")));
    notes.push(format!("the text tower's attention has {heads} heads of {HEAD}, as all that are published have"));
    Ok(TextTower {
        place: path.display().to_string(),
        folder: path.parent().unwrap_or(Path::new("")).into(),
        weights: Weights::Here(dict),
        home: Home::OpenClip(OpenClipText { width, heads, act, eps: EPS, layers: None, causal: true, projects: true }),
        words,
        longest,
        end: End::Largest,
        rules: Rules::Clip,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_cleaned_as_the_settings_say() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("text.json");
        let of = |settings: &str| {
            std::fs::write(&file, settings).unwrap();
            rules(&Config::read(&file).unwrap())
        };
        for (settings, expected) in [
            ("{}", Rules::Clip),
            (r#"{"tokenizer_kwargs": {"clean": "lower"}}"#, Rules::Clip),
            (r#"{"hf_tokenizer_name": "a"}"#, Rules::Other(Clean::Spaces)),
            (r#"{"hf_tokenizer_name": "a", "tokenizer_kwargs": {"clean": "whitespace"}}"#, Rules::Other(Clean::Spaces)),
            (r#"{"hf_tokenizer_name": "a", "tokenizer_kwargs": {"clean": "lower"}}"#, Rules::Other(Clean::SpacesLower)),
            (r#"{"tokenizer_kwargs": {"clean": "canonicalize"}}"#, Rules::Other(Clean::PlainWords)),
        ] {
            assert_eq!(of(settings).unwrap(), expected, "{settings}");
        }
        assert!(of(r#"{"tokenizer_kwargs": {"clean": "all"}}"#).unwrap_err().message.contains("`all`"));
    }
}
