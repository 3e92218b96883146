//! `resnet`: residual networks for ImageNet as torchvision and timm name them (ResNet, WideResNet, ResNeXt; He et al. 2016,
//! bottlenecks with the stride in the 3x3 convolution), with the changes that timm's names tell: a stem of three
//! convolutions, shortcuts that pool before they convolve (ResNet-D, He et al. 2019), squeeze and excitation (Hu et al.
//! 2018). Widths, depths and groups follow from the tensors.

use crate::families::architecture::Architecture;
use crate::layers::mbconv::excited;
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId, Op, Window};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "resnet",
    doc: "torchvision's and timm's: stem of one 7x7 (conv1, bn1) or three 3x3 convolutions (conv1.0, conv1.3, conv1.6), 3x3 max \
          pool, stages layer1, layer2, ... of basic or bottleneck blocks (groups as the tensors have them, shortcut downsample, \
          with a mean before it where its tensors are at .1 and .2, squeeze and excitation where they are at se.fc1), global \
          mean, linear (fc), or the mean itself where the file has no fc",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let names = ["bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn2.weight"];
    // CIFAR's have another name for the last layer.
    names.iter().all(|n| dict.contains(n))
        && !dict.contains("linear.weight")
        && (dict.dims("conv1.weight").is_some_and(|d| d.ends_with(&[7, 7])) || deep(dict))
}

/// Whether the stem has three convolutions of 3x3.
fn deep(dict: &StateDict) -> bool {
    let small = |name: &str| dict.dims(name).is_some_and(|d| d.ends_with(&[3, 3]));
    ["conv1.0.weight", "conv1.3.weight", "conv1.6.weight"].into_iter().all(small)
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    if deep(dict) || dict.names().any(|n| n.contains(".se.") || n.ends_with(".downsample.2.weight")) {
        dict.note(
            "timm's networks with anti-aliasing (resnetaa*, resnetblur*) have the same tensors but compute something else: if it is \
             one of those, export it to ONNX instead",
        );
    }
    let first = if deep(dict) { "conv1.0" } else { "conv1" };
    let [_, channels, ..] = dict.sizes::<4>(&format!("{first}.weight"))?;
    let mut stack = Stack { dict, net };
    let x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    let mut x = stem(&mut stack, x, first)?;
    x = stack.batch_norm(x, "bn1")?;
    x = stack.relu(x, "relu1")?;
    x = stack.max_pool(x, "maxpool", 3, 2, 1)?;
    x = stages(&mut stack, x, "downsample")?;
    stack.pooled_or_head(x, "fc")
}

/// One convolution of 7x7, or three of 3x3 with batch norm and ReLU between them.
fn stem(stack: &mut Stack, mut x: NodeId, first: &str) -> Result<NodeId> {
    let [out, ..] = stack.dict.sizes::<4>(&format!("{first}.weight"))?;
    if first == "conv1" {
        return stack.conv(x, "conv1", Conv::same(out, 7, 2));
    }
    for (i, stride) in [(0, 2), (3, 1)] {
        let [out, ..] = stack.dict.sizes::<4>(&format!("conv1.{i}.weight"))?;
        x = stack.conv(x, &format!("conv1.{i}"), Conv::same(out, 3, stride))?;
        x = stack.batch_norm(x, &format!("conv1.{}", i + 1))?;
        x = stack.relu(x, &format!("conv1.{}", i + 2))?;
    }
    let [out, ..] = stack.dict.sizes::<4>("conv1.6.weight")?;
    stack.conv(x, "conv1.6", Conv::same(out, 3, 1))
}

/// `layer1`, `layer2`, ...: each stage after the first halves the size where its first block has a shortcut of its own.
pub(crate) fn stages(stack: &mut Stack, mut x: NodeId, shortcut: &str) -> Result<NodeId> {
    for i in 0..stack.dict.count(|i| format!("layer{}", i + 1)) {
        let stage = format!("layer{}", i + 1);
        for j in 0..stack.dict.count(|j| format!("{stage}.{j}")) {
            let name = format!("{stage}.{j}");
            // A stage that starts without a shortcut convolution cannot change the size.
            let halves = i > 0 && j == 0 && stack.dict.any(&format!("{name}.{shortcut}."));
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
    let [narrow, wide] = ["se.fc1", "se.fc2"].map(|part| format!("{name}.{part}"));
    y = excited(stack, y, [&narrow, &wide])?;
    let skip = skipped(stack, x, &format!("{name}.{shortcut}"), stack.channels(y), stride)?;
    let sum = stack.add(y, skip, &format!("{name}.add"))?;
    stack.relu(sum, &format!("{name}.relu{}", convs.len()))
}

/// The input, convolved and normalised where size or width change or the file says so. With its convolution at `.1`, means
/// over 2x2 halve the size first.
pub(crate) fn skipped(stack: &mut Stack, x: NodeId, name: &str, out: usize, stride: usize) -> Result<NodeId> {
    if stride == 1 && stack.channels(x) == out && !stack.dict.any(&format!("{name}.")) {
        return Ok(x);
    }
    let pools = stack.dict.dims(&format!("{name}.1.weight")).is_some_and(|d| d.len() == 4);
    let (at, mut x, mut left) = (usize::from(pools), x, stride);
    if pools && stride > 1 {
        let window = Window { kernel: [stride; 2], stride: [stride; 2], pads: [0; 4], ceil: true };
        x = stack.net.node(format!("{name}.0"), Op::AvgPool { window, count_pads: false }, &[x])?;
        left = 1;
    }
    let x = stack.conv(x, &format!("{name}.{at}"), Conv::same(out, 1, left))?;
    stack.batch_norm(x, &format!("{name}.{}", at + 1))
}
