//! `dm-wide-resnet`: DeepMind's wide residual networks (Gowal et al. 2020; RobustBench's DMWideResNet), which pad like
//! TensorFlow. Depth and width follow from the tensors; the activation does not and is SiLU unless the user says.

use crate::families::architecture::Architecture;
use crate::layers::mbconv::excited;
use crate::layers::stack::{Conv, Stack, Usual, activation};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "dm-wide-resnet",
    doc: "3x3 stem (init_conv), groups layer.0, layer.1, layer.2 of pre-activation blocks (block.N: batchnorm_0, conv_0, \
          batchnorm_1, conv_1, shortcut; stride 2 from layer.1 on), batchnorm, SiLU (`activation=`), global mean, linear \
          (logits); MeanSparse layers (meansparse_0, ...) where the file has them",
    params: &["activation"],
    detect,
    build,
};

/// What these networks were trained on, which the classes of their last layer tell; some files bring their own.
pub(crate) fn usual(dict: &StateDict, head: &str) -> Usual {
    match dict.dims(&format!("{head}.weight")) {
        Some([100, _]) => {
            Usual::Known { whose: "CIFAR-100's", mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] }
        }
        _ => Usual::Known { whose: "CIFAR-10's", mean: [0.4914, 0.4822, 0.4465], std: [0.2471, 0.2435, 0.2616] },
    }
}

/// Squeeze and excitation of the first block.
const EXCITED: &str = "layer.0.block.0.se.fc1.weight";

fn detect(dict: &StateDict) -> bool {
    ["init_conv.weight", "layer.0.block.0.conv_0.weight", "batchnorm.weight", "logits.weight"]
        .iter()
        .all(|n| dict.contains(n))
        && !is_excited(dict)
}

/// Whether the blocks end in squeeze and excitation: the networks of [`super::peng`] on CIFAR.
pub(crate) fn is_excited(dict: &StateDict) -> bool {
    dict.contains("init_conv.weight") && dict.contains(EXCITED)
}

pub(crate) fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let act = chosen(dict, options)?;
    let usual = usual(dict, "logits");
    let mut stack = Stack { dict, net };
    let x = trunk(&mut stack, options, "", usual, act)?;
    stack.pooled_head(x, "logits")
}

/// Up to the activation before the mean; all names begin with `at`.
pub(crate) fn trunk(stack: &mut Stack, options: &Options, at: &str, usual: Usual, act: Activation) -> Result<NodeId> {
    let [stem, channels, ..] = stack.dict.sizes::<4>(&format!("{at}init_conv.weight"))?;
    let mut x = stack.input(options, [channels, 32, 32], usual)?;
    x = stack.conv(x, &format!("{at}init_conv"), Conv::same(stem, 3, 1))?;
    let name = |i, j| format!("{at}layer.{i}.block.{j}");
    x = stack.stages(x, name, |stack, x, name, stride| block(stack, x, name, stride, act))?;
    x = stack.batch_norm(x, &format!("{at}batchnorm"))?;
    x = stack.sparse(x, &format!("{at}meansparse_end"))?;
    stack.act(x, &format!("{at}relu"), act)
}

/// The activation, with a note when it is a guess.
pub(crate) fn chosen(dict: &mut StateDict, options: &Options) -> Result<Activation> {
    if options.activation.is_none() {
        dict.note("activations are SiLU, as in most networks of this family; `?activation=relu` if yours are not");
    }
    activation(options, Activation::Silu)
}

/// Where the width changes, the shortcut reads the activated input; elsewhere the input itself passes by.
fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, act: Activation) -> Result<NodeId> {
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv_0.weight"))?;
    let mut first = stack.batch_norm(x, &format!("{name}.batchnorm_0"))?;
    first = stack.sparse(first, &format!("{name}.meansparse_0"))?;
    first = stack.act(first, &format!("{name}.relu_0"), act)?;
    let mut y = stack.conv(first, &format!("{name}.conv_0"), Conv::tf_same(out, 3, stride))?;
    y = stack.batch_norm(y, &format!("{name}.batchnorm_1"))?;
    y = stack.sparse(y, &format!("{name}.meansparse_1"))?;
    y = stack.act(y, &format!("{name}.relu_1"), act)?;
    y = stack.conv(y, &format!("{name}.conv_1"), Conv::same(out, 3, 1))?;
    y = excited(stack, y, [&format!("{name}.se.fc1"), &format!("{name}.se.fc2")])?;
    let skip = match stack.channels(x) == out {
        true => x,
        false => stack.conv(first, &format!("{name}.shortcut"), Conv::same(out, 1, stride))?,
    };
    let sum = stack.add(skip, y, &format!("{name}.add"))?;
    stack.sparse(sum, &format!("{name}.meansparse_2"))
}
