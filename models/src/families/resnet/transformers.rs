//! ResNet (He et al. 2016) and RegNet X and Y (Radosavovic et al. 2020) of transformers.

use crate::families::body::{Body, Family, Made};
use crate::layers::stack::{Conv, Stack};
use crate::layers::tokens::{Act, mean};
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, NodeId, Op, Reduction};

pub static FAMILIES: &[Family] = &[
    Family { types: &["resnet"], prefixes: &["resnet."], build: resnet },
    Family { types: &["regnet"], prefixes: &["regnet."], build: regnet },
];

/// Convolution and batch norm, then perhaps an activation.
fn layer(s: &mut Stack, x: NodeId, name: &str, conv: Conv, act: Option<Act>) -> Result<NodeId> {
    let x = s.conv_with(x, &format!("{name}.convolution"), conv, false)?;
    let x = s.batch_norm(x, &format!("{name}.normalization"))?;
    act.map_or(Ok(x), |a| a.apply(s, x, &format!("{name}.activation")))
}

/// The sum with the shortcut, which is a convolution where size or width change.
fn joined(s: &mut Stack, x: NodeId, y: NodeId, name: &str, stride: usize, act: Act) -> Result<NodeId> {
    let (from, to) = (s.channels(x), s.channels(y));
    let skip = match from != to || stride != 1 {
        true => layer(s, x, &format!("{name}.shortcut"), Conv::same(to, 1, stride), None)?,
        false => x,
    };
    let sum = s.add(y, skip, &format!("{name}.add"))?;
    act.apply(s, sum, &format!("{name}.activation"))
}

/// Channels scaled by what two 1x1 convolutions make of their means.
pub(crate) fn squeeze_excite(s: &mut Stack, x: NodeId, [narrow, wide]: [&str; 2], act: Act) -> Result<NodeId> {
    let channels = s.channels(x);
    let [reduced, ..] = s.dict.sizes::<4>(&format!("{narrow}.weight"))?;
    let y = s.net.node(
        format!("{narrow}.mean"),
        Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: true },
        &[x],
    )?;
    let y = s.conv_with(y, narrow, Conv::same(reduced, 1, 1), true)?;
    let y = act.apply(s, y, &format!("{narrow}.act"))?;
    let y = s.conv_with(y, wide, Conv::same(channels, 1, 1), true)?;
    let y = s.act(y, &format!("{wide}.gate"), Activation::Sigmoid)?;
    s.net.node(format!("{wide}.scaled"), Op::Binary(Binary::Mul), &[x, y])
}

/// What a stage's blocks need.
struct Stage {
    out: usize,
    stride: usize,
}

/// Stages with their blocks; `lay` builds one.
fn stages(
    b: &mut Body,
    mut x: NodeId,
    first_halves: bool,
    lay: impl Fn(&mut Stack, NodeId, &str, Stage) -> Result<NodeId>,
) -> Result<Made> {
    let (widths, depths) = (b.config.sizes("hidden_sizes")?, b.config.sizes("depths")?);
    if widths.len() != depths.len() || depths.iter().any(|&d| d > crate::settings::MAX_LAYERS) {
        return Err(Error::load(
            "config.json",
            format!("hidden_sizes {widths:?} and depths {depths:?} do not belong together"),
        ));
    }
    for (i, (&out, &depth)) in widths.iter().zip(&depths).enumerate() {
        for j in 0..depth {
            let stride = if j == 0 && (i > 0 || first_halves) { 2 } else { 1 };
            let name = format!("{}encoder.stages.{i}.layers.{j}", b.prefix);
            x = lay(&mut b.stack, x, &name, Stage { out, stride })?;
        }
    }
    let x = mean(&mut b.stack, x, "pooled", &[2, 3])?;
    if b.classifies { b.classifier(x, "classifier.1") } else { Ok(Made::Embedding(x)) }
}

fn resnet(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let act = Act::of(&c, "relu")?;
    let stem = Conv::same(c.size("embedding_size")?, 7, 2);
    let x = layer(&mut b.stack, b.input, &format!("{}embedder.embedder", b.prefix), stem, Some(act))?;
    let x = b.stack.max_pool(x, "pooler", 3, 2, 1)?;
    let early = c.flag_or("downsample_in_bottleneck", false)?;
    let bottleneck = match c.text("layer_type").unwrap_or("bottleneck") {
        "bottleneck" => true,
        "basic" => false,
        other => {
            return Err(Error::load(
                "`layer_type` in config.json",
                format!("`{other}` is neither bottleneck nor basic"),
            ));
        }
    };
    let halves = c.flag_or("downsample_in_first_stage", false)?;
    stages(b, x, halves, move |s, x, name, Stage { out, stride }| {
        let convs = if bottleneck {
            let (first, second) = if early { (stride, 1) } else { (1, stride) };
            vec![Conv::same(out / 4, 1, first), Conv::same(out / 4, 3, second), Conv::same(out, 1, 1)]
        } else {
            vec![Conv::same(out, 3, stride), Conv::same(out, 3, 1)]
        };
        let mut y = x;
        for (i, conv) in convs.iter().enumerate() {
            y = layer(s, y, &format!("{name}.layer.{i}"), *conv, (i + 1 < convs.len()).then_some(act))?;
        }
        joined(s, x, y, name, stride, act)
    })
}

fn regnet(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let act = Act::of(&c, "relu")?;
    let stem = Conv::same(c.size("embedding_size")?, 3, 2);
    let x = layer(&mut b.stack, b.input, &format!("{}embedder.embedder", b.prefix), stem, Some(act))?;
    let group = c.size("groups_width")?;
    let excites = match c.text("layer_type").unwrap_or("y") {
        "x" => false,
        "y" => true,
        other => return Err(Error::load("`layer_type` in config.json", format!("`{other}` is neither x nor y"))),
    };
    let halves = c.flag_or("downsample_in_first_stage", true)?;
    stages(b, x, halves, move |s, x, name, Stage { out, stride }| {
        let at = |i: usize| format!("{name}.layer.{i}");
        let y = layer(s, x, &at(0), Conv::same(out, 1, 1), Some(act))?;
        let conv = Conv::same(out, 3, stride).grouped((out / group).max(1));
        let mut y = layer(s, y, &at(1), conv, Some(act))?;
        let mut last = 2;
        if excites {
            let relu = Act::Plain(Activation::Relu);
            y = squeeze_excite(s, y, [&format!("{}.attention.0", at(2)), &format!("{}.attention.2", at(2))], relu)?;
            last = 3;
        }
        let y = layer(s, y, &at(last), Conv::same(out, 1, 1), None)?;
        joined(s, x, y, name, stride, act)
    })
}
