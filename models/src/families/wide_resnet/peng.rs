//! `ra-wide-resnet`: the networks of Peng et al. 2023 ("Robust Principles"): on CIFAR DeepMind's wide residual networks with
//! squeeze and excitation at the end of each block, on ImageNet grouped bottlenecks with it before their last convolution.

use super::deepmind::{self, is_excited};
use crate::families::architecture::Architecture;
use crate::layers::mbconv::excited;
use crate::layers::stack::{Conv, IMAGENET, Stack, activation};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "ra-wide-resnet",
    doc: "on CIFAR `dm-wide-resnet` whose blocks end in squeeze and excitation (se.fc1, ReLU, se.fc2); on ImageNet 7x7 stem \
          (stem.stem.stem), stages.stage1, ... of bottlenecks (F.a, grouped F.b, F.se, F.c, proj; stride 2 in the first of each \
          stage, no norm after F.a), global mean, linear (fc); SiLU (`activation=`)",
    params: &["activation"],
    detect,
    build,
};

const STEM: &str = "stem.stem.stem";

fn detect(dict: &StateDict) -> bool {
    let large = [format!("{STEM}.0.weight"), "stages.stage1.stage1-block0.F.a.0.weight".into(), "fc.weight".into()];
    is_excited(dict) || large.iter().all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    if dict.contains("init_conv.weight") {
        return deepmind::build(dict, net, options);
    }
    let act = activation(options, Activation::Silu)?;
    let [stem, channels, ..] = dict.sizes::<4>(&format!("{STEM}.0.weight"))?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    x = stack.conv_with(x, &format!("{STEM}.0"), Conv::same(stem, 7, 2), false)?;
    x = stack.batch_norm(x, &format!("{STEM}.1"))?;
    x = stack.relu(x, &format!("{STEM}.2"))?;
    for i in 1..=stack.dict.count(|i| format!("stages.stage{}", i + 1)) {
        let at = |j: usize| format!("stages.stage{i}.stage{i}-block{j}");
        for j in 0..stack.dict.count(at) {
            x = block(&mut stack, x, &at(j), if j == 0 { 2 } else { 1 }, act)?;
        }
    }
    stack.pooled_head(x, "fc")
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, act: Activation) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.F.{part}");
    let [[narrow, ..], [wide, group, ..], [out, ..]] = {
        let sizes = |part: &str| stack.dict.sizes::<4>(&at(&format!("{part}.0.weight")));
        [sizes("a")?, sizes("b")?, sizes("c")?]
    };
    if group == 0 || narrow % group != 0 {
        return Err(Error::load(
            format!("`{name}.F.b.0.weight`"),
            format!("{narrow} channels do not divide into groups of {group}"),
        ));
    }
    let mut y = stack.conv_with(x, &at("a.0"), Conv::same(narrow, 1, 1), false)?;
    y = stack.act(y, &at("a.2"), act)?;
    y = stack.conv_with(y, &at("b.0"), Conv::same(wide, 3, stride).grouped(narrow / group), false)?;
    y = stack.batch_norm(y, &at("b.1"))?;
    y = stack.act(y, &at("b.2"), act)?;
    y = excited(stack, y, [&at("se.fc1"), &at("se.fc2")])?;
    y = stack.conv_with(y, &at("c.0"), Conv::same(out, 1, 1), false)?;
    y = stack.batch_norm(y, &at("c.1"))?;
    let mut skip = x;
    if stride != 1 || stack.channels(x) != out || stack.dict.any(&format!("{name}.proj.")) {
        skip = stack.conv_with(x, &format!("{name}.proj.0"), Conv::same(out, 1, stride), false)?;
        skip = stack.batch_norm(skip, &format!("{name}.proj.1"))?;
    }
    let sum = stack.add(skip, y, &format!("{name}.add"))?;
    stack.act(sum, &format!("{name}.last_activation"), act)
}
