//! Adaptive smoothing (Bai et al. 2023, "Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing"): the
//! probabilities of an accurate and of a robust classifier, mixed for each image in shares that a third network says, from what both
//! hold inside.

use super::scores::{log_sum, scaled};
use crate::bytes;
use crate::files::pth;
use crate::layers::stack::{Conv, Stack};
use crate::loaded::LoadedModel;
use crate::spec::{Source, parse};
use crate::weights::StateDict;
use robust_core::{Error, Kind, Result};
use robust_engine::{Activation, Binary, Builder, Network, NodeId, Op};

/// The accurate member, the robust one, and the file of the mixing network.
pub(super) const FILES: &str = "an accurate model (`bit`), a robust one (`dm-wide-resnet`) and the file of the mixing network, in that order: \
                                `ensemble:NAME.pt_m0.pt+NAME.pt_m1.pt+NAME.pt_m2.pt`";

/// `alpha = range sigmoid(scale gamma + shift) + least` is the robust member's share, where the mixing network says gamma.
#[derive(Debug, Clone, Copy)]
struct Smoothing {
    scale: f64,
    shift: f64,
    range: f64,
    least: f64,
    /// Of the members' logits.
    logits: [f64; 2],
}

impl Smoothing {
    fn new(numbers: &[f64]) -> Result<Self> {
        let &[scale, shift, range, least, first, second] = numbers else {
            return Err(Error::internal("adaptive smoothing has six numbers"));
        };
        if !(range > 0. && least >= 0. && range + least <= 1. + ROUNDING && first > 0. && second > 0.) {
            return Err(Error::usage(
                "of `mix`, alpha's range and both scales must be positive, and alpha must stay between 0 and 1",
            ));
        }
        Ok(Self { scale, shift, range, least, logits: [first, second] })
    }
}

/// What sums of decimals miss.
const ROUNDING: f64 = 1e-12;

/// Lays the mixture over the logits of two members, whose nodes are named `members.0.` and `members.1.`; `file` is the mixing
/// network's.
pub(super) fn lay(
    net: &mut Builder,
    members: &[LoadedModel],
    logits: [NodeId; 2],
    file: &str,
    numbers: &[f64],
) -> Result<NodeId> {
    let smoothing = Smoothing::new(numbers)?;
    let place = || format!("the mixing network `{file}`");
    let mut dict = read(file).map_err(|e| bytes::blame(e).within(place()))?;
    let inner = [inside(net, members, 0)?, inside(net, members, 1)?];
    let mut stack = Stack { dict: &mut dict, net };
    let built = gamma(&mut stack, inner).map_err(|e| dict.cause(e));
    let gamma = built.and_then(|gamma| dict.finish().map(|()| gamma)).map_err(|e| e.within(place()))?;
    mix(net, logits, gamma, smoothing)
}

/// The weights under the names of a checkpoint's two parts: `model.` and `bn.`.
fn read(file: &str) -> Result<StateDict> {
    let parsed = parse(file)?;
    match &parsed.source {
        Source::Safetensors(path) => StateDict::from_bytes(&bytes::read(path)?),
        Source::Pth(path) => {
            let bytes = bytes::read(path)?;
            let within = |key: &str| -> Result<StateDict> {
                let mut views = vec![];
                for part in ["model", "bn"] {
                    let read = pth::read(&bytes, Some(&format!("{key}{part}")))?;
                    views.extend(read.tensors.into_iter().map(|(n, t, s, d)| (format!("{part}.{n}"), t, s, d)));
                }
                StateDict::from_views(views.into_iter())
            };
            match &parsed.options.key {
                Some(key) => within(&format!("{key}.")),
                None => within("").or_else(|first| match first.kind {
                    // No such key: nobody asked for it, the file is another.
                    Kind::Usage => within("state_dict.").map_err(|_| {
                        Error::load(
                            "its weights",
                            "they are not in two parts, `model` and `bn`, as a mixing network's are",
                        )
                    }),
                    _ => Err(first),
                }),
            }
        }
        _ => Err(Error::usage("it is neither a .pth nor a .safetensors file").hint(FILES)),
    }
}

/// Two values inside of a member: what its first and its second stage end in.
fn inside(net: &Builder, members: &[LoadedModel], i: usize) -> Result<[NodeId; 2]> {
    let member = members.get(i).ok_or_else(|| Error::internal("a member is missing"))?;
    let stages: &[[&str; 2]] = match (i, member.family.as_deref()) {
        (0, Some("bit")) => &[["body.block1.", "body.block2."], ["stages.0.", "stages.1."]],
        (1, Some("dm-wide-resnet")) => &[["layer.0.", "layer.1."]],
        _ => &[],
    };
    let last = |network: &Network, stage: &str| {
        let node = network.nodes().iter().rfind(|n| n.name.starts_with(stage))?;
        net.find(&format!("members.{i}.{}", node.name))
    };
    let both = |[a, b]: &[&str; 2]| Some([last(member.graph().ok()?, a)?, last(member.graph().ok()?, b)?]);
    stages.iter().find_map(both).ok_or_else(|| {
        let family = member.family.as_deref().unwrap_or("a graph");
        let why = format!(
            "member {} is {family}: the mixing network reads what `bit` and `dm-wide-resnet` hold inside",
            i + 1
        );
        Error::usage(why).hint(format!("wanted are {FILES}"))
    })
}

/// The mixing network, with the statistics that its only output is normalised by.
fn gamma(stack: &mut Stack, inner: [[NodeId; 2]; 2]) -> Result<NodeId> {
    let joined = |stack: &mut Stack, stage: usize| {
        let both = [inner[0][stage], inner[1][stage]];
        stack.net.node(format!("ensemble.features.{stage}"), Op::Concat { axis: 1 }, &both)
    };
    let (first, second) = (joined(stack, 0)?, joined(stack, 1)?);
    let mut x = stage(stack, first, 0)?;
    let name = "model.conv1x1";
    let second = stack.conv_with(second, name, Conv::same(stack.channels(x), 1, 1), false)?;
    x = stack.add(x, second, "ensemble.features")?;
    for i in 1..stack.dict.count(|i| format!("model.layers.{i}")) {
        x = stage(stack, x, i)?;
    }
    x = stack.mean(x)?;
    x = stack.linear_with(x, "model.linear", 1, false)?;
    let op = Op::BatchNorm {
        mean: stack.param("bn.running_mean".into(), &[1])?,
        var: stack.param("bn.running_var".into(), &[1])?,
        gamma: None,
        beta: None,
        eps: 1e-5,
    };
    stack.net.node("bn", op, &[x])
}

/// Pre-activation blocks, the first of stride 2. Where no convolution stands in the shortcut, the activated input passes by.
fn stage(stack: &mut Stack, mut x: NodeId, i: usize) -> Result<NodeId> {
    for j in 0..stack.dict.count(|j| format!("model.layers.{i}.{j}")) {
        let at = |part: &str| format!("model.layers.{i}.{j}.{part}");
        let stride = if j == 0 { 2 } else { 1 };
        let [out, ..] = stack.dict.sizes::<4>(&at("conv1.weight"))?;
        let first = stack.batch_norm(x, &at("bn1"))?;
        let first = stack.relu(first, &at("relu1"))?;
        let mut skip = first;
        if stride != 1 || stack.channels(x) != out {
            skip = stack.conv_with(first, &at("shortcut.0"), Conv::same(out, 1, stride), false)?;
        }
        let mut y = stack.conv_with(first, &at("conv1"), Conv::same(out, 3, stride), false)?;
        y = stack.batch_norm(y, &at("bn2"))?;
        y = stack.relu(y, &at("relu2"))?;
        y = stack.conv_with(y, &at("conv2"), Conv::same(out, 3, 1), false)?;
        x = stack.add(skip, y, &at("add"))?;
    }
    Ok(x)
}

/// `log((1 - alpha) softmax(a) + alpha softmax(b))`, in logarithms throughout.
fn mix(net: &mut Builder, logits: [NodeId; 2], gamma: NodeId, smoothing: Smoothing) -> Result<NodeId> {
    let Smoothing { scale, shift, range, least, logits: scales } = smoothing;
    let wide = scaled(net, gamma, Binary::Mul, scale, "ensemble.gamma.scaled")?;
    let gamma = scaled(net, wide, Binary::Add, shift, "ensemble.gamma")?;
    let against = net.node("ensemble.against", Op::Act(Activation::Neg), &[gamma])?;
    let shares = [log_share(net, against, 1. - least - range, range, 0)?, log_share(net, gamma, least, range, 1)?];
    let mut parts = vec![];
    for (i, (logits, share)) in logits.into_iter().zip(shares).enumerate() {
        let scores = scaled(net, logits, Binary::Mul, scales[i], &format!("ensemble.scores.{i}"))?;
        let logs = net.node(format!("ensemble.logs.{i}"), Op::LogSoftmax { axis: 1 }, &[scores])?;
        parts.push(net.node(format!("ensemble.part.{i}"), Op::Binary(Binary::Add), &[logs, share])?);
    }
    log_sum(net, &parts)
}

/// `log(least + range sigmoid(x))`, also where `least` is 0 and the rest underflows.
fn log_share(net: &mut Builder, x: NodeId, least: f64, range: f64, i: usize) -> Result<NodeId> {
    let at = |part: &str| format!("ensemble.mixed.{i}.{part}");
    if least <= ROUNDING {
        let minus = net.node(at("minus"), Op::Act(Activation::Neg), &[x])?;
        let soft = net.node(at("soft"), Op::Act(Activation::Softplus), &[minus])?;
        let log = net.node(at("below"), Op::Act(Activation::Neg), &[soft])?;
        return scaled(net, log, Binary::Add, range.ln(), &at("log"));
    }
    let open = net.node(at("open"), Op::Act(Activation::Sigmoid), &[x])?;
    let part = scaled(net, open, Binary::Mul, range, &at("part"))?;
    let share = scaled(net, part, Binary::Add, least, &at("share"))?;
    net.node(at("log"), Op::Act(Activation::Log), &[share])
}
