//! The layers of OpenCLIP's text towers, in its names, which are OpenAI's too.

use super::known::KNOWN;
use crate::families::clip::openai::NAMES;
use crate::families::prefixes::stripped;
use crate::files::open_clip::settings::{arguments, strange, tensors};
use crate::layers::blocks::Blocks;
use crate::layers::stack::Stack;
use crate::layers::tokens::Act;
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, NodeId};
use std::path::Path;

pub(super) const EPS: f64 = 1e-5;

/// A text tower's layers.
#[derive(Debug)]
pub(super) struct OpenClipText {
    pub width: usize,
    pub heads: usize,
    pub act: Act,
    /// Of all norms.
    pub eps: f64,
    /// As the settings say; without them as many as there are.
    pub layers: Option<usize>,
    /// Whether a token attends to those before it alone.
    pub causal: bool,
    /// Whether a linear layer comes last.
    pub projects: bool,
}

/// The weights of a folder's text tower.
pub(super) fn text_weights(path: &Path) -> Result<StateDict> {
    let (dict, name) = tensors(path)?;
    bare(dict).map_err(|e| e.within(path.join(name).display()))
}

/// What is before a text tower's names taken off: a wrapper's `module.`, and `text.` where it has a place of its own.
pub(super) fn bare(dict: StateDict) -> Result<StateDict> {
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
            return Err(Error::load("the weights", why).hint(KNOWN));
        }
        _ => {
            let names = prefixes.iter().take(5).map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::load("the weights", format!("they hold several text towers: {names}"))
                .hint("save the one that counts alone"));
        }
    };
    let outer = prefix.strip_suffix("text.").unwrap_or(&prefix);
    let dict = if outer.is_empty() { dict } else { stripped(&dict, outer)? };
    if prefix.ends_with("text.") { stripped(&dict, "text.") } else { Ok(dict) }
}

/// Every tensor that is not part of the image tower has been taken.
pub(super) fn settle(dict: &mut StateDict) -> Result<()> {
    dict.ignore("visual.", "the image tower is not part of the text tower");
    dict.ignore("attn_mask", "it follows from the length of a prompt");
    dict.finish()
}

impl OpenClipText {
    pub fn of(c: &Config, quick: bool) -> Result<Self> {
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
