//! `resnet`: residual networks for ImageNet as torchvision names them (ResNet, WideResNet, ResNeXt; He et al. 2016,
//! bottlenecks with the stride in the 3x3 convolution). Widths, depths and groups follow from the tensors.

use super::stack::{Conv, IMAGENET};
use super::{Architecture, Stack};
use crate::Options;
use crate::safetensors::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "resnet",
    doc: "torchvision's: 7x7 stem (conv1, bn1), 3x3 max pool, stages layer1, layer2, ... of basic or bottleneck blocks \
          (groups as the tensors have them, shortcut downsample), global mean, linear (fc), or the mean itself where the file has no fc",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let names = ["bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn2.weight"];
    // CIFAR's have another name for the last layer.
    names.iter().all(|n| dict.contains(n))
        && !dict.contains("linear.weight")
        && dict.dims("conv1.weight").is_some_and(|d| d.ends_with(&[7, 7]))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [stem, channels, ..] = dict.sizes::<4>("conv1.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    x = stack.conv(x, "conv1", Conv::same(stem, 7, 2))?;
    x = stack.batch_norm(x, "bn1")?;
    x = stack.relu(x, "relu1")?;
    x = stack.max_pool(x, "maxpool", 3, 2, 1)?;
    x = stages(&mut stack, x, "downsample")?;
    stack.pooled_or_head(x, "fc")
}

/// `layer1`, `layer2`, ...: each stage after the first halves the size where its first block has a shortcut of its own.
pub(super) fn stages(stack: &mut Stack, mut x: NodeId, shortcut: &str) -> Result<NodeId> {
    for i in 0..stack.dict.count(|i| format!("layer{}", i + 1)) {
        let stage = format!("layer{}", i + 1);
        for j in 0..stack.dict.count(|j| format!("{stage}.{j}")) {
            let name = format!("{stage}.{j}");
            // A stage that starts without a shortcut convolution cannot change the size.
            let halves = i > 0 && j == 0 && stack.dict.contains(&format!("{name}.{shortcut}.0.weight"));
            x = block(stack, x, &name, shortcut, if halves { 2 } else { 1 })?;
        }
    }
    Ok(x)
}

/// Convolutions with batch norms, ReLU between them; the sum with the shortcut; ReLU.
fn block(stack: &mut Stack, x: NodeId, name: &str, shortcut: &str, stride: usize) -> Result<NodeId> {
    let bottleneck = stack.dict.contains(&format!("{name}.conv3.weight"));
    let sizes = |i: usize| stack.dict.sizes::<4>(&format!("{name}.conv{i}.weight"));
    let [width, ..] = sizes(1)?;
    let [middle, group, ..] = sizes(2)?;
    if group == 0 || width % group != 0 {
        return Err(Error::load(
            format!("`{name}.conv2.weight`"),
            format!("{width} channels are not groups of {group}"),
        ));
    }
    let convs = if bottleneck {
        let [out, ..] = sizes(3)?;
        let grouped = Conv::same(middle, 3, stride).grouped(width / group);
        vec![Conv::same(width, 1, 1), grouped, Conv::same(out, 1, 1)]
    } else {
        vec![Conv::same(width, 3, stride), Conv::same(middle, 3, 1).grouped(width / group)]
    };
    let mut y = x;
    for (i, conv) in convs.iter().enumerate() {
        if i > 0 {
            y = stack.relu(y, &format!("{name}.relu{i}"))?;
        }
        y = stack.conv(y, &format!("{name}.conv{}", i + 1), *conv)?;
        y = stack.batch_norm(y, &format!("{name}.bn{}", i + 1))?;
    }
    let (mut skip, out) = (x, stack.channels(y));
    if stride != 1 || stack.channels(x) != out || stack.dict.contains(&format!("{name}.{shortcut}.0.weight")) {
        skip = stack.conv(x, &format!("{name}.{shortcut}.0"), Conv::same(out, 1, stride))?;
        skip = stack.batch_norm(skip, &format!("{name}.{shortcut}.1"))?;
    }
    let sum = stack.add(y, skip, &format!("{name}.add"))?;
    stack.relu(sum, &format!("{name}.relu{}", convs.len()))
}
