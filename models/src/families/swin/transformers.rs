//! Swin transformers of transformers: v1 (Liu et al. 2021) and v2 (Liu et al. 2022).

use crate::families::body::{Body, Family, Made};
use crate::layers::stack::Conv;
use crate::layers::tokens::{Act, flatten, mean};
use crate::layers::windows::{Block, EPS, FAR, Names, Qkv, Version, merge};
use crate::settings::Config;
use robust_core::{Error, Result};

pub static FAMILIES: &[Family] = &[
    Family { types: &["swin"], prefixes: &["swin."], build },
    Family { types: &["swinv2"], prefixes: &["swinv2."], build },
];

const NAMES: Names = Names {
    norms: ["layernorm_before", "layernorm_after"],
    attention: "attention.self.",
    qkv: Qkv::Apart(["attention.self.query", "attention.self.key", "attention.self.value"]),
    out: "attention.output.dense",
    mlp: ["intermediate.dense", "output.dense"],
    places: "attention.self.continuous_position_bias_mlp",
};

fn build(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let p = b.prefix.clone();
    let v1 = c.text("model_type") != Some("swinv2");
    let (width, patch) = (c.size("embed_dim")?, c.size("patch_size")?);
    let (depths, heads) = (c.sizes("depths")?, c.sizes("num_heads")?);
    if depths.len() != heads.len() || depths.iter().any(|&d| d > crate::settings::MAX_LAYERS) {
        return Err(Error::load(
            "config.json",
            format!("depths {depths:?} and num_heads {heads:?} do not belong together"),
        ));
    }
    if b.size.iter().any(|n| n % patch != 0) {
        return Err(Error::load("the input", format!("{:?} pixels are not patches of {patch}", b.size)));
    }
    let s = &mut b.stack;
    let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
    let x = s.conv_with(b.input, &format!("{p}embeddings.patch_embeddings.projection"), conv, true)?;
    let mut grid = [b.size[0] / patch, b.size[1] / patch];
    let x = flatten(s, x, "tokens")?;
    let mut x = s.layer_norm(x, &format!("{p}embeddings.norm"), EPS)?;
    s.dict.ignore(&format!("{p}embeddings.mask_token"), "nothing is masked here");
    if c.flag_or("use_absolute_embeddings", false)? {
        let places = s.constant(&format!("{p}embeddings.position_embeddings"), &[1, grid[0] * grid[1], width])?;
        x = s.add(x, places, "placed")?;
    }
    for (i, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
        let stage = format!("{p}encoder.layers.{i}");
        let (window, shift) = if v1 { one_size(&c, grid)? } else { as_trained(&c, b.size, patch, i)? };
        let trained = if v1 { None } else { c.count_of("pretrained_window_sizes", i)?.filter(|n| *n > 0) };
        for j in 0..depth {
            let block = Block {
                names: &NAMES,
                version: if v1 { Version::V1 } else { Version::V2 { trained } },
                grid,
                heads,
                window: [window; 2],
                shift: [if j % 2 == 0 { 0 } else { shift }; 2],
                hidden: (s.net.shape(x).row[1] as f64 * c.float_or("mlp_ratio", 4.)?) as usize,
                eps: c.float_or("layer_norm_eps", EPS)?,
                // Of v2 it is added twice there.
                far: if v1 { FAR } else { 2. * FAR },
                biased: c.flag_or("qkv_bias", true)?,
                act: Act::of(&c, "gelu")?,
            };
            x = block.lay(s, x, &format!("{stage}.blocks.{j}"))?;
        }
        if i + 1 < depths.len() {
            x = merge(s, x, &format!("{stage}.downsample"), grid, v1.then_some(EPS))?;
            grid = grid.map(|n| n.div_ceil(2));
        }
    }
    let x = s.layer_norm(x, &format!("{p}layernorm"), c.float_or("layer_norm_eps", EPS)?)?;
    let x = mean(s, x, "pooled", &[1])?;
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}

/// v1: the settings' window, and its shift, none where one window holds the whole grid.
fn one_size(c: &Config, grid: [usize; 2]) -> Result<(usize, usize)> {
    let (window, least) = (c.size("window_size")?, grid[0].min(grid[1]));
    match least {
        n if n < window => {
            Err(Error::load("the input", format!("{grid:?} patches are fewer than a window of {window}"))
                .hint("the input must be as large as in training"))
        }
        n if n == window => Ok((window, 0)),
        _ => Ok((window, window / 2)),
    }
}

/// v2: windows no larger than the grid that the settings' image has.
fn as_trained(c: &Config, size: [usize; 2], patch: usize, stage: usize) -> Result<(usize, usize)> {
    let said = if c.has("image_size") { c.pair("image_size")? } else { size };
    let most = c.size("window_size")?;
    let side = (said[0] / patch).checked_shr(u32::try_from(stage).unwrap_or(u32::MAX)).unwrap_or(0);
    match side {
        0 => Err(Error::load("config.json", format!("{said:?} pixels leave no patch to stage {stage}"))),
        n if n <= most => Ok((n, 0)),
        _ => Ok((most, most / 2)),
    }
}
