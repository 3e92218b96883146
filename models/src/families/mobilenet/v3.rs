//! `mobilenet-v3`: MobileNetV3 small and large (Howard et al. 2019) as torchvision and timm name them, at any width. Strides
//! and activations are those of the paper's groups of blocks. torchvision pads evenly with epsilon 1e-3; in timm
//! `tf_mobilenetv3_*` and `mobilenetv3_*` have the same tensors, so that one must be said.

use crate::families::architecture::Architecture;
use crate::layers::mbconv::{Block, Groups, HARD_SIGMOID, Layer, PLAIN_WIDE, Style, TF, ambiguous, named};
use crate::layers::stack::{HALF, IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId, Op, Reduction};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "mobilenet-v3",
    doc: "small and large, torchvision's (features, classifier.0) or timm's (conv_stem, blocks, conv_head): 3x3 stem, inverted \
          residuals with squeeze and excitation in some, ReLU in the first and hard swish in the others, 1x1 convolution, global \
          mean, two linear layers with hard swish between; `variant` = tf or plain says padding and epsilon of timm's",
    params: &["variant"],
    detect,
    build,
};

/// One group of blocks: how many the paper's network has, what they do to the size, and whether they use ReLU.
struct Group {
    blocks: usize,
    stride: usize,
    relu: bool,
}

const fn group(blocks: usize, stride: usize, relu: bool) -> Group {
    Group { blocks, stride, relu }
}

const LARGE: &[Group] = &[
    group(1, 1, true),
    group(2, 2, true),
    group(3, 2, true),
    group(4, 2, false),
    group(2, 1, false),
    group(3, 2, false),
];
const SMALL: &[Group] =
    &[group(1, 2, true), group(2, 2, true), group(3, 2, false), group(2, 1, false), group(3, 2, false)];

fn detect(dict: &StateDict) -> bool {
    let torchvision = ["features.0.0.weight", "features.1.block.0.0.weight", "classifier.0.weight"];
    let timm = ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.1.0.conv_pwl.weight", "conv_head.bias"];
    // Its relatives in timm normalise after the last convolution, or have no bias there.
    torchvision.iter().all(|n| dict.contains(n))
        || timm.iter().all(|n| dict.contains(n)) && !dict.contains("bn2.weight")
}

/// Names of the parts, and the blocks by group.
struct Layers {
    stem: [String; 2],
    groups: &'static [Group],
    blocks: Vec<Vec<Block>>,
    /// 1x1 convolutions after the blocks.
    ends: Vec<[String; 2]>,
    /// The linear layer between the mean and the last.
    wide: &'static str,
    head: &'static str,
}

fn unknown(what: String) -> Error {
    Error::load("the weights", what).hint("export the model to ONNX instead")
}

fn torchvision(dict: &StateDict) -> Result<Layers> {
    let found = dict.count(|i| format!("features.{}.block", i + 1));
    let groups = [LARGE, SMALL].into_iter().find(|g| g.iter().map(|g| g.blocks).sum::<usize>() == found);
    let groups = groups.ok_or_else(|| unknown(format!("{found} blocks, 15 (large) or 11 (small) are expected")))?;
    let mut at = 0;
    let mut next = || {
        at += 1;
        Block::torchvision(dict, &format!("features.{at}"))
    };
    let blocks = groups.iter().map(|g| (0..g.blocks).map(|_| next()).collect()).collect();
    let end = found + 1;
    Ok(Layers {
        stem: ["features.0.0".into(), "features.0.1".into()],
        groups,
        blocks,
        ends: vec![[format!("features.{end}.0"), format!("features.{end}.1")]],
        wide: "classifier.0",
        head: "classifier.3",
    })
}

fn timm(dict: &StateDict) -> Result<Layers> {
    let found = dict.count(|i| format!("blocks.{i}"));
    let groups = match found {
        7 => LARGE,
        6 => SMALL,
        n => return Err(unknown(format!("{n} groups `blocks.N`, 7 (large) or 6 (small) are expected"))),
    };
    let names = |i: usize| (0..dict.count(|j| format!("blocks.{i}.{j}"))).map(move |j| format!("blocks.{i}.{j}"));
    Ok(Layers {
        stem: ["conv_stem".into(), "bn1".into()],
        groups,
        blocks: (0..groups.len()).map(|i| names(i).map(|n| Block::timm(dict, &n)).collect()).collect(),
        ends: names(groups.len()).map(|n| [format!("{n}.conv"), format!("{n}.bn1")]).collect(),
        wide: "conv_head",
        head: "classifier",
    })
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let ours = !dict.contains("conv_stem.weight");
    let layers = if ours { torchvision(dict)? } else { timm(dict)? };
    let rules = match named(options)? {
        Some(rules) => rules,
        None if ours => PLAIN_WIDE,
        None => return Err(ambiguous("timm's `mobilenetv3` and `tf_mobilenetv3`")),
    };
    // timm's minimal networks have neither squeeze and excitation nor hard swish.
    let minimal = !ours && !dict.names().any(|n| n.contains(".se."));
    let late = if minimal { Activation::Relu } else { Activation::HardSwish };
    let [_, channels, ..] = dict.sizes::<4>(&format!("{}.weight", layers.stem[0]))?;
    let mut stack = Stack { dict, net };
    // timm's of TensorFlow were trained on pixels in [-1,1].
    let usual = if rules == TF { HALF } else { IMAGENET };
    let x = stack.input(options, [channels, 224, 224], usual)?;
    let layer = |stack: &mut Stack, x: NodeId, [conv, norm]: &[String; 2], stride: usize| {
        Layer { conv, norm, stride, act: Some(late), groups: Groups::AllOrOne }.lay(stack, x, rules)
    };
    let mut x = layer(&mut stack, x, &layers.stem, 2)?;
    for (group, blocks) in layers.groups.iter().zip(&layers.blocks) {
        let act = if group.relu { Activation::Relu } else { late };
        let style = Style { rules, act, inner: Activation::Relu, gate: HARD_SIGMOID };
        for (j, block) in blocks.iter().enumerate() {
            x = block.lay(&mut stack, x, if j == 0 { group.stride } else { 1 }, style)?;
        }
    }
    for end in &layers.ends {
        x = layer(&mut stack, x, end, 1)?;
    }
    let mean = Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false };
    x = stack.net.node("pool", mean, &[x])?;
    x = stack.pointwise(x, layers.wide)?;
    x = stack.act(x, &format!("{}.act", layers.wide), late)?;
    stack.head(x, layers.head)
}
