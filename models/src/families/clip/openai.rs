//! `clip`: image towers of CLIP (Radford et al. 2021) in the names of OpenAI and OpenCLIP. Nothing in a file of OpenCLIP's says
//! which activation it was trained with.

use crate::families::architecture::Architecture;
use crate::layers::blocks::{Blocks, Names, heads};
use crate::layers::stack::{Conv, Stack, Usual};
use crate::layers::tokens::{Act, flatten, token};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId, Op};

const EPS: f64 = 1e-5;
/// Of red, green and blue.
pub(crate) const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub(crate) const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
pub(crate) const CLIP: Usual = Usual::Known { whose: "CLIP's", mean: MEAN, std: STD };

pub const ARCHITECTURE: Architecture = Architecture {
    name: "clip",
    doc: "image tower of OpenAI's and OpenCLIP's names: patches (visual.conv1), class_embedding, positional_embedding, ln_pre, \
          transformer.resblocks.N (ln_1, attn, ln_2, mlp.c_fc, GELU, mlp.c_proj), ln_post, the class token times proj: an \
          embedding; `activation=quick_gelu` for weights of OpenAI and others trained so; heads as of `vit`",
    params: &["heads", "activation"],
    detect,
    build,
};

/// Of both towers.
pub(crate) const NAMES: Names = Names {
    norms: ["ln_1", "ln_2"],
    qkv: ["attn.in_proj_weight", "attn.in_proj_bias"],
    out: "attn.out_proj",
    scales: Some(["ls_1.gamma", "ls_2.gamma"]),
    mlp: ["mlp.c_fc", "mlp.c_proj"],
};

fn layer(i: usize) -> String {
    format!("visual.transformer.resblocks.{i}")
}

fn detect(dict: &StateDict) -> bool {
    dict.contains("visual.conv1.weight") && dict.contains(&format!("{}.attn.in_proj_weight", layer(0)))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [width, channels, patch, _] = dict.sizes("visual.conv1.weight")?;
    let [places, side] = places(dict, "visual.positional_embedding")?;
    let heads = heads(dict, width, options.heads.as_deref())?;
    let (act, note) = activation(dict, options)?;
    if let Some(note) = note {
        dict.note(format!("the {note}"));
    }
    let blocks = Blocks::of(dict, &NAMES, &layer(0), heads, EPS, act);
    let s = &mut Stack { dict, net };
    let x = input(s, options, "visual.positional_embedding", channels, side.saturating_mul(patch))?;
    let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
    let x = s.conv(x, "visual.conv1", conv)?;
    let x = flatten(s, x, "tokens")?;
    let class = s.dict.take("visual.class_embedding", &[width])?.reshape((1, 1, width))?;
    let class = s.net.param("visual.class_embedding", class);
    let class = s.net.node("class", Op::Param(class), &[])?;
    let x = s.net.node("with_class", Op::Concat { axis: 1 }, &[class, x])?;
    let places = s.constant("visual.positional_embedding", &[places, width])?;
    let x = s.add(x, places, "placed")?;
    let mut x = s.layer_norm(x, "visual.ln_pre", EPS)?;
    for i in 0..s.dict.count(layer) {
        x = blocks.lay(s, x, &layer(i), None)?;
    }
    let x = token(s, x, "class_token", 0)?;
    let x = s.layer_norm(x, "visual.ln_post", EPS)?;
    set_text_aside(s.dict);
    if !s.dict.contains("visual.proj") {
        return Ok(x);
    }
    let [_, out] = s.dict.sizes("visual.proj")?;
    s.times(x, "visual.proj", out, "embedding")
}

/// The activation of a tower, and what to say about it where neither file nor user does.
pub(crate) fn activation(dict: &StateDict, options: &Options) -> Result<(Act, Option<&'static str>)> {
    let openai = dict.skipped("input_resolution").is_some();
    let act = Act::said(options, if openai { Act::QuickGelu } else { Act::Plain(Activation::Gelu) })?;
    let note = match (options.activation.is_some(), openai) {
        (true, _) => None,
        (false, true) => Some("activation is the quick GELU of OpenAI's weights"),
        (false, false) => Some(
            "activation is GELU, as most of OpenCLIP's weights have it; for OpenAI's, and names with `quickgelu`, say \
             `?activation=quick_gelu`",
        ),
    };
    Ok((act, note))
}

/// Rows of the position embedding, and the side of their square: the first belongs to no place of the image.
pub(crate) fn places(dict: &StateDict, name: &str) -> Result<[usize; 2]> {
    let [places, _] = dict.sizes(name)?;
    let side = places.saturating_sub(1).isqrt();
    match side > 0 && side * side + 1 == places {
        true => Ok([places, side]),
        false => {
            Err(Error::load(format!("`{name}`"), format!("{places} places are not class token and square of patches")))
        }
    }
}

/// The input of the one size that a position embedding is for.
pub(crate) fn input(s: &mut Stack, options: &Options, name: &str, channels: usize, size: usize) -> Result<NodeId> {
    if options.input.is_some_and(|i| i[1..] != [size, size]) {
        return Err(Error::usage(format!("`{name}` is for an input of {size}x{size}")));
    }
    s.input(options, [channels, size, size], CLIP)
}

/// Leaves the text tower out and says so: what remains is the image's.
pub(crate) fn set_text_aside(dict: &mut StateDict) {
    let tower = ["transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "text."];
    for prefix in tower.into_iter().chain(["attn_mask", "logit_scale", "logit_bias"]) {
        dict.ignore(prefix, "the text tower is not part of the image encoder");
    }
    dict.embeds_as("the output is the image embedding, before it is scaled to length 1");
}
