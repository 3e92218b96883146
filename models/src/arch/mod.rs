//! Named architectures: what to build around the weights of a state dict. One file each and one line in the index.

mod alexnet;
pub(crate) mod attention_pool;
mod beit;
mod bit;
pub(crate) mod blocks;
mod card_resnet;
mod cifar_resnet;
mod cifar_resnext;
pub(crate) mod clip;
mod clip_resnet;
pub(crate) mod clip_timm;
pub(crate) mod convnext;
mod densenet;
mod dm_preact_resnet;
mod dm_wide_resnet;
mod efficientnet;
mod layers;
mod mbconv;
mod mean_sparse;
mod mnist_cnn;
mod mobilenet_v2;
mod mobilenet_v3;
mod preact_resnet;
mod ra_wide_resnet;
mod regnet;
mod resample;
mod resnest;
mod resnet;
mod robust_wide_resnet;
mod sodef;
pub(crate) mod stack;
mod swin;
mod torchvision_vit;
mod trades_cnn;
mod vgg;
mod vit;
mod wide_resnet;
pub(crate) mod windows;
mod wong_kolter;
mod xcit;

use crate::safetensors::StateDict;
use crate::{EXPORT, Options, fold, ssl};
use robust_core::{Error, Result, nearest};
use robust_engine::{Builder, Network, NodeId};
use stack::Stack;

/// Names of tensors in a message.
const SHOWN: usize = 3;

/// How to recognise and build one family of networks.
pub struct Architecture {
    pub name: &'static str,
    pub doc: &'static str,
    /// Parameters of its own that a user may give: `activation`, `variant`.
    pub params: &'static [&'static str],
    /// Whether the tensor names are this architecture's, its prefix stripped.
    pub detect: fn(&StateDict) -> bool,
    /// Declares the input and builds up to the logits; returns the output node.
    pub build: fn(&mut StateDict, &mut Builder, &Options) -> Result<NodeId>,
}

pub static ARCHITECTURES: &[Architecture] = &[
    mnist_cnn::ARCHITECTURE,
    alexnet::ARCHITECTURE,
    beit::ARCHITECTURE,
    bit::ARCHITECTURE,
    card_resnet::ARCHITECTURE,
    cifar_resnet::ARCHITECTURE,
    cifar_resnext::ARCHITECTURE,
    clip::ARCHITECTURE,
    clip_resnet::ARCHITECTURE,
    clip_timm::ARCHITECTURE,
    convnext::ARCHITECTURE,
    densenet::ARCHITECTURE,
    dm_preact_resnet::ARCHITECTURE,
    dm_wide_resnet::ARCHITECTURE,
    efficientnet::ARCHITECTURE,
    mobilenet_v2::ARCHITECTURE,
    mobilenet_v3::ARCHITECTURE,
    preact_resnet::ARCHITECTURE,
    ra_wide_resnet::ARCHITECTURE,
    regnet::ARCHITECTURE,
    resnest::ARCHITECTURE,
    resnet::ARCHITECTURE,
    robust_wide_resnet::ARCHITECTURE,
    sodef::ARCHITECTURE,
    swin::ARCHITECTURE,
    torchvision_vit::ARCHITECTURE,
    vgg::ARCHITECTURE,
    vit::ARCHITECTURE,
    trades_cnn::ARCHITECTURE,
    wide_resnet::ARCHITECTURE,
    wong_kolter::ARCHITECTURE,
    xcit::ARCHITECTURE,
];

/// A network made of a state dict, and what was decided on the way.
#[derive(Debug)]
pub struct Built {
    pub network: Network,
    /// The architecture's name.
    pub family: &'static str,
    pub notes: Vec<String>,
    /// Tensors of the file that are no part of the function.
    pub ignored: Vec<String>,
    /// Whether the output is an embedding: the file has no last layer.
    pub embeds: bool,
}

/// The network of a state dict. Without `options.arch` the architecture is recognised from the names, with `strip` or
/// else any prefix they share taken off. Errors are of kind `Load` and list every tensor that is missing, left over or
/// of the wrong shape.
pub fn build(weights: &StateDict, options: &Options) -> Result<Built> {
    // Heads of self-supervised training, which are left out, are weight-normed and large.
    let folded = if ssl::encoder(weights).is_some() { None } else { Some(fold::plain(weights)?) };
    let weights = folded.as_ref().unwrap_or(weights);
    if let Some(layers) = &options.layers {
        return layers::build(weights, layers, options);
    }
    let mut candidates = match &options.strip {
        Some(prefix) => vec![stripped(weights, prefix)?],
        None => unwrapped(weights),
    };
    let (arch, mut dict) = match &options.arch {
        Some(name) => {
            let arch = find(name)?;
            let at = candidates.iter().position(|c| (arch.detect)(c)).unwrap_or(0);
            (arch, candidates.swap_remove(at))
        }
        None => recognise(candidates)?,
    };
    let own = [("activation", &options.activation), ("variant", &options.variant), ("heads", &options.heads)];
    if let Some((key, _)) = own.iter().find(|(key, value)| value.is_some() && !arch.params.contains(key)) {
        return Err(Error::usage(format!("`{key}` is no parameter of {}", arch.name)));
    }
    let mut net = Builder::new();
    match (arch.build)(&mut dict, &mut net, options) {
        Ok(output) => {
            dict.finish().map_err(|e| e.within(format!("architecture {}", arch.name)))?;
            let (notes, ignored, embeds) = (dict.notes().to_vec(), dict.ignored().to_vec(), dict.headless());
            Ok(Built { network: net.finish(output)?, family: arch.name, notes, ignored, embeds })
        }
        Err(error) => Err(dict.cause(error).within(format!("architecture {}", arch.name))),
    }
}

fn known() -> String {
    ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}

fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
        let hint = match nearest(name, ARCHITECTURES.iter().map(|a| a.name)) {
            Some(close) => format!("did you mean `{close}`? known: {}", known()),
            None => format!("export the model to ONNX: {EXPORT}; or name one of: {}", known()),
        };
        Error::usage(format!("unknown architecture `{name}`")).hint(hint)
    })
}

fn recognise(candidates: Vec<StateDict>) -> Result<(&'static Architecture, StateDict)> {
    let found = candidates.first().map_or(String::new(), first_names);
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
    Err(Error::load("the weights", format!("the tensor names fit no known architecture: {found}")).hint(format!(
        "weights carry no code: export the network where its code is, `{EXPORT}` (the zeros have the shape of an image); an \
         nn.Sequential can be told, `?layers=conv(s=2,p=1),relu,flatten,linear`; known: {} (`?arch=NAME` tells what does not fit)",
        known()
    )))
}

/// Some of the names in a file, for a message.
fn first_names(dict: &StateDict) -> String {
    let names: Vec<String> = dict.names().take(SHOWN).map(|n| format!("`{}`", n.escape_debug())).collect();
    let more = dict.names().count() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Prefixes of wrappers that also occur where other tensors of the file have none.
const WRAPPERS: [&str; 8] = ["module.", "_orig_mod.", "model.", "m.", "net.", "network.", "encoder.", "backbone."];

pub(crate) fn stripped(weights: &StateDict, prefix: &str) -> Result<StateDict> {
    if !weights.any(prefix) {
        let first = weights.names().next().unwrap_or("none");
        let why = format!("no tensor name starts with `{prefix}` (the first is `{first}`)");
        return Err(Error::load("the weights", why));
    }
    weights.strip(prefix).ok_or_else(|| {
        Error::load("the weights", format!("without `{prefix}`, two tensors would have the same name"))
            .hint("pick one of the networks in the file and save it alone")
    })
}

/// The weights as they are, with up to four shared prefixes such as `module.` taken off one after the other, and then
/// with one wrapper's prefix off where only some names have it. The buffers of a normalising layer need not share it.
fn unwrapped(weights: &StateDict) -> Vec<StateDict> {
    if let Some(encoder) = ssl::encoder(weights) {
        return vec![encoder];
    }
    let mut all = vec![weights.clone()];
    for _ in 0..4 {
        let Some(last) = all.last_mut() else { break };
        if last.any("model.") {
            last.ignore("attacker.", "the `robustness` package keeps a second copy of the network there");
        }
        let mut names = last.names().filter(|n| !stack::normalises(n));
        let prefix = names.next().and_then(|n| n.split_once('.')).map(|(head, _)| format!("{head}."));
        let Some(prefix) = prefix.filter(|p| names.all(|n| n.starts_with(p))) else { break };
        drop(names);
        let Some(mut inner) = last.strip(&prefix) else { break };
        inner.note(format!("the prefix `{prefix}` is taken off the tensors' names"));
        all.push(inner);
    }
    if let Some(last) = all.last().cloned() {
        for prefix in WRAPPERS.iter().filter(|p| last.any(p)) {
            if let Some(mut inner) = last.strip(prefix) {
                inner.note(format!("the prefix `{prefix}` is taken off the names that have it"));
                all.push(inner);
            }
        }
    }
    all
}
