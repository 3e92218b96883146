//! `vit`: vision transformers (Dosovitskiy et al. 2021) in timm's names and those of DeiT, DINO and DINOv2: learned places, a
//! class token or none, registers, blocks that norm first. Nothing in a file says how many heads there are.

use crate::families::architecture::Architecture;
use crate::families::convnext::timm::ConvStem;
use crate::layers::attention_pool;
use crate::layers::attention_pool::AttentionPool;
use crate::layers::blocks::{Blocks, TIMM, heads, heads_or};
use crate::layers::stack::{Conv, Stack, Usual};
use crate::layers::tokens::{Act, flatten, mean, resize_grid, scale, slice, token, values};
use crate::options::Options;
use crate::weights::StateDict;
use candle_core::Tensor;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId, Op};

const EPS: f64 = 1e-6;
/// Of CLIP's, which norm before the blocks too.
const CLIP_EPS: f64 = 1e-5;

pub const ARCHITECTURE: Architecture = Architecture {
    name: "vit",
    doc: "patches (patch_embed.proj, or the convolutions of Singh et al. 2023 at patch_embed.proj.stem), cls_token, reg_token or register_tokens and dist_token where the file has them, pos_embed, \
          blocks.N (norm1, attn.qkv, attn.proj, ls1, norm2, mlp.fc1, GELU, mlp.fc2, ls2; SwiGLU where fc1 is twice as wide, or \
          mlp.w12 and mlp.w3), norm, the class token or without one the mean of the patches (with fc_norm always), with attn_pool what \
          its query makes of them, linear head, with dist_token the mean of head and head_dist, or no head; heads are 64 wide, 16 in so400m, \
          huge and larger, unless `heads=N` says otherwise",
    params: &["heads", "activation"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let patches = ["patch_embed.proj.weight", CONV_STEM].iter().any(|n| dict.contains(n));
    let first = patches && dict.contains("blocks.0.attn.qkv.weight");
    let relative = ["blocks.0.attn.relative_position_bias_table", "rel_pos_bias.relative_position_bias_table"];
    first && dict.contains("pos_embed") && !relative.iter().any(|n| dict.contains(n))
}

/// The first convolution of Singh et al. 2023's patches: four that halve the size, and one of 1x1.
const CONV_STEM: &str = "patch_embed.proj.stem.0.weight";
const STEM: ConvStem = ConvStem { prefix: "patch_embed.proj.stem", halving: 4, eps: EPS };

/// Of this width DINOv2's giant has 24 heads, and SigLIP's, which timm keeps without a class token, 16.
const GIANT: usize = 1536;
const SIGLIPS_GIANT: usize = 16;

const SIGLIP: Usual = Usual::Known { whose: "SigLIP's", mean: [0.5; 3], std: [0.5; 3] };

/// EVA-02's enormous norms behind the layers of a block, under the names of those that norm before them.
const ENORMOUS: usize = 1792;

/// Tokens before the patches, and whether they have places of their own.
struct Lead {
    /// Names and how many tokens each has, in order.
    tokens: Vec<(&'static str, usize)>,
    /// How many of them `pos_embed` has places for.
    placed: usize,
    /// Patches along a side, as trained.
    side: usize,
}

impl Lead {
    fn of(dict: &StateDict, places: usize) -> Result<Self> {
        let registers = |name| dict.dims(name).and_then(|d| d.get(1)).copied();
        let mut tokens: Vec<(&'static str, usize)> =
            ["cls_token", "dist_token"].into_iter().filter(|n| dict.contains(n)).map(|n| (n, 1)).collect();
        let own = tokens.len();
        tokens
            .extend(["reg_token", "register_tokens"].into_iter().filter_map(|n| registers(n).map(|count| (n, count))));
        let all = tokens.iter().map(|(_, n)| n).fold(0usize, |a, b| a.saturating_add(*b));
        // All of them, or the patches alone, or (DINOv2) all but the registers.
        let side = |before: usize| {
            let area = places.checked_sub(before)?;
            let side = area.isqrt();
            (side > 0 && side * side == area).then_some((before, side))
        };
        let found = side(all).or_else(|| side(0)).or_else(|| side(own));
        let (placed, side) = found.ok_or_else(|| {
            Error::load(
                "`pos_embed`",
                format!("{places} places are not a square of patches and {all} tokens before them"),
            )
        })?;
        Ok(Self { tokens, placed, side })
    }

    fn count(&self) -> usize {
        self.tokens.iter().map(|(_, n)| n).sum()
    }
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [_, places, all] = dict.sizes("pos_embed")?;
    let [width, channels, patch, _] = match dict.dims(CONV_STEM) {
        Some(&[_, channels, ..]) => [all, channels, 1 << STEM.halving, 0],
        _ => dict.sizes("patch_embed.proj.weight")?,
    };
    if width == ENORMOUS && dict.contains("blocks.0.attn.q_bias") {
        return Err(Error::load(
            "the weights",
            "EVA-02's enormous network norms after its layers, which is not built here",
        )
        .hint("export it to ONNX"));
    }
    let lead = Lead::of(dict, places)?;
    let act = activation(dict, options)?;
    let heads = heads_of(dict, width, options.heads.as_deref())?;
    let eps = if dict.contains("norm_pre.weight") { CLIP_EPS } else { EPS };
    let blocks = Blocks::of(dict, &TIMM, "blocks.0", heads, eps, act);
    let pool = match dict.any("attn_pool.") {
        true => {
            let [hidden, _] = dict.sizes("attn_pool.mlp.fc1.weight")?;
            Some(AttentionPool { names: &attention_pool::TIMM, heads, hidden, eps, act })
        }
        false => None,
    };
    let s = &mut Stack { dict, net };
    let size = lead.side.saturating_mul(patch);
    // With a pool it is SigLIP's; others were trained on pixels of many kinds.
    let usual = if pool.is_some() { SIGLIP } else { Usual::Raw };
    if pool.is_none() && channels == 3 && options.mean.is_none() && options.std.is_none() {
        s.dict.note(
            "of timm's ViTs some were trained with `?mean=half` (augreg, in21k), some with `?mean=imagenet` (DeiT, DINO, MAE), CLIP's with \
             `?mean=clip`: the file does not say which",
        );
    }
    let x = s.input(options, [channels, size, size], usual)?;
    let mut x = embedded(s, x, &lead, [width, patch, places])?;
    s.dict.ignore("mask_token", "nothing is masked here");
    if s.dict.contains("norm_pre.weight") {
        x = s.layer_norm(x, "norm_pre", eps)?;
    }
    for i in 0..s.dict.count(|i| format!("blocks.{i}")) {
        x = blocks.lay(s, x, &format!("blocks.{i}"), None)?;
    }
    top(s, x, lead.count(), eps, pool)
}

/// What the user says, or what is usual.
fn heads_of(dict: &mut StateDict, width: usize, said: Option<&str>) -> Result<usize> {
    if width != GIANT {
        return heads(dict, width, said);
    }
    let found = match dict.contains("cls_token") {
        true => heads(dict, width, said),
        // With a pool it is SigLIP's.
        false => heads_or(dict, width, said, dict.any("attn_pool.").then_some(SIGLIPS_GIANT)),
    };
    found.map_err(|e| e.hint("`?heads=24` for DINOv2's giant, `?heads=16` for SigLIP's"))
}

/// What the user says, or GELU, with a note where others are known by the same names.
fn activation(dict: &mut StateDict, options: &Options) -> Result<Act> {
    let act = Act::said(options, Act::Plain(Activation::Gelu))?;
    if options.activation.is_some() {
        return Ok(act);
    }
    if dict.contains("norm_pre.weight") {
        dict.note("the activation is GELU; say `?activation=quick_gelu` for timm's `*_clip_quickgelu_*`");
    } else if ["cls_token", "reg_token", "fc_norm.weight"].iter().all(|n| !dict.contains(n)) {
        dict.note(
            "the activation is GELU; some of SigLIP 2's take its tanh form in timm (patches of 32, large at 512 pixels, so400m with \
             patches of 16, giant): say `?activation=gelu_pytorch_tanh` for them",
        );
    }
    Ok(act)
}

/// Patches with their places, after the tokens that lead them.
fn embedded(s: &mut Stack, x: NodeId, lead: &Lead, [width, patch, places]: [usize; 3]) -> Result<NodeId> {
    let x = match s.dict.contains(CONV_STEM) {
        true => STEM.lay(s, x)?,
        false => {
            let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
            // Networks that norm before the blocks have no bias here.
            let biased = !s.dict.contains("norm_pre.weight") || s.dict.contains("patch_embed.proj.bias");
            s.conv_with(x, "patch_embed.proj", conv, biased)?
        }
    };
    if s.channels(x) != width {
        let why = format!("patches have {} channels, `pos_embed` is for {width}", s.channels(x));
        return Err(Error::load("`patch_embed.proj`", why));
    }
    let grid = [s.net.shape(x).row[1], s.net.shape(x).row[2]];
    let x = flatten(s, x, "tokens")?;
    let places = resized(s, lead, grid, [places, width])?;
    let mut parts = vec![];
    for (name, count) in &lead.tokens {
        parts.push(s.dict.take(name, &[1, *count, width])?);
    }
    if lead.placed == lead.count() {
        let mut tokens = vec![];
        for ((name, _), value) in lead.tokens.iter().zip(parts) {
            tokens.push(constant(s, name, value)?);
        }
        tokens.push(x);
        let x = if tokens.len() > 1 { s.net.node("with_class", Op::Concat { axis: 1 }, &tokens)? } else { x };
        let places = constant(s, "pos_embed", places)?;
        return s.add(x, places, "placed");
    }
    // Tokens without places follow those with, so that all of them are constants.
    let patches = constant(s, "pos_embed", places.narrow(1, lead.placed, grid[0] * grid[1])?.contiguous()?)?;
    let x = s.add(x, patches, "placed")?;
    let (mut tokens, mut at) = (vec![], 0);
    for ((name, count), value) in lead.tokens.iter().zip(parts) {
        let own = at + count <= lead.placed;
        let sum = |t: Tensor| {
            t.to_dtype(candle_core::DType::F64)? + places.narrow(1, at, *count)?.to_dtype(candle_core::DType::F64)?
        };
        let value = if own { sum(value)? } else { value };
        tokens.push(constant(s, name, value)?);
        at += count;
    }
    tokens.push(x);
    s.net.node("with_class", Op::Concat { axis: 1 }, &tokens)
}

fn constant(s: &mut Stack, name: &str, value: Tensor) -> Result<NodeId> {
    let param = s.net.param(name, value);
    s.net.node(name, Op::Param(param), &[])
}

/// The places `[1, leading + h w, width]`, brought to the input's grid as timm does it.
fn resized(s: &mut Stack, lead: &Lead, grid: [usize; 2], [places, width]: [usize; 2]) -> Result<Tensor> {
    let value = s.dict.take("pos_embed", &[1, places, width])?;
    if grid == [lead.side; 2] || value.dims() != [1, places, width] {
        return Ok(value);
    }
    s.dict
        .note(format!("`pos_embed` is resized from {0}x{0} to {1}x{2} patches (bicubic)", lead.side, grid[0], grid[1]));
    // The table, between the two steps and after them.
    for [h, w] in [[lead.side, lead.side], [lead.side, grid[1]], grid] {
        s.dict.spend("pos_embed", &[h, w, width])?;
    }
    let all = values(&value)?;
    let (head, square) = all.split_at(lead.placed * width);
    let square = resize_grid(square, [lead.side; 2], grid, width, true);
    let count = lead.placed + grid[0] * grid[1];
    Ok(Tensor::from_vec([head, &square].concat(), (1, count, width), &candle_core::Device::Cpu)?)
}

/// Norm, one embedding of all tokens, norm, head: each where the file has it; all norms have this epsilon.
pub(crate) fn top(s: &mut Stack, x: NodeId, lead: usize, eps: f64, pool: Option<AttentionPool>) -> Result<NodeId> {
    let late = s.dict.contains("fc_norm.weight");
    let x = if late && !s.dict.contains("norm.weight") { x } else { s.layer_norm(x, "norm", eps)? };
    if s.dict.contains("dist_token") {
        return two_heads(s, x);
    }
    let x = if pool.is_none() && !late && lead > 0 && s.dict.contains("cls_token") {
        token(s, x, "pooled", 0)?
    } else {
        let count = s.net.shape(x).row[0];
        let patches = if lead > 0 { slice(s, x, "patches", 1, lead, count)? } else { x };
        match pool {
            Some(pool) => pool.lay(s, patches, "attn_pool")?,
            None => mean(s, patches, "pooled", &[1])?,
        }
    };
    let x = if late { s.layer_norm(x, "fc_norm", eps)? } else { x };
    if !s.dict.any("head.") {
        s.dict.embeds();
        return Ok(x);
    }
    let [classes, _] = s.dict.sizes("head.weight")?;
    s.linear(x, "head", classes)
}

/// Distilled networks: the mean of what the class token's head and the distillation token's say.
fn two_heads(s: &mut Stack, x: NodeId) -> Result<NodeId> {
    let mut parts = [x; 2];
    for (i, (part, head)) in parts.iter_mut().zip(["head", "head_dist"]).enumerate() {
        *part = token(s, x, &format!("pooled{i}"), i)?;
        if s.dict.any("head.") || s.dict.any("head_dist.") {
            let [classes, _] = s.dict.sizes(&format!("{head}.weight"))?;
            *part = s.linear(*part, head, classes)?;
        }
    }
    if !s.dict.any("head.") {
        s.dict.embeds();
    }
    let sum = s.add(parts[0], parts[1], "both")?;
    scale(s, sum, 0.5, "mean_of_both")
}
