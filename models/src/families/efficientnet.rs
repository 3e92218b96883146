//! `efficientnet`: EfficientNet (Tan and Le 2019) and EfficientNetV2 (Tan and Le 2021) as torchvision and timm name them.
//! Widths, depths and kernels follow from the tensors, strides are those of the family. Padding and the epsilon of the batch
//! norms follow from the depths in torchvision, and must be said for timm's, where `tf_efficientnet_b0` and
//! `efficientnet_b0` have the same tensors.

use super::architecture::Architecture;
use crate::layers::mbconv::{Block, Groups, Layer, PLAIN, PLAIN_WIDE, Rules, Style, TF, ambiguous, named};
use crate::layers::stack::{HALF, IMAGENET, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "efficientnet",
    doc: "torchvision's (features) or timm's (conv_stem, blocks, conv_head): 3x3 stem, six or seven stages of inverted residuals \
          with squeeze and excitation (V2: fused ones first), 1x1 convolution, all with batch norm and SiLU, global mean, linear; \
          `variant` = tf, plain or plain-1e-3 says padding and epsilon where the tensors do not",
    params: &["variant"],
    detect,
    build,
};

/// What each stage does to the size; V2-S and its base models end one stage before.
const STRIDES: [usize; 7] = [1, 2, 2, 2, 1, 2, 1];

/// Blocks by stage of torchvision's networks, and their rules: b0 to b4, b5 to b7, V2-S, -M and -L.
const DEPTHS: [(&[usize], Rules); 10] = [
    (&[1, 2, 2, 3, 3, 4, 1], PLAIN),
    (&[2, 3, 3, 4, 4, 5, 2], PLAIN),
    (&[2, 3, 3, 5, 5, 6, 2], PLAIN),
    (&[2, 4, 4, 6, 6, 8, 2], PLAIN),
    (&[3, 5, 5, 7, 7, 9, 3], PLAIN_WIDE),
    (&[3, 6, 6, 8, 8, 11, 3], PLAIN_WIDE),
    (&[4, 7, 7, 10, 10, 13, 4], PLAIN_WIDE),
    (&[2, 4, 4, 6, 9, 15], PLAIN_WIDE),
    (&[3, 5, 5, 7, 14, 18, 5], PLAIN_WIDE),
    (V2_LARGE, PLAIN_WIDE),
];
const V2_LARGE: &[usize] = &[4, 7, 7, 10, 19, 25, 7];

fn detect(dict: &StateDict) -> bool {
    let torchvision = ["features.0.0.weight", "features.1.0.block.0.0.weight", "features.0.1.running_mean"];
    if torchvision.iter().all(|n| dict.contains(n)) {
        return true;
    }
    // timm builds many other networks of the same parts; none has squeeze and excitation in each depthwise block.
    let timm = ["conv_stem.weight", "bn1.weight", "conv_head.weight", "bn2.weight", "blocks.5.0.se.conv_reduce.weight"];
    timm.iter().all(|n| dict.contains(n))
        && dict.names().all(|n| {
            let block = n.strip_prefix("blocks.").and_then(|n| n.strip_suffix(".conv_dw.weight"));
            block.is_none_or(|b| dict.contains(&format!("blocks.{b}.se.conv_reduce.weight")))
        })
}

/// The network of a package, its blocks by stage.
struct Layers {
    timm: bool,
    stages: Vec<Vec<Block>>,
}

impl Layers {
    fn of(dict: &StateDict) -> Result<Self> {
        let timm = dict.contains("conv_stem.weight");
        let place = |i: usize| if timm { format!("blocks.{i}") } else { format!("features.{}", i + 1) };
        let mut found = dict.count(place);
        // The last group of torchvision's is the 1x1 convolution.
        found -= usize::from(!timm && found > 0);
        if ![6, 7].contains(&found) {
            return Err(Error::load("the weights", format!("{found} stages of blocks, 6 or 7 are expected"))
                .hint("export the model to ONNX instead"));
        }
        let blocks = |i: usize| {
            let names = (0..dict.count(|j| format!("{}.{j}", place(i)))).map(|j| format!("{}.{j}", place(i)));
            let block = if timm { Block::timm } else { Block::torchvision };
            names.map(|n| block(dict, &n)).collect()
        };
        Ok(Self { timm, stages: (0..found).map(blocks).collect() })
    }

    fn depths(&self) -> Vec<usize> {
        self.stages.iter().map(Vec::len).collect()
    }

    /// Whether the first stage is of fused blocks.
    fn second(&self, dict: &StateDict) -> bool {
        self.stages[0].first().is_some_and(|b| b.fused(dict))
    }

    fn rules(&self, dict: &StateDict, options: &Options) -> Result<Rules> {
        if let Some(rules) = named(options)? {
            return Ok(rules);
        }
        if !self.timm {
            let depths = self.depths();
            return DEPTHS.iter().find(|(known, _)| *known == depths).map(|(_, rules)| *rules).ok_or_else(|| {
                ambiguous(&format!("stages of {depths:?} blocks are none of torchvision's own networks"))
            });
        }
        // Fused residuals without expansion are Wightman's, and always plain.
        match dict.contains("blocks.0.0.conv_exp.weight") {
            true => Ok(PLAIN),
            false => Err(ambiguous("timm's `efficientnet` and `tf_efficientnet`")),
        }
    }

    /// Of the published weights, those of V2 from S on (torchvision: L alone) were trained on pixels in [-1,1].
    fn usual(&self, dict: &StateDict, rules: Rules) -> Usual {
        let depths = self.depths();
        let half = if self.timm { rules == TF && self.second(dict) && depths[1] >= 4 } else { depths == V2_LARGE };
        if half { HALF } else { IMAGENET }
    }
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let layers = Layers::of(dict)?;
    let rules = layers.rules(dict, options)?;
    let usual = layers.usual(dict, rules);
    let last = format!("features.{}", layers.stages.len() + 1);
    let (tail, tail_norm) = (format!("{last}.0"), format!("{last}.1"));
    let (stem, end, head) = match layers.timm {
        true => (["conv_stem", "bn1"], ["conv_head", "bn2"], "classifier"),
        false => (["features.0.0", "features.0.1"], [tail.as_str(), tail_norm.as_str()], "classifier.1"),
    };
    let style = Style { rules, act: Activation::Silu, inner: Activation::Silu, gate: Activation::Sigmoid };
    let [_, channels, ..] = dict.sizes::<4>(&format!("{}.weight", stem[0]))?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], usual)?;
    let layer = |stack: &mut Stack, x: NodeId, [conv, norm]: [&str; 2], stride: usize| {
        Layer { conv, norm, stride, act: Some(style.act), groups: Groups::AllOrOne }.lay(stack, x, rules)
    };
    x = layer(&mut stack, x, stem, 2)?;
    for (blocks, stride) in layers.stages.iter().zip(STRIDES) {
        for (j, block) in blocks.iter().enumerate() {
            x = block.lay(&mut stack, x, if j == 0 { stride } else { 1 }, style)?;
        }
    }
    x = layer(&mut stack, x, end, 1)?;
    stack.pooled_or_head(x, head)
}
