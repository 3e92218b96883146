//! `card-resnet`: the binary-weight networks of Diffenderfer et al. 2021 ("A Winning Hand"): pre-activation residual networks
//! whose norms have no weights of their own.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Builder, NodeId, Op};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "card-resnet",
    doc: "3x3 stem (conv1), stages layer1, ... of blocks that normalise first (bn1, conv1, bn2, conv2; shortcut.0, shortcut.1), \
          norms without weights, what passes by is the activated input, bn1, ReLU, global mean, 1x1 convolution (fc)",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["bn1.running_mean", "layer1.0.bn1.running_mean", "layer1.0.bn2.running_mean", "layer1.0.conv2.weight"]
        .iter()
        .all(|n| dict.contains(n))
        && !dict.contains("layer1.0.bn1.weight")
        && dict.dims("fc.weight").is_some_and(|d| d.len() == 4)
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    dict.ignore_ending(".scores", "they chose the weights that are left, in training");
    let [stem, channels, ..] = dict.sizes::<4>("conv1.weight")?;
    let [classes, ..] = dict.sizes::<4>("fc.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], Usual::Raw)?;
    x = stack.conv_with(x, "conv1", Conv::same(stem, 3, 1), false)?;
    x = stack.stages(x, |i, j| format!("layer{}.{j}", i + 1), block)?;
    x = norm(&mut stack, x, "bn1")?;
    x = stack.relu(x, "relu")?;
    x = stack.mean(x)?;
    // A convolution of one place.
    let width = stack.net.shape(x).len();
    let weight = stack.dict.take("fc.weight", &[classes, width, 1, 1])?.reshape((classes, width))?;
    let weight = stack.net.param("fc.weight", weight);
    stack.net.node("fc", Op::Linear { weight, bias: None }, &[x])
}

fn norm(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let c = [stack.channels(x)];
    let mean = stack.param(format!("{name}.running_mean"), &c)?;
    let var = stack.param(format!("{name}.running_var"), &c)?;
    stack.net.node(name, Op::BatchNorm { mean, var, gamma: None, beta: None, eps: 1e-5 }, &[x])
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize) -> Result<NodeId> {
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv1.weight"))?;
    let mut first = norm(stack, x, &format!("{name}.bn1"))?;
    first = stack.relu(first, &format!("{name}.relu1"))?;
    let mut y = stack.conv_with(first, &format!("{name}.conv1"), Conv::same(out, 3, stride), false)?;
    y = norm(stack, y, &format!("{name}.bn2"))?;
    y = stack.relu(y, &format!("{name}.relu2"))?;
    y = stack.conv_with(y, &format!("{name}.conv2"), Conv::same(out, 3, 1), false)?;
    let mut skip = first;
    if stride != 1 || stack.channels(x) != out || stack.dict.any(&format!("{name}.shortcut.")) {
        skip = stack.conv_with(first, &format!("{name}.shortcut.0"), Conv::same(out, 1, stride), false)?;
        skip = norm(stack, skip, &format!("{name}.shortcut.1"))?;
    }
    stack.add(y, skip, &format!("{name}.add"))
}
