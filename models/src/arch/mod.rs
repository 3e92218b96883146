//! Named architectures: what to build around the weights of a state dict. One file each and one line in the index.

mod cifar_resnet;
mod mnist_cnn;

use crate::safetensors::StateDict;
use crate::{Options, normalise};
use robust_core::{Error, Result, nearest};
use robust_engine::{Activation, Builder, Network, NodeId, Op};

/// How to recognise and build one family of networks.
pub struct Architecture {
    pub name: &'static str,
    pub doc: &'static str,
    /// Whether the tensor names are this architecture's, its prefix stripped.
    pub detect: fn(&StateDict) -> bool,
    /// Declares the input and builds up to the logits; returns the output node.
    pub build: fn(&mut StateDict, &mut Builder, &Options) -> Result<NodeId>,
}

pub static ARCHITECTURES: &[Architecture] = &[mnist_cnn::ARCHITECTURE, cifar_resnet::ARCHITECTURE];

/// The network of a state dict. Without `options.arch` the architecture is recognised from the names, with `strip` or
/// else any prefix they share taken off. Errors are of kind `Load` and list every tensor that is missing, left over or
/// of the wrong shape.
pub fn build(weights: &StateDict, options: &Options) -> Result<Network> {
    let mut candidates = match &options.strip {
        Some(prefix) if !weights.names().any(|n| n.starts_with(prefix.as_str())) => {
            let first = weights.names().next().unwrap_or("none");
            return Err(Error::load(
                "the weights",
                format!("no tensor name starts with `{prefix}` (the first is `{first}`)"),
            ));
        }
        Some(prefix) => vec![weights.strip(prefix)],
        None => unwrapped(weights),
    };
    let (arch, found) = match &options.arch {
        Some(name) => {
            let arch = find(name)?;
            let at = candidates.iter().position(|c| (arch.detect)(c)).unwrap_or(0);
            (arch, candidates.swap_remove(at))
        }
        None => recognise(candidates)?,
    };
    let (mut dict, mut net) = (found, Builder::new());
    match (arch.build)(&mut dict, &mut net, options) {
        Ok(output) => {
            dict.finish().map_err(|e| e.within(format!("architecture {}", arch.name)))?;
            net.finish(output)
        }
        // A shape error is most likely the echo of a tensor already known to be wrong.
        Err(error) => Err(dict.so_far().err().unwrap_or(error).within(format!("architecture {}", arch.name))),
    }
}

fn known() -> String {
    ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}

fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
        let hint = match nearest(name, ARCHITECTURES.iter().map(|a| a.name)) {
            Some(close) => format!("did you mean `{close}`? known: {}", known()),
            None => format!("known: {}; any model can be exported to ONNX instead", known()),
        };
        Error::usage(format!("unknown architecture `{name}`")).hint(hint)
    })
}

fn recognise(candidates: Vec<StateDict>) -> Result<(&'static Architecture, StateDict)> {
    for dict in candidates {
        let fits: Vec<_> = ARCHITECTURES.iter().filter(|a| (a.detect)(&dict)).collect();
        match fits[..] {
            [] => {}
            [one] => return Ok((one, dict)),
            _ => {
                let names: Vec<&str> = fits.iter().map(|a| a.name).collect();
                return Err(Error::load("the weights", format!("the tensor names fit {}", names.join(" and ")))
                    .hint(format!("say which: `?arch={}`", names[0])));
            }
        }
    }
    Err(Error::load("the weights", "the tensor names fit no known architecture").hint(format!(
        "known: {} (`?arch=NAME` tells what does not fit); any model can be exported to ONNX instead",
        known()
    )))
}

/// Buffers of a normalising wrapper, which keep their names where the wrapped model's get a prefix.
const NORMALISERS: [(&str, &str); 2] = [("mean", "std"), ("mu", "sigma")];

/// The weights as they are, and with up to three shared prefixes such as `module.` taken off.
fn unwrapped(weights: &StateDict) -> Vec<StateDict> {
    let mut all = vec![weights.clone()];
    for _ in 0..3 {
        let Some(last) = all.last() else { break };
        let mut names = last.names().filter(|n| !NORMALISERS.iter().any(|(m, s)| n == m || n == s));
        let prefix = names.next().and_then(|n| n.split_once('.')).map(|(head, _)| format!("{head}."));
        let Some(prefix) = prefix.filter(|p| names.all(|n| n.starts_with(p))) else { break };
        drop(names);
        let inner = last.strip(&prefix);
        all.push(inner);
    }
    all
}

/// Lays layers onto a builder with the weights of a state dict, in PyTorch's names.
struct Stack<'a> {
    dict: &'a mut StateDict,
    net: &'a mut Builder,
}

impl Stack<'_> {
    /// The input and its normalisation; `shape` is what to assume when the user says nothing.
    fn input(&mut self, options: &Options, shape: [usize; 3]) -> Result<NodeId> {
        let shape = match options.input {
            Some(wanted) if wanted[0] != shape[0] => {
                return Err(Error::usage(format!(
                    "input has {} channels, the weights are for {}",
                    wanted[0], shape[0]
                )));
            }
            Some(wanted) => wanted,
            None => shape,
        };
        let x = self.net.input("image", &shape)?;
        let buffers = NORMALISERS.iter().find(|(mean, std)| self.dict.contains(mean) && self.dict.contains(std));
        let buffers = match buffers {
            Some((mean, std)) => Some((self.per_channel(mean, shape[0])?, self.per_channel(std, shape[0])?)),
            None => None,
        };
        normalise(self.net, x, options, buffers)
    }

    /// A buffer `[c]`, `[c, 1, 1]` or `[1, c, 1, 1]`.
    fn per_channel(&mut self, name: &str, channels: usize) -> Result<candle_core::Tensor> {
        let forms = [vec![channels], vec![channels, 1, 1], vec![1, channels, 1, 1]];
        let form = forms.iter().find(|f| self.dict.dims(name) == Some(f)).unwrap_or(&forms[2]);
        self.dict.take(name, form)
    }

    fn channels(&self, x: NodeId) -> usize {
        self.net.shape(x).row.first().copied().unwrap_or(0)
    }

    fn param(&mut self, name: String, shape: &[usize]) -> Result<robust_engine::ParamId> {
        let value = self.dict.take(&name, shape)?;
        Ok(self.net.param(name, value))
    }

    /// A square convolution that keeps the size at stride 1, with a bias if the file has one.
    fn conv(&mut self, x: NodeId, name: &str, out: usize, kernel: usize, stride: usize) -> Result<NodeId> {
        let channels = self.channels(x);
        let weight = self.param(format!("{name}.weight"), &[out, channels, kernel, kernel])?;
        let bias = self.optional(format!("{name}.bias"), &[out])?;
        let op = Op::Conv2d { weight, bias, stride: [stride; 2], dilation: [1, 1], pads: [kernel / 2; 4], groups: 1 };
        self.net.node(name, op, &[x])
    }

    fn optional(&mut self, name: String, shape: &[usize]) -> Result<Option<robust_engine::ParamId>> {
        if self.dict.contains(&name) { self.param(name, shape).map(Some) } else { Ok(None) }
    }

    fn batch_norm(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        let c = [self.channels(x)];
        let op = Op::BatchNorm {
            mean: self.param(format!("{name}.running_mean"), &c)?,
            var: self.param(format!("{name}.running_var"), &c)?,
            gamma: Some(self.param(format!("{name}.weight"), &c)?),
            beta: Some(self.param(format!("{name}.bias"), &c)?),
            eps: 1e-5,
        };
        self.net.node(name, op, &[x])
    }

    fn linear(&mut self, x: NodeId, name: &str, out: usize) -> Result<NodeId> {
        let inputs = self.net.shape(x).row.last().copied().unwrap_or(0);
        let weight = self.param(format!("{name}.weight"), &[out, inputs])?;
        let bias = Some(self.param(format!("{name}.bias"), &[out])?);
        self.net.node(name, Op::Linear { weight, bias }, &[x])
    }

    fn relu(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.net.node(name, Op::Act(Activation::Relu), &[x])
    }
}
