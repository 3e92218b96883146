//! `xcit`: cross-covariance image transformers (El-Nouby et al. 2021) in timm's names and those of the authors; RobustBench has
//! robust ones. Channels attend to channels, so that cost grows with the tokens and not with their square.

use super::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::layers::tokens;
use crate::layers::tokens::{
    Act, attend, flatten, last, layer_scale, made, mlp, reshape, slice, token, transpose, unit,
};
use crate::layers::windows::{is_biased, joined_bias};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op};

const EPS: f64 = 1e-6;
const GELU: Act = Act::Plain(Activation::Gelu);
/// Frequencies of sines and of cosines for each axis.
const WAVES: usize = 32;
/// The nano networks leave all tokens but the class token as they are in the last blocks.
const NANO: usize = 128;
/// Images of CIFAR, for which patches are smaller.
const SMALL: usize = 64;

pub const ARCHITECTURE: Architecture = Architecture {
    name: "xcit",
    doc: "3x3 stem (patch_embed.proj.N.0 and .1), Fourier places (pos_embed or pos_embeder), blocks.N (norm1, attn over channels \
          with temperature, gamma1, norm3, local_mp, gamma3, norm2, mlp, gamma2), cls_token, cls_attn_blocks.N, norm, the class \
          token's linear head, or the class token itself where the file has none; patches are 16 (8 with three stem layers), 4 \
          (2) for images up to 64x64, unless `variant=patch8` says otherwise",
    params: &["variant"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    dict.contains("patch_embed.proj.0.0.weight") && dict.contains("blocks.0.attn.temperature")
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [_, channels, ..] = dict.sizes::<4>("patch_embed.proj.0.0.weight")?;
    let s = &mut Stack { dict, net };
    let mut x = s.input(options, [channels, 224, 224], Usual::Raw)?;
    let size = [s.net.shape(x).row[1], s.net.shape(x).row[2]];
    x = stem(s, x, options.variant.as_deref(), size)?;
    let grid = [s.net.shape(x).row[1], s.net.shape(x).row[2]];
    x = flatten(s, x, "tokens")?;
    for name in ["pos_embed", "pos_embeder"] {
        let name = format!("{name}.token_projection");
        if s.dict.contains(&format!("{name}.weight")) {
            x = placed(s, x, &name, grid)?;
        }
    }
    for i in 0..s.dict.count(|i| format!("blocks.{i}")) {
        x = block(s, x, &format!("blocks.{i}"), grid)?;
    }
    let width = last(s, x);
    let class = s.constant("cls_token", &[1, 1, width])?;
    x = s.net.node("with_class", Op::Concat { axis: 1 }, &[class, x])?;
    let heads = heads(s.dict)?;
    for i in 0..s.dict.count(|i| format!("cls_attn_blocks.{i}")) {
        x = class_block(s, x, &format!("cls_attn_blocks.{i}"), heads)?;
    }
    let x = token(s, x, "class", 0)?;
    let x = s.layer_norm(x, "norm", EPS)?;
    if !s.dict.any("head.") {
        s.dict.embeds();
        return Ok(x);
    }
    let [classes, _] = s.dict.sizes("head.weight")?;
    s.linear(x, "head", classes)
}

fn heads(dict: &StateDict) -> Result<usize> {
    dict.sizes("blocks.0.attn.temperature").map(|[heads, _, _]| heads)
}

/// 3x3 convolutions with batch norm, the last of them at stride 2: as many as halve an image to patches.
fn stem(s: &mut Stack, mut x: NodeId, variant: Option<&str>, size: [usize; 2]) -> Result<NodeId> {
    let count = (0..8).take_while(|i| s.dict.any(&format!("patch_embed.proj.{}.0.", 2 * i))).count();
    let usual = if size.iter().all(|n| *n <= SMALL) { count.saturating_sub(2) } else { count };
    let halvings = match variant {
        None => usual,
        Some(said) => {
            let patch =
                said.strip_prefix("patch").and_then(|n| n.parse::<usize>().ok()).filter(|n| n.is_power_of_two());
            patch.map(|n| n.ilog2() as usize).filter(|n| *n <= count).ok_or_else(|| {
                Error::usage(format!("`variant={said}` is not known"))
                    .hint(format!("`patchN` with N a power of two up to {}", 1usize << count))
            })?
        }
    };
    if variant.is_none() && usual < count {
        s.dict.note(format!(
            "patches are {0}x{0} pixels, as robust networks for small images have them; else say `?variant=patchN`",
            1usize << usual
        ));
    }
    for i in 0..count {
        let name = format!("patch_embed.proj.{}", 2 * i);
        let [out, ..] = s.dict.sizes::<4>(&format!("{name}.0.weight"))?;
        let stride = if i + halvings < count { 1 } else { 2 };
        x = s.conv(x, &format!("{name}.0"), Conv::same(out, 3, stride))?;
        x = s.batch_norm(x, &format!("{name}.1"))?;
        if i + 1 < count {
            x = s.act(x, &format!("{name}.act"), Activation::Gelu)?;
        }
    }
    Ok(x)
}

/// Adds a linear map of sines and cosines of the places.
fn placed(s: &mut Stack, x: NodeId, name: &str, [h, w]: [usize; 2]) -> Result<NodeId> {
    let width = last(s, x);
    let weight = tokens::values(&s.dict.take(&format!("{name}.weight"), &[width, 2 * WAVES, 1, 1])?)?;
    let bias = tokens::values(&s.dict.take(&format!("{name}.bias"), &[width])?)?;
    if weight.len() != 2 * WAVES * width || bias.len() != width {
        return Err(Error::load(format!("`{name}`"), "its weights do not fit"));
    }
    s.dict.spend(name, &[h, w, width])?;
    let (rows, cols) = (waves(h), waves(w));
    let mut values = Vec::with_capacity(h * w * width);
    for (row, col) in rows.iter().flat_map(|row| cols.iter().map(move |col| (row, col))) {
        let place = [row.as_slice(), col.as_slice()].concat();
        let one = |(line, b): (&[f64], &f64)| line.iter().zip(&place).map(|(w, p)| w * p).sum::<f64>() + b;
        values.extend(weight.chunks(2 * WAVES).zip(&bias).map(one));
    }
    let places = made(s, name, values, &[1, h * w, width])?;
    s.add(x, places, "placed")
}

/// For each of `n` places, sines and cosines in turn, of falling frequency. In f32, as the packages compute them whatever the
/// network is in.
fn waves(n: usize) -> Vec<Vec<f64>> {
    let speed = |i: usize| 10_000f32.powf((2 * (i / 2)) as f32 / WAVES as f32);
    let one = |place: usize| {
        let at = (place + 1) as f32 / (n as f32 + 1e-6) * std::f32::consts::TAU;
        let wave = |i: usize| if i.is_multiple_of(2) { (at / speed(i)).sin() } else { (at / speed(i)).cos() };
        (0..WAVES).map(|i| f64::from(wave(i))).collect()
    };
    (0..n).map(one).collect()
}

fn block(s: &mut Stack, x: NodeId, name: &str, [h, w]: [usize; 2]) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let width = last(s, x);
    let y = s.layer_norm(x, &at("norm1"), EPS)?;
    let y = over_channels(s, y, &at("attn"))?;
    let y = layer_scale(s, y, &at("gamma1"))?;
    let x = s.add(x, y, &at("add1"))?;
    let y = s.layer_norm(x, &at("norm3"), EPS)?;
    let y = transpose(s, y, &at("local_mp.in"), &[0, 2, 1])?;
    let y = reshape(s, y, &at("local_mp.image"), &[width, h, w])?;
    let conv = Conv::same(width, 3, 1).grouped(width);
    let y = s.conv_with(y, &at("local_mp.conv1"), conv, true)?;
    let y = s.act(y, &at("local_mp.act"), Activation::Gelu)?;
    let y = s.batch_norm(y, &at("local_mp.bn"))?;
    let y = s.conv_with(y, &at("local_mp.conv2"), conv, true)?;
    let y = flatten(s, y, &at("local_mp"))?;
    let y = layer_scale(s, y, &at("gamma3"))?;
    let x = s.add(x, y, &at("add3"))?;
    let y = s.layer_norm(x, &at("norm2"), EPS)?;
    let y = two_layers(s, y, name)?;
    let y = layer_scale(s, y, &at("gamma2"))?;
    s.add(x, y, &at("add2"))
}

fn two_layers(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let [wide, narrow] = ["fc1", "fc2"].map(|part| format!("{name}.mlp.{part}"));
    let [hidden, _] = s.dict.sizes(&format!("{wide}.weight"))?;
    mlp(s, x, [&wide, &narrow], hidden, GELU)
}

/// Attention of each head's channels to each other: cosines over the tokens, times the head's temperature.
fn over_channels(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let (count, width) = (s.net.shape(x).row[0], last(s, x));
    let [heads, _, _] = s.dict.sizes(&at("temperature"))?;
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(Error::load(format!("`{name}`"), format!("{width} entries are not {heads} equal heads")));
    }
    let biased = is_biased(s.dict, "blocks.0.attn.qkv", "");
    let bias = biased.then(|| joined_bias(s, &at("qkv"), "", width, false)).transpose()?;
    let parts = s.thirds_with(x, &at("qkv"), &at("qkv.weight"), bias, width)?;
    let mut channels = [x; 3];
    for ((to, part), which) in channels.iter_mut().zip(parts).zip(["q", "k", "v"]) {
        let y = reshape(s, part, &at(&format!("{which}.split")), &[count, heads, width / heads])?;
        *to = transpose(s, y, &at(&format!("{which}.channels")), &[0, 2, 3, 1])?;
    }
    let [q, k, v] = channels;
    let q = unit(s, q, &at("q.unit"))?;
    let k = unit(s, k, &at("k.unit"))?;
    let k = transpose(s, k, &at("k.exchanged"), &[0, 1, 3, 2])?;
    let scores = s.net.node(at("cosines"), Op::MatMul, &[q, k])?;
    let temperature = s.constant(&at("temperature"), &[heads, 1, 1])?;
    let scores = s.net.node(at("scores"), Op::Binary(Binary::Mul), &[scores, temperature])?;
    let weights = s.net.node(at("weights"), Op::Softmax { axis: 3 }, &[scores])?;
    let mixed = s.net.node(at("mixed"), Op::MatMul, &[weights, v])?;
    let mixed = transpose(s, mixed, &at("tokens"), &[0, 3, 1, 2])?;
    let mixed = reshape(s, mixed, name, &[count, width])?;
    s.linear(mixed, &at("proj"), width)
}

/// Attention of the class token alone; the others are only normed and scaled (Touvron et al. 2021).
fn class_block(s: &mut Stack, x: NodeId, name: &str, heads: usize) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let (count, width) = (s.net.shape(x).row[0], last(s, x));
    let first = |s: &mut Stack, x: NodeId, part: &str| slice(s, x, &format!("{name}.{part}"), 1, 0, 1);
    let others = |s: &mut Stack, x: NodeId, part: &str| slice(s, x, &format!("{name}.{part}"), 1, 1, count);
    let join = |s: &mut Stack, a: NodeId, b: NodeId, part: &str| {
        s.net.node(format!("{name}.{part}"), Op::Concat { axis: 1 }, &[a, b])
    };
    let normed = s.layer_norm(x, &at("norm1"), EPS)?;
    let class = first(s, normed, "class")?;
    let [q, k, v] = class_parts(s, class, normed, &at("attn"))?;
    let y = attend(s, [q, k, v], heads, None, &at("attend"))?;
    let y = s.linear(y, &at("attn.proj"), width)?;
    let rest = others(s, normed, "rest")?;
    let y = join(s, y, rest, "attended")?;
    let y = layer_scale(s, y, &at("gamma1"))?;
    let x = s.add(x, y, &at("add1"))?;
    let x = if width == NANO {
        let class = first(s, x, "class_kept")?;
        let class = s.layer_norm(class, &at("norm2"), EPS)?;
        let rest = others(s, x, "rest_kept")?;
        join(s, class, rest, "normed")?
    } else {
        s.layer_norm(x, &at("norm2"), EPS)?
    };
    // What all others get is themselves once more.
    let class = first(s, x, "class_normed")?;
    let y = two_layers(s, class, name)?;
    let y = layer_scale(s, y, &at("gamma2"))?;
    let rest = others(s, x, "rest_normed")?;
    let y = join(s, y, rest, "mixed")?;
    s.add(x, y, &at("add2"))
}

/// Queries of the class token, keys and values of all: three layers in timm's names, one in the authors'.
fn class_parts(s: &mut Stack, class: NodeId, all: NodeId, name: &str) -> Result<[NodeId; 3]> {
    let width = last(s, all);
    let joined = format!("{name}.qkv");
    if s.dict.contains(&format!("{joined}.weight")) {
        let biased = is_biased(s.dict, "cls_attn_blocks.0.attn.qkv", "");
        let bias = biased.then(|| joined_bias(s, &joined, "", width, false)).transpose()?;
        let [q, k, v] = s.thirds_with(all, &joined, &format!("{joined}.weight"), bias, width)?;
        return Ok([slice(s, q, &format!("{joined}.class"), 1, 0, 1)?, k, v]);
    }
    let names = ["q", "k", "v"].map(|which| format!("{name}.{which}"));
    let biased = names.iter().any(|n| s.dict.contains(&format!("{n}.bias")));
    let mut parts = [class, all, all];
    for (part, name) in parts.iter_mut().zip(&names) {
        *part = s.linear_with(*part, name, width, biased)?;
    }
    Ok(parts)
}
