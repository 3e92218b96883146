//! Vision transformers of transformers: ViT, DeiT, MAE, MSN, DINOv2 (with registers too), DINOv3, BEiT, data2vec; the blocks
//! serve the image towers of CLIP and SigLIP too. What differs is in their [`Block`].

use crate::families::body::{Body, Family, Made};
use crate::layers::stack::{Conv, Stack};
use crate::layers::tokens;
use crate::layers::tokens::{Act, attend, flatten, last, layer_scale, mean, mlp, slice, token};
use crate::settings::Config;
use candle_core::{DType, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, NodeId, Op};

/// Where a family keeps the parts of a block.
struct Names {
    norms: [&'static str; 2],
    qkv: [&'static str; 3],
    out: &'static str,
    scales: Option<[&'static str; 2]>,
    mlp: [&'static str; 2],
}

const BERT: Names = Names {
    norms: ["layernorm_before", "layernorm_after"],
    qkv: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    out: "attention.output.dense",
    scales: None,
    mlp: ["intermediate.dense", "output.dense"],
};
const BEIT: Names = Names { scales: Some(["lambda_1", "lambda_2"]), ..BERT };
const DINOV2: Names = Names {
    norms: ["norm1", "norm2"],
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
    mlp: ["mlp.fc1", "mlp.fc2"],
    ..BERT
};
const DINOV3: Names = Names {
    qkv: ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    out: "attention.o_proj",
    mlp: ["mlp.up_proj", "mlp.down_proj"],
    ..DINOV2
};
const CLIP: Names = Names {
    norms: ["layer_norm1", "layer_norm2"],
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    scales: None,
    mlp: ["mlp.fc1", "mlp.fc2"],
};

pub static FAMILIES: &[Family] = &[
    Family { types: &["vit", "vit_mae", "vit_msn"], prefixes: &["vit."], build: plain },
    Family { types: &["deit"], prefixes: &["deit."], build: plain },
    Family { types: &["dinov2"], prefixes: &["dinov2."], build: dinov2 },
    Family { types: &["dinov2_with_registers"], prefixes: &["dinov2_with_registers."], build: dinov2 },
    Family { types: &["dinov3_vit"], prefixes: &[], build: dinov3 },
    Family { types: &["beit"], prefixes: &["beit."], build: beit },
    Family { types: &["data2vec-vision"], prefixes: &["data2vec_vision."], build: beit },
];

/// Patches an image may have: attention's weights grow with the square.
const MAX_TOKENS: usize = 1 << 14;

/// The sizes all of them have.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub width: usize,
    pub heads: usize,
    pub layers: usize,
    pub hidden: usize,
    pub eps: f64,
    pub act: Act,
}

impl Sizes {
    pub(crate) fn of(c: &Config, eps: f64, act: &str) -> Result<Self> {
        let width = c.size("hidden_size")?;
        let usual = width.saturating_mul(c.size_or("mlp_ratio", 4)?);
        Ok(Self {
            width,
            heads: c.size("num_attention_heads")?,
            layers: c.layers("num_hidden_layers")?,
            hidden: c.size_or("intermediate_size", usual)?,
            eps: c.float_or("layer_norm_eps", eps)?,
            act: Act::of(c, act)?,
        })
    }
}

/// A block's options beyond its sizes.
struct Block<'a> {
    names: &'a Names,
    sizes: &'a Sizes,
    /// Whether queries, keys and values have biases.
    biased: [bool; 3],
    /// Added to the scores.
    bias: Option<NodeId>,
    /// Cosines and sines for every token and entry.
    turn: Option<[NodeId; 2]>,
    /// Whether the wide layer has a gate.
    gated: bool,
}

/// A wide layer and its gate, apart or as one: files of both kinds exist.
const GATED: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
const GATED_AS_ONE: [&str; 2] = ["mlp.weights_in", "mlp.weights_out"];

impl Block<'_> {
    fn lay(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let Self { names, sizes, .. } = self;
        let at = |part: &str| format!("{name}.{part}");
        let y = s.layer_norm(x, &at(names.norms[0]), sizes.eps)?;
        let mut parts = [y; 3];
        for (i, part) in parts.iter_mut().enumerate() {
            let linear = at(names.qkv[i]);
            *part = s.linear_with(y, &linear, sizes.width, self.biased[i])?;
            if let Some(turn) = self.turn.filter(|_| i < 2) {
                *part = turned(s, y, *part, &linear, sizes, turn)?;
            }
        }
        let y = attend(s, parts, sizes.heads, self.bias, &at("attend"))?;
        let y = s.linear(y, &at(names.out), sizes.width)?;
        let y = names.scales.map_or(Ok(y), |[first, _]| layer_scale(s, y, &at(first)))?;
        let x = s.add(x, y, &at("add1"))?;
        let y = s.layer_norm(x, &at(names.norms[1]), sizes.eps)?;
        let y = self.mlp(s, y, name)?;
        let y = names.scales.map_or(Ok(y), |[_, second]| layer_scale(s, y, &at(second)))?;
        s.add(x, y, &at("add2"))
    }

    fn mlp(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let Sizes { hidden, act, .. } = *self.sizes;
        let [input, output] = GATED_AS_ONE.map(at);
        let [gate, wide, narrow] = GATED.map(at);
        match self.gated {
            true if s.dict.contains(&format!("{input}.weight")) => {
                tokens::gated_as_one(s, x, [&input, &output], hidden, act)
            }
            true => tokens::gated(s, x, [&gate, &wide, &narrow], hidden, act),
            false => mlp(s, x, [&at(self.names.mlp[0]), &at(self.names.mlp[1])], hidden, act),
        }
    }
}

/// Rotary places (Su et al. 2021): `y cos + rotated(y) sin`. Rotating the halves of a head is a linear map, so the rotated
/// value is a linear layer of its own, whose weights are those of `y` in another order.
fn turned(s: &mut Stack, x: NodeId, y: NodeId, name: &str, sizes: &Sizes, [cos, sin]: [NodeId; 2]) -> Result<NodeId> {
    let (width, depth) = (sizes.width, sizes.width / sizes.heads.max(1));
    let half = depth / 2;
    let rotate = |t: &Tensor| -> Result<Tensor> {
        let mut pieces = vec![];
        for head in 0..sizes.heads {
            let (first, second) = (t.narrow(0, head * depth, half)?, t.narrow(0, head * depth + half, half)?);
            pieces.extend([second.neg()?, first]);
        }
        Ok(Tensor::cat(&pieces, 0)?)
    };
    let mut other = |part: &str, shape: &[usize]| -> Result<Option<robust_engine::ParamId>> {
        let file = format!("{name}.{part}");
        match s.dict.tensor(&file) {
            Some(t) if t.dims() == shape && half * 2 * sizes.heads == width => {
                let t = rotate(t)?;
                Ok(Some(s.net.param(format!("{file}.rotated"), t)))
            }
            _ => Ok(None),
        }
    };
    let weight = other("weight", &[width, width])?;
    let bias = other("bias", &[width])?;
    let weight = weight.ok_or_else(|| Error::load(format!("`{name}.weight`"), "it cannot be cut into heads"))?;
    let rotated = s.net.node(format!("{name}.rotated"), Op::Linear { weight, bias }, &[x])?;
    let y = s.net.node(format!("{name}.cos"), Op::Binary(Binary::Mul), &[y, cos])?;
    let rotated = s.net.node(format!("{name}.sin"), Op::Binary(Binary::Mul), &[rotated, sin])?;
    s.add(y, rotated, &format!("{name}.turned"))
}

/// Height and width in patches, and the patches' side.
pub(crate) fn grid(b: &Body, c: &Config) -> Result<([usize; 2], usize)> {
    let patch = c.size("patch_size")?;
    let grid = b.size.map(|n| n / patch);
    match grid.contains(&0) {
        true => Err(Error::load("the input", format!("{:?} pixels are fewer than one patch of {patch}", b.size))
            .hint("say another size: `?input=3x224x224`")),
        false if grid[0].saturating_mul(grid[1]) > MAX_TOKENS => {
            Err(Error::load("the input", format!("{grid:?} patches are more than {MAX_TOKENS} tokens")))
        }
        false => Ok((grid, patch)),
    }
}

pub(crate) fn patches(
    s: &mut Stack,
    x: NodeId,
    name: &str,
    width: usize,
    patch: usize,
    biased: bool,
) -> Result<NodeId> {
    let x = s.conv_with(x, name, Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 }, biased)?;
    flatten(s, x, "tokens")
}

/// Patches by the name that ViT, DINOv2 and BEiT share.
fn projected(b: &mut Body, sizes: &Sizes, patch: usize) -> Result<NodeId> {
    let name = format!("{}embeddings.patch_embeddings.projection", b.prefix);
    patches(&mut b.stack, b.input, &name, sizes.width, patch, true)
}

/// `before` tokens and a square of places learned for images of another size, resized where the input differs.
pub(crate) fn places(
    b: &mut Body,
    name: &str,
    shape: &[usize],
    before: usize,
    grid: [usize; 2],
    smooth: bool,
) -> Result<NodeId> {
    let width = shape.last().copied().unwrap_or(0);
    let learned: usize = shape.iter().product::<usize>() / width.max(1) - before;
    let value = b.stack.dict.take(name, shape)?;
    let side = learned.isqrt();
    if learned == grid[0] * grid[1] && (grid[0] == grid[1] || side * side != learned) {
        let param = b.stack.net.param(name, value.reshape((1, learned + before, width))?);
        return b.stack.net.node(name, Op::Param(param), &[]);
    }
    if side * side != learned {
        return Err(Error::load(format!("`{name}`"), format!("its {learned} places are not a square")));
    }
    if value.dims() != shape {
        return Err(Error::load(format!("`{name}`"), format!("it is not there as {shape:?}")));
    }
    // The table, between the two steps and after them.
    for [h, w] in [[side, side], [side, grid[1]], grid] {
        b.stack.dict.spend(name, &[h, w, width])?;
    }
    let all = value.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let (head, square) = all.split_at(before * width);
    let resized = tokens::resize_grid(square, [side; 2], grid, width, smooth);
    b.stack.dict.note(format!("`{name}` is resized from {side}x{side} to {}x{} patches (bicubic)", grid[0], grid[1]));
    let values = [head, &resized].concat();
    tokens::made(&mut b.stack, name, values, &[1, before + grid[0] * grid[1], width])
}

/// The class token first.
fn with_class(s: &mut Stack, x: NodeId, name: &str, extra: &[&str]) -> Result<NodeId> {
    let width = last(s, x);
    let mut parts = vec![s.constant(name, &[1, 1, width])?];
    for name in extra {
        parts.push(s.constant(name, &[1, 1, width])?);
    }
    parts.push(x);
    s.net.node("with_class", Op::Concat { axis: 1 }, &parts)
}

/// How many places a square learned for the settings' `image_size` has.
pub(crate) fn learned(c: &Config, patch: usize) -> Result<usize> {
    let [h, w] = c.pair("image_size")?;
    Ok((h / patch) * (w / patch))
}

/// The embedding of a model without a head.
fn embedding(b: &mut Body, x: NodeId, before: usize) -> Result<Made> {
    let out = match b.pool()? {
        crate::families::body::Pool::Class => token(&mut b.stack, x, "pooled", 0)?,
        crate::families::body::Pool::Mean => {
            let count = b.stack.net.shape(x).row[0];
            let patches = slice(&mut b.stack, x, "patches", 1, before, count)?;
            mean(&mut b.stack, patches, "pooled", &[1])?
        }
    };
    Ok(Made::Embedding(out))
}

fn plain(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let sizes = Sizes::of(&c, 1e-12, "gelu")?;
    let (grid, patch) = grid(b, &c)?;
    let p = b.prefix.clone();
    let distilled = c.text("model_type") == Some("deit");
    let before = 1 + usize::from(distilled);
    let x = projected(b, &sizes, patch)?;
    let extra = format!("{p}embeddings.distillation_token");
    let extra: &[&str] = if distilled { &[&extra] } else { &[] };
    let x = with_class(&mut b.stack, x, &format!("{p}embeddings.cls_token"), extra)?;
    let shape = [1, before + learned(&c, patch)?, sizes.width];
    let places = places(b, &format!("{p}embeddings.position_embeddings"), &shape, before, grid, false)?;
    let mut x = b.stack.add(x, places, "placed")?;
    let biased = [c.flag_or("qkv_bias", true)?; 3];
    let block = Block { names: &BERT, sizes: &sizes, biased, bias: None, turn: None, gated: false };
    for i in 0..sizes.layers {
        x = block.lay(&mut b.stack, x, &format!("{p}encoder.layer.{i}"))?;
    }
    let x = b.stack.layer_norm(x, &format!("{p}layernorm"), sizes.eps)?;
    b.stack.dict.ignore(&format!("{p}pooler."), "the embedding is the class token's, before the pooler");
    b.stack.dict.ignore(&format!("{p}embeddings.mask_token"), "nothing is masked here");
    b.stack.dict.ignore("decoder.", "the decoder of pre-training is not part of the encoder");
    if !b.classifies {
        return embedding(b, x, before);
    }
    let class = token(&mut b.stack, x, "pooled", 0)?;
    if !c.first_text("architectures").is_some_and(|a| a.ends_with("WithTeacher")) {
        return b.classifier(class, "classifier");
    }
    // Of two heads the mean counts.
    let distilled = token(&mut b.stack, x, "pooled_distilled", 1)?;
    let heads = [b.classifier(class, "cls_classifier")?, b.classifier(distilled, "distillation_classifier")?];
    let [Made::Logits(one), Made::Logits(other)] = heads else {
        return Err(Error::internal("a classifier gave no scores"));
    };
    let sum = b.stack.add(one, other, "both")?;
    tokens::scale(&mut b.stack, sum, 0.5, "mean_of_both").map(Made::Logits)
}

fn dinov2(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let gated = c.flag_or("use_swiglu_ffn", false)?;
    let mut sizes = Sizes::of(&c, 1e-6, "gelu")?;
    if gated {
        // Two thirds, in eights: as many weights as without a gate.
        let usual = sizes.width as f64 * c.float_or("mlp_ratio", 4.)?;
        sizes.hidden = ((usual.trunc() * 2. / 3.) as usize).next_multiple_of(8);
        sizes.act = Act::Plain(Activation::Silu);
    }
    let (grid, patch) = grid(b, &c)?;
    let p = b.prefix.clone();
    let registers = c.text("model_type") == Some("dinov2_with_registers");
    let count = if registers { c.count_or("num_register_tokens", 4)? } else { 0 };
    let x = projected(b, &sizes, patch)?;
    let x = with_class(&mut b.stack, x, &format!("{p}embeddings.cls_token"), &[])?;
    let shape = [1, 1 + learned(&c, patch)?, sizes.width];
    let places = places(b, &format!("{p}embeddings.position_embeddings"), &shape, 1, grid, registers)?;
    let mut x = b.stack.add(x, places, "placed")?;
    b.stack.dict.ignore(&format!("{p}embeddings.mask_token"), "nothing is masked here");
    if count > 0 {
        let tokens = b.stack.constant(&format!("{p}embeddings.register_tokens"), &[1, count, sizes.width])?;
        let all = b.stack.net.shape(x).row[0];
        let class = slice(&mut b.stack, x, "class", 1, 0, 1)?;
        let patches = slice(&mut b.stack, x, "patches_placed", 1, 1, all)?;
        x = b.stack.net.node("with_registers", Op::Concat { axis: 1 }, &[class, tokens, patches])?;
    }
    let biased = [c.flag_or("qkv_bias", true)?; 3];
    let block = Block { names: &DINOV2, sizes: &sizes, biased, bias: None, turn: None, gated };
    for i in 0..sizes.layers {
        x = block.lay(&mut b.stack, x, &format!("{p}encoder.layer.{i}"))?;
    }
    let x = b.stack.layer_norm(x, &format!("{p}layernorm"), sizes.eps)?;
    if !b.classifies {
        return embedding(b, x, 1 + count);
    }
    // The head reads the class token and the mean of the patches.
    let all = b.stack.net.shape(x).row[0];
    let class = token(&mut b.stack, x, "class_token", 0)?;
    let patches = slice(&mut b.stack, x, "patches", 1, 1 + count, all)?;
    let mean = mean(&mut b.stack, patches, "patch_mean", &[1])?;
    let both = b.stack.net.node("pooled", Op::Concat { axis: 1 }, &[class, mean])?;
    b.classifier(both, "classifier")
}

fn dinov3(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let gated = c.flag_or("use_gated_mlp", false)?;
    for (key, needed) in [("proj_bias", true), ("mlp_bias", !gated)] {
        if needed && !c.flag_or(key, true)? {
            return Err(Error::load(format!("`{key}` in config.json"), "models without it are not supported yet"));
        }
    }
    if b.classifies {
        return Err(Error::load("config.json", "DINOv3 has no head here; its embedding can be probed"));
    }
    let sizes = Sizes::of(&c, 1e-5, "gelu")?;
    let (grid, patch) = grid(b, &c)?;
    let count = c.count_or("num_register_tokens", 0)?;
    let x = patches(&mut b.stack, b.input, "embeddings.patch_embeddings", sizes.width, patch, true)?;
    let mut parts = vec![b.stack.constant("embeddings.cls_token", &[1, 1, sizes.width])?];
    if count > 0 {
        parts.push(b.stack.constant("embeddings.register_tokens", &[1, count, sizes.width])?);
    }
    parts.push(x);
    let mut x = b.stack.net.node("with_class", Op::Concat { axis: 1 }, &parts)?;
    b.stack.dict.ignore("embeddings.mask_token", "nothing is masked here");
    let turn = rotary(b, &c, &sizes, grid, 1 + count)?;
    let biased = [c.flag_or("query_bias", true)?, c.flag_or("key_bias", false)?, c.flag_or("value_bias", true)?];
    let block = Block { names: &DINOV3, sizes: &sizes, biased, bias: None, turn: Some(turn), gated };
    for i in 0..sizes.layers {
        x = block.lay(&mut b.stack, x, &format!("layer.{i}"))?;
    }
    let x = b.stack.layer_norm(x, "norm", sizes.eps)?;
    embedding(b, x, 1 + count)
}

/// Cosines and sines `[1, tokens, width]`; the first `before` tokens are not turned. Patch centres lie in [-1, 1].
fn rotary(b: &mut Body, c: &Config, sizes: &Sizes, [h, w]: [usize; 2], before: usize) -> Result<[NodeId; 2]> {
    let depth = sizes.width / sizes.heads.max(1);
    if !depth.is_multiple_of(4) || depth * sizes.heads != sizes.width {
        return Err(Error::load("config.json", format!("heads of {depth} entries cannot be turned in quarters")));
    }
    let theta = c.float_or("rope_theta", 100.)?;
    let quarter = depth / 4;
    let speed: Vec<f64> = (0..quarter).map(|i| theta.powf(-(i as f64) / quarter as f64)).collect();
    let centre = |i: usize, n: usize| 2. * (i as f64 + 0.5) / n as f64 - 1.;
    let mut angles = vec![];
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        let half: Vec<f64> = [centre(y, h), centre(x, w)]
            .iter()
            .flat_map(|at| speed.iter().map(move |s| std::f64::consts::TAU * at * s))
            .collect();
        angles.extend((0..2 * sizes.heads).flat_map(|_| half.iter().copied()));
    }
    let tokens = before + h * w;
    let mut with = |name: &str, still: f64, f: fn(f64) -> f64| {
        let mut values = vec![still; before * sizes.width];
        values.extend(angles.iter().map(|&a| f(a)));
        tokens::made(&mut b.stack, name, values, &[1, tokens, sizes.width])
    };
    Ok([with("rotary.cos", 1., f64::cos)?, with("rotary.sin", 0., f64::sin)?])
}

fn beit(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let sizes = Sizes::of(&c, 1e-12, "gelu")?;
    let (grid, patch) = grid(b, &c)?;
    let p = b.prefix.clone();
    if c.float_or("layer_scale_init_value", 0.1)? <= 0. {
        return Err(Error::load(
            "`layer_scale_init_value` in config.json",
            "models without layer scale are not supported yet",
        ));
    }
    if c.pair("image_size")?.map(|n| n / patch) != grid {
        return Err(Error::load(
            "the input",
            "tables of relative places are not resized: the input must have the settings' image_size",
        ));
    }
    let x = projected(b, &sizes, patch)?;
    let mut x = with_class(&mut b.stack, x, &format!("{p}embeddings.cls_token"), &[])?;
    b.stack.dict.ignore(&format!("{p}embeddings.mask_token"), "nothing is masked here");
    if c.flag_or("use_absolute_position_embeddings", false)? {
        let shape = [1, 1 + learned(&c, patch)?, sizes.width];
        let places = places(b, &format!("{p}embeddings.position_embeddings"), &shape, 1, grid, false)?;
        x = b.stack.add(x, places, "placed")?;
    }
    let x = relative_blocks(b, &c, x, &sizes, grid)?;
    let x = if c.flag_or("use_mean_pooling", true)? {
        let all = b.stack.net.shape(x).row[0];
        let patches = slice(&mut b.stack, x, "patches", 1, 1, all)?;
        let x = mean(&mut b.stack, patches, "patch_mean", &[1])?;
        b.stack.layer_norm(x, &format!("{p}pooler.layernorm"), sizes.eps)?
    } else {
        let x = b.stack.layer_norm(x, &format!("{p}layernorm"), sizes.eps)?;
        token(&mut b.stack, x, "pooled", 0)?
    };
    b.stack.dict.ignore("lm_head.", "the head of pre-training is not part of the encoder");
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}

/// Blocks whose scores are biased by relative places: each by a table of its own, all by one, or both.
fn relative_blocks(b: &mut Body, c: &Config, mut x: NodeId, sizes: &Sizes, grid: [usize; 2]) -> Result<NodeId> {
    const TABLE: &str = "relative_position_bias.relative_position_bias_table";
    let encoder = format!("{}encoder", b.prefix);
    let own = c.flag_or("use_relative_position_bias", false)?;
    let table = |s: &mut Stack, name: String| tokens::relative_with_class(s, &name, sizes.heads, grid);
    let shared = match c.flag_or("use_shared_relative_position_bias", false)? {
        true => Some(table(&mut b.stack, format!("{encoder}.{TABLE}"))?),
        false => None,
    };
    for i in 0..sizes.layers {
        let layer = format!("{encoder}.layer.{i}");
        let mut bias = match own {
            true => Some(table(&mut b.stack, format!("{layer}.attention.attention.{TABLE}"))?),
            false => None,
        };
        if let (Some(a), Some(s)) = (bias, shared) {
            bias = Some(b.stack.add(a, s, &format!("{layer}.bias"))?);
        }
        let bias = bias.or(shared);
        let block = Block { names: &BEIT, sizes, biased: [true, false, true], bias, turn: None, gated: false };
        x = block.lay(&mut b.stack, x, &layer)?;
    }
    Ok(x)
}

/// The blocks of an image or text tower.
pub(crate) fn tower(s: &mut Stack, mut x: NodeId, name: &str, sizes: &Sizes, bias: Option<NodeId>) -> Result<NodeId> {
    let block = Block { names: &CLIP, sizes, biased: [true; 3], bias, turn: None, gated: false };
    for i in 0..sizes.layers {
        x = block.lay(s, x, &format!("{name}.encoder.layers.{i}"))?;
    }
    Ok(x)
}
