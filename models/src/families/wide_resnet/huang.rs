//! `robust-wide-resnet`: wide residual networks with depths and widths of their own: Huang et al. 2021 ("Exploring
//! Architectural Ingredients") and, with SiLU, Huang et al. 2022 ("Revisiting Residual Networks").

use super::deepmind;
use super::trades::{Act, block};
use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual, activation};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "robust-wide-resnet",
    doc: "3x3 stem (stem_conv), groups blocks.0, blocks.1, ... of pre-activation blocks (layer.N: bn1, conv1, bn2, conv2; stride 2 \
          from blocks.1 on), global mean, linear (fc); ReLU with convShortcut and a last bn1, SiLU with shortcut.0 and a last \
          norm1 (`activation=`)",
    params: &["activation"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let names = ["stem_conv.weight", "blocks.0.layer.0.bn1.weight", "blocks.0.layer.0.conv1.weight", "fc.weight"];
    names.iter().all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    // The later ones normalise inside the network, and their files do not say so.
    let later = dict.any("norm1.");
    let (last, shortcut, act, pixels) = match later {
        true => ("norm1", "shortcut.0", Activation::Silu, deepmind::usual(dict, "fc")),
        false => ("bn1", "convShortcut", Activation::Relu, Usual::Raw),
    };
    if later && options.activation.is_none() {
        dict.note("activations are SiLU, as in Huang et al. 2022's WRN-A4; `?activation=relu` if yours are not");
    }
    let act = Act::Plain(activation(options, act)?);
    let [stem, channels, ..] = dict.sizes::<4>("stem_conv.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], pixels)?;
    x = stack.conv(x, "stem_conv", Conv::same(stem, 3, 1))?;
    let name = |i, j| format!("blocks.{i}.layer.{j}");
    x = stack.stages(x, name, |stack, x, name, stride| block(stack, x, name, (stride, shortcut), act))?;
    x = stack.batch_norm(x, last)?;
    x = act.lay(&mut stack, x, "act1")?;
    stack.pooled_head(x, "fc")
}
