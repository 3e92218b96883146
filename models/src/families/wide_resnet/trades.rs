//! `wide-resnet`: wide residual networks for CIFAR (Zagoruyko and Komodakis 2016) in the form of TRADES and most of
//! RobustBench. Depth and width follow from the tensors.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual, activation};
use crate::layers::tokens::{made, scale, unit, values};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op, Reduction};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "wide-resnet",
    doc: "3x3 stem (conv1), groups block1, block2, block3 of pre-activation blocks (layer.N: bn1, conv1, bn2, conv2, \
          convShortcut; stride 2 from block2 on), bn1, ReLU (`activation=`, or Dai et al. 2022's where the file has \
          activation.alpha), global mean, linear (fc); `variant=cosine` where features and class weights are scaled to \
          length 1 (Pang et al. 2020), `variant=standardised` for pixels scaled image by image (Ding et al. 2020)",
    params: &["activation", "variant"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    ["conv1.weight", "block1.layer.0.bn1.weight", "block1.layer.0.conv1.weight", "bn1.weight", "fc.weight"]
        .iter()
        .all(|n| dict.contains(n))
}

/// What no tensor tells.
#[derive(Clone, Copy, PartialEq)]
enum Variant {
    Plain,
    /// Features and class weights have length 1 (Pang et al. 2020).
    Cosine,
    /// Each image has mean 0 and deviation 1 (Ding et al. 2020).
    Standardised,
}

fn variant(dict: &mut StateDict, options: &Options) -> Result<Variant> {
    if options.variant.is_none() && !dict.contains("fc.bias") {
        dict.note(
            "`fc` has no bias; the tensors do not tell whether scores are cosines, as in Pang et al. 2020: `?variant=cosine` if \
             features and class weights are scaled to length 1",
        );
    }
    match options.variant.as_deref() {
        None | Some("plain") => Ok(Variant::Plain),
        Some("cosine") => Ok(Variant::Cosine),
        Some("standardised") => Ok(Variant::Standardised),
        Some(other) => Err(Error::usage(format!("variant = `{other}` is not one of this architecture's"))
            .hint("say `variant=plain`, `variant=cosine` or `variant=standardised`")),
    }
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let (variant, learned) = (variant(dict, options)?, dict.any("activation."));
    let act = if learned { Act::Learned } else { Act::Plain(activation(options, Activation::Relu)?) };
    if learned && options.activation.is_some() {
        return Err(Error::usage("`activation` is in the file: `activation.alpha` and `activation.beta`"));
    }
    if learned {
        dict.ignore_ending(".activation.alpha", "all blocks share the one at the top");
        dict.ignore_ending(".activation.beta", "all blocks share the one at the top");
    }
    dict.ignore("sub_block1.", "TRADES' code declares them and never calls them");
    let [stem, channels, ..] = dict.sizes::<4>("conv1.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], Usual::Raw)?;
    if variant == Variant::Standardised {
        x = standardised(&mut stack, x)?;
    }
    x = stack.conv(x, "conv1", Conv::same(stem, 3, 1))?;
    let name = |i, j| format!("block{}.layer.{j}", i + 1);
    x = stack.stages(x, name, |stack, x, name, stride| block(stack, x, name, (stride, "convShortcut"), act))?;
    x = stack.batch_norm(x, "bn1")?;
    x = act.lay(&mut stack, x, "relu")?;
    match variant {
        Variant::Cosine => cosines(&mut stack, x),
        _ => stack.pooled_head_maybe_biased(x, "fc"),
    }
}

/// The activation of all blocks.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    Plain(Activation),
    /// Dai et al. 2022's, learned: `x (sigmoid(|alpha| x) - |beta|) / (1 - |beta|)`, one for the whole network.
    Learned,
}

impl Act {
    pub fn lay(self, stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let Act::Plain(act) = self else { return learned(stack, x, name) };
        stack.act(x, name, act)
    }
}

fn learned(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let one = |stack: &mut Stack, part: &str| -> Result<f64> {
        Ok(values(&stack.dict.take(&format!("activation.{part}"), &[1])?)?.first().copied().unwrap_or(0.).abs())
    };
    let (alpha, beta) = (one(stack, "alpha")?, one(stack, "beta")?);
    if beta == 1. {
        return Err(Error::load("`activation.beta`", "at 1 or -1 the activation divides by zero"));
    }
    let at = |part: &str| format!("{name}.{part}");
    let y = scale(stack, x, alpha, &at("scaled"))?;
    let y = stack.act(y, &at("gate"), Activation::Sigmoid)?;
    let shift = made(stack, &at("shift"), vec![-beta], &[])?;
    let y = stack.add(y, shift, &at("shifted"))?;
    let y = stack.net.node(at("gated"), Op::Binary(Binary::Mul), &[x, y])?;
    scale(stack, y, 1. / (1. - beta), &at("out"))
}

/// Where the width changes, the shortcut reads the activated input; elsewhere the input itself passes by.
pub(crate) fn block(
    stack: &mut Stack,
    x: NodeId,
    name: &str,
    (stride, shortcut): (usize, &str),
    act: Act,
) -> Result<NodeId> {
    let shortcut = format!("{name}.{shortcut}");
    let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv1.weight"))?;
    let mut first = stack.batch_norm(x, &format!("{name}.bn1"))?;
    first = act.lay(stack, first, &format!("{name}.relu1"))?;
    let mut y = stack.conv(first, &format!("{name}.conv1"), Conv::same(out, 3, stride))?;
    y = stack.batch_norm(y, &format!("{name}.bn2"))?;
    y = act.lay(stack, y, &format!("{name}.relu2"))?;
    y = stack.conv(y, &format!("{name}.conv2"), Conv::same(out, 3, 1))?;
    let skip = match stack.channels(x) == out && !stack.dict.any(&format!("{shortcut}.")) {
        true => x,
        false => stack.conv(first, &shortcut, Conv::same(out, 1, stride))?,
    };
    stack.add(skip, y, &format!("{name}.add"))
}

/// `(x - mean) / max(deviation, 1 / sqrt(n))` over all `n` entries of an image.
fn standardised(stack: &mut Stack, x: NodeId) -> Result<NodeId> {
    let n = stack.net.shape(x).len() as f64;
    let all = |kind| Op::Reduce { kind, axes: vec![1, 2, 3], keep: true };
    let mean = stack.net.node("standardise.mean", all(Reduction::Mean), &[x])?;
    let x = stack.net.node("standardise.centred", Op::Binary(Binary::Sub), &[x, mean])?;
    let squares = stack.net.node("standardise.squares", Op::Binary(Binary::Mul), &[x, x])?;
    let sum = stack.net.node("standardise.sum", all(Reduction::Sum), &[squares])?;
    let var = scale(stack, sum, 1. / (n - 1.).max(1.), "standardise.variance")?;
    let var = stack.act(var, "standardise.floor", Activation::Clip(1. / n, f64::INFINITY))?;
    let std = stack.act(var, "standardise.deviation", Activation::Sqrt)?;
    stack.net.node("standardised", Op::Binary(Binary::Div), &[x, std])
}

/// The cosines of the features with each class's weights.
fn cosines(stack: &mut Stack, x: NodeId) -> Result<NodeId> {
    let x = stack.mean(x)?;
    let width = stack.net.shape(x).len();
    let [classes, _] = stack.dict.sizes("fc.weight")?;
    let weights = stack.dict.take("fc.weight", &[classes, width])?;
    let mut rows = values(&weights)?;
    for row in rows.chunks_mut(width) {
        // As torch bounds a length from below.
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v /= length);
    }
    let x = unit(stack, x, "features.unit")?;
    let weight = stack.net.param("fc.weight", candle_core::Tensor::from_vec(rows, weights.dims(), weights.device())?);
    let bias = stack.dict.contains("fc.bias").then(|| stack.param("fc.bias".into(), &[classes])).transpose()?;
    stack.net.node("fc", Op::Linear { weight, bias }, &[x])
}
