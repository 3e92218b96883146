//! EfficientNet (Tan and Le 2019) and MobileNetV2 (Sandler et al. 2018) of transformers, with TensorFlow's paddings.

use crate::families::body::{Body, Family, Made};
use crate::families::resnet::transformers::squeeze_excite;
use crate::layers::stack::{Conv, Stack};
use crate::layers::tokens::{Act, mean};
use crate::settings::Config;
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op, Reduction};

pub static FAMILIES: &[Family] = &[
    Family { types: &["efficientnet"], prefixes: &["efficientnet."], build: efficientnet },
    Family { types: &["mobilenet_v2"], prefixes: &["mobilenet_v2."], build: mobilenet },
];

/// The multiple of `divisor` nearest to `value`, but not more than a tenth below it.
fn divisible(value: f64, divisor: usize, least: usize) -> usize {
    let rounded = ((value + divisor as f64 / 2.) as usize / divisor * divisor).max(least);
    if (rounded as f64) < 0.9 * value { rounded + divisor } else { rounded }
}

fn efficientnet(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let p = b.prefix.clone();
    let act = Act::of(&c, "swish")?;
    let eps = c.float_or("batch_norm_eps", 1e-3)?;
    let (width, depth) = (c.float_or("width_coefficient", 2.)?, c.float_or("depth_coefficient", 3.1)?);
    let divisor = c.size_or("depth_divisor", 8)?;
    let wide = |channels: usize| divisible(channels as f64 * width, divisor, divisor);
    let lists = ["out_channels", "strides", "kernel_sizes", "expand_ratios", "num_block_repeats"];
    let mut read = vec![];
    for key in lists {
        read.push(c.sizes(key)?);
    }
    let [outs, strides, kernels, ratios, repeats] = &read[..] else { return Err(Error::internal("five lists")) };
    let repeats: Vec<usize> = repeats.iter().map(|&n| (depth * n as f64).ceil() as usize).collect();
    if read.iter().any(|l| l.len() != outs.len()) || repeats.iter().sum::<usize>() > crate::settings::MAX_LAYERS {
        return Err(Error::load("config.json", format!("{} do not belong together", lists.join(", "))));
    }
    let plain = if c.is_empty_list("depthwise_padding") { vec![] } else { c.sizes("depthwise_padding")? };
    let s = &mut b.stack;
    // Zeros below and to the right.
    let stem = Conv { out: wide(32), kernel: 3, stride: 2, pads: [0, 0, 1, 1], groups: 1 };
    let x = s.conv_with(b.input, &format!("{p}embeddings.convolution"), stem, false)?;
    let x = s.batch_norm_with(x, &format!("{p}embeddings.batchnorm"), eps)?;
    let mut x = act.apply(s, x, "stem")?;
    let mut block = 0;
    for i in 0..outs.len() {
        for j in 0..repeats[i] {
            let conv = Mobile {
                out: wide(outs[i]),
                stride: if j == 0 { strides[i] } else { 1 },
                kernel: kernels[i],
                ratio: ratios[i],
                even: plain.contains(&block),
                residual: j > 0,
                eps,
                act,
            };
            x = conv.lay(s, x, &format!("{p}encoder.blocks.{block}"))?;
            block += 1;
        }
    }
    let x = s.conv_with(x, &format!("{p}encoder.top_conv"), Conv::same(wide(1280), 1, 1), false)?;
    let x = s.batch_norm_with(x, &format!("{p}encoder.top_bn"), eps)?;
    let x = act.apply(s, x, "top")?;
    let x = match c.text("pooling_type").unwrap_or("mean") {
        "max" => s.net.node("pooled", Op::Reduce { kind: Reduction::Max, axes: vec![2, 3], keep: false }, &[x])?,
        _ => mean(s, x, "pooled", &[2, 3])?,
    };
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}

/// An inverted residual with squeeze and excitation.
struct Mobile {
    out: usize,
    stride: usize,
    kernel: usize,
    ratio: usize,
    /// Whether zeros lie evenly around, not one fewer above and left, where the size halves.
    even: bool,
    residual: bool,
    eps: f64,
    act: Act,
}

impl Mobile {
    fn lay(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let mut y = x;
        if self.ratio != 1 {
            let wide = s.channels(x).saturating_mul(self.ratio);
            y = s.conv_with(y, &at("expansion.expand_conv"), Conv::same(wide, 1, 1), false)?;
            y = s.batch_norm_with(y, &at("expansion.expand_bn"), self.eps)?;
            y = self.act.apply(s, y, &at("expansion.act"))?;
        }
        let channels = s.channels(y);
        let after = self.kernel / 2;
        let before = if self.stride == 2 && !self.even { after.saturating_sub(1) } else { after };
        let pads = [before, before, after, after];
        let deep = Conv { out: channels, kernel: self.kernel, stride: self.stride, pads, groups: channels };
        y = s.conv_with(y, &at("depthwise_conv.depthwise_conv"), deep, false)?;
        y = s.batch_norm_with(y, &at("depthwise_conv.depthwise_norm"), self.eps)?;
        y = self.act.apply(s, y, &at("depthwise_conv.act"))?;
        y = squeeze_excite(s, y, [&at("squeeze_excite.reduce"), &at("squeeze_excite.expand")], self.act)?;
        y = s.conv_with(y, &at("projection.project_conv"), Conv::same(self.out, 1, 1), false)?;
        y = s.batch_norm_with(y, &at("projection.project_bn"), self.eps)?;
        if self.residual && self.stride == 1 { s.add(x, y, &at("add")) } else { Ok(y) }
    }
}

/// Widths and strides of MobileNetV2's blocks at full width, the stem's block first.
const WIDTHS: [usize; 17] = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];
const STRIDES: [usize; 16] = [2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];

struct Layers {
    act: Act,
    eps: f64,
    /// TensorFlow's padding, which depends on the size.
    same: bool,
}

impl Layers {
    fn lay(&self, s: &mut Stack, x: NodeId, name: &str, conv: Conv, acts: bool) -> Result<NodeId> {
        let [h, w] = [1, 2].map(|i| s.net.shape(x).row[i]);
        let around = |n: usize| {
            let rest = if n.is_multiple_of(conv.stride) { conv.stride } else { n % conv.stride };
            let all = conv.kernel.saturating_sub(rest);
            (all / 2, all - all / 2)
        };
        let pads = match self.same {
            true => [around(h).0, around(w).0, around(h).1, around(w).1],
            false => [(conv.kernel - 1) / 2; 4],
        };
        let x = s.conv_with(x, &format!("{name}.convolution"), Conv { pads, ..conv }, false)?;
        let x = s.batch_norm_with(x, &format!("{name}.normalization"), self.eps)?;
        if acts { self.act.apply(s, x, &format!("{name}.activation")) } else { Ok(x) }
    }

    fn inverted(&self, s: &mut Stack, x: NodeId, name: &str, [wide, out, stride]: [usize; 3]) -> Result<NodeId> {
        let from = s.channels(x);
        let y = self.lay(s, x, &format!("{name}.expand_1x1"), Conv::same(wide, 1, 1), true)?;
        let y = self.lay(s, y, &format!("{name}.conv_3x3"), Conv::same(wide, 3, stride).grouped(wide), true)?;
        let y = self.lay(s, y, &format!("{name}.reduce_1x1"), Conv::same(out, 1, 1), false)?;
        if stride == 1 && from == out { s.add(x, y, &format!("{name}.add")) } else { Ok(y) }
    }
}

/// The rule of widths in the settings.
fn widths(c: &Config) -> Result<(f64, impl Fn(f64) -> usize)> {
    let multiplier = c.float_or("depth_multiplier", 1.)?;
    let (divisor, least) = (c.size_or("depth_divisible_by", 8)?, c.size_or("min_depth", 8)?);
    Ok((multiplier, move |value: f64| divisible(value.round_ties_even(), divisor, least)))
}

fn mobilenet(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let p = b.prefix.clone();
    if c.size_or("output_stride", 32)? != 32 {
        return Err(Error::load("`output_stride` in config.json", "dilated networks (below 32) are not supported yet"));
    }
    let (multiplier, divisible) = widths(&c)?;
    let at_width = |channels: usize| divisible(channels as f64 * multiplier);
    let ratio = c.float_or("expand_ratio", 6.)?;
    let layers = Layers {
        act: Act::of(&c, "relu6")?,
        eps: c.float_or("layer_norm_eps", 1e-3)?,
        same: c.flag_or("tf_padding", true)?,
    };
    let s = &mut b.stack;
    let wide = at_width(32);
    let stem = format!("{p}conv_stem");
    let mut x = layers.lay(s, b.input, &format!("{stem}.first_conv"), Conv::same(wide, 3, 2), true)?;
    if !c.flag_or("first_layer_is_expansion", true)? {
        x = layers.lay(s, x, &format!("{stem}.expand_1x1"), Conv::same(wide, 1, 1), true)?;
    }
    x = layers.lay(s, x, &format!("{stem}.conv_3x3"), Conv::same(wide, 3, 1).grouped(wide), true)?;
    x = layers.lay(s, x, &format!("{stem}.reduce_1x1"), Conv::same(at_width(WIDTHS[0]), 1, 1), false)?;
    for (i, stride) in STRIDES.into_iter().enumerate() {
        let wide = divisible(s.channels(x) as f64 * ratio);
        x = layers.inverted(s, x, &format!("{p}layer.{i}"), [wide, at_width(WIDTHS[i + 1]), stride])?;
    }
    let fine = c.flag_or("finegrained_output", true)? && multiplier < 1.;
    let out = if fine { 1280 } else { at_width(1280) };
    let x = layers.lay(s, x, &format!("{p}conv_1x1"), Conv::same(out, 1, 1), true)?;
    let x = mean(s, x, "pooled", &[2, 3])?;
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}
