//! `cifar-resnet`: residual networks of basic blocks with a 3x3 stem (He et al. 2016, in the form RobustBench names
//! ResNet18). Widths, depths and strides follow from the tensors.

use super::{Architecture, Stack};
use crate::Options;
use crate::safetensors::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Binary, Builder, NodeId, Op, Reduction};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "cifar-resnet",
    doc: "3x3 stem (conv1, bn1), stages layer1, layer2, ... of basic blocks (stride 2 from layer2 on), global mean, linear",
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    [
        "conv1.weight",
        "bn1.weight",
        "layer1.0.conv1.weight",
        "layer1.0.bn1.weight",
        "layer1.0.bn2.weight",
        "linear.weight",
    ]
    .iter()
    .all(|n| dict.contains(n))
        && !dict.contains("layer1.0.conv3.weight")
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [stem, channels, kernel, _] = dict.sizes::<4>("conv1.weight")?;
    let [classes, _] = dict.sizes("linear.weight")?;
    if kernel != 3 {
        return Err(Error::load("`conv1.weight`", format!("the stem is {kernel}x{kernel}, not 3x3"))
            .hint("export the model to ONNX instead"));
    }
    let plan = plan(dict)?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32])?;
    x = stack.conv(x, "conv1", stem, 3, 1)?;
    x = stack.batch_norm(x, "bn1")?;
    x = stack.relu(x, "relu1")?;
    for (i, (width, blocks)) in plan.into_iter().enumerate() {
        for j in 0..blocks {
            let name = format!("layer{}.{j}", i + 1);
            // A stage that starts without a shortcut convolution cannot change the size.
            let halves = i > 0 && j == 0 && stack.dict.contains(&format!("{name}.shortcut.0.weight"));
            x = block(&mut stack, x, &name, width, if halves { 2 } else { 1 })?;
        }
    }
    x = stack.net.node("pool", Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[x])?;
    stack.linear(x, "linear", classes)
}

/// Width and number of blocks of each stage.
fn plan(dict: &StateDict) -> Result<Vec<(usize, usize)>> {
    let present = |prefix: &str| {
        dict.contains(&format!("{prefix}.conv1.weight")) || dict.contains(&format!("{prefix}.conv2.weight"))
    };
    let mut stages = vec![];
    while present(&format!("layer{}.0", stages.len() + 1)) {
        let stage = format!("layer{}", stages.len() + 1);
        let [width, ..] = dict.sizes::<4>(&format!("{stage}.0.conv1.weight"))?;
        let mut blocks = 1;
        while present(&format!("{stage}.{blocks}")) {
            blocks += 1;
        }
        stages.push((width, blocks));
    }
    Ok(stages)
}

fn block(stack: &mut Stack, x: NodeId, name: &str, width: usize, stride: usize) -> Result<NodeId> {
    let mut y = stack.conv(x, &format!("{name}.conv1"), width, 3, stride)?;
    y = stack.batch_norm(y, &format!("{name}.bn1"))?;
    y = stack.relu(y, &format!("{name}.relu1"))?;
    y = stack.conv(y, &format!("{name}.conv2"), width, 3, 1)?;
    y = stack.batch_norm(y, &format!("{name}.bn2"))?;
    let mut skip = x;
    if stride != 1 || stack.channels(x) != width || stack.dict.contains(&format!("{name}.shortcut.0.weight")) {
        skip = stack.conv(x, &format!("{name}.shortcut.0"), width, 1, stride)?;
        skip = stack.batch_norm(skip, &format!("{name}.shortcut.1"))?;
    }
    let sum = stack.net.node(format!("{name}.add"), Op::Binary(Binary::Add), &[y, skip])?;
    stack.relu(sum, &format!("{name}.relu2"))
}
