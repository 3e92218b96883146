//! MixedNUTS (Bai et al. 2024, "Training-Free Accuracy-Robustness Balance via Nonlinearly Mixed Classifiers"): the probabilities of an
//! accurate and of a robust classifier in fixed shares, after maps of their logits that no training made.
//!
//! The accurate one counts by its decision. Its authors' class judges by the exact decision and takes gradients of a softmax of normalised
//! logits times a million; here that softmax is both. The two differ where the first two logits are within 4e-5 of their deviation.

use super::scores::{Way, log_sum, scaled};
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op, Reduction};

/// Mean and deviation are of so many of the largest logits.
const TOP: usize = 250;
const EPS: f64 = 1e-8;
/// Of the decision's softmax.
const SHARP: f64 = 1e6;
/// Of the robust member's share, what the stand-in takes without its map.
const RAW: f64 = 0.9;

/// `scale |GELU(z + shift)|^power` with its sign, of the robust member's normalised logits `z`, and its share.
#[derive(Debug, Clone, Copy)]
struct Map {
    scale: f64,
    shift: f64,
    power: f64,
    share: f64,
    bypassed_share: f64,
}

impl Map {
    fn new(numbers: &[f64]) -> Result<Self> {
        let &[scale, shift, power, share, bypassed_share] = numbers else {
            return Err(Error::internal("a map has five numbers"));
        };
        let inside = |s: f64| s > 0. && s < 1.;
        if !(scale > 0. && inside(share) && inside(bypassed_share)) {
            return Err(Error::usage("of `mix`, the scale must be positive and both shares between 0 and 1"));
        }
        // Below 2 the slope's own slope is infinite at 0.
        if power != 1. && !(2. ..=16.).contains(&power) {
            return Err(Error::usage(format!("of `mix`, the power must be 1 or from 2 to 16, not {power}")));
        }
        Ok(Self { scale, shift, power, share, bypassed_share })
    }
}

/// Lays the mixture over the logits of the accurate and of the robust member.
pub(super) fn lay(net: &mut Builder, logits: [NodeId; 2], way: Way, numbers: &[f64]) -> Result<NodeId> {
    let map = Map::new(numbers)?;
    let [accurate, robust] = logits;
    let mapped = mapped(net, robust, map)?;
    let mut parts = vec![];
    if way == Way::MixedNutsBypassed {
        let share = map.bypassed_share;
        parts.push(part(net, accurate, 1. - share, "accurate")?);
        parts.push(part(net, robust, share * RAW, "robust")?);
        parts.push(part(net, mapped, share * (1. - RAW), "mapped")?);
    } else {
        net.steep();
        let (normed, factor) = normalised(net, accurate, "accurate")?;
        let decision = scaled(net, normed, Binary::Mul, SHARP * factor, "ensemble.accurate.decision")?;
        parts.push(part(net, decision, 1. - map.share, "accurate")?);
        parts.push(part(net, mapped, map.share, "mapped")?);
    }
    log_sum(net, &parts)
}

/// The logarithm of a share of the probabilities that logits say.
fn part(net: &mut Builder, logits: NodeId, share: f64, name: &str) -> Result<NodeId> {
    let logs = net.node(format!("ensemble.{name}.logs"), Op::LogSoftmax { axis: 1 }, &[logits])?;
    scaled(net, logs, Binary::Add, share.ln(), &format!("ensemble.{name}.part"))
}

fn mapped(net: &mut Builder, logits: NodeId, map: Map) -> Result<NodeId> {
    let at = |name: &str| format!("ensemble.robust.{name}");
    let (normed, factor) = normalised(net, logits, "robust")?;
    let z = scaled(net, normed, Binary::Mul, factor, &at("z"))?;
    let shifted = scaled(net, z, Binary::Add, map.shift, &at("shifted"))?;
    let mut y = net.node(at("clamped"), Op::Act(Activation::Gelu), &[shifted])?;
    if map.power != 1. {
        // y |y|^(power - 1): the power of the size, with the sign of y.
        let size = net.node(at("size"), Op::Act(Activation::Abs), &[y])?;
        let raised = scaled(net, size, Binary::Pow, map.power - 1., &at("raised"))?;
        y = net.node(at("power"), Op::Binary(Binary::Mul), &[y, raised])?;
    }
    scaled(net, y, Binary::Mul, map.scale, &at("mapped"))
}

/// Logits less the mean of the largest, over their deviation (of the unbiased variance), but for a factor that is returned.
fn normalised(net: &mut Builder, x: NodeId, name: &str) -> Result<(NodeId, f64)> {
    let classes = net.shape(x).len();
    if classes < 2 {
        return Err(Error::usage("MixedNUTS needs scores of at least two classes"));
    }
    let at = |part: &str| format!("ensemble.{name}.{part}");
    if classes <= TOP {
        // A layer norm has the biased variance.
        let bias = (classes - 1) as f64 / classes as f64;
        let op = Op::LayerNorm { gamma: None, beta: None, eps: EPS * bias };
        return Ok((net.node(at("normed"), op, &[x])?, bias.sqrt()));
    }
    let sum = Op::Reduce { kind: Reduction::Sum, axes: vec![1], keep: true };
    let top = net.node(at("top"), Op::KeepTop { k: TOP }, &[x])?;
    let total = net.node(at("total"), sum.clone(), &[top])?;
    let mean = scaled(net, total, Binary::Mul, 1. / TOP as f64, &at("mean"))?;
    let centred = net.node(at("centred"), Op::Binary(Binary::Sub), &[x, mean])?;
    let kept = net.node(at("kept"), Op::KeepTop { k: TOP }, &[centred])?;
    let squares = net.node(at("squares"), Op::Binary(Binary::Mul), &[kept, kept])?;
    let total = net.node(at("square"), sum, &[squares])?;
    let variance = scaled(net, total, Binary::Mul, 1. / (TOP - 1) as f64, &at("variance"))?;
    let above = scaled(net, variance, Binary::Add, EPS, &at("above"))?;
    let deviation = net.node(at("deviation"), Op::Act(Activation::Sqrt), &[above])?;
    Ok((net.node(at("normed"), Op::Binary(Binary::Div), &[centred, deviation])?, 1.))
}
