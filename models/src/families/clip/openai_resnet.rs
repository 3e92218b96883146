//! `clip-resnet`: the convolutional image towers of CLIP (Radford et al. 2021, section 2.4) in the names of OpenAI and OpenCLIP:
//! RN50, RN101, RN50x4, RN50x16, RN50x64. A ResNet whose stem is three convolutions, which takes means where others stride
//! (Zhang 2019, He et al. 2019), and which ends in attention whose query is the mean of all places.

use super::openai::{input, places, set_text_aside};
use crate::families::architecture::Architecture;
use crate::layers::blocks::heads_or;
use crate::layers::stack::{Conv, Stack};
use crate::layers::tokens::{attend, flatten, mean, reshape, slice, token};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId, Op, Window};

/// Heads of the attention are this wide.
const HEAD: usize = 64;
/// CLIP's have 4 stages.
const MOST: usize = 8;
const POOL: &str = "visual.attnpool";
const PLACES: &str = "visual.attnpool.positional_embedding";

pub const ARCHITECTURE: Architecture = Architecture {
    name: "clip-resnet",
    doc: "ResNet image towers of OpenAI's and OpenCLIP's names: stem of three 3x3 convolutions (visual.conv1, conv2, conv3) and 2x2 \
          mean, stages visual.layer1, ... of bottlenecks with a 2x2 mean where others have a stride (after conv2, and before the \
          shortcut downsample.0), attention (visual.attnpool) whose query is the mean of all places: an embedding; heads are 64 wide \
          unless `heads=N` says otherwise; `activation=` is for the text tower of the same file",
    params: &["heads", "activation"],
    detect,
    build,
};

fn layer(i: usize) -> String {
    format!("visual.layer{}", i + 1)
}

fn detect(dict: &StateDict) -> bool {
    dict.contains(PLACES) && dict.contains("visual.conv1.weight") && dict.contains("visual.layer1.0.conv1.weight")
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [_, channels, ..] = dict.sizes::<4>("visual.conv1.weight")?;
    let [_, side] = places(dict, PLACES)?;
    let stages = dict.count(layer);
    if stages > MOST {
        return Err(Error::load(
            "the weights",
            format!("{stages} stages, each of half the size, are more than {MOST}"),
        ));
    }
    let s = &mut Stack { dict, net };
    // Convolution and mean of the stem, and each stage after the first, halve the size.
    let mut x = input(s, options, PLACES, channels, side.saturating_mul(2 << stages))?;
    x = stem(s, x)?;
    x = s.stages(x, |i, j| format!("{}.{j}", layer(i)), bottleneck)?;
    let x = attention_pool(s, x, options)?;
    set_text_aside(s.dict);
    Ok(x)
}

/// Three convolutions, the first of stride 2, and means over 2x2.
fn stem(s: &mut Stack, mut x: NodeId) -> Result<NodeId> {
    for (i, stride) in [(1, 2), (2, 1), (3, 1)] {
        let [out, ..] = s.dict.sizes::<4>(&format!("visual.conv{i}.weight"))?;
        x = normed(s, x, "visual", i, Conv::same(out, 3, stride))?;
        x = s.relu(x, &format!("visual.relu{i}"))?;
    }
    halved(s, x, "visual.avgpool")
}

/// Convolution and batch norm `i` of a part of the network.
fn normed(s: &mut Stack, x: NodeId, name: &str, i: usize, conv: Conv) -> Result<NodeId> {
    let x = s.conv_with(x, &format!("{name}.conv{i}"), conv, false)?;
    s.batch_norm(x, &format!("{name}.bn{i}"))
}

fn halved(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let window = Window { kernel: [2; 2], stride: [2; 2], pads: [0; 4], ceil: false };
    s.net.node(name, Op::AvgPool { window, count_pads: false }, &[x])
}

fn bottleneck(s: &mut Stack, x: NodeId, name: &str, stride: usize) -> Result<NodeId> {
    let [width, ..] = s.dict.sizes::<4>(&format!("{name}.conv1.weight"))?;
    let [out, ..] = s.dict.sizes::<4>(&format!("{name}.conv3.weight"))?;
    let mut y = normed(s, x, name, 1, Conv::same(width, 1, 1))?;
    y = s.relu(y, &format!("{name}.relu1"))?;
    y = normed(s, y, name, 2, Conv::same(width, 3, 1))?;
    y = s.relu(y, &format!("{name}.relu2"))?;
    if stride > 1 {
        y = halved(s, y, &format!("{name}.avgpool"))?;
    }
    y = normed(s, y, name, 3, Conv::same(out, 1, 1))?;
    let mut skip = x;
    if stride > 1 || s.channels(x) != out {
        if stride > 1 {
            skip = halved(s, skip, &format!("{name}.downsample.avgpool"))?;
        }
        skip = s.conv_with(skip, &format!("{name}.downsample.0"), Conv::same(out, 1, 1), false)?;
        skip = s.batch_norm(skip, &format!("{name}.downsample.1"))?;
    }
    let sum = s.add(y, skip, &format!("{name}.add"))?;
    s.relu(sum, &format!("{name}.relu3"))
}

/// The mean of all places asks all places and itself what they hold.
fn attention_pool(s: &mut Stack, x: NodeId, options: &Options) -> Result<NodeId> {
    let width = s.channels(x);
    let heads = heads_or(s.dict, width, options.heads.as_deref(), Some(width / HEAD))?;
    let middle = mean(s, x, "mean", &[2, 3])?;
    let middle = reshape(s, middle, "mean_token", &[1, width])?;
    let x = flatten(s, x, "tokens")?;
    let x = s.net.node("with_mean", Op::Concat { axis: 1 }, &[middle, x])?;
    let [count, _] = s.dict.sizes(PLACES)?;
    let table = s.constant(PLACES, &[count, width])?;
    let x = s.add(x, table, "placed")?;
    let first = slice(s, x, "query_token", 1, 0, 1)?;
    let q = s.linear(first, &format!("{POOL}.q_proj"), width)?;
    let k = s.linear(x, &format!("{POOL}.k_proj"), width)?;
    let v = s.linear(x, &format!("{POOL}.v_proj"), width)?;
    let x = attend(s, [q, k, v], heads, None, &format!("{POOL}.attend"))?;
    let x = token(s, x, "pooled", 0)?;
    let [out, _] = s.dict.sizes(&format!("{POOL}.c_proj.weight"))?;
    s.linear(x, &format!("{POOL}.c_proj"), out)
}
