//! `swin`: Swin transformers v1 (Liu et al. 2021) and v2 (Liu et al. 2022) in torchvision's names, timm's, or those of their
//! authors. v1's tables say how large windows are; of v2 nothing but some files' own tables of offsets does.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::layers::tokens::{Act, flatten, mean};
use crate::layers::windows::{Block, EPS, FAR, Names, Qkv, Version, is_biased, merge};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "swin",
    doc: "Swin v1 and v2: patches and layer norm, stages of blocks with attention in windows that shift every second block, 2x2 \
          merging between stages, layer norm, global mean, linear; torchvision's names (features.N), timm's or the authors' \
          (layers.N); MeanSparse layers (meansparse1, ...) where the file has them; `variant=eps1e-6` for v1 with such norms (MIMIR); of v2 `variant=window8` says how large windows are where the file does not, `variant=window16from8` of \
          what size they were in pre-training",
    params: &["variant"],
    detect,
    build,
};

/// Windows and images of real networks go together so.
const IMAGES: [(usize, usize); 5] = [(7, 224), (8, 256), (12, 384), (16, 256), (24, 384)];
/// Far above any network's.
const MAX_WINDOW: usize = 64;

fn detect(dict: &StateDict) -> bool {
    ["features.1.0.attn.", "layers.0.blocks.0.attn."].iter().any(|b| {
        dict.contains(&format!("{b}relative_position_bias_table")) || dict.contains(&format!("{b}logit_scale"))
    })
}

/// Where a package keeps things.
struct Home {
    block: Names,
    patches: [&'static str; 2],
    at: fn(usize, usize) -> String,
    merge: fn(usize) -> String,
    head: &'static str,
    /// Whether windows shrink to the grid where that is smaller.
    shrinks: bool,
}

const BLOCK: Names = Names {
    norms: ["norm1", "norm2"],
    attention: "attn.",
    qkv: Qkv::Joined("attn.qkv"),
    out: "attn.proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    places: "attn.cpb_mlp",
};

const TORCHVISION: Home = Home {
    block: Names { mlp: ["mlp.0", "mlp.3"], ..BLOCK },
    patches: ["features.0.0", "features.0.2"],
    at: |i, j| format!("features.{}.{j}", 2 * i + 1),
    merge: |i| format!("features.{}", 2 * i + 2),
    head: "head",
    shrinks: false,
};

const TIMM: Home = Home {
    block: BLOCK,
    patches: ["patch_embed.proj", "patch_embed.norm"],
    at: |i, j| format!("layers.{i}.blocks.{j}"),
    merge: |i| format!("layers.{}.downsample", i + 1),
    head: "head.fc",
    shrinks: true,
};

/// The authors' own names: merging ends a stage.
const AUTHORS: Home = Home { merge: |i| format!("layers.{i}.downsample"), head: "head", ..TIMM };

fn home(dict: &StateDict) -> Home {
    match () {
        () if dict.contains("features.0.0.weight") => TORCHVISION,
        () if dict.any("layers.0.downsample.") => AUTHORS,
        () if dict.contains("head.weight") => Home { head: "head", ..TIMM },
        () => TIMM,
    }
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let home = home(dict);
    let [width, channels, patch, _] = dict.sizes(&format!("{}.weight", home.patches[0]))?;
    let first = format!("{}.{}", (home.at)(0, 0), home.block.attention);
    let v1 = dict.contains(&format!("{first}relative_position_bias_table"));
    let (window, trained) = if v1 { (of_table(dict, &first)?, None) } else { of_v2(dict, &first, options)? };
    let eps = if v1 { eps_of_v1(options)? } else { EPS };
    let biased = is_biased(dict, &format!("{first}qkv"), &first);
    let size = side(dict, &home, window, patch);
    let s = &mut Stack { dict, net };
    let x = s.input(options, [channels, size, size], IMAGENET)?;
    let conv = Conv { out: width, kernel: patch, stride: patch, pads: [0; 4], groups: 1 };
    let x = s.conv_with(x, home.patches[0], conv, true)?;
    let mut grid = [s.net.shape(x).row[1], s.net.shape(x).row[2]];
    let x = flatten(s, x, "patches")?;
    let mut x = s.layer_norm(x, home.patches[1], eps)?;
    if s.dict.contains("absolute_pos_embed") {
        let places = s.constant("absolute_pos_embed", &[1, grid[0] * grid[1], width])?;
        x = s.add(x, places, "placed")?;
    }
    for stage in 0..s.dict.count(|i| (home.at)(i, 0)) {
        if stage > 0 {
            x = merge(s, x, &(home.merge)(stage - 1), grid, v1.then_some(eps))?;
            grid = grid.map(|n| n.div_ceil(2));
        }
        for j in 0..s.dict.count(|j| (home.at)(stage, j)) {
            let name = (home.at)(stage, j);
            let trained = trained.map(|t| shrunk(t, patch, stage));
            let block = Block {
                heads: heads(s.dict, &(home.at)(stage, 0), v1)?,
                hidden: hidden(s.dict, &name, &home)?,
                ..fit(&home, grid, window, j)
            };
            let block = Block { biased, eps, version: if v1 { Version::V1 } else { Version::V2 { trained } }, ..block };
            x = block.lay(s, x, &name)?;
        }
    }
    let x = s.layer_norm(x, "norm", eps)?;
    let x = mean(s, x, "pooled", &[1])?;
    if !s.dict.any("head.") {
        s.dict.embeds();
        return Ok(x);
    }
    let [classes, _] = s.dict.sizes(&format!("{}.weight", home.head))?;
    s.linear(x, home.head, classes)
}

/// The side of the images: as the masks of shifted windows say, which some files keep, or as is usual.
fn side(dict: &StateDict, home: &Home, window: usize, patch: usize) -> usize {
    let windows = dict.skipped(&format!("{}.attn_mask", (home.at)(0, 1)));
    let told = windows.and_then(<[usize]>::first).map(|n| n.isqrt()).filter(|n| (1..=MAX_WINDOW).contains(n));
    let usual = IMAGES.iter().find(|(w, _)| *w == window).map_or(32 * window, |(_, size)| *size);
    told.map_or(usual, |n| n.saturating_mul(window).saturating_mul(patch))
}

/// The norms' epsilon, which no tensor tells.
fn eps_of_v1(options: &Options) -> Result<f64> {
    match options.variant.as_deref() {
        None => Ok(EPS),
        Some("eps1e-6") => Ok(1e-6),
        Some(other) => Err(Error::usage(format!("`variant={other}` is not known of Swin v1: windows are for Swin v2"))
            .hint("the tables of this file say how large its windows are; `variant=eps1e-6` is for norms with that epsilon")),
    }
}

/// A block's windows on its grid; every second block shifts by half of one.
fn fit(home: &Home, grid: [usize; 2], window: usize, j: usize) -> Block<'_> {
    let side = |n: usize| if home.shrinks { n.min(window) } else { window };
    let shift = |n: usize| if j.is_multiple_of(2) || n <= window { 0 } else { window / 2 };
    Block {
        names: &home.block,
        version: Version::V1,
        grid,
        heads: 1,
        window: grid.map(side),
        shift: grid.map(shift),
        hidden: 1,
        eps: EPS,
        biased: true,
        far: FAR,
        act: Act::Plain(Activation::Gelu),
    }
}

fn heads(dict: &StateDict, block: &str, v1: bool) -> Result<usize> {
    match v1 {
        true => dict.sizes(&format!("{block}.attn.relative_position_bias_table")).map(|[_, heads]| heads),
        false => dict.sizes(&format!("{block}.attn.logit_scale")).map(|[heads, _, _]| heads),
    }
}

fn hidden(dict: &StateDict, block: &str, home: &Home) -> Result<usize> {
    dict.sizes(&format!("{block}.{}.weight", home.block.mlp[0])).map(|[hidden, _]| hidden)
}

/// The side of a v1 window: its table has an entry for every offset.
fn of_table(dict: &StateDict, first: &str) -> Result<usize> {
    let name = format!("{first}relative_position_bias_table");
    let [entries, _] = dict.sizes(&name)?;
    let side = entries.isqrt();
    match side * side == entries && side % 2 == 1 && side < 2 * MAX_WINDOW {
        true => Ok(side.div_ceil(2)),
        false => {
            Err(Error::load(format!("`{name}`"), format!("{entries} entries are not the offsets in a square window")))
        }
    }
}

/// The side of a v2 window, and that of pre-training: as the file's tables say, or else the user.
fn of_v2(dict: &StateDict, first: &str, options: &Options) -> Result<(usize, Option<usize>)> {
    let table = dict.dims(&format!("{first}relative_coords_table")).and_then(|d| d.get(1)).map(|n| n.div_ceil(2));
    let index = dict.skipped(&format!("{first}relative_position_index")).and_then(<[usize]>::first).map(|n| n.isqrt());
    let file = table.or(index).filter(|n| (1..=MAX_WINDOW).contains(n));
    let Some(said) = options.variant.as_deref() else {
        return file.map(|n| (n, None)).ok_or_else(|| {
            Error::usage("nothing in the file says how large the windows are")
                .hint("the model's name does: `?variant=window8`, `?variant=window16from12`")
        });
    };
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=MAX_WINDOW).contains(n));
    let rest = said.strip_prefix("window").unwrap_or("");
    let (window, trained) = match rest.split_once("from") {
        Some((window, trained)) => (number(window), number(trained).map(Some)),
        None => (number(rest), Some(None)),
    };
    let (Some(window), Some(trained)) = (window, trained) else {
        return Err(Error::usage(format!("`variant={said}` is not known"))
            .hint(format!("`window8` or `window16from12`, with up to {MAX_WINDOW}")));
    };
    match file.filter(|n| *n != window) {
        Some(n) => Err(Error::usage(format!("`variant={said}`: the file has windows of {n}"))),
        None => Ok((window, trained)),
    }
}

/// The window of pre-training at a stage: images were 16 windows wide, and no window is larger than its grid.
fn shrunk(trained: usize, patch: usize, stage: usize) -> usize {
    let grid = (16 * trained / patch.max(1)).checked_shr(u32::try_from(stage).unwrap_or(u32::MAX)).unwrap_or(0);
    trained.min(grid).max(1)
}
