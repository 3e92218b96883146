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

/// Where a package keeps the parts, after a prefix of its own.
pub(crate) struct Names {
    pub prefix: &'static str,
    pub stem: [&'static str; 2],
    pub down: fn(usize) -> [String; 2],
    pub block: fn(usize, usize) -> String,
    /// Depthwise convolution, norm, two linear layers.
    pub parts: [&'static str; 4],
    pub scale: Scale,
}

/// What a block does beyond its layers.
#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// Layer scale, where the file has it.
    Maybe(&'static str),
    /// Layer scale.
    Always(&'static str),
    /// Global response normalisation between the linear layers (Woo et al. 2023).
    Response(&'static str),
    None,
}

impl Names {
    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

const TORCHVISION: Names = Names {
    prefix: "",
    stem: ["features.0.0", "features.0.1"],
    down: |i| [format!("features.{}.0", 2 * i), format!("features.{}.1", 2 * i)],
    block: |i, j| format!("features.{}.{j}", 2 * i + 1),
    parts: ["block.0", "block.2", "block.3", "block.5"],
    scale: Scale::Maybe("layer_scale"),
};

const TIMM: Names = Names {
    prefix: "",
    stem: ["stem.0", "stem.1"],
    down: |i| [format!("stages.{i}.downsample.0"), format!("stages.{i}.downsample.1")],
    block: |i, j| format!("stages.{i}.blocks.{j}"),
    parts: ["conv_dw", "norm", "mlp.fc1", "mlp.fc2"],
    scale: Scale::Maybe("gamma"),
};

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let (names, head) = match dict.contains("stem.0.weight") {
        true => (&TIMM, ["head.norm", "head.fc"]),
        false => (&TORCHVISION, ["classifier.0", "classifier.2"]),
    };
    let [_, channels, ..] = dict.sizes::<4>(&format!("{}.weight", names.stem[0]))?;
    let [classes, _] = dict.sizes(&format!("{}.weight", head[1]))?;
    let mut stack = Stack { dict, net };
    let x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    let x = features(&mut stack, x, names, 4)?;
    let x = stack.layer_norm(x, head[0], EPS)?;
    stack.linear(x, head[1], classes)
}

/// Patches and stages, up to the mean over all positions.
pub(crate) fn features(stack: &mut Stack, x: NodeId, names: &Names, stages: usize) -> Result<NodeId> {
    let [stem, _, patch, _] = stack.dict.sizes(&format!("{}.weight", names.at(names.stem[0])))?;
    let pieces = |out: usize, size: usize| Conv { out, kernel: size, stride: size, pads: [0; 4], groups: 1 };
    let x = stack.conv_with(x, &names.at(names.stem[0]), pieces(stem, patch), true)?;
    let mut x = image_norm(stack, x, &names.at(names.stem[1]))?;
    for i in 0..stages {
        if i > 0 {
            let [norm, conv] = (names.down)(i).map(|n| names.at(&n));
            let [out, _, size, _] = stack.dict.sizes(&format!("{conv}.weight"))?;
            x = image_norm(stack, x, &norm)?;
            x = stack.conv_with(x, &conv, pieces(out, size), true)?;
        }
        for j in 0..stack.dict.count(|j| names.at(&(names.block)(i, j))) {
            x = block(stack, x, &names.at(&(names.block)(i, j)), names)?;
        }
    }
    stack.net.node("pool", Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[x])
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
    let [conv, norm, wide, narrow] = names.parts.map(|p| format!("{name}.{p}"));
    let c = stack.channels(x);
    let y = stack.conv_with(x, &conv, Conv::same(c, 7, 1).grouped(c), true)?;
    let y = last(stack, y, &format!("{name}.in"), [0, 2, 3, 1])?;
    let y = stack.layer_norm(y, &norm, EPS)?;
    let y = stack.pointwise(y, &wide)?;
    let mut y = stack.act(y, &format!("{name}.act"), Activation::Gelu)?;
    if let Scale::Response(part) = names.scale {
        y = response(stack, y, &format!("{name}.{part}"))?;
    }
    let mut y = stack.pointwise(y, &narrow)?;
    let scale = match names.scale {
        Scale::Maybe(part) => Some(format!("{name}.{part}")).filter(|n| stack.dict.contains(n)),
        Scale::Always(part) => Some(format!("{name}.{part}")),
        Scale::Response(_) | Scale::None => None,
    };
    if let Some(scale) = scale {
        // `[c, 1, 1]` and `[c]` are the same values.
        let shape = stack.dict.dims(&scale).filter(|d| *d == [c, 1, 1]).map_or(vec![c], <[usize]>::to_vec);
        let gamma = stack.constant(&scale, &shape)?;
        let gamma = stack.net.node(format!("{scale}.row"), Op::Reshape { row: vec![c] }, &[gamma])?;
        y = stack.net.node(format!("{scale}.scaled"), Op::Binary(Binary::Mul), &[y, gamma])?;
    }
    let y = last(stack, y, &format!("{name}.out"), [0, 3, 1, 2])?;
    stack.add(x, y, &format!("{name}.add"))
}

/// `weight (x n) + bias + x` of `[n, h, w, c]`, where `n` is each channel's norm over all positions by the channels' mean.
fn response(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let c = stack.net.shape(x).row.last().copied().unwrap_or(0);
    let binary = |stack: &mut Stack, part: &str, op: Binary, a: NodeId, b: NodeId| {
        stack.net.node(format!("{name}.{part}"), Op::Binary(op), &[a, b])
    };
    let squares = binary(stack, "squares", Binary::Mul, x, x)?;
    let sum = Op::Reduce { kind: Reduction::Sum, axes: vec![1, 2], keep: true };
    let sum = stack.net.node(at("sum"), sum, &[squares])?;
    // The slope of a root at 0 is infinite; a channel of zeros has none here, as in PyTorch.
    let sum = stack.act(sum, &at("floor"), Activation::Clip(1e-30, f64::INFINITY))?;
    let norms = stack.act(sum, &at("norms"), Activation::Sqrt)?;
    let mean = Op::Reduce { kind: Reduction::Mean, axes: vec![3], keep: true };
    let mean = stack.net.node(at("mean"), mean, &[norms])?;
    let eps = stack.net.param(at("eps"), candle_core::Tensor::new(EPS, &candle_core::Device::Cpu)?);
    let eps = stack.net.node(at("eps"), Op::Param(eps), &[])?;
    let mean = binary(stack, "mean_eps", Binary::Add, mean, eps)?;
    let share = binary(stack, "share", Binary::Div, norms, mean)?;
    let scaled = binary(stack, "scaled", Binary::Mul, x, share)?;
    let weight = stack.constant(&at("weight"), &[1, 1, 1, c])?;
    let bias = stack.constant(&at("bias"), &[1, 1, 1, c])?;
    let scaled = binary(stack, "weighted", Binary::Mul, scaled, weight)?;
    let scaled = binary(stack, "shifted", Binary::Add, scaled, bias)?;
    binary(stack, "out", Binary::Add, scaled, x)
}
