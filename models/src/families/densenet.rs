//! `densenet`: densely connected networks (Huang et al. 2017) as torchvision and timm name them. Growth, depths and widths
//! follow from the tensors.

use super::architecture::Architecture;
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Builder, NodeId, Op, Window};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "densenet",
    doc: "torchvision's and timm's: 7x7 stem (features.conv0, norm0), 3x3 max pool, blocks features.denseblock1, ... whose \
          layers (batch norm, ReLU, 1x1, batch norm, ReLU, 3x3) each add channels to all before them, transitions of half the \
          size between, batch norm (features.norm5), ReLU, global mean, linear (classifier); also with the names of older \
          files (norm.1, conv.1)",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let first = "features.denseblock1.denselayer1";
    dict.dims("features.conv0.weight").is_some_and(|d| d.ends_with(&[7, 7]))
        && ["norm1", "norm.1"].iter().any(|n| dict.contains(&format!("{first}.{n}.weight")))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [stem, channels, ..] = dict.sizes::<4>("features.conv0.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    x = stack.conv_with(x, "features.conv0", Conv::same(stem, 7, 2), false)?;
    x = activated(&mut stack, x, "features.norm0")?;
    x = stack.max_pool(x, "features.pool0", 3, 2, 1)?;
    for i in 1..=stack.dict.count(|i| format!("features.denseblock{}", i + 1)) {
        let block = format!("features.denseblock{i}");
        for j in 1..=stack.dict.count(|j| format!("{block}.denselayer{}", j + 1)) {
            let name = format!("{block}.denselayer{j}");
            let more = layer(&mut stack, x, &name)?;
            x = stack.net.node(format!("{name}.all"), Op::Concat { axis: 1 }, &[x, more])?;
        }
        let name = format!("features.transition{i}");
        if stack.dict.any(&format!("{name}.")) {
            x = transition(&mut stack, x, &name)?;
        }
    }
    x = activated(&mut stack, x, "features.norm5")?;
    stack.pooled_or_head(x, "classifier")
}

fn activated(stack: &mut Stack, x: NodeId, norm: &str) -> Result<NodeId> {
    let x = stack.batch_norm(x, norm)?;
    stack.relu(x, &format!("{norm}.relu"))
}

/// The channels that one layer adds.
fn layer(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    // Files of torchvision before 0.3 have a dot there.
    let dot = if stack.dict.any(&format!("{name}.norm.")) { "." } else { "" };
    let mut y = x;
    for (i, kernel) in [(1, 1), (2, 3)] {
        y = activated(stack, y, &format!("{name}.norm{dot}{i}"))?;
        let conv = format!("{name}.conv{dot}{i}");
        let [out, ..] = stack.dict.sizes::<4>(&format!("{conv}.weight"))?;
        y = stack.conv_with(y, &conv, Conv::same(out, kernel, 1), false)?;
    }
    Ok(y)
}

/// Fewer channels, half the size.
fn transition(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let x = activated(stack, x, &format!("{name}.norm"))?;
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv.weight"))?;
    let x = stack.conv_with(x, &format!("{name}.conv"), Conv::same(out, 1, 1), false)?;
    let window = Window { kernel: [2; 2], stride: [2; 2], pads: [0; 4], ceil: false };
    stack.net.node(format!("{name}.pool"), Op::AvgPool { window, count_pads: true }, &[x])
}
