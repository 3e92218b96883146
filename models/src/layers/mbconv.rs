//! What EfficientNet and MobileNetV3 share: convolutions with batch norm, and the rules that the tensors do not tell.

use super::stack::{Conv, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, NodeId, Op, Reduction};

/// How a package pads, and the epsilon of its batch norms.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Rules {
    /// TensorFlow's `SAME`: as many zeros as the size asks for, the odd one below and to the right.
    pub same: bool,
    pub eps: f64,
}

pub(crate) const PLAIN: Rules = Rules { same: false, eps: 1e-5 };
pub(crate) const PLAIN_WIDE: Rules = Rules { same: false, eps: 1e-3 };
pub(crate) const TF: Rules = Rules { same: true, eps: 1e-3 };

/// The rules that a user names.
pub(crate) fn named(options: &Options) -> Result<Option<Rules>> {
    const KNOWN: [(&str, Rules); 3] = [("tf", TF), ("plain", PLAIN), ("plain-1e-3", PLAIN_WIDE)];
    let Some(name) = &options.variant else { return Ok(None) };
    match KNOWN.iter().find(|(n, _)| n == name) {
        Some((_, rules)) => Ok(Some(*rules)),
        None => Err(Error::usage(format!("`{name}` is not a variant known here")).hint(HINT)),
    }
}

const HINT: &str = "`?variant=tf` pads as TensorFlow with epsilon 1e-3 (timm's `tf_*` and pruned models), `?variant=plain` pads \
                    evenly with epsilon 1e-5 (timm's other models, torchvision's b0 to b4), `?variant=plain-1e-3` pads evenly \
                    with epsilon 1e-3 (torchvision's b5 to b7 and V2)";

/// Two functions have these names and shapes: the user must say which.
pub(crate) fn ambiguous(what: &str) -> Error {
    Error::usage(format!("{what}: the tensors do not tell the padding and the epsilon of the batch norms")).hint(HINT)
}

/// One convolution with its batch norm, and perhaps an activation.
pub(crate) struct Layer<'a> {
    pub conv: &'a str,
    pub norm: &'a str,
    pub stride: usize,
    pub act: Option<Activation>,
    pub groups: Groups,
}

/// What a convolution beyond 1x1 may be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Groups {
    /// Of all channels, or of each alone if its tensor is so.
    AllOrOne,
    /// Of groups as wide as its tensor.
    Any,
}

impl Layer<'_> {
    /// Kernel, width and groups are those of the tensor.
    pub fn lay(&self, stack: &mut Stack, x: NodeId, rules: Rules) -> Result<NodeId> {
        let weight = format!("{}.weight", self.conv);
        let [out, inner, kernel, _] = stack.dict.sizes(&weight)?;
        let channels = stack.channels(x);
        let groups = match self.groups {
            _ if kernel == 1 => 1,
            Groups::AllOrOne => {
                if inner == 1 {
                    channels
                } else {
                    1
                }
            }
            Groups::Any if inner > 0 && channels.is_multiple_of(inner) => channels / inner,
            Groups::Any => {
                let why = format!("{channels} channels do not divide into groups of {inner}");
                return Err(Error::load(format!("`{weight}`"), why));
            }
        };
        let conv = Conv::same(out, kernel, self.stride).grouped(groups);
        let conv = if rules.same { Conv { pads: around(stack, x, kernel, self.stride), ..conv } } else { conv };
        let x = stack.conv_with(x, self.conv, conv, false)?;
        let x = stack.batch_norm_with(x, self.norm, rules.eps)?;
        self.act.map_or(Ok(x), |act| stack.act(x, &format!("{}.act", self.norm), act))
    }
}

/// `SAME` padding of an image.
fn around(stack: &Stack, x: NodeId, kernel: usize, stride: usize) -> [usize; 4] {
    let row = &stack.net.shape(x).row;
    let [height, width] = [1, 2].map(|axis| {
        let size = row.get(axis).copied().unwrap_or(0);
        let rest = if size.is_multiple_of(stride) { stride } else { size % stride };
        kernel.saturating_sub(rest)
    });
    [height / 2, width / 2, height - height / 2, width - width / 2]
}

/// Squeeze and excitation: channels scaled by what two 1x1 convolutions make of their means.
pub(crate) struct Excite<'a> {
    pub narrow: &'a str,
    pub wide: &'a str,
    pub act: Activation,
    pub gate: Activation,
}

/// `clamp(x / 6 + 1/2, 0, 1)`.
pub(crate) const HARD_SIGMOID: Activation = Activation::HardSigmoid { alpha: 1. / 6., beta: 0.5 };

impl Excite<'_> {
    pub fn lay(&self, stack: &mut Stack, x: NodeId) -> Result<NodeId> {
        let Self { narrow, wide, act, gate } = *self;
        let channels = stack.channels(x);
        let [reduced, ..] = stack.dict.sizes::<4>(&format!("{narrow}.weight"))?;
        let mean = Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: true };
        let y = stack.net.node(format!("{narrow}.mean"), mean, &[x])?;
        let y = stack.conv_with(y, narrow, Conv::same(reduced, 1, 1), true)?;
        let y = stack.act(y, &format!("{narrow}.act"), act)?;
        let y = stack.conv_with(y, wide, Conv::same(channels, 1, 1), true)?;
        let y = stack.act(y, &format!("{wide}.gate"), gate)?;
        stack.net.node(format!("{wide}.scaled"), Op::Binary(Binary::Mul), &[x, y])
    }
}

/// Squeeze and excitation with ReLU and sigmoid by the two convolutions of these names, if the file has them.
pub(crate) fn excited(stack: &mut Stack, x: NodeId, [narrow, wide]: [&str; 2]) -> Result<NodeId> {
    match [narrow, wide].iter().any(|conv| stack.dict.any(&format!("{conv}."))) {
        true => Excite { narrow, wide, act: Activation::Relu, gate: Activation::Sigmoid }.lay(stack, x),
        false => Ok(x),
    }
}

/// One block of a mobile network, as its tensors have it.
pub(crate) struct Block {
    name: String,
    /// Convolutions with their norms, in order.
    layers: Vec<[String; 2]>,
    /// The two convolutions of squeeze and excitation, before the last layer.
    excite: Option<[String; 2]>,
}

/// What a block computes beside its convolutions.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub rules: Rules,
    pub act: Activation,
    /// Between the two convolutions of squeeze and excitation.
    pub inner: Activation,
    pub gate: Activation,
}

impl Block {
    /// `block.0`, `block.1`, ... below its name, one of which may be squeeze and excitation.
    pub fn torchvision(dict: &StateDict, name: &str) -> Self {
        let (mut layers, mut excite) = (vec![], None);
        for part in (0..dict.count(|k| format!("{name}.block.{k}"))).map(|k| format!("{name}.block.{k}")) {
            match dict.contains(&format!("{part}.fc1.weight")) {
                true => excite = Some([format!("{part}.fc1"), format!("{part}.fc2")]),
                false => layers.push([format!("{part}.0"), format!("{part}.1")]),
            }
        }
        Self { name: name.to_string(), layers, excite }
    }

    /// One of timm's kinds: one convolution, a fused, a separable or an inverted residual one.
    pub fn timm(dict: &StateDict, name: &str) -> Self {
        const KINDS: [&[&str]; 4] =
            [&["conv"], &["conv_exp", "conv_pwl"], &["conv_pw", "conv_dw", "conv_pwl"], &["conv_dw", "conv_pw"]];
        let has = |part: &&str| dict.any(&format!("{name}.{part}."));
        let kind = KINDS.into_iter().find(|parts| parts.iter().all(has)).unwrap_or(KINDS[2]);
        let layers = kind.iter().enumerate();
        let layers = layers.map(|(i, part)| [format!("{name}.{part}"), format!("{name}.bn{}", i + 1)]).collect();
        let excite = ["se.conv_reduce", "se.conv_expand"].map(|part| format!("{name}.{part}"));
        Self { name: name.to_string(), layers, excite: has(&"se").then_some(excite) }
    }

    /// Whether its first layer both widens and looks around: EfficientNetV2's.
    pub fn fused(&self, dict: &StateDict) -> bool {
        self.excite.is_none()
            && self.layers.first().is_some_and(|[conv, _]| kernel(dict, conv) > 1 && !depthwise(dict, conv))
    }

    pub fn lay(&self, stack: &mut Stack, x: NodeId, stride: usize, style: Style) -> Result<NodeId> {
        // The first layer that looks around halves the size.
        let halving = self.layers.iter().position(|[conv, _]| kernel(stack.dict, conv) > 1).unwrap_or(0);
        let last = self.layers.len().saturating_sub(1);
        let mut y = x;
        for (i, [conv, norm]) in self.layers.iter().enumerate() {
            if let Some([narrow, wide]) = self.excite.as_ref().filter(|_| i == last) {
                y = Excite { narrow, wide, act: style.inner, gate: style.gate }.lay(stack, y)?;
            }
            let act = (i < last || last == 0).then_some(style.act);
            let stride = if i == halving { stride } else { 1 };
            y = Layer { conv, norm, stride, act, groups: Groups::AllOrOne }.lay(stack, y, style.rules)?;
        }
        match stride == 1 && stack.channels(x) == stack.channels(y) {
            true => stack.add(x, y, &format!("{}.add", self.name)),
            false => Ok(y),
        }
    }
}

fn kernel(dict: &StateDict, conv: &str) -> usize {
    dict.dims(&format!("{conv}.weight")).and_then(|d| d.last().copied()).unwrap_or(1)
}

fn depthwise(dict: &StateDict, conv: &str) -> bool {
    dict.dims(&format!("{conv}.weight")).is_some_and(|d| d.get(1) == Some(&1))
}
