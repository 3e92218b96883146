//! `mobilenet-v2`: inverted residuals with linear bottlenecks (Sandler et al. 2018) as torchvision names them, at any
//! width. Strides are those of the paper's seven groups of blocks.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "mobilenet-v2",
    doc: "torchvision's: 3x3 stem (features.0), 17 inverted residuals (features.1 to features.17), 1x1 convolution \
          (features.18), all with batch norm and ReLU6, global mean, linear (classifier.1)",
    params: &[],
    detect,
    build,
};

const RELU6: Activation = Activation::Clip(0., 6.);
/// Blocks that halve the size.
const HALVING: [usize; 4] = [2, 4, 7, 14];
const BLOCKS: usize = 17;

fn detect(dict: &StateDict) -> bool {
    ["features.0.0.weight", "features.1.conv.0.0.weight", "features.2.conv.1.0.weight", "classifier.1.weight"]
        .iter()
        .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let found = dict.count(|i| format!("features.{i}"));
    if found != BLOCKS + 2 {
        return Err(Error::load("the weights", format!("{found} groups `features.N`, {} are expected", BLOCKS + 2))
            .hint("export the model to ONNX instead"));
    }
    let [_, channels, ..] = dict.sizes::<4>("features.0.0.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    x = layer(&mut stack, x, "features.0", 3, 2)?;
    for i in 1..=BLOCKS {
        x = block(&mut stack, x, &format!("features.{i}"), if HALVING.contains(&i) { 2 } else { 1 })?;
    }
    x = layer(&mut stack, x, &format!("features.{}", BLOCKS + 1), 1, 1)?;
    stack.pooled_head(x, "classifier.1")
}

/// Convolution (depthwise if its tensor is), batch norm, ReLU6.
fn layer(stack: &mut Stack, x: NodeId, name: &str, kernel: usize, stride: usize) -> Result<NodeId> {
    let [out, inputs, ..] = stack.dict.sizes::<4>(&format!("{name}.0.weight"))?;
    let channels = stack.channels(x);
    let groups = if inputs == 1 && out == channels { channels } else { 1 };
    let mut y = stack.conv(x, &format!("{name}.0"), Conv::same(out, kernel, stride).grouped(groups))?;
    y = stack.batch_norm(y, &format!("{name}.1"))?;
    stack.act(y, &format!("{name}.2"), RELU6)
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize) -> Result<NodeId> {
    let mut y = x;
    // The first block does not expand.
    let expands = stack.dict.any(&format!("{name}.conv.1.0."));
    if expands {
        y = layer(stack, y, &format!("{name}.conv.0"), 1, 1)?;
    }
    let at = usize::from(expands);
    y = layer(stack, y, &format!("{name}.conv.{at}"), 3, stride)?;
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv.{}.weight", at + 1))?;
    y = stack.conv(y, &format!("{name}.conv.{}", at + 1), Conv::same(out, 1, 1))?;
    y = stack.batch_norm(y, &format!("{name}.conv.{}", at + 2))?;
    match stride == 1 && stack.channels(x) == out {
        true => stack.add(x, y, &format!("{name}.add")),
        false => Ok(y),
    }
}
