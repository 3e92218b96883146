//! What of a network is its output: scores of classes, an embedding, or one number that stands for two classes.

use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Activation, Network, NodeId, Op};

use crate::compose::MADE;

/// The network whose output `?output=` declares an embedding: the whole of it, or what its last linear layer reads.
///
/// # Errors
/// Kind `Usage` for other words, and where nothing can be cut off that is known to be a classifier.
pub(crate) fn declared(network: Network, what: &str, notes: &mut Vec<String>) -> Result<Network> {
    match what {
        "embedding" => Ok(network),
        "features" => cut(&network, notes),
        _ => Err(Error::usage(format!("`output={what}` is not known"))
            .hint("`output=features` is, what the last linear layer reads, and `output=embedding`, the whole output")),
    }
}

/// The network up to what its last linear layer reads.
fn cut(network: &Network, notes: &mut Vec<String>) -> Result<Network> {
    let nodes = network.nodes();
    let whole = "`?output=embedding` takes the whole output as the embedding";
    let none =
        || Error::usage("`output=features` needs a model that ends in a linear layer over `[n, features]`").hint(whole);
    let last = nodes.iter().rposition(|n| matches!(n.op, Op::Linear { .. })).ok_or_else(none)?;
    let id = *nodes[last].inputs.first().ok_or_else(none)?;
    let shape = &network.shapes()[id.0];
    if !shape.batched || shape.row.len() != 1 {
        return Err(none());
    }
    if let Some(after) = after(network, NodeId(last)) {
        let (name, op) = (&nodes[after.0].name, nodes[after.0].op.name());
        let why = format!(
            "`output=features` cuts at the last linear layer, which is not the end of this model: `{name}` ({op}) follows"
        );
        return Err(Error::usage(why).hint(whole));
    }
    if pixels(network, id) {
        return Err(Error::usage("`output=features`: the last linear layer reads the pixels themselves").hint(whole));
    }
    let (name, width, classes) = (&nodes[id.0].name, shape.row[0], network.output_row().first().copied().unwrap_or(0));
    notes.push(format!(
        "the embedding is `{name}` [n, {width}], what the last linear layer reads; that layer ({width} to {classes}) is cut off"
    ));
    network.reopen().0.finish(id)
}

/// What the output is made of beyond a node, but for new shapes and probabilities.
fn after(network: &Network, last: NodeId) -> Option<NodeId> {
    let mut at = network.output();
    while at != last {
        let node = &network.nodes()[at.0];
        match (&node.op, node.inputs.first()) {
            (
                Op::Reshape { .. } | Op::Softmax { .. } | Op::LogSoftmax { .. } | Op::Act(Activation::Sigmoid),
                Some(&before),
            ) => {
                at = before;
            }
            _ => return Some(at),
        }
    }
    None
}

/// Whether a value is the input under another shape.
fn pixels(network: &Network, mut at: NodeId) -> bool {
    loop {
        let node = &network.nodes()[at.0];
        match (&node.op, node.inputs.first()) {
            (Op::Input, _) => return true,
            (Op::Reshape { .. } | Op::Transpose { .. }, Some(&before)) => at = before,
            _ => return false,
        }
    }
}

/// A network of one score with the scores `[0, z]` of two classes, where `z` is that score or what a final sigmoid reads: their
/// softmax is the sigmoid of `z`. Others stay as they are.
pub(crate) fn two_classes(network: Network, notes: &mut Vec<String>) -> Result<Network> {
    if network.output_row() != [1] {
        return Ok(network);
    }
    let (score, sigmoid) = unsquashed(&network);
    let (mut net, _) = network.reopen();
    let mut z = score;
    if net.shape(z).row != [1] {
        z = net.node(format!("{MADE}score"), Op::Reshape { row: vec![1] }, &[z])?;
    }
    let zero = net.param(format!("{MADE}class 0"), Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?);
    let zero = net.node(format!("{MADE}class 0"), Op::Param(zero), &[])?;
    let both = net.node(format!("{MADE}two classes"), Op::Concat { axis: 1 }, &[zero, z])?;
    let undone = if sigmoid { "; the sigmoid at the end is left out" } else { "" };
    notes.push(format!(
        "the output is one number: it counts as the logit of class 1 against 0 for class 0{undone}; `?output=embedding` if it is \
         no score"
    ));
    net.finish(both)
}

/// What a final sigmoid reads, and whether there is one.
fn unsquashed(network: &Network) -> (NodeId, bool) {
    let mut at = network.output();
    loop {
        let node = &network.nodes()[at.0];
        match (&node.op, node.inputs.first()) {
            (Op::Act(Activation::Sigmoid), Some(&score)) => return (score, true),
            (Op::Reshape { .. }, Some(&before)) => at = before,
            _ => return (network.output(), false),
        }
    }
}
