//! `mnist-cnn`: two 5x5 convolutions with max pools, two linear layers; widths and image size follow from the tensors.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "mnist-cnn",
    doc: "conv 5x5 (conv1), ReLU, max pool 2, conv 5x5 (conv2), ReLU, max pool 2, linear (fc1), ReLU, linear (fc2)",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"].iter().all(|n| dict.contains(n))
        && dict.dims("conv1.weight").is_some_and(|d| d.ends_with(&[5, 5]))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [first, channels, ..] = dict.sizes::<4>("conv1.weight")?;
    let [second, ..] = dict.sizes::<4>("conv2.weight")?;
    let [hidden, flat] = dict.sizes("fc1.weight")?;
    let [classes, _] = dict.sizes("fc2.weight")?;
    let side = (flat / second.max(1)).isqrt();
    if options.input.is_none() && side * side * second != flat {
        return Err(Error::load("`fc1.weight`", format!("{flat} inputs are not {second} square maps"))
            .hint("say the image size: `?input=CxHxW`"));
    }
    let mut stack = Stack { dict, net };
    // Two pools of 2 took a factor of 4 off each side.
    let mut x = stack.input(options, [channels, 4 * side, 4 * side], Usual::Raw)?;
    for (i, width) in [(1, first), (2, second)] {
        x = stack.conv(x, &format!("conv{i}"), Conv::same(width, 5, 1))?;
        x = stack.relu(x, &format!("relu{i}"))?;
        x = stack.max_pool(x, &format!("pool{i}"), 2, 2, 0)?;
    }
    x = stack.flatten(x)?;
    x = stack.linear(x, "fc1", hidden)?;
    x = stack.relu(x, "relu3")?;
    stack.linear(x, "fc2", classes)
}
