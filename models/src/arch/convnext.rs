//! `convnext`: ConvNeXt (Liu et al. 2022) in torchvision's and timm's names. Widths and depths follow from the tensors.

use super::stack::{Conv, IMAGENET};
use super::{Architecture, Stack};
use crate::Options;
use crate::safetensors::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Binary, Builder, NodeId, Op, Reduction};

const EPS: f64 = 1e-6;

pub const ARCHITECTURE: Architecture = Architecture {
    name: "convnext",
    doc: "4x4 patches and layer norm, four stages of blocks (7x7 depthwise, layer norm, linear, GELU, linear, layer scale) with \
          2x2 reductions between them, global mean, layer norm, linear; torchvision's or timm's names",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let torchvision = ["features.0.0.weight", "features.1.0.layer_scale", "classifier.2.weight"];
    let timm = ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.norm.weight", "head.fc.weight"];
    torchvision.iter().all(|n| dict.contains(n)) || timm.iter().all(|n| dict.contains(n))
}

/// Where the two packages keep the same things.
struct Names {
    stem: [&'static str; 2],
    head: [&'static str; 2],
    down: fn(usize) -> [String; 2],
    block: fn(usize, usize) -> String,
    /// Depthwise convolution, norm, two linear layers, layer scale.
    parts: [&'static str; 5],
}

const TORCHVISION: Names = Names {
    stem: ["features.0.0", "features.0.1"],
    head: ["classifier.0", "classifier.2"],
    down: |i| [format!("features.{}.0", 2 * i), format!("features.{}.1", 2 * i)],
    block: |i, j| format!("features.{}.{j}", 2 * i + 1),
    parts: ["block.0", "block.2", "block.3", "block.5", "layer_scale"],
};

const TIMM: Names = Names {
    stem: ["stem.0", "stem.1"],
    head: ["head.norm", "head.fc"],
    down: |i| [format!("stages.{i}.downsample.0"), format!("stages.{i}.downsample.1")],
    block: |i, j| format!("stages.{i}.blocks.{j}"),
    parts: ["conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"],
};

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let names = if dict.contains("stem.0.weight") { &TIMM } else { &TORCHVISION };
    let [stem, channels, patch, _] = dict.sizes(&format!("{}.weight", names.stem[0]))?;
    let [classes, _] = dict.sizes(&format!("{}.weight", names.head[1]))?;
    let mut stack = Stack { dict, net };
    let x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    let pieces = |out: usize, size: usize| Conv { out, kernel: size, stride: size, pads: [0; 4], groups: 1 };
    let x = stack.conv(x, names.stem[0], pieces(stem, patch))?;
    let mut x = image_norm(&mut stack, x, names.stem[1])?;
    for i in 0..4 {
        if i > 0 {
            let [norm, conv] = (names.down)(i);
            let [out, _, size, _] = stack.dict.sizes(&format!("{conv}.weight"))?;
            x = image_norm(&mut stack, x, &norm)?;
            x = stack.conv(x, &conv, pieces(out, size))?;
        }
        for j in 0..stack.dict.count(|j| (names.block)(i, j)) {
            x = block(&mut stack, x, &(names.block)(i, j), names)?;
        }
    }
    let x = stack.net.node("pool", Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[x])?;
    let x = stack.layer_norm(x, names.head[0], EPS)?;
    stack.linear(x, names.head[1], classes)
}

fn last(stack: &mut Stack, x: NodeId, name: &str, axes: [usize; 4]) -> Result<NodeId> {
    stack.net.node(name, Op::Transpose { axes: axes.to_vec() }, &[x])
}

/// A norm over the channels of each pixel.
fn image_norm(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let x = last(stack, x, &format!("{name}.in"), [0, 2, 3, 1])?;
    let x = stack.layer_norm(x, name, EPS)?;
    last(stack, x, &format!("{name}.out"), [0, 3, 1, 2])
}

fn block(stack: &mut Stack, x: NodeId, name: &str, names: &Names) -> Result<NodeId> {
    let [conv, norm, wide, narrow, scale] = names.parts.map(|p| format!("{name}.{p}"));
    let c = stack.channels(x);
    let y = stack.conv(x, &conv, Conv::same(c, 7, 1).grouped(c))?;
    let y = last(stack, y, &format!("{name}.in"), [0, 2, 3, 1])?;
    let y = stack.layer_norm(y, &norm, EPS)?;
    let y = stack.pointwise(y, &wide)?;
    let y = stack.act(y, &format!("{name}.act"), Activation::Gelu)?;
    let mut y = stack.pointwise(y, &narrow)?;
    if stack.dict.contains(&scale) {
        let shape = stack.dict.dims(&scale).map_or(vec![c], <[usize]>::to_vec);
        let gamma = stack.constant(&scale, &shape)?;
        // `[c, 1, 1]` and `[c]` are the same values.
        let gamma = stack.net.node(format!("{scale}.row"), Op::Reshape { row: vec![c] }, &[gamma])?;
        y = stack.net.node(format!("{scale}.scaled"), Op::Binary(Binary::Mul), &[y, gamma])?;
    }
    let y = last(stack, y, &format!("{name}.out"), [0, 3, 1, 2])?;
    stack.add(x, y, &format!("{name}.add"))
}
