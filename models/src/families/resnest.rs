//! `resnest`: residual networks whose 3x3 convolutions are split in parts that attend to each other (ResNeSt, Zhang et al. 2020), as
//! timm and the authors name them, and RobustBench's form for images of 32x32. Widths, depths, parts and groups follow from the tensors.

use super::architecture::Architecture;
use super::resnet::torchvision as resnet;
use crate::layers::stack::{Conv, IMAGENET, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op, Reduction, Window};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "resnest",
    doc: "timm's and the authors': stem of three 3x3 convolutions (conv1.0, conv1.3, conv1.6, bn1), stages layer1, ... of bottlenecks whose \
          conv2 is split attention (conv, bn0, fc1, bn1, fc2), 3x3 means where a stage halves the size, shortcut downsample.1 after a mean, \
          global mean, linear (fc); variant=imagenet: a stem of stride 2, 3x3 max pool, ReLU; variant=cifar: neither, SiLU",
    params: &["variant"],
    detect,
    build,
};

/// Published networks have up to four.
const MAX_PARTS: usize = 64;

fn detect(dict: &StateDict) -> bool {
    [
        "conv1.0.weight",
        "conv1.6.weight",
        "layer1.0.conv2.conv.weight",
        "layer1.0.conv2.fc1.weight",
        "layer1.0.conv2.fc2.weight",
    ]
    .iter()
    .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let small = match options.variant.as_deref() {
        Some("imagenet") => false,
        Some("cifar") => true,
        other => {
            let why = match other {
                Some(other) => format!("`{other}` is not a variant known here"),
                None => "the tensors do not tell the stem and the activation".to_string(),
            };
            return Err(Error::usage(why).hint(
                "`?variant=imagenet` halves the size in the stem, pools and has ReLU (timm's and the authors'); `?variant=cifar` keeps the \
                 size and has SiLU (RobustBench's)",
            ));
        }
    };
    let (side, usual, act) = if small { (32, Usual::Raw, Activation::Silu) } else { (224, IMAGENET, Activation::Relu) };
    let [_, channels, ..] = dict.sizes::<4>("conv1.0.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, side, side], usual)?;
    for (i, norm) in [(0, "conv1.1"), (3, "conv1.4"), (6, "bn1")] {
        let name = format!("conv1.{i}");
        let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.weight"))?;
        x = stack.conv_with(x, &name, Conv::same(out, 3, if i == 0 && !small { 2 } else { 1 }), false)?;
        x = stack.batch_norm(x, norm)?;
        x = stack.act(x, &format!("{norm}.act"), act)?;
    }
    if !small {
        x = stack.max_pool(x, "maxpool", 3, 2, 1)?;
    }
    let name = |i, j| format!("layer{}.{j}", i + 1);
    x = stack.stages(x, name, |stack, x, name, stride| block(stack, x, name, stride, act))?;
    stack.pooled_or_head(x, "fc")
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, act: Activation) -> Result<NodeId> {
    let width =
        |stack: &Stack, conv: &str| stack.dict.sizes::<4>(&format!("{name}.{conv}.weight")).map(|[out, ..]| out);
    let narrow = width(stack, "conv1")?;
    let mut y = stack.conv_with(x, &format!("{name}.conv1"), Conv::same(narrow, 1, 1), false)?;
    y = stack.batch_norm(y, &format!("{name}.bn1"))?;
    y = stack.act(y, &format!("{name}.act1"), act)?;
    y = split(stack, y, &format!("{name}.conv2"), act)?;
    if stride > 1 {
        let window = Window { kernel: [3; 2], stride: [stride; 2], pads: [1; 4], ceil: false };
        y = stack.net.node(format!("{name}.pool"), Op::AvgPool { window, count_pads: true }, &[y])?;
    }
    let wide = width(stack, "conv3")?;
    y = stack.conv_with(y, &format!("{name}.conv3"), Conv::same(wide, 1, 1), false)?;
    y = stack.batch_norm(y, &format!("{name}.bn3"))?;
    let skip = resnet::skipped(stack, x, &format!("{name}.downsample"), wide, stride)?;
    let sum = stack.add(y, skip, &format!("{name}.add"))?;
    stack.act(sum, &format!("{name}.act3"), act)
}

/// A convolution to several parts as wide as its input; their sum's mean decides how much of each goes on, by a softmax over parts.
fn split(stack: &mut Stack, x: NodeId, name: &str, act: Activation) -> Result<NodeId> {
    let channels = stack.channels(x);
    let [all, inner, ..] = stack.dict.sizes::<4>(&format!("{name}.conv.weight"))?;
    let [middle, group, ..] = stack.dict.sizes::<4>(&format!("{name}.fc1.weight"))?;
    let divides = |whole: usize, part: usize| part > 0 && whole.is_multiple_of(part);
    let parts = all / channels.max(1);
    if !divides(all, channels)
        || !divides(channels, inner)
        || !divides(channels, group)
        || !(2..=MAX_PARTS).contains(&parts)
    {
        let why = format!("{channels} channels are not split into parts and groups by {all}, {inner} and {group}");
        return Err(Error::load(format!("`{name}.conv.weight`"), why));
    }
    let groups = channels / group;
    let mut y = stack.conv_with(x, &format!("{name}.conv"), Conv::same(all, 3, 1).grouped(channels / inner), false)?;
    y = stack.batch_norm(y, &format!("{name}.bn0"))?;
    y = stack.act(y, &format!("{name}.act0"), act)?;
    let cut = |stack: &mut Stack, of: NodeId, what: &str, i: usize| {
        let op = Op::Slice { axis: 1, start: i * channels, end: (i + 1) * channels, step: 1 };
        stack.net.node(format!("{name}.{what}.{i}"), op, &[of])
    };
    let values = (0..parts).map(|i| cut(stack, y, "part", i)).collect::<Result<Vec<_>>>()?;
    let sum = total(stack, &values, &format!("{name}.sum"))?;
    let mean = Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: true };
    let mut gap = stack.net.node(format!("{name}.gap"), mean, &[sum])?;
    gap = stack.conv_with(gap, &format!("{name}.fc1"), Conv::same(middle, 1, 1).grouped(groups), true)?;
    gap = stack.batch_norm(gap, &format!("{name}.bn1"))?;
    gap = stack.act(gap, &format!("{name}.act1"), act)?;
    gap = stack.conv_with(gap, &format!("{name}.fc2"), Conv::same(all, 1, 1).grouped(groups), true)?;
    // Group by group, and in each part by part.
    let node = |stack: &mut Stack, x: NodeId, what: &str, op: Op| stack.net.node(format!("{name}.{what}"), op, &[x]);
    gap = node(stack, gap, "grouped", Op::Reshape { row: vec![groups, parts, group] })?;
    gap = node(stack, gap, "by_part", Op::Transpose { axes: vec![0, 2, 1, 3] })?;
    gap = node(stack, gap, "attention", Op::Softmax { axis: 1 })?;
    gap = node(stack, gap, "weights", Op::Reshape { row: vec![all, 1, 1] })?;
    let mut shares = vec![];
    for (i, value) in values.into_iter().enumerate() {
        let weight = cut(stack, gap, "weight", i)?;
        shares.push(stack.net.node(format!("{name}.share.{i}"), Op::Binary(Binary::Mul), &[value, weight])?);
    }
    total(stack, &shares, &format!("{name}.out"))
}

fn total(stack: &mut Stack, of: &[NodeId], name: &str) -> Result<NodeId> {
    let Some((&first, rest)) = of.split_first() else { return Err(Error::internal("nothing to add")) };
    rest.iter().enumerate().try_fold(first, |sum, (i, x)| stack.add(sum, *x, &format!("{name}.{i}")))
}
