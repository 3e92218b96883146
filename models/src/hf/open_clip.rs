//! OpenCLIP: folders as its hub tools write them, `open_clip_config.json` beside the weights, and the text tower in its names,
//! which are OpenAI's too. Image towers are the named architectures; both are told the same activation, but of timm's the name
//! tells.

use super::prompts::{Clean, Rules};
use super::text::{End, Home, TextTower, Weights};
use super::timm_tower::TimmTower;
use super::tokens::Act;
use super::{Config, Folder, text, weights};
use crate::arch::blocks::Blocks;
use crate::arch::clip::{MEAN, NAMES, STD, activation};
use crate::arch::stack::Stack;
use crate::arch::{self, Built};
use crate::safetensors::StateDict;
use crate::{Options, files};
use robust_core::{Error, Interpolation, Preprocess, Resize, Result};
use robust_engine::{Activation, NodeId};
use std::path::Path;

pub const CONFIG: &str = "open_clip_config.json";
/// In the order in which OpenCLIP looks for them.
pub const WEIGHTS: [&str; 4] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
];
const EPS: f64 = 1e-5;
/// Heads of a text tower are this wide in all of them.
const HEAD: usize = 64;
/// Architectures whose files have a text tower too.
const TOWERS: [&str; 3] = ["clip", "clip-resnet", "clip-timm"];

/// Settings that are used, or that the tensors tell. Others change what is computed and are refused.
const MODEL: [&str; 6] = ["embed_dim", "quick_gelu", "custom_text", "vision_cfg", "text_cfg", "init_logit_bias"];
const VISION: [&str; 7] = ["image_size", "patch_size", "layers", "width", "head_width", "mlp_ratio", "ls_init_value"];
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

/// Whether a folder is one of OpenCLIP's. Many hold transformers' layout too, which is then the one that is read.
pub fn is_folder(path: &Path) -> bool {
    path.join(CONFIG).is_file() && !(super::is_transformers(path) && weights::any(path))
}

/// The settings of the model, and of its images.
fn settings(path: &Path) -> Result<(Config, Option<Config>)> {
    let all = Config::read(&path.join(CONFIG))?;
    let missing =
        || Error::load(path.join(CONFIG).display(), "it has no `model_cfg`").hint("download the folder again");
    let model = all.section("model_cfg").ok_or_else(missing)?;
    model.only(&MODEL, "such models are not supported here: export the image tower to ONNX")?;
    Ok((model, all.section("preprocess_cfg")))
}

fn part(model: &Config, key: &str) -> Result<Config> {
    model
        .section(key)
        .ok_or_else(|| Error::load(CONFIG, format!("it has no `{key}`")).hint("download the folder again"))
}

/// The weights of a folder.
pub(super) fn tensors(path: &Path) -> Result<(StateDict, &'static str)> {
    let Some(name) = WEIGHTS.into_iter().find(|w| path.join(w).is_file()) else {
        return Err(Error::load(path.display(), format!("it holds neither {} nor {}", WEIGHTS[0], WEIGHTS[2]))
            .hint("download the weights too, not the settings alone"));
    };
    Ok((weights::one(path, name)?, name))
}

/// The image tower of a folder.
pub(super) fn read(path: &Path, options: &Options) -> Result<Folder> {
    let (model, images) = settings(path)?;
    if let Some(pool) = &options.pool {
        return Err(Error::usage(format!("`pool={pool}` changes nothing: this model has one way to its output")));
    }
    let (vision, wanted) = (part(&model, "vision_cfg")?, model.size("embed_dim")?);
    let timm = TimmTower::of(&vision)?;
    if timm.is_none() {
        vision.only(&VISION, "such image towers are not supported here: export it to ONNX")?;
    }
    let images = images.map_or(Ok(Images::default()), |c| Images::of(&c))?;
    let size = match images.size {
        Some(size) => size,
        None => vision.pair("image_size")?,
    };
    let mut said = Options { input: Some(options.input.unwrap_or([3, size[0], size[1]])), ..options.clone() };
    // A list of layers is a ResNet, whose activation and heads are given.
    if let Some(tower) = &timm {
        tower.tell(&mut said);
    } else if !vision.is_list("layers") {
        said.activation = Some(if model.flag_or("quick_gelu", false)? { "quick_gelu" } else { "gelu" }.into());
        let heads = vision.size_or("width", 768)? / vision.size_or("head_width", HEAD)?;
        said.heads = Some(heads.to_string());
    }
    // Images of another size than the folder's are prepared as the user says.
    let preprocess = match options.preprocess.is_none() && said.input == Some([3, size[0], size[1]]) {
        true => Some(images.preprocess(size)?),
        false => None,
    };
    if options.mean.is_none() && options.std.is_none() {
        // Nothing said is CLIP's.
        (said.mean, said.std) = (images.mean.or(Some(MEAN.into())), images.std.or(Some(STD.into())));
    }
    let (dict, name) = tensors(path)?;
    timm.map_or_else(|| whole(&dict, &vision), |tower| tower.fits(&dict))?;
    let built = arch::build(&dict, &said).map_err(|e| files::blame(e).within(name))?;
    let Built { network, family, mut notes, ignored, embeds } = built;
    let found = network.output_row();
    if found != [wanted] {
        let why = format!("the image tower gives {found:?} entries, `embed_dim` in {CONFIG} says {wanted}");
        return Err(Error::load(name, why));
    }
    notes.insert(0, format!("a folder of OpenCLIP: {CONFIG} and {name}"));
    Ok(Folder { network, family: family.into(), embeds, preprocess, notes, ignored })
}

/// The architectures count layers in the file: one that ends early would be another network.
fn whole(dict: &StateDict, vision: &Config) -> Result<()> {
    let (found, said) = (dict.count(|i| format!("visual.transformer.resblocks.{i}")), vision.size_or("layers", 12));
    match said {
        Ok(said) if found != said => Err(Error::load(
            "the weights",
            format!("they have {found} blocks of the image tower, {CONFIG} says {said}"),
        )),
        _ => Ok(()),
    }
}

/// What `preprocess_cfg` says.
#[derive(Default)]
struct Images {
    size: Option<[usize; 2]>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    bilinear: bool,
    squashes: bool,
}

impl Images {
    fn of(c: &Config) -> Result<Self> {
        let mode = c.text("resize_mode").unwrap_or("shortest");
        if !["shortest", "squash"].contains(&mode) {
            return Err(strange("resize_mode", format!("`{mode}` is not supported here"))
                .hint("say how images become the input: `?resize=..&crop=..`, in a copy of the settings without it"));
        }
        if let Some(other) = c.text("mode").filter(|m| *m != "RGB") {
            return Err(strange("mode", format!("`{other}` is not supported here")));
        }
        let std = c.floats("std")?;
        if let Some(bad) = std.iter().flatten().find(|s| **s <= 0.) {
            return Err(strange("std", format!("{bad} is not positive")));
        }
        Ok(Self {
            size: if c.has("size") { Some(c.pair("size")?) } else { None },
            mean: c.floats("mean")?,
            std,
            bilinear: c.text("interpolation") == Some("bilinear"),
            squashes: mode == "squash",
        })
    }

    fn preprocess(&self, [h, w]: [usize; 2]) -> Result<Preprocess> {
        let interpolation = if self.bilinear { Interpolation::Bilinear } else { Interpolation::Bicubic };
        match self.squashes {
            true => Ok(Preprocess { resize: Some(Resize::Exact(h, w)), interpolation, crop: None }),
            false if h == w => Ok(Preprocess { resize: Some(Resize::Shortest(h)), interpolation, crop: Some((h, w)) }),
            // OpenCLIP makes an image cover both sides there, then crops.
            false => Err(Error::load(
                format!("`resize_mode` in {CONFIG}"),
                format!("`shortest` with a size that is no square ({h}x{w}) is not supported here"),
            )
            .hint(format!("say how images become the input: `?resize={h}x{w}` squashes them"))),
        }
    }
}

/// A text tower's layers.
#[derive(Debug)]
pub(super) struct Text {
    pub width: usize,
    pub heads: usize,
    act: Act,
    /// Of all norms.
    eps: f64,
    /// As the settings say; without them as many as there are.
    layers: Option<usize>,
    /// Whether a token attends to those before it alone.
    pub causal: bool,
    /// Whether a linear layer comes last.
    projects: bool,
}

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
        home: Home::OpenClip(Text::of(&c, model.flag_or("quick_gelu", false)?)?),
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

fn strange(key: &str, why: impl std::fmt::Display) -> Error {
    Error::load(format!("`{key}` in {CONFIG}"), why)
}

/// The arguments of a layer or tokenizer, none but these.
fn arguments(c: &Config, key: &str, known: &[&str], instead: &str) -> Result<Option<Config>> {
    let Some(said) = c.section(key) else {
        return if c.has(key) { Err(strange(key, "it is no list of names and values")) } else { Ok(None) };
    };
    said.only(known, instead)?;
    Ok(Some(said))
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
        return Err(Error::usage(format!("`arch={arch}` has no text tower")).hint(text::KNOWN));
    }
    if let Some(variant) = &options.variant {
        return Err(Error::usage(format!("`variant={variant}` changes nothing: models with two towers have none")));
    }
    if options.pool.is_some() {
        return Err(Error::usage("`pool` is for folders of encoders"));
    }
    let dict = match &options.strip {
        Some(prefix) => arch::stripped(&dict, prefix)?,
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
        home: Home::OpenClip(Text { width, heads, act, eps: EPS, layers: None, causal: true, projects: true }),
        words,
        longest,
        end: End::Largest,
        rules: Rules::Clip,
        notes,
    })
}

/// The weights of a folder's text tower.
pub(super) fn text_weights(path: &Path) -> Result<StateDict> {
    let (dict, name) = tensors(path)?;
    bare(dict).map_err(|e| e.within(path.join(name).display()))
}

/// What is before a text tower's names taken off: a wrapper's `module.`, and `text.` where it has a place of its own.
fn bare(dict: StateDict) -> Result<StateDict> {
    const WORDS: &str = "token_embedding.weight";
    let first = |prefix: &str| dict.any(&format!("{prefix}transformer.resblocks.0."));
    let prefixes: Vec<&str> = dict.names().filter_map(|n| n.strip_suffix(WORDS)).filter(|p| first(p)).collect();
    let prefix = match prefixes[..] {
        [one] => one.to_string(),
        [] if dict.any("text_model.") => {
            return Err(Error::load("the weights", "the names are transformers'")
                .hint("give the folder with their config.json"));
        }
        [] => {
            let why = format!("it has no text tower: no `{WORDS}` with `transformer.resblocks.0.*`");
            return Err(Error::load("the weights", why).hint(text::KNOWN));
        }
        _ => {
            let names = prefixes.iter().take(5).map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::load("the weights", format!("they hold several text towers: {names}"))
                .hint("save the one that counts alone"));
        }
    };
    let outer = prefix.strip_suffix("text.").unwrap_or(&prefix);
    let dict = if outer.is_empty() { dict } else { arch::stripped(&dict, outer)? };
    if prefix.ends_with("text.") { arch::stripped(&dict, "text.") } else { Ok(dict) }
}

/// Every tensor that is no part of the image tower has been taken.
pub(super) fn settle(dict: &mut StateDict) -> Result<()> {
    dict.ignore("visual.", "the image tower is no part of the text tower");
    dict.ignore("attn_mask", "it follows from the length of a prompt");
    dict.finish()
}

impl Text {
    fn of(c: &Config, quick: bool) -> Result<Self> {
        const INSTEAD: &str = "such text towers are not supported here";
        let norm = arguments(c, "norm_kwargs", &["eps"], INSTEAD)?;
        let eps = norm.map_or(Ok(EPS), |n| n.float_or("eps", EPS))?;
        if eps <= 0. {
            return Err(strange("eps", format!("{eps} is not positive")));
        }
        let form = arguments(c, "act_kwargs", &["approximate"], INSTEAD)?;
        let act = match form.as_ref().map_or(Ok("none"), |a| a.text_or("approximate", "none"))? {
            _ if quick && form.is_some() => return Err(strange("act_kwargs", "the quick GELU takes none")),
            "none" => Act::Plain(Activation::Gelu),
            "tanh" => Act::Plain(Activation::GeluTanh),
            other => return Err(strange("approximate", format!("`{other}` is not known here"))),
        };
        let projects = match c.text_or("proj_type", "linear")? {
            "linear" => true,
            "none" => false,
            other => return Err(strange("proj_type", format!("`{other}` is not known here"))),
        };
        Ok(Self {
            width: c.size_or("width", 512)?,
            heads: c.size_or("heads", 8)?,
            act: if quick { Act::QuickGelu } else { act },
            eps,
            layers: Some(if c.has("layers") { c.layers("layers")? } else { 12 }),
            causal: !c.flag_or("no_causal_mask", false)?,
            projects,
        })
    }

    /// The layers over placed tokens `[n, length, width]`.
    pub fn lay(&self, s: &mut Stack, mut x: NodeId, mask: Option<NodeId>) -> Result<NodeId> {
        let layer = |i: usize| format!("transformer.resblocks.{i}");
        let blocks = Blocks::of(s.dict, &NAMES, &layer(0), self.heads, self.eps, self.act);
        for i in 0..self.layers.unwrap_or_else(|| s.dict.count(layer)) {
            x = blocks.lay(s, x, &layer(i), mask)?;
        }
        let x = s.layer_norm(x, "ln_final", self.eps)?;
        if !self.projects {
            return Ok(x);
        }
        if s.dict.any("text_projection.") {
            let [out, _] = s.dict.sizes("text_projection.weight")?;
            return s.linear(x, "text_projection", out);
        }
        let [_, out] = s.dict.sizes("text_projection")?;
        s.times(x, "text_projection", out, "text_projection")
    }
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
