//! `cifar-resnext`: ResNeXt for CIFAR (Xie et al. 2017) in the form AugMix and RobustBench use. Depth, width and
//! cardinality follow from the tensors.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "cifar-resnext",
    doc: "3x3 stem (conv_1_3x3, bn_1), stages stage_1, stage_2, stage_3 of grouped bottlenecks (conv_reduce, conv_conv, \
          conv_expand; stride 2 from stage_2 on; downsample), global mean, linear (classifier)",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["conv_1_3x3.weight", "bn_1.weight", "stage_1.0.conv_reduce.weight", "classifier.weight"]
        .iter()
        .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [stem, channels, ..] = dict.sizes::<4>("conv_1_3x3.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], Usual::Raw)?;
    x = stack.conv(x, "conv_1_3x3", Conv::same(stem, 3, 1))?;
    x = stack.batch_norm(x, "bn_1")?;
    x = stack.relu(x, "relu_1")?;
    x = stack.stages(x, |i, j| format!("stage_{}.{j}", i + 1), block)?;
    stack.pooled_head(x, "classifier")
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize) -> Result<NodeId> {
    let sizes = |conv: &str| stack.dict.sizes::<4>(&format!("{name}.{conv}.weight"));
    let ([width, ..], [out, ..]) = (sizes("conv_reduce")?, sizes("conv_expand")?);
    let [_, group, ..] = sizes("conv_conv")?;
    if group == 0 || width % group != 0 {
        let why = format!("{width} channels are not groups of {group}");
        return Err(Error::load(format!("`{name}.conv_conv.weight`"), why));
    }
    let mut y = stack.conv(x, &format!("{name}.conv_reduce"), Conv::same(width, 1, 1))?;
    y = stack.batch_norm(y, &format!("{name}.bn_reduce"))?;
    y = stack.relu(y, &format!("{name}.relu_reduce"))?;
    y = stack.conv(y, &format!("{name}.conv_conv"), Conv::same(width, 3, stride).grouped(width / group))?;
    y = stack.batch_norm(y, &format!("{name}.bn"))?;
    y = stack.relu(y, &format!("{name}.relu"))?;
    y = stack.conv(y, &format!("{name}.conv_expand"), Conv::same(out, 1, 1))?;
    y = stack.batch_norm(y, &format!("{name}.bn_expand"))?;
    let mut skip = x;
    if stride != 1 || stack.channels(x) != out || stack.dict.any(&format!("{name}.downsample.")) {
        skip = stack.conv(x, &format!("{name}.downsample.0"), Conv::same(out, 1, stride))?;
        skip = stack.batch_norm(skip, &format!("{name}.downsample.1"))?;
    }
    let sum = stack.add(skip, y, &format!("{name}.add"))?;
    stack.relu(sum, &format!("{name}.relu_out"))
}
