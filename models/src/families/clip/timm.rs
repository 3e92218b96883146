//! `clip-timm`: image towers of OpenCLIP's that are networks of timm's, as SigLIP's and those of ConvNeXt are. What such a tower
//! ends in is its own last layer, or one of OpenCLIP's.

use super::openai::{CLIP, set_text_aside};
use crate::families::architecture::Architecture;
use crate::families::convnext::timm as convnext;
use crate::families::vit::timm as vit;
use crate::layers::stack::{Stack, Usual, applied};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId};

pub(crate) const NAME: &str = "clip-timm";
pub(crate) const TRUNK: &str = "visual.trunk.";
/// OpenCLIP's last layers: a linear one, or two with GELU between.
pub(crate) const LINEAR: &str = "visual.head.proj";
pub(crate) const MLP: &str = "visual.head.mlp";
/// Networks that may be the trunk.
static HOMES: [Architecture; 2] = [vit::ARCHITECTURE, convnext::ARCHITECTURE];

pub const ARCHITECTURE: Architecture = Architecture {
    name: NAME,
    doc: "image tower of OpenCLIP's names around a network of timm's: visual.trunk.* as of `vit` or `convnext`, then visual.head.proj \
          (linear), visual.head.mlp (linear, GELU, linear) or neither: an embedding; `heads` and `activation` as of the network inside",
    params: &["heads", "activation"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    dict.any(TRUNK)
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let mut trunk = dict.split(TRUNK);
    let Some(home) = HOMES.iter().find(|a| (a.detect)(&trunk)) else {
        let names: Vec<&str> = trunk.names().take(3).collect();
        let why = format!("the names at `{TRUNK}*` are neither those of `vit` nor of `convnext`: {}", names.join(", "));
        return Err(Error::load("the image tower", why).hint("export it to ONNX"));
    };
    if options.heads.is_some() && !home.params.contains(&"heads") {
        return Err(Error::usage(format!("`heads` is not a parameter of {}, which is the image tower", home.name)));
    }
    let mut options = options.clone();
    normalised(&mut trunk, &mut options);
    let made = (home.build)(&mut trunk, net, &options).map_err(|e| trunk.cause(e));
    let x = made.and_then(|x| trunk.finish().map(|()| x)).map_err(|e| e.within(format!("`{TRUNK}*`")))?;
    dict.join(&trunk, TRUNK);
    let x = last(&mut Stack { dict, net }, x)?;
    set_text_aside(dict);
    Ok(x)
}

/// What CLIPs expect of their pixels is not what timm's networks do; with an attention pool it is a SigLIP, which the network inside
/// tells by itself.
fn normalised(trunk: &mut StateDict, options: &mut Options) {
    if let (None, None, false, Usual::Known { whose, mean, std }) =
        (&options.mean, &options.std, trunk.any("attn_pool."), CLIP)
    {
        trunk.note(applied(whose));
        (options.mean, options.std) = (Some(mean.to_vec()), Some(std.to_vec()));
    }
}

fn last(s: &mut Stack, x: NodeId) -> Result<NodeId> {
    if s.dict.any(&format!("{LINEAR}.")) {
        return projected(s, x, LINEAR);
    }
    if !s.dict.any(&format!("{MLP}.")) {
        return Ok(x);
    }
    let [wide, narrow] = ["fc1", "fc2"].map(|part| format!("{MLP}.{part}"));
    let [hidden, _] = s.dict.sizes(&format!("{wide}.weight"))?;
    let x = s.linear(x, &wide, hidden)?;
    let x = s.act(x, &format!("{MLP}.act"), Activation::Gelu)?;
    projected(s, x, &narrow)
}

/// A linear layer with a bias if the file has one.
fn projected(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let [out, _] = s.dict.sizes(&format!("{name}.weight"))?;
    let biased = s.dict.contains(&format!("{name}.bias"));
    s.linear_with(x, name, out, biased)
}
