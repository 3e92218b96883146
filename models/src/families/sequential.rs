//! One's own `nn.Sequential`, told layer by layer: `?layers=conv(s=2,p=1),relu,flatten,linear`.
//!
//! The layers stand in the order of the `nn.Sequential`, those without weights too: their places are the names of the tensors (`0.weight`,
//! `2.weight`, ..). A layer of another name says it: `fc1:linear`, `features.0:conv(p=1)`. How wide a layer is and how large a kernel,
//! the tensors say; defaults are PyTorch's.
//!
//! | layer | arguments |
//! |---|---|
//! | `conv` | `s` stride 1, `p` padding 0, `d` dilation 1, `g` groups 1 |
//! | `linear`, `flatten`, `dropout`, `identity` | |
//! | `bn`, `ln` | `eps` 1e-5 |
//! | `maxpool`, `avgpool` | `k` kernel, `s` stride `k`, `p` padding 0 |
//! | `adaptiveavgpool` | `k` side 1 |
//! | `relu`, `relu6`, `silu`, `gelu`, `tanh`, `sigmoid`, `softplus` | |
//! | `leakyrelu`, `elu` | `a` 0.01, 1 |

use super::architecture::Built;
use super::prefixes::unwrapped;
use crate::layers::stack::{Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result, nearest};
use robust_engine::{Activation, Builder, NodeId, Op, Window};

const KINDS: &[&str] = &[
    "conv",
    "linear",
    "flatten",
    "dropout",
    "identity",
    "bn",
    "ln",
    "maxpool",
    "avgpool",
    "adaptiveavgpool",
    "relu",
    "relu6",
    "silu",
    "gelu",
    "tanh",
    "sigmoid",
    "softplus",
    "leakyrelu",
    "elu",
];
/// Sides of images tried where the tensors leave it open, and layers in a network.
const SIDES: [usize; 9] = [28, 32, 64, 96, 128, 160, 224, 256, 299];
const MOST: usize = 1000;
/// Largest stride, padding, dilation, kernel and number of groups.
const LARGEST: f64 = 65536.;

struct Layer<'a> {
    name: String,
    kind: &'a str,
    /// What is written in parentheses; the first without a name is `k`, or `a` of an activation.
    args: Vec<(&'a str, f64)>,
}

/// The network of these layers.
///
/// # Errors
/// Kind `Usage` for layers that are not known, kind `Load` for weights that do not fit them.
pub(crate) fn build(weights: &StateDict, told: &str, options: &Options) -> Result<Built> {
    if options.arch.is_some() || options.variant.is_some() || options.heads.is_some() || options.activation.is_some() {
        return Err(Error::usage("`layers` tells the whole network: leave `arch` and its parameters out"));
    }
    let layers = parse(told)?;
    let candidates = match &options.strip {
        Some(prefix) => vec![crate::families::prefixes::stripped(weights, prefix)?],
        None => unwrapped(weights),
    };
    let fits = |dict: &&StateDict| layers.iter().filter(|l| l.weighs()).all(|l| dict.any(&format!("{}.", l.name)));
    let dict = candidates.iter().find(fits).or(candidates.first()).unwrap_or(weights);
    let channels = channels(dict, &layers)?;
    let sizes: Vec<[usize; 3]> = match options.input {
        Some(size) => vec![size],
        None => SIDES.map(|side| [channels, side, side]).to_vec(),
    };
    let mut failed = None;
    for size in &sizes {
        let mut dict = dict.clone();
        match lay(&mut dict, &layers, *size, options) {
            Ok(network) => {
                if options.input.is_none() {
                    dict.note(format!(
                        "images are taken as {} pixels wide: the first size that fits the last layers",
                        size[2]
                    ));
                }
                let (notes, ignored) = (dict.notes().to_vec(), dict.ignored().to_vec());
                return Ok(Built { network, family: "layers", notes, ignored, embeds: false });
            }
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    let error = failed.unwrap_or_else(|| Error::internal("no size was tried")).within("layers");
    Err(match options.input {
        Some(_) => error,
        None => error.hint("if the layers are right, say the size of the images: `?input=CxHxW`"),
    })
}

/// Channels of the first layer with weights, for which a linear one reads flat pixels of one channel.
fn channels(dict: &StateDict, layers: &[Layer]) -> Result<usize> {
    let first = layers.iter().find(|l| l.weighs());
    let first = first.ok_or_else(|| {
        Error::usage("none of the `layers` has weights").hint("for instance `conv(p=1),relu,flatten,linear`")
    })?;
    Ok(match first.kind {
        "conv" => {
            let [_, channels, ..] = dict.sizes::<4>(&format!("{}.weight", first.name))?;
            channels.saturating_mul(first.whole("g", 1)?)
        }
        _ => 1,
    })
}

fn lay(dict: &mut StateDict, layers: &[Layer], size: [usize; 3], options: &Options) -> Result<robust_engine::Network> {
    let mut net = Builder::new();
    let mut stack = Stack { dict, net: &mut net };
    let laid =
        stack.input(options, size, Usual::Raw).and_then(|x| layers.iter().try_fold(x, |x, l| l.lay(&mut stack, x)));
    let out = laid.map_err(|e| dict.cause(e))?;
    dict.finish()?;
    net.finish(out)
}

fn parse(told: &str) -> Result<Vec<Layer<'_>>> {
    let mut depth = 0;
    let pieces = told.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    let layers = pieces.take(MOST).enumerate().map(|(i, text)| one(i, text.trim())).collect::<Result<Vec<_>>>()?;
    Ok(layers)
}

fn one(place: usize, text: &str) -> Result<Layer<'_>> {
    let (head, inside) = match text.split_once('(') {
        Some((head, rest)) => {
            (head, rest.strip_suffix(')').ok_or_else(|| Error::usage(format!("`{text}` has no `)`")))?)
        }
        None => (text, ""),
    };
    let (name, kind) = head.rsplit_once(':').map_or((place.to_string(), head), |(name, kind)| (name.to_string(), kind));
    if !KINDS.contains(&kind) {
        let close = nearest(kind, KINDS.iter().copied()).map(|k| format!("did you mean `{k}`? "));
        return Err(Error::usage(format!("`{kind}` is not a layer known here")).hint(format!(
            "{}known: {}",
            close.unwrap_or_default(),
            KINDS.join(", ")
        )));
    }
    let mut layer = Layer { name, kind, args: vec![] };
    for pair in inside.split(',').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((layer.first(), pair));
        let value = value.trim().parse().ok().filter(|v: &f64| v.is_finite());
        let known = layer.known().contains(&key.trim());
        match value.filter(|_| known) {
            Some(value) => layer.args.push((key.trim(), value)),
            None => {
                let takes = layer.known().iter().map(|k| format!("`{k}=`")).collect::<Vec<_>>().join(", ");
                let takes = if takes.is_empty() { "nothing".into() } else { format!("numbers: {takes}") };
                return Err(Error::usage(format!("`{pair}` of `{text}` is not understood"))
                    .hint(format!("`{kind}` takes {takes}")));
            }
        }
    }
    Ok(layer)
}

impl Layer<'_> {
    fn weighs(&self) -> bool {
        ["conv", "linear", "bn", "ln"].contains(&self.kind)
    }

    fn known(&self) -> &'static [&'static str] {
        match self.kind {
            "conv" => &["s", "p", "d", "g"],
            "bn" | "ln" => &["eps"],
            "maxpool" | "avgpool" => &["k", "s", "p"],
            "adaptiveavgpool" => &["k"],
            "leakyrelu" | "elu" => &["a"],
            _ => &[],
        }
    }

    /// The name of an argument that has none.
    fn first(&self) -> &'static str {
        self.known().iter().find(|k| ["k", "a"].contains(k)).copied().unwrap_or("")
    }

    fn number(&self, key: &str, usual: f64) -> f64 {
        self.args.iter().rev().find(|(k, _)| *k == key).map_or(usual, |(_, v)| *v)
    }

    /// A whole number; 0 only where that makes sense.
    fn whole(&self, key: &str, usual: usize) -> Result<usize> {
        let value = self.number(key, usual as f64);
        let least = if key == "p" { 0. } else { 1. };
        if value.fract() != 0. || !(least..=LARGEST).contains(&value) {
            return Err(Error::usage(format!("`{key}` of the layer `{}` is {value}, not a whole number", self.kind)));
        }
        Ok(value as usize)
    }

    fn window(&self) -> Result<Window> {
        let kernel = self.whole("k", 0)?;
        let (stride, pad) = (self.whole("s", kernel)?, self.whole("p", 0)?);
        Ok(Window { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4], ceil: false })
    }

    fn lay(&self, s: &mut Stack, x: NodeId) -> Result<NodeId> {
        let name = self.name.as_str();
        let op = match self.kind {
            "conv" => return self.conv(s, x),
            "linear" => {
                let [out, _] = s.dict.sizes(&format!("{name}.weight"))?;
                let biased = s.dict.contains(&format!("{name}.bias"));
                return s.linear_with(x, name, out, biased);
            }
            "bn" => return s.batch_norm_with(x, name, self.number("eps", 1e-5)),
            "ln" => return s.layer_norm(x, name, self.number("eps", 1e-5)),
            "flatten" => Op::Reshape { row: vec![s.net.shape(x).len()] },
            "dropout" | "identity" => return Ok(x),
            "maxpool" => Op::MaxPool(self.window()?),
            "avgpool" => Op::AvgPool { window: self.window()?, count_pads: true },
            "adaptiveavgpool" => return s.mean_to(x, name, self.whole("k", 1)?),
            activation => Op::Act(self.activation(activation)),
        };
        s.net.node(name, op, &[x])
    }

    fn conv(&self, s: &mut Stack, x: NodeId) -> Result<NodeId> {
        let weight = format!("{}.weight", self.name);
        let [out, _, height, width] = s.dict.sizes::<4>(&weight)?;
        let [stride, pad] = [self.whole("s", 1)?, self.whole("p", 0)?];
        let [dilation, groups] = [self.whole("d", 1)?, self.whole("g", 1)?];
        let channels = s.channels(x) / groups;
        let weight = s.param(weight, &[out, channels, height, width])?;
        let bias = format!("{}.bias", self.name);
        let bias = s.dict.contains(&bias).then(|| s.param(bias.clone(), &[out])).transpose()?;
        let op = Op::Conv2d { weight, bias, stride: [stride; 2], dilation: [dilation; 2], pads: [pad; 4], groups };
        s.net.node(&self.name, op, &[x])
    }

    fn activation(&self, name: &str) -> Activation {
        match name {
            "relu6" => Activation::Clip(0., 6.),
            "silu" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "softplus" => Activation::Softplus,
            "leakyrelu" => Activation::LeakyRelu(self.number("a", 0.01)),
            "elu" => Activation::Elu(self.number("a", 1.)),
            _ => Activation::Relu,
        }
    }
}
