//! Sizes, pads and biases of layers with windows.

use super::call::{Call, Graph};
use super::views::MAX_EXTENT;
use robust_core::Result;
use robust_engine::{NodeId, Pads, Pair, ParamId};
use std::rc::Rc;

/// Input 0 as an image `[n, c, h, w]` and its height and width.
pub(super) fn image(graph: &Graph, call: &Call) -> Result<(NodeId, Pair)> {
    let (id, shape) = graph.rows(call, 0)?;
    match shape.row[..] {
        [_, h, w] => Ok((id, [h, w])),
        _ => Err(call.fail(format!("its input has {} axes; only images [n, c, h, w] are supported", shape.rank()))),
    }
}

/// A list of `N` sizes of at least `least`.
pub(super) fn sizes<const N: usize>(call: &Call, name: &str, default: usize, least: i64) -> Result<[usize; N]> {
    let Some(list) = call.ints(name)? else { return Ok([default; N]) };
    let mut out = [0; N];
    if list.len() != N || list.iter().any(|v| !(least..=MAX_EXTENT).contains(v)) {
        return Err(call.fail(format!("attribute `{name}` = {list:?} is not {N} sizes of at least {least}")));
    }
    out.iter_mut().zip(list).for_each(|(o, &v)| *o = v as usize);
    Ok(out)
}

/// Explicit pads, or those that `auto_pad` asks for.
pub(super) fn pads(call: &Call, image: Pair, kernel: Pair, stride: Pair, dilation: Pair, line: bool) -> Result<Pads> {
    let mode = call.text("auto_pad", "NOTSET")?;
    match mode.as_str() {
        "NOTSET" | "" => flat_sizes(call, "pads", 0, 0, line),
        "VALID" => Ok([0; 4]),
        "SAME_UPPER" | "SAME_LOWER" => {
            let mut pads = [0; 4];
            for i in 0..2 {
                let reach = (image[i].div_ceil(stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1;
                let all = reach.saturating_sub(image[i]);
                let (small, large) = (all / 2, all - all / 2);
                (pads[i], pads[i + 2]) = if mode == "SAME_UPPER" { (small, large) } else { (large, small) };
            }
            Ok(pads)
        }
        other => Err(call.fail(format!("auto_pad `{other}` is unknown"))),
    }
}

pub(super) fn bias(graph: &mut Graph, call: &Call, i: usize) -> Result<Option<ParamId>> {
    match call.input(i) {
        None => Ok(None),
        Some(_) => graph.weight(call, &Rc::clone(call.known(i)?)).map(Some),
    }
}

/// Attributes of a line with those of a height of 1 before them.
pub(super) fn flat_sizes<const N: usize>(
    call: &Call,
    name: &str,
    default: usize,
    least: i64,
    line: bool,
) -> Result<[usize; N]> {
    if !line {
        return sizes(call, name, default, least);
    }
    let mut out = [if name == "pads" { 0 } else { 1 }; N];
    match (N, call.has(name)) {
        (_, false) => out.iter_mut().skip(1).step_by(2).for_each(|o| *o = default),
        (4, true) => [out[1], out[3]] = sizes(call, name, default, least)?,
        _ => [out[N - 1]] = sizes(call, name, default, least)?,
    }
    Ok(out)
}
