//! `cifar-resnet`: residual networks with a 3x3 stem (He et al. 2016, in the form RobustBench names ResNet18, ResNet50).
//! Widths, depths and strides follow from the tensors. Bottlenecks that normalise first (He et al. 2016, "Identity mappings") are
//! those of Chen et al. 2020's adversarially pretrained networks.

use super::torchvision as resnet;
use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "cifar-resnet",
    doc: "3x3 stem (conv1, bn1), stages layer1, layer2, ... of basic or bottleneck blocks (stride 2 from layer2 on; \
          shortcut or downsample), or of bottlenecks that normalise first where the file has layer1.0.bn0, global mean, linear (linear or fc), or the mean itself where the file has neither",
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
    x = match stack.dict.contains("layer1.0.bn0.weight") {
        true => stack.stages(x, |i, j| format!("layer{}.{j}", i + 1), block)?,
        false => resnet::stages(&mut stack, x, shortcut)?,
    };
    stack.pooled_or_head(x, head)
}

/// Norm, ReLU and convolution three times; what passes by is the input itself, or a convolution of what the first ReLU gives,
/// normalised. Nothing follows the sum.
fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize) -> Result<NodeId> {
    let (mut first, mut y) = (x, x);
    for (i, (kernel, stride)) in [(1, 1), (3, stride), (1, 1)].into_iter().enumerate() {
        y = stack.batch_norm(y, &format!("{name}.bn{i}"))?;
        y = stack.relu(y, &format!("{name}.relu{i}"))?;
        if i == 0 {
            first = y;
        }
        let conv = format!("{name}.conv{}", i + 1);
        let [out, ..] = stack.dict.sizes::<4>(&format!("{conv}.weight"))?;
        y = stack.conv_with(y, &conv, Conv::same(out, kernel, stride), false)?;
    }
    let (out, shortcut) = (stack.channels(y), format!("{name}.shortcut"));
    let mut skip = x;
    if stride != 1 || stack.channels(x) != out || stack.dict.any(&format!("{shortcut}.")) {
        skip = stack.conv_with(first, &format!("{shortcut}.0"), Conv::same(out, 1, stride), false)?;
        skip = stack.batch_norm(skip, &format!("{shortcut}.1"))?;
    }
    stack.add(y, skip, &format!("{name}.add"))
}
