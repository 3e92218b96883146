//! `cifar-resnet`: residual networks with a 3x3 stem (He et al. 2016, in the form RobustBench names ResNet18, ResNet50).
//! Widths, depths and strides follow from the tensors.

use super::stack::{Conv, Usual};
use super::{Architecture, Stack, resnet};
use crate::Options;
use crate::safetensors::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "cifar-resnet",
    doc: "3x3 stem (conv1, bn1), stages layer1, layer2, ... of basic or bottleneck blocks (stride 2 from layer2 on; \
          shortcut or downsample), global mean, linear (linear or fc), or the mean itself where the file has neither",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let names = ["bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn2.weight"];
    names.iter().all(|n| dict.contains(n)) && dict.dims("conv1.weight").is_some_and(|d| d.ends_with(&[3, 3]))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [stem, channels, kernel, _] = dict.sizes::<4>("conv1.weight")?;
    if kernel != 3 {
        return Err(Error::load("`conv1.weight`", format!("the stem is {kernel}x{kernel}, not 3x3"))
            .hint("leave `arch` out, or export the model to ONNX instead"));
    }
    let shortcut = if dict.names().any(|n| n.contains(".downsample.")) { "downsample" } else { "shortcut" };
    let head = if dict.contains("fc.weight") { "fc" } else { "linear" };
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], Usual::Raw)?;
    x = stack.conv(x, "conv1", Conv::same(stem, 3, 1))?;
    x = stack.batch_norm(x, "bn1")?;
    x = stack.relu(x, "relu1")?;
    x = resnet::stages(&mut stack, x, shortcut)?;
    stack.pooled_or_head(x, head)
}
