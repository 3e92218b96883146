//! `dm-preact-resnet`: DeepMind's pre-activation residual networks (Rebuffi et al. 2021; RobustBench's DMPreActResNet),
//! which pad like TensorFlow and whose shortcuts are 3x3 convolutions of the block's input.

use crate::families::architecture::Architecture;
use crate::families::wide_resnet::deepmind::{chosen, usual};
use crate::layers::stack::{Conv, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "dm-preact-resnet",
    doc: "3x3 stem (conv_2d), stages layer_0, layer_1, ... of pre-activation blocks (batchnorm_0, conv_2d_1, batchnorm_1, \
          conv_2d_2, 3x3 shortcut; stride 2 from layer_1 on), batchnorm, SiLU (`activation=`), global mean, linear (logits)",
    params: &["activation"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["conv_2d.weight", "layer_0.0.conv_2d_1.weight", "batchnorm.weight", "logits.weight"]
        .iter()
        .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let act = chosen(dict, options)?;
    let [stem, channels, ..] = dict.sizes::<4>("conv_2d.weight")?;
    let usual = usual(dict, "logits");
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], usual)?;
    x = stack.conv(x, "conv_2d", Conv::same(stem, 3, 1))?;
    let name = |i, j| format!("layer_{i}.{j}");
    x = stack.stages(x, name, |stack, x, name, stride| block(stack, x, name, stride, act))?;
    x = stack.batch_norm(x, "batchnorm")?;
    x = stack.act(x, "relu", act)?;
    stack.pooled_head(x, "logits")
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, act: Activation) -> Result<NodeId> {
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv_2d_1.weight"))?;
    let mut y = stack.batch_norm(x, &format!("{name}.batchnorm_0"))?;
    y = stack.act(y, &format!("{name}.relu_0"), act)?;
    y = stack.conv(y, &format!("{name}.conv_2d_1"), Conv::tf_same(out, 3, stride))?;
    y = stack.batch_norm(y, &format!("{name}.batchnorm_1"))?;
    y = stack.act(y, &format!("{name}.relu_1"), act)?;
    y = stack.conv(y, &format!("{name}.conv_2d_2"), Conv::same(out, 3, 1))?;
    let skip = match stride == 1 && stack.channels(x) == out {
        true => x,
        false => stack.conv(x, &format!("{name}.shortcut"), Conv::tf_same(out, 3, stride))?,
    };
    stack.add(y, skip, &format!("{name}.add"))
}
