//! `wide-resnet`: wide residual networks for CIFAR (Zagoruyko and Komodakis 2016) in the form of TRADES and most of
//! RobustBench. Depth and width follow from the tensors.

use super::stack::{Conv, Usual, activation};
use super::{Architecture, Stack};
use crate::Options;
use crate::safetensors::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "wide-resnet",
    doc: "3x3 stem (conv1), groups block1, block2, block3 of pre-activation blocks (layer.N: bn1, conv1, bn2, conv2, \
          convShortcut; stride 2 from block2 on), bn1, ReLU (`activation=`), global mean, linear (fc)",
    params: &["activation"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["conv1.weight", "block1.layer.0.bn1.weight", "block1.layer.0.conv1.weight", "bn1.weight", "fc.weight"]
        .iter()
        .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let act = activation(options, Activation::Relu)?;
    dict.ignore("sub_block1.", "TRADES' code declares them and never calls them");
    let [stem, channels, ..] = dict.sizes::<4>("conv1.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], Usual::Raw)?;
    x = stack.conv(x, "conv1", Conv::same(stem, 3, 1))?;
    for i in 1..=stack.dict.count(|i| format!("block{}", i + 1)) {
        for j in 0..stack.dict.count(|j| format!("block{i}.layer.{j}")) {
            let stride = if i > 1 && j == 0 { 2 } else { 1 };
            x = block(&mut stack, x, &format!("block{i}.layer.{j}"), stride, act)?;
        }
    }
    x = stack.batch_norm(x, "bn1")?;
    x = stack.act(x, "relu", act)?;
    stack.pooled_head_maybe_biased(x, "fc")
}

/// Where the width changes, the shortcut reads the activated input; elsewhere the input itself passes by.
fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, act: Activation) -> Result<NodeId> {
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv1.weight"))?;
    let mut first = stack.batch_norm(x, &format!("{name}.bn1"))?;
    first = stack.act(first, &format!("{name}.relu1"), act)?;
    let mut y = stack.conv(first, &format!("{name}.conv1"), Conv::same(out, 3, stride))?;
    y = stack.batch_norm(y, &format!("{name}.bn2"))?;
    y = stack.act(y, &format!("{name}.relu2"), act)?;
    y = stack.conv(y, &format!("{name}.conv2"), Conv::same(out, 3, 1))?;
    let skip = match stack.channels(x) == out {
        true => x,
        false => stack.conv(first, &format!("{name}.convShortcut"), Conv::same(out, 1, stride))?,
    };
    stack.add(skip, y, &format!("{name}.add"))
}
