//! `bit`: BiT's residual networks (Kolesnikov et al. 2020) in the names of its authors, which RobustBench keeps, and of timm: blocks
//! whose norms come first, group norm, convolutions of standardised weights. Widths and depths follow from the tensors.

use super::architecture::Architecture;
use crate::compose;
use crate::layers::stack::{Conv, HALF, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use candle_core::{DType, Device, Tensor, WithDType};
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId, Op};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "bit",
    doc: "7x7 stem of stride 2 (root.conv; timm stem.conv), zeros around, 3x3 max pool of stride 2, four stages of pre-activation \
          bottlenecks (body.block1.unit01: gn1, conv1, gn2, conv2, gn3, conv3, downsample; timm stages.0.blocks.0: norm1, ...; stride 2 \
          from the second stage on) with standardised weights and group norms of 32 groups, group norm, ReLU, global mean, linear \
          (head.conv; timm head.fc); variant=enlarged: images are enlarged to 128x128 first, as RobustBench does on CIFAR, \
          variant=plain: not",
    params: &["variant"],
    detect,
    build,
};

const GROUPS: usize = 32;
/// What the standard members of Bai et al. 2023 and 2024 are given.
const ENLARGED: usize = 128;

/// How a package calls the parts.
struct Names {
    stem: &'static str,
    block: fn(usize, usize) -> String,
    norm: &'static str,
    shortcut: &'static str,
    last: [&'static str; 2],
    /// Added to the variance of a filter's weights.
    eps: f64,
}

const AUTHORS: Names = Names {
    stem: "root.conv",
    block: |i, j| format!("body.block{}.unit{:02}", i + 1, j + 1),
    norm: "gn",
    shortcut: "downsample",
    last: ["head.gn", "head.conv"],
    eps: 1e-10,
};

const TIMM: Names = Names {
    stem: "stem.conv",
    block: |i, j| format!("stages.{i}.blocks.{j}"),
    norm: "norm",
    shortcut: "downsample.conv",
    last: ["norm", "head.fc"],
    eps: 1e-8,
};

fn names(dict: &StateDict) -> Option<&'static Names> {
    [&AUTHORS, &TIMM].into_iter().find(|names| {
        let block = (names.block)(0, 0);
        let norm = format!("{block}.{}1", names.norm);
        let parts = [names.stem, &norm, &format!("{block}.conv3"), names.last[0]];
        // timm has the same network with batch norm.
        parts.iter().all(|n| dict.contains(&format!("{n}.weight"))) && !dict.contains(&format!("{norm}.running_mean"))
    })
}

fn detect(dict: &StateDict) -> bool {
    names(dict).is_some()
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let names = names(dict).unwrap_or(&AUTHORS);
    let [_, channels, ..] = dict.sizes::<4>(&format!("{}.weight", names.stem))?;
    let enlarges = enlarges(dict, names, options)?;
    let mut stack = Stack { dict, net };
    let side = if enlarges { 32 } else { 224 };
    let mut x = stack.input(options, [channels, side, side], HALF)?;
    if enlarges {
        x = stack.interpolated(x, "enlarged", ENLARGED)?;
    }
    x = standardised(&mut stack, x, names.stem, (7, 2), names.eps)?;
    let pads = vec![(0, 0), (1, 1), (1, 1)];
    x = stack.net.node("root.pad", Op::Pad { pads, value: 0. }, &[x])?;
    x = stack.max_pool(x, "root.pool", 3, 2, 0)?;
    x = stack.stages(x, names.block, |stack, x, name, stride| block(stack, x, name, stride, names))?;
    x = group_norm(&mut stack, x, names.last[0])?;
    x = stack.relu(x, "head.relu")?;
    x = stack.mean(x)?;
    match stack.dict.any(&format!("{}.", names.last[1])) {
        true => stack.pointwise(x, names.last[1]),
        false => {
            stack.dict.embeds();
            Ok(x)
        }
    }
}

/// Whether images are enlarged first, which no tensor tells: where nothing is said, networks of CIFAR's classes do.
fn enlarges(dict: &mut StateDict, names: &Names, options: &Options) -> Result<bool> {
    match options.variant.as_deref() {
        Some("enlarged") => Ok(true),
        Some("plain") => Ok(false),
        Some(other) => Err(Error::usage(format!("`{other}` is not a variant known here")).hint(
            "`?variant=enlarged` brings images to 128x128 first, as RobustBench does on CIFAR; `?variant=plain` does not",
        )),
        None => {
            let classes = dict.dims(&format!("{}.weight", names.last[1])).and_then(|d| d.first().copied());
            let cifar = matches!(classes, Some(10 | 100));
            if cifar {
                dict.note(
                    "images of 32x32 are enlarged to 128x128 first, as RobustBench's networks of CIFAR's classes do; `?variant=plain` \
                     if yours does not",
                );
            }
            Ok(cifar)
        }
    }
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, names: &Names) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let normed = |stack: &mut Stack, x: NodeId, i: usize| {
        let norm = format!("{name}.{}{i}", names.norm);
        let x = group_norm(stack, x, &norm)?;
        stack.relu(x, &format!("{norm}.relu"))
    };
    let first = normed(stack, x, 1)?;
    let mut y = standardised(stack, first, &at("conv1"), (1, 1), names.eps)?;
    y = normed(stack, y, 2)?;
    y = standardised(stack, y, &at("conv2"), (3, stride), names.eps)?;
    y = normed(stack, y, 3)?;
    y = standardised(stack, y, &at("conv3"), (1, 1), names.eps)?;
    let mut skip = x;
    if stride != 1 || stack.channels(x) != stack.channels(y) {
        skip = standardised(stack, first, &at(names.shortcut), (1, stride), names.eps)?;
    }
    stack.add(skip, y, &at("add"))
}

/// A convolution whose filters have mean 0 and variance 1; weights stay as they are, so that is done once.
fn standardised(
    stack: &mut Stack,
    x: NodeId,
    name: &str,
    (kernel, stride): (usize, usize),
    eps: f64,
) -> Result<NodeId> {
    let weight = format!("{name}.weight");
    let [out, ..] = stack.dict.sizes::<4>(&weight)?;
    let shape = [out, stack.channels(x), kernel, kernel];
    let fits = stack.dict.dims(&weight) == Some(&shape);
    let raw = stack.dict.take(&weight, &shape)?;
    let weight = stack.net.param(weight, if fits { unit_filters(&raw, eps)? } else { raw });
    stack.convolved(x, name, Conv::same(out, kernel, stride), (weight, None))
}

/// Each filter less its mean, over its deviation.
fn unit_filters(raw: &Tensor, eps: f64) -> Result<Tensor> {
    match raw.dtype() {
        DType::F64 => unit::<f64>(raw, eps),
        _ => unit::<f32>(raw, eps),
    }
}

/// In place, so that a large weight takes no more than a copy.
fn unit<T: WithDType>(raw: &Tensor, eps: f64) -> Result<Tensor> {
    let mut values = raw.flatten_all()?.to_vec1::<T>()?;
    let size = raw.dims()[1..].iter().product::<usize>().max(1);
    for filter in values.chunks_mut(size) {
        let mean = filter.iter().map(|w| w.to_f64()).sum::<f64>() / size as f64;
        let variance = filter.iter().map(|w| (w.to_f64() - mean).powi(2)).sum::<f64>() / size as f64;
        let deviation = (variance + eps).sqrt();
        filter.iter_mut().for_each(|w| *w = T::from_f64((w.to_f64() - mean) / deviation));
    }
    Ok(Tensor::from_vec(values, raw.dims(), &Device::Cpu)?)
}

fn group_norm(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let channels = stack.channels(x);
    if channels == 0 || !channels.is_multiple_of(GROUPS) {
        return Err(Error::load(
            format!("`{name}`"),
            format!("{channels} channels do not divide into {GROUPS} groups"),
        ));
    }
    let affine =
        [stack.param(format!("{name}.weight"), &[channels])?, stack.param(format!("{name}.bias"), &[channels])?];
    compose::group_norm(stack.net, x, name, (GROUPS, 1e-5), Some(affine))
}

#[cfg(test)]
mod tests {
    use super::unit_filters;
    use candle_core::{Device, Tensor};

    #[test]
    fn filters_have_mean_zero_and_variance_one() {
        let raw = Tensor::from_slice(&[1f64, 3., -2., 6., 5., 5., 5., 5.], (2, 2, 1, 2), &Device::Cpu).unwrap();
        let unit = unit_filters(&raw, 1e-10).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        // Mean 2, variance 34/4; a filter of equal weights becomes 0.
        let d = (34f64 / 4. + 1e-10).sqrt();
        let expected = [-1. / d, 1. / d, -4. / d, 4. / d, 0., 0., 0., 0.];
        assert!(unit.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{unit:?}");
    }
}
