//! `convnext`: ConvNeXt (Liu et al. 2022) in the names of torchvision, timm and its authors, ConvNeXt V2 (Woo et al. 2023) in the
//! latter two, and timm's networks with the convolutional stem of Singh et al. 2023. Widths and depths follow from the tensors.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, IMAGENET, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Binary, Builder, NodeId, Op, Reduction};

pub(crate) const EPS: f64 = 1e-6;

pub const ARCHITECTURE: Architecture = Architecture {
    name: "convnext",
    doc: "4x4 patches and layer norm, or a stem of 3x3 convolutions with layer norm and GELU (stem.stem), then four stages of \
          blocks (7x7 depthwise, layer norm, linear, GELU, linear, layer scale; V2: response normalisation mlp.grn before the \
          second; MeanSparse layers mlp.act.0 and drop_path.1 where the file has them) with 2x2 reductions between them, global mean, layer norm, linear; names of torchvision (features), timm (stem, \
          stages, head) or the authors (downsample_layers, stages, norm)",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let torchvision = ["features.0.0.weight", "features.1.0.layer_scale", "classifier.2.weight"];
    let timm = ["stages.0.blocks.0.conv_dw.weight", "stages.0.blocks.0.mlp.fc1.weight", "head.norm.weight"];
    let stems = [TIMM.stem[0], CONV_STEM].map(|n| format!("{n}.weight"));
    let authors = ["downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "norm.weight"];
    torchvision.iter().all(|n| dict.contains(n))
        || authors.iter().all(|n| dict.contains(n))
        || timm.iter().all(|n| dict.contains(n)) && stems.iter().any(|n| dict.contains(n))
}

/// The first convolution of Singh et al.'s stem.
const CONV_STEM: &str = "stem.stem.0";

/// Where a package keeps the parts, after a prefix of its own.
pub(crate) struct Names {
    pub prefix: &'static str,
    pub stem: [&'static str; 2],
    pub down: fn(usize) -> [String; 2],
    pub block: fn(usize, usize) -> String,
    /// Depthwise convolution, norm, two linear layers.
    pub parts: [&'static str; 4],
    pub scale: Scale,
    /// Of all norms.
    pub eps: f64,
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
    eps: EPS,
};

const TIMM: Names = Names {
    prefix: "",
    stem: ["stem.0", "stem.1"],
    down: |i| [format!("stages.{i}.downsample.0"), format!("stages.{i}.downsample.1")],
    block: |i, j| format!("stages.{i}.blocks.{j}"),
    parts: ["conv_dw", "norm", "mlp.fc1", "mlp.fc2"],
    scale: Scale::Maybe("gamma"),
    eps: EPS,
};

const TIMM_V2: Names = Names { scale: Scale::Response("mlp.grn"), ..TIMM };

/// timm's largest, of CLIP, is the only one as wide, and has another epsilon.
const WIDEST: usize = 384;
const TIMM_WIDEST: Names = Names { eps: 1e-5, ..TIMM };

const AUTHORS: Names = Names {
    prefix: "",
    stem: ["downsample_layers.0.0", "downsample_layers.0.1"],
    down: |i| [format!("downsample_layers.{i}.0"), format!("downsample_layers.{i}.1")],
    block: |i, j| format!("stages.{i}.{j}"),
    parts: ["dwconv", "norm", "pwconv1", "pwconv2"],
    scale: Scale::Maybe("gamma"),
    eps: EPS,
};

const AUTHORS_V2: Names = Names { scale: Scale::Response("grn"), ..AUTHORS };

/// The names of a file, and of its last norm and layer.
fn names(dict: &StateDict) -> (&'static Names, [&'static str; 2]) {
    if dict.any("downsample_layers.") {
        let second = dict.any("stages.0.0.grn.");
        return (if second { &AUTHORS_V2 } else { &AUTHORS }, ["norm", "head"]);
    }
    if dict.any("stages.") {
        let widest = dict.dims("stem.0.weight").is_some_and(|d| d.first() == Some(&WIDEST));
        let names = match dict.any("stages.0.blocks.0.mlp.grn.") {
            true => &TIMM_V2,
            false if widest => &TIMM_WIDEST,
            false => &TIMM,
        };
        return (names, ["head.norm", "head.fc"]);
    }
    (&TORCHVISION, ["classifier.0", "classifier.2"])
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let (names, head) = names(dict);
    let convolves = dict.any(&format!("{CONV_STEM}."));
    let first = if convolves { CONV_STEM } else { names.stem[0] };
    let [_, channels, ..] = dict.sizes::<4>(&format!("{first}.weight"))?;
    let mut stack = Stack { dict, net };
    // Networks with that stem were trained on pixels as they are.
    let usual = if convolves { Usual::Raw } else { IMAGENET };
    let x = stack.input(options, [channels, 224, 224], usual)?;
    let stem = ConvStem { prefix: "stem.stem", halving: 2, eps: names.eps };
    let x = if convolves { stem.lay(&mut stack, x)? } else { patches(&mut stack, x, names)? };
    let x = stages(&mut stack, x, names, 4)?;
    let x = stack.layer_norm(x, head[0], names.eps)?;
    stack.head(x, head[1])
}

/// Patches and stages, up to the mean over all positions.
pub(crate) fn features(stack: &mut Stack, x: NodeId, names: &Names, count: usize) -> Result<NodeId> {
    let x = patches(stack, x, names)?;
    stages(stack, x, names, count)
}

/// A convolution of pieces that do not overlap.
fn pieces(out: usize, size: usize) -> Conv {
    Conv { out, kernel: size, stride: size, pads: [0; 4], groups: 1 }
}

fn patches(stack: &mut Stack, x: NodeId, names: &Names) -> Result<NodeId> {
    let [conv, norm] = names.stem.map(|n| names.at(n));
    let [out, _, size, _] = stack.dict.sizes(&format!("{conv}.weight"))?;
    let x = stack.conv_with(x, &conv, pieces(out, size), true)?;
    image_norm(stack, x, &norm, names.eps)
}

/// Where the layers of Singh et al.'s stems are, and how many of their first convolutions halve the size.
#[derive(Clone, Copy)]
pub(crate) struct ConvStem {
    pub prefix: &'static str,
    pub halving: usize,
    pub eps: f64,
}

impl ConvStem {
    /// `.0`, `.1`, `.2`, `.3`, ... below the prefix: 3x3 convolution, layer norm, GELU, and again; 1x1 and no norm for one
    /// at the end.
    pub fn lay(self, stack: &mut Stack, mut x: NodeId) -> Result<NodeId> {
        let at = |i: usize| format!("{}.{i}", self.prefix);
        let count = stack.dict.count(|i| at(3 * i));
        for i in 0..count {
            let [conv, norm, act] = [0, 1, 2].map(|part| at(3 * i + part));
            let [out, ..] = stack.dict.sizes::<4>(&format!("{conv}.weight"))?;
            if i > 0 && i + 1 == count && !stack.dict.any(&format!("{norm}.")) {
                return stack.conv_with(x, &conv, Conv::same(out, 1, 1), true);
            }
            x = stack.conv_with(x, &conv, Conv::same(out, 3, if i < self.halving { 2 } else { 1 }), true)?;
            x = image_norm(stack, x, &norm, self.eps)?;
            x = stack.act(x, &act, Activation::Gelu)?;
        }
        Ok(x)
    }
}

fn stages(stack: &mut Stack, mut x: NodeId, names: &Names, count: usize) -> Result<NodeId> {
    for i in 0..count {
        if i > 0 {
            let [norm, conv] = (names.down)(i).map(|n| names.at(&n));
            let [out, _, size, _] = stack.dict.sizes(&format!("{conv}.weight"))?;
            x = image_norm(stack, x, &norm, names.eps)?;
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
fn image_norm(stack: &mut Stack, x: NodeId, name: &str, eps: f64) -> Result<NodeId> {
    let x = last(stack, x, &format!("{name}.in"), [0, 2, 3, 1])?;
    let x = stack.layer_norm(x, name, eps)?;
    last(stack, x, &format!("{name}.out"), [0, 3, 1, 2])
}

fn block(stack: &mut Stack, x: NodeId, name: &str, names: &Names) -> Result<NodeId> {
    let [conv, norm, wide, narrow] = names.parts.map(|p| format!("{name}.{p}"));
    let c = stack.channels(x);
    let y = stack.conv_with(x, &conv, Conv::same(c, 7, 1).grouped(c), true)?;
    let y = last(stack, y, &format!("{name}.in"), [0, 2, 3, 1])?;
    let y = stack.layer_norm(y, &norm, names.eps)?;
    let y = stack.pointwise(y, &wide)?;
    let y = stack.sparse_last(y, &format!("{name}.mlp.act.0"))?;
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
    let y = stack.sparse(y, &format!("{name}.drop_path.1"))?;
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
    // The authors' names, or timm's and those of transformers; `[c]` in timm alone.
    let authors = !["weight", "bias"].iter().any(|part| stack.dict.contains(&at(part)));
    let [weight, bias] = (if authors { ["gamma", "beta"] } else { ["weight", "bias"] }).map(at);
    let shape = stack.dict.dims(&weight).filter(|d| d.len() == 1).map_or(vec![1, 1, 1, c], |_| vec![c]);
    let weight = stack.constant(&weight, &shape)?;
    let bias = stack.constant(&bias, &shape)?;
    let scaled = binary(stack, "weighted", Binary::Mul, scaled, weight)?;
    let scaled = binary(stack, "shifted", Binary::Add, scaled, bias)?;
    binary(stack, "out", Binary::Add, scaled, x)
}
