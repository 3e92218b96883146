//! `beit`: BEiT and BEiT v2 (Bao et al. 2022, Peng et al. 2022) in timm's names and those of their authors: relative places in
//! every block, or one table for all.

use super::architecture::Architecture;
use crate::layers::blocks::{Blocks, Names, TIMM};
use crate::layers::stack::{Conv, Stack, Usual};
use crate::layers::tokens::{Act, flatten, relative_with_class};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId, Op};

const EPS: f64 = 1e-6;
const TABLE: &str = "relative_position_bias_table";
const NAMES: Names = Names { scales: Some(["gamma_1", "gamma_2"]), ..TIMM };

pub const ARCHITECTURE: Architecture = Architecture {
    name: "beit",
    doc: "patches (patch_embed.proj), cls_token, pos_embed if there is one, blocks.N (norm1, attn.qkv with q_bias and v_bias, \
          attn.relative_position_bias_table or rel_pos_bias for all, attn.proj, gamma_1, norm2, mlp.fc1, GELU, mlp.fc2, gamma_2), \
          norm and the class token, or the mean of the patches and fc_norm, linear head or none",
    params: &["activation"],
    detect,
    build,
};

fn own(i: usize) -> String {
    format!("blocks.{i}.attn.{TABLE}")
}

fn shared() -> String {
    format!("rel_pos_bias.{TABLE}")
}

fn detect(dict: &StateDict) -> bool {
    let place = dict.contains(&own(0)) || dict.contains(&shared());
    place && dict.contains("cls_token") && dict.contains("patch_embed.proj.weight")
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [width, channels, patch, _] = dict.sizes("patch_embed.proj.weight")?;
    let first = if dict.contains(&own(0)) { own(0) } else { shared() };
    let [entries, heads] = dict.sizes(&first)?;
    // Offsets in a square, and three for pairs that hold the class token.
    let offsets = entries.saturating_sub(3);
    let side = offsets.isqrt();
    if side * side != offsets || side % 2 == 0 {
        return Err(Error::load(
            format!("`{first}`"),
            format!("{entries} entries are not the offsets in a square and 3"),
        ));
    }
    let side = side.div_ceil(2);
    let s = &mut Stack { dict, net };
    let size = side.saturating_mul(patch);
    if options.input.is_some_and(|i| i[1..] != [size, size]) {
        return Err(Error::usage(format!(
            "tables of relative places are not resized: the input must be {size}x{size}"
        )));
    }
    let x = s.input(options, [channels, size, size], Usual::Raw)?;
    let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
    let x = s.conv_with(x, "patch_embed.proj", conv, true)?;
    let x = flatten(s, x, "tokens")?;
    let class = s.constant("cls_token", &[1, 1, width])?;
    let mut x = s.net.node("with_class", Op::Concat { axis: 1 }, &[class, x])?;
    if s.dict.contains("pos_embed") {
        let places = s.constant("pos_embed", &[1, 1 + side * side, width])?;
        x = s.add(x, places, "placed")?;
    }
    s.dict.ignore("mask_token", "nothing is masked here");
    let act = Act::said(options, Act::Plain(Activation::Gelu))?;
    let blocks = Blocks::of(s.dict, &NAMES, "blocks.0", heads, EPS, act);
    let all = match s.dict.contains(&shared()) {
        true => Some(relative_with_class(s, &shared(), heads, [side; 2])?),
        false => None,
    };
    for i in 0..s.dict.count(|i| format!("blocks.{i}")) {
        let mut bias = match first == own(0) {
            true => Some(relative_with_class(s, &own(i), heads, [side; 2])?),
            false => None,
        };
        if let (Some(one), Some(all)) = (bias, all) {
            bias = Some(s.add(one, all, &format!("blocks.{i}.bias"))?);
        }
        x = blocks.lay(s, x, &format!("blocks.{i}"), bias.or(all))?;
    }
    crate::families::vit::timm::top(s, x, 1, EPS, None)
}
