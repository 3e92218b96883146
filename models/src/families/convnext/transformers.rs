//! ConvNeXt (Liu et al. 2022) and ConvNeXt V2 (Woo et al. 2023) of transformers.

use super::timm::{EPS, Names, Scale, features};
use crate::families::body::{Body, Family, Made};
use crate::layers::tokens::Act;
use robust_core::{Error, Result};
use robust_engine::Activation;

pub static FAMILIES: &[Family] = &[
    Family { types: &["convnext"], prefixes: &["convnext."], build: first },
    Family { types: &["convnextv2"], prefixes: &["convnextv2."], build: second },
];

const fn names(prefix: &'static str, scale: Scale) -> Names {
    Names {
        prefix,
        stem: ["embeddings.patch_embeddings", "embeddings.layernorm"],
        down: |i| {
            let name = format!("encoder.stages.{i}.downsampling_layer");
            [format!("{name}.0"), format!("{name}.1")]
        },
        block: |i, j| format!("encoder.stages.{i}.layers.{j}"),
        parts: ["dwconv", "layernorm", "pwconv1", "pwconv2"],
        scale,
        eps: EPS,
    }
}

fn first(b: &mut Body) -> Result<Made> {
    let scaled = b.config.float_or("layer_scale_init_value", 1e-6)? > 0.;
    let scale = if scaled { Scale::Always("layer_scale_parameter") } else { Scale::None };
    body(b, if b.prefix.is_empty() { names("", scale) } else { names("convnext.", scale) })
}

fn second(b: &mut Body) -> Result<Made> {
    let scale = Scale::Response("grn");
    body(b, if b.prefix.is_empty() { names("", scale) } else { names("convnextv2.", scale) })
}

fn body(b: &mut Body, names: Names) -> Result<Made> {
    let c = b.config.clone();
    if Act::of(&c, "gelu")? != Act::Plain(Activation::Gelu) {
        return Err(Error::load("`hidden_act` in config.json", "this family is supported with gelu alone"));
    }
    let depths = c.sizes("depths")?;
    for (i, &depth) in depths.iter().enumerate() {
        let found = b.stack.dict.count(|j| format!("{}{}", names.prefix, (names.block)(i, j)));
        if found != depth {
            let why = format!("stage {i} has {found} blocks in the weights, {depth} in the settings");
            return Err(Error::load("`depths` in config.json", why));
        }
    }
    let x = features(&mut b.stack, b.input, &names, depths.len())?;
    let x = b.stack.layer_norm(x, &format!("{}layernorm", names.prefix), c.float_or("layer_norm_eps", 1e-12)?)?;
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}
