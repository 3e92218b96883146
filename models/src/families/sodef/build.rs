//! `sodef`: Kang et al. 2021's network, whose features flow along a differential equation towards stable points before they are
//! classified (RobustBench's `rebuffi_sodef`).

use super::{flow, norms, orthogonal};
use crate::families::architecture::Architecture;
use crate::families::wide_resnet::deepmind;
use crate::layers::stack::{Stack, activation};
use crate::layers::tokens::values;
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "sodef",
    doc: "`dm-wide-resnet` (0.) up to its mean; linear with orthonormal columns (1.fc0.linear: the exponential of a skew-symmetric \
          matrix after a base); the flow of z' = sin(-(W z + b)) for 5 units of time (2.0.odefunc.fc1._layer), to an accuracy that a \
          note says; linear (2.1.fc0); SiLU (`activation=`)",
    params: &["activation"],
    detect,
    build,
};

const FEATURES: &str = "1.fc0.linear";
const FIELD: &str = "2.0.odefunc.fc1._layer";
const HEAD: &str = "2.1.fc0";

fn detect(dict: &StateDict) -> bool {
    ["0.init_conv.weight", "2.0.odefunc.fc1._layer.weight", "2.1.fc0.weight"].iter().all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    // The class fixes it.
    let act = activation(options, Activation::Silu)?;
    let usual = deepmind::usual(dict, HEAD);
    let mut stack = Stack { dict, net };
    let x = deepmind::trunk(&mut stack, options, "0.", usual, act)?;
    let x = stack.mean(x)?;
    let x = orthogonal::lay(&mut stack, x, FEATURES)?;
    let (x, flow) = flow::lay(&mut stack, x, FIELD)?;
    let [classes, width] = stack.dict.sizes(&format!("{HEAD}.weight"))?;
    let x = stack.linear(x, HEAD, classes)?;
    let steep = match stack.dict.tensor(&format!("{HEAD}.weight")) {
        Some(weight) => steepest(&values(weight)?, width),
        None => 0.,
    };
    let note = flow.note(steep * (width as f64).sqrt());
    stack.dict.note(note);
    Ok(x)
}

/// The greatest length of a row.
fn steepest(weight: &[f64], width: usize) -> f64 {
    weight.chunks(width.max(1)).map(norms::length).fold(0., f64::max)
}
