//! `vit`: vision transformers (Dosovitskiy et al. 2021) in timm's names: a class token, learned places, blocks that norm
//! first, layer scale where the file has it. Nothing in a file says how many heads there are.

use super::stack::{Conv, Usual};
use super::{Architecture, Stack};
use crate::Options;
use crate::safetensors::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op};

/// Heads are this wide in tiny, small, base and large; huge, giant and gigantic have 16.
const HEAD: usize = 64;
const WIDE: [usize; 3] = [1280, 1408, 1664];
const EPS: f64 = 1e-6;

pub const ARCHITECTURE: Architecture = Architecture {
    name: "vit",
    doc: "patches (patch_embed.proj), cls_token, pos_embed, blocks.N (norm1, attn.qkv, attn.proj, ls1, norm2, mlp.fc1, GELU, \
          mlp.fc2, ls2) norm, the class token's linear head, or the class token itself where the file has none; heads are 64 wide, 16 in \
          huge and larger, unless `heads=N` says otherwise",
    params: &["heads"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight"]
        .iter()
        .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [width, channels, patch, _] = dict.sizes("patch_embed.proj.weight")?;
    let [_, tokens, _] = dict.sizes("pos_embed")?;
    let area = tokens.saturating_sub(1);
    let side = area.isqrt();
    let heads = heads(width, options.heads.as_deref())?;
    if side * side != area || side == 0 {
        return Err(Error::load(
            "`pos_embed`",
            format!("{tokens} places of {width} are no class token and square of patches"),
        ));
    }
    let mut stack = Stack { dict, net };
    let size = side.saturating_mul(patch);
    let x = stack.input(options, [channels, size, size], Usual::Raw)?;
    let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
    let x = stack.conv(x, "patch_embed.proj", conv)?;
    let x = stack.net.node("patches", Op::Reshape { row: vec![width, area] }, &[x])?;
    let x = stack.net.node("tokens", Op::Transpose { axes: vec![0, 2, 1] }, &[x])?;
    let class = stack.constant("cls_token", &[1, 1, width])?;
    let x = stack.net.node("with_class", Op::Concat { axis: 1 }, &[class, x])?;
    let places = stack.constant("pos_embed", &[1, tokens, width])?;
    let mut x = stack.add(x, places, "placed")?;
    for i in 0..stack.dict.count(|i| format!("blocks.{i}")) {
        x = block(&mut stack, x, heads, &format!("blocks.{i}"))?;
    }
    let x = stack.layer_norm(x, "norm", EPS)?;
    let x = stack.net.node("class", Op::Slice { axis: 1, start: 0, end: 1, step: 1 }, &[x])?;
    let x = stack.net.node("pooled", Op::Reshape { row: vec![width] }, &[x])?;
    if !stack.dict.any("head.") {
        stack.dict.embeds();
        return Ok(x);
    }
    let [classes, _] = stack.dict.sizes("head.weight")?;
    stack.linear(x, "head", classes)
}

fn heads(width: usize, said: Option<&str>) -> Result<usize> {
    let usual = if WIDE.contains(&width) { 16 } else { width / HEAD };
    let heads =
        said.map_or(Ok(usual), |s| s.parse().map_err(|_| Error::usage(format!("heads = `{s}` is no number"))))?;
    match heads > 0 && width.is_multiple_of(heads) {
        true => Ok(heads),
        false => Err(Error::load("vit", format!("{width} channels are not divided among {heads} heads"))
            .hint("say how many there are: `?heads=N`")),
    }
}

fn block(stack: &mut Stack, x: NodeId, heads: usize, name: &str) -> Result<NodeId> {
    let width = stack.net.shape(x).row[1];
    let y = stack.layer_norm(x, &format!("{name}.norm1"), EPS)?;
    let [q, k, v] = stack.thirds(y, &format!("{name}.attn.qkv"), width)?;
    let attention = Op::Attention { heads, scale: 1. / ((width / heads) as f64).sqrt() };
    let y = stack.net.node(format!("{name}.attn"), attention, &[q, k, v])?;
    let y = stack.linear(y, &format!("{name}.attn.proj"), width)?;
    let y = scaled(stack, y, &format!("{name}.ls1.gamma"), width)?;
    let x = stack.add(x, y, &format!("{name}.add1"))?;
    let y = stack.layer_norm(x, &format!("{name}.norm2"), EPS)?;
    let [hidden, _] = stack.dict.sizes(&format!("{name}.mlp.fc1.weight"))?;
    let y = stack.linear(y, &format!("{name}.mlp.fc1"), hidden)?;
    let y = stack.act(y, &format!("{name}.mlp.act"), Activation::Gelu)?;
    let y = stack.linear(y, &format!("{name}.mlp.fc2"), width)?;
    let y = scaled(stack, y, &format!("{name}.ls2.gamma"), width)?;
    stack.add(x, y, &format!("{name}.add2"))
}

fn scaled(stack: &mut Stack, x: NodeId, name: &str, width: usize) -> Result<NodeId> {
    if !stack.dict.contains(name) {
        return Ok(x);
    }
    let scale = stack.constant(name, &[width])?;
    stack.net.node(format!("{name}.scaled"), Op::Binary(Binary::Mul), &[x, scale])
}
