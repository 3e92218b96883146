//! `torchvision-vit`: vision transformers (Dosovitskiy et al. 2021) in torchvision's names.

use crate::families::architecture::Architecture;
use crate::layers::blocks::{Blocks, Names, heads};
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::layers::tokens::{Act, flatten, token};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId, Op};

const EPS: f64 = 1e-6;

pub const ARCHITECTURE: Architecture = Architecture {
    name: "torchvision-vit",
    doc: "torchvision's: patches (conv_proj), class_token, encoder.pos_embedding, encoder.layers.encoder_layer_N (ln_1, \
          self_attention, ln_2, mlp.0, GELU, mlp.3), encoder.ln, the class token's linear head (heads.head), or the class token \
          itself where the file has none; heads as of `vit`",
    params: &["heads"],
    detect,
    build,
};

const NAMES: Names = Names {
    norms: ["ln_1", "ln_2"],
    qkv: ["self_attention.in_proj_weight", "self_attention.in_proj_bias"],
    out: "self_attention.out_proj",
    scales: None,
    mlp: ["mlp.0", "mlp.3"],
};
/// Before version 0.15.
const OLD: Names = Names { mlp: ["mlp.linear_1", "mlp.linear_2"], ..NAMES };

fn layer(i: usize) -> String {
    format!("encoder.layers.encoder_layer_{i}")
}

fn detect(dict: &StateDict) -> bool {
    ["conv_proj.weight", "class_token", "encoder.pos_embedding"].iter().all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [width, channels, patch, _] = dict.sizes("conv_proj.weight")?;
    let [_, places, _] = dict.sizes("encoder.pos_embedding")?;
    let side = places.saturating_sub(1).isqrt();
    if side == 0 || side * side + 1 != places {
        return Err(Error::load(
            "`encoder.pos_embedding`",
            format!("{places} places are not class token and square of patches"),
        ));
    }
    let old = dict.contains(&format!("{}.mlp.linear_1.weight", layer(0)));
    let names = if old { &OLD } else { &NAMES };
    let heads = heads(dict, width, options.heads.as_deref())?;
    let blocks = Blocks::of(dict, names, &layer(0), heads, EPS, Act::Plain(Activation::Gelu));
    let s = &mut Stack { dict, net };
    let size = side.saturating_mul(patch);
    if options.input.is_some_and(|i| i[1..] != [size, size]) {
        return Err(Error::usage(format!("`encoder.pos_embedding` is for an input of {size}x{size}")));
    }
    let x = s.input(options, [channels, size, size], IMAGENET)?;
    let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
    let x = s.conv_with(x, "conv_proj", conv, true)?;
    let x = flatten(s, x, "tokens")?;
    let class = s.constant("class_token", &[1, 1, width])?;
    let x = s.net.node("with_class", Op::Concat { axis: 1 }, &[class, x])?;
    let places = s.constant("encoder.pos_embedding", &[1, places, width])?;
    let mut x = s.add(x, places, "placed")?;
    for i in 0..s.dict.count(layer) {
        x = blocks.lay(s, x, &layer(i), None)?;
    }
    let x = s.layer_norm(x, "encoder.ln", EPS)?;
    let x = token(s, x, "pooled", 0)?;
    if !s.dict.any("heads.") {
        s.dict.embeds();
        return Ok(x);
    }
    let [classes, _] = s.dict.sizes("heads.head.weight")?;
    s.linear(x, "heads.head", classes)
}
