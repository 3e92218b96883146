//! Transposed convolutions as plain ones over an image with zeros between its entries, and norms over neighbouring channels.

use super::array::Array;
use super::call::{Call, Graph, Value, one};
use super::extents::{bias, image, sizes};
use super::views::MAX_EXTENT;
use crate::compose::MADE;
use candle_core::{Device, Tensor};
use robust_core::Result;
use robust_engine::{Binary, NodeId, Op, Pair, ParamId, Window};
use std::rc::Rc;

/// What a ConvTranspose says of itself, per axis.
struct Shape {
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    /// Entries cut off before and after.
    cut: [[i64; 2]; 2],
}

pub fn conv_transpose(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, hw) = image(graph, call)?;
    let weight = Rc::clone(call.known(1)?);
    let groups = call.int("group", 1)?;
    let groups = usize::try_from(groups).ok().filter(|&g| g > 0);
    let (Some(groups), &[inputs, _, kh, kw]) = (groups, weight.dims.as_slice()) else {
        return Err(call.fail(format!("its weight has shape {:?}; only 2-d convolutions are supported", weight.dims)));
    };
    if inputs % groups != 0 || [kh, kw].iter().any(|&k| !(1..=MAX_EXTENT as usize).contains(&k)) {
        return Err(call.fail(format!("{inputs} channels in {groups} groups, or a kernel of {kh} x {kw}")));
    }
    let shape = shape(call, hw, [kh, kw])?;
    let spread = spread(graph, call, id, hw, shape.stride)?;
    // Where the kernel reaches beyond the image there is nothing; where less is wanted, entries are cut off.
    let mut padded = spread;
    for i in 0..2 {
        let reach = ((shape.kernel[i] - 1) * shape.dilation[i]) as i64;
        padded = bordered(graph, call, padded, i, [reach - shape.cut[i][0], reach - shape.cut[i][1]])?;
    }
    let weight = turned(graph, call, &weight, groups)?;
    let bias = bias(graph, call, 2)?;
    let op = Op::Conv2d { weight, bias, stride: [1, 1], dilation: shape.dilation, pads: [0; 4], groups };
    one(graph.node(call, op, &[padded])?)
}

fn shape(call: &Call, image: Pair, kernel: Pair) -> Result<Shape> {
    let (stride, dilation): (Pair, Pair) = (sizes(call, "strides", 1, 1)?, sizes(call, "dilations", 1, 1)?);
    let more: Pair = sizes(call, "output_padding", 0, 0)?;
    let pads: [usize; 4] = sizes(call, "pads", 0, 0)?;
    let mut cut = [0, 1].map(|i| [pads[i] as i64, pads[i + 2] as i64 - more[i] as i64]);
    let mode = call.text("auto_pad", "NOTSET")?;
    let asked = call.ints("output_shape")?;
    for i in 0..2 {
        let whole = (stride[i] * (image[i] - 1) + (kernel[i] - 1) * dilation[i] + 1 + more[i]) as i64;
        let wanted = match (asked, mode.as_str()) {
            (Some(list), _) if list.len() >= 2 => list[list.len() - 2 + i],
            (None, "SAME_UPPER" | "SAME_LOWER") => (image[i] * stride[i]) as i64,
            (None, "NOTSET" | "" | "VALID") => continue,
            _ => return Err(call.fail(format!("auto_pad `{mode}` with output_shape {asked:?} is not understood"))),
        };
        if !(1..=MAX_EXTENT).contains(&wanted) {
            return Err(call.fail(format!("an output of {wanted} entries")));
        }
        let all = whole - wanted;
        let small = all.div_euclid(2);
        let (before, after) = if mode == "SAME_UPPER" { (small, all - small) } else { (all - small, small) };
        cut[i] = [before, after - more[i] as i64];
    }
    Ok(Shape { kernel, stride, dilation, cut })
}

/// The image with `stride - 1` zeros between neighbours.
fn spread(graph: &mut Graph, call: &Call, id: NodeId, [h, w]: Pair, stride: Pair) -> Result<NodeId> {
    if stride == [1, 1] {
        return Ok(id);
    }
    let c = graph.builder.shape(id).row[0];
    let [a, b] = stride;
    let apart = graph.step(call, "apart", Op::Reshape { row: vec![c, h, 1, w, 1] }, &[id])?;
    let pads = vec![(0, 0), (0, 0), (0, a - 1), (0, 0), (0, b - 1)];
    let zeros = graph.step(call, "zeros", Op::Pad { pads, value: 0. }, &[apart])?;
    let spread = graph.step(call, "spread", Op::Reshape { row: vec![c, h * a, w * b] }, &[zeros])?;
    let rows = Op::Slice { axis: 2, start: 0, end: (h - 1) * a + 1, step: 1 };
    let rows = graph.step(call, "rows", rows, &[spread])?;
    graph.step(call, "columns", Op::Slice { axis: 3, start: 0, end: (w - 1) * b + 1, step: 1 }, &[rows])
}

/// Zeros before and after along height (0) or width (1), or entries taken away where an amount is negative.
fn bordered(graph: &mut Graph, call: &Call, id: NodeId, axis: usize, amounts: [i64; 2]) -> Result<NodeId> {
    let dim = graph.builder.shape(id).row[1 + axis];
    let [less_before, less_after] = amounts.map(|a| (-a).max(0) as usize);
    let mut out = id;
    if less_before + less_after >= dim && less_before + less_after > 0 {
        return Err(call.fail(format!("its pads leave nothing of {dim} entries")));
    }
    if less_before + less_after > 0 {
        let op = Op::Slice { axis: 2 + axis, start: less_before, end: dim - less_after, step: 1 };
        out = graph.step(call, &format!("cut{axis}"), op, &[out])?;
    }
    let [before, after] = amounts.map(|a| a.max(0) as usize);
    if before + after > 0 {
        let mut pads = vec![(0, 0); 3];
        pads[1 + axis] = (before, after);
        out = graph.step(call, &format!("border{axis}"), Op::Pad { pads, value: 0. }, &[out])?;
    }
    Ok(out)
}

/// `[in, out / groups, kh, kw]` as `[out, in / groups, kh, kw]`, upside down and mirrored.
fn turned(graph: &mut Graph, call: &Call, array: &Array, groups: usize) -> Result<ParamId> {
    let tensor = array.tensor().ok_or_else(|| call.fail(format!("`{}` must be floating point", array.name)))?;
    graph.spend(call, &[2, array.len()])?;
    let &[inputs, outputs, h, w] = array.dims.as_slice() else { return Err(call.fail("its weight has not 4 axes")) };
    let split = tensor.reshape((groups, inputs / groups, outputs, h, w))?.transpose(1, 2)?;
    let joined = split.reshape((groups * outputs, inputs / groups, h, w))?;
    let back = |n: usize| Tensor::from_vec((0..n as u32).rev().collect(), n, &Device::Cpu);
    let flipped = joined.contiguous()?.index_select(&back(h)?, 2)?.index_select(&back(w)?, 3)?;
    Ok(graph.derived(&array.name, &format!("(transposed in {groups})"), flipped.contiguous()?))
}

/// Entries divided by a power of the squares of the channels around them (local response normalisation, Krizhevsky et al. 2012).
pub fn lrn(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let size = call.int("size", 0)?;
    let size = usize::try_from(size).ok().filter(|s| (1..=1 << 12).contains(s) && shape.row.len() >= 2);
    let size = size.ok_or_else(|| call.fail("its size is not positive, or its input has no places"))?;
    let (alpha, beta, bias) = (call.float("alpha", 1e-4)?, call.float("beta", 0.75)?, call.float("bias", 1.)?);
    let (channels, places) = (shape.row[0], shape.row[1..].iter().product());
    let squares = graph.step(call, "squares", Op::Binary(Binary::Mul), &[id, id])?;
    let lines = graph.step(call, "lines", Op::Reshape { row: vec![1, channels, places] }, &[squares])?;
    let before = (size - 1) / 2;
    let pads = vec![(0, 0), (before, size - 1 - before), (0, 0)];
    let border = graph.step(call, "border", Op::Pad { pads, value: 0. }, &[lines])?;
    let window = Window { kernel: [size, 1], stride: [1, 1], pads: [0; 4], ceil: false };
    let means = graph.step(call, "means", Op::AvgPool { window, count_pads: true }, &[border])?;
    let means = graph.step(call, "map", Op::Reshape { row: shape.row }, &[means])?;
    let mut by = |what: &str, kind: Binary, x: NodeId, number: f64| -> Result<NodeId> {
        let value = Tensor::from_vec(vec![number], (), &Device::Cpu)?;
        let param = graph.derived(&format!("{MADE}{number:e}"), "", value);
        let number = graph.step(call, &format!("{what}.by"), Op::Param(param), &[])?;
        graph.step(call, what, Op::Binary(kind), &[x, number])
    };
    let scaled = by("scaled", Binary::Mul, means, alpha)?;
    let lifted = by("lifted", Binary::Add, scaled, bias)?;
    let power = by("power", Binary::Pow, lifted, beta)?;
    one(graph.node(call, Op::Binary(Binary::Div), &[id, power])?)
}
