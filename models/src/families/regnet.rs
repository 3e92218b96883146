//! `regnet`: RegNet X and Y (Radosavovic et al. 2020) in the names of torchvision, timm and vissl, whose SEER encoders (Goyal
//! et al. 2021) are RegNets Y. Widths, depths and groups follow from the tensors.

use super::architecture::Architecture;
use crate::layers::mbconv::{Groups, Layer, PLAIN, excited};
use crate::layers::stack::{IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "regnet",
    doc: "torchvision's (stem, trunk_output), timm's (stem, s1, s2, ...) or vissl's (conv1, res2, ...: SEER): 3x3 stem of stride \
          2, stages of half the size each, of blocks 1x1, grouped 3x3, squeeze and excitation (RegNetY), 1x1, all with batch \
          norm and ReLU, global mean, linear (fc, head.fc), or the mean itself where the file has none",
    params: &[],
    detect,
    build,
};

/// A convolution and its batch norm.
type Pair = [&'static str; 2];

/// Where a package keeps the parts; those of a block follow its name.
struct Names {
    stem: Pair,
    /// Block `j` of stage `i`, both from 0.
    block: fn(usize, usize) -> String,
    convs: [Pair; 3],
    excite: Pair,
    shortcut: Pair,
    head: &'static str,
}

const TORCHVISION: Names = Names {
    stem: ["stem.0", "stem.1"],
    block: |i, j| format!("trunk_output.block{0}.block{0}-{j}", i + 1),
    convs: [["f.a.0", "f.a.1"], ["f.b.0", "f.b.1"], ["f.c.0", "f.c.1"]],
    excite: ["f.se.fc1", "f.se.fc2"],
    shortcut: ["proj.0", "proj.1"],
    head: "fc",
};

const TIMM: Names = Names {
    stem: ["stem.conv", "stem.bn"],
    block: |i, j| format!("s{}.b{}", i + 1, j + 1),
    convs: [["conv1.conv", "conv1.bn"], ["conv2.conv", "conv2.bn"], ["conv3.conv", "conv3.bn"]],
    excite: ["se.fc1", "se.fc2"],
    shortcut: ["downsample.conv", "downsample.bn"],
    head: "head.fc",
};

/// Without the `_feature_blocks.` that all of them share.
const VISSL: Names = Names {
    stem: ["conv1.stem.0", "conv1.stem.1"],
    block: |i, j| format!("res{}.block{}-{j}", i + 2, i + 1),
    convs: [["f.a.0", "f.a.1"], ["f.b.0", "f.b.1"], ["f.c", "f.final_bn"]],
    excite: ["f.se.excitation.0", "f.se.excitation.2"],
    shortcut: ["proj", "bn"],
    head: "fc",
};

/// Other networks of the same packages lack the shortcut of the first block.
fn names(dict: &StateDict) -> Option<&'static Names> {
    [&TORCHVISION, &TIMM, &VISSL].into_iter().find(|n| {
        let block = (n.block)(0, 0);
        let parts = [n.convs[0][0], n.convs[1][0], n.convs[2][1], n.shortcut[0]];
        dict.contains(&format!("{}.weight", n.stem[0]))
            && parts.iter().all(|p| dict.contains(&format!("{block}.{p}.weight")))
    })
}

fn detect(dict: &StateDict) -> bool {
    names(dict).is_some()
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let names = names(dict).ok_or_else(|| {
        let why = "no stem with a first block and its shortcut in the names of torchvision, timm or vissl";
        Error::load("the weights", why).hint("export the model to ONNX instead")
    })?;
    let [_, channels, ..] = dict.sizes::<4>(&format!("{}.weight", names.stem[0]))?;
    let mut stack = Stack { dict, net };
    let x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    let [conv, norm] = names.stem;
    let mut x = Layer { conv, norm, stride: 2, act: Some(Activation::Relu), groups: Groups::AllOrOne }
        .lay(&mut stack, x, PLAIN)?;
    let mut stage = 0;
    loop {
        let depth = stack.dict.count(|j| (names.block)(stage, j));
        if depth == 0 {
            break;
        }
        for j in 0..depth {
            x = block(&mut stack, x, &(names.block)(stage, j), names, if j == 0 { 2 } else { 1 })?;
        }
        stage += 1;
    }
    stack.pooled_or_head(x, names.head)
}

fn block(stack: &mut Stack, x: NodeId, name: &str, names: &Names, stride: usize) -> Result<NodeId> {
    let layer = |stack: &mut Stack, x: NodeId, pair: Pair, stride: usize, act: Option<Activation>| {
        let [conv, norm] = pair.map(|part| format!("{name}.{part}"));
        Layer { conv: &conv, norm: &norm, stride, act, groups: Groups::Any }.lay(stack, x, PLAIN)
    };
    let [first, grouped, last] = names.convs;
    let y = layer(stack, x, first, 1, Some(Activation::Relu))?;
    let mut y = layer(stack, y, grouped, stride, Some(Activation::Relu))?;
    let [narrow, wide] = names.excite.map(|part| format!("{name}.{part}"));
    y = excited(stack, y, [&narrow, &wide])?;
    let y = layer(stack, y, last, 1, None)?;
    let skip = match stride != 1 || stack.channels(x) != stack.channels(y) {
        true => layer(stack, x, names.shortcut, stride, None)?,
        false => x,
    };
    let sum = stack.add(y, skip, &format!("{name}.add"))?;
    stack.relu(sum, &format!("{name}.relu"))
}
