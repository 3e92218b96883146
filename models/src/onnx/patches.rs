//! Pools and convolutions with no op of their own (dilated and Lp pools, three axes of places): the entries of every window side by
//! side, and then what is done to each.

use super::arithmetic::Steps;
use super::call::{Call, Graph, Value, one};
use super::views::MAX_EXTENT;
use super::views::View;
use crate::compose::MADE;
use candle_core::{Device, Tensor};
use robust_core::Result;
use robust_engine::{Activation, Binary, NOWHERE, NodeId, Op, Reduction, Window};
use std::rc::Rc;

/// Windows over 1 to 3 axes of places.
struct Windows {
    /// Sizes of the axes.
    size: Vec<usize>,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
    /// Before each axis, then behind each.
    pads: Vec<usize>,
    /// Windows along each axis.
    count: Vec<usize>,
}

impl Windows {
    fn of(call: &Call, size: &[usize], kernel: Vec<usize>) -> Result<Self> {
        let n = size.len();
        let list = |name: &str, count: usize, default: usize, least: i64| -> Result<Vec<usize>> {
            let Some(list) = call.ints(name)? else { return Ok(vec![default; count]) };
            match list.len() == count && list.iter().all(|v| (least..=MAX_EXTENT).contains(v)) {
                true => Ok(list.iter().map(|&v| v as usize).collect()),
                false => {
                    Err(call.fail(format!("attribute `{name}` = {list:?} is not {count} sizes of at least {least}")))
                }
            }
        };
        let (stride, dilation) = (list("strides", n, 1, 1)?, list("dilations", n, 1, 1)?);
        let span = |i: usize| (kernel[i] - 1) * dilation[i] + 1;
        let mut pads = list("pads", 2 * n, 0, 0)?;
        let mode = call.text("auto_pad", "NOTSET")?;
        match mode.as_str() {
            "NOTSET" | "" => {}
            "VALID" => pads.fill(0),
            "SAME_UPPER" | "SAME_LOWER" => {
                for i in 0..n {
                    let all = ((size[i].div_ceil(stride[i]) - 1) * stride[i] + span(i)).saturating_sub(size[i]);
                    let (small, large) = (all / 2, all - all / 2);
                    (pads[i], pads[i + n]) = if mode == "SAME_UPPER" { (small, large) } else { (large, small) };
                }
            }
            other => return Err(call.fail(format!("auto_pad `{other}` is unknown"))),
        }
        let ceil = call.int("ceil_mode", 0)? != 0;
        let mut count = vec![];
        for i in 0..n {
            let Some(room) = (size[i] + pads[i] + pads[i + n]).checked_sub(span(i)) else {
                return Err(call.fail(format!("a window of {} entries on an axis of {}", span(i), size[i])));
            };
            let mut windows = (if ceil { room.div_ceil(stride[i]) } else { room / stride[i] }) + 1;
            // As PyTorch: no window begins behind the image and its leading pad.
            if ceil && (windows - 1) * stride[i] >= size[i] + pads[i] {
                windows -= 1;
            }
            count.push(windows);
        }
        Ok(Self { size: size.to_vec(), kernel, stride, dilation, pads, count })
    }

    fn places(&self) -> usize {
        self.count.iter().fold(1, |n, &c| n.saturating_mul(c))
    }

    fn area(&self) -> usize {
        self.kernel.iter().fold(1, |n, &k| n.saturating_mul(k))
    }

    /// For each window, for each of its entries: where it is among the places, [`NOWHERE`] in a pad, or `None` behind the pads.
    fn taps(&self) -> Vec<Option<u32>> {
        let strides = View::of(&self.size).strides;
        let n = self.size.len();
        let split = |mut at: usize, dims: &[usize]| {
            let mut out = vec![0; dims.len()];
            for i in (0..dims.len()).rev() {
                (out[i], at) = (at % dims[i], at / dims[i]);
            }
            out
        };
        let mut all = Vec::with_capacity(self.places() * self.area());
        let kernels: Vec<Vec<usize>> = (0..self.area()).map(|k| split(k, &self.kernel)).collect();
        for place in (0..self.places()).map(|p| split(p, &self.count)) {
            for kernel in &kernels {
                let (mut at, mut inside, mut padded) = (0i64, true, true);
                for i in 0..n {
                    let x = place[i] * self.stride[i] + kernel[i] * self.dilation[i];
                    inside &= x >= self.pads[i] && x < self.pads[i] + self.size[i];
                    padded &= x < self.pads[i] + self.size[i] + self.pads[i + n];
                    at += (x as i64 - self.pads[i] as i64) * strides[i];
                }
                all.push(match (inside, padded) {
                    (true, _) => Some(at as u32),
                    (false, true) => Some(NOWHERE),
                    (false, false) => None,
                });
            }
        }
        all
    }
}

/// Input 0 as channels and places, and its windows.
fn windows(graph: &Graph, call: &Call, kernel: Vec<usize>) -> Result<(NodeId, usize, Windows)> {
    let (id, shape) = graph.rows(call, 0)?;
    let [channels, size @ ..] = &shape.row[..] else { return Err(call.fail("its input has no channels")) };
    if kernel.len() != size.len() || !(1..=3).contains(&size.len()) {
        return Err(call.fail(format!("a kernel {kernel:?} on {} axes of places", size.len())));
    }
    Ok((id, *channels, Windows::of(call, size, kernel)?))
}

fn kernel(call: &Call) -> Result<Vec<usize>> {
    let list = call.ints("kernel_shape")?.ok_or_else(|| call.fail("attribute `kernel_shape` is missing"))?;
    match list.iter().all(|k| (1..=MAX_EXTENT).contains(k)) {
        true => Ok(list.iter().map(|&k| k as usize).collect()),
        false => Err(call.fail(format!("attribute `kernel_shape` = {list:?} is not made of sizes"))),
    }
}

/// The entries of each window: `[channels, places, area]`. Where there is none, `fill` says which entry of the window stands in.
fn spread(
    s: &mut Steps,
    call: &Call,
    (id, channels, w): (NodeId, usize, &Windows),
    fill: impl Fn(&[Option<u32>]) -> Option<u32>,
) -> Result<NodeId> {
    let (places, area, size) = (w.places(), w.area(), w.size.iter().product::<usize>());
    s.graph.spend(call, &[channels, places, area])?;
    let mut taps = vec![];
    for window in w.taps().chunks(area) {
        let stand_in = fill(window).ok_or_else(|| call.fail("a window has no entry of the image"))?;
        taps.extend(window.iter().map(|at| at.filter(|at| *at != NOWHERE).unwrap_or(stand_in)));
    }
    let own = |(c, &at): (usize, &u32)| if at == NOWHERE { at } else { (c * size) as u32 + at };
    let list: Vec<u32> = (0..channels).flat_map(|c| taps.iter().map(move |at| own((c, at)))).collect();
    s.node(Op::Pick { from: list.into(), row: vec![channels, places, area] }, &[id])
}

/// MaxPool, AveragePool and LpPool of any kernel, dilation and number of axes.
pub fn pool(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, channels, w) = windows(graph, call, kernel(call)?)?;
    let (places, area) = (w.places(), w.area());
    let counts_pads = call.int("count_include_pad", 0)? != 0;
    let mut s = Steps::new(graph, call);
    let row = [&[channels], &w.count[..]].concat();
    let line = |op: fn(Window) -> Op| op(Window { kernel: [1, area], stride: [1, area], pads: [0; 4], ceil: false });
    let made = match call.op() {
        // The first entry there is stands in for those that are not: it wins no more often than it does by itself.
        "MaxPool" => {
            let first = |window: &[Option<u32>]| window.iter().flatten().copied().find(|at| *at != NOWHERE);
            let all = spread(&mut s, call, (id, channels, &w), first)?;
            s.node(line(Op::MaxPool), &[all])?
        }
        "AveragePool" => {
            let all = spread(&mut s, call, (id, channels, &w), |_| Some(NOWHERE))?;
            let means = s.node(line(|window| Op::AvgPool { window, count_pads: true }), &[all])?;
            let counted = |at: &&Option<u32>| at.is_some_and(|at| counts_pads || at != NOWHERE);
            let factor = |c: &[Option<u32>]| area as f64 / c.iter().filter(counted).count().max(1) as f64;
            let factors: Vec<f64> = w.taps().chunks(area).map(factor).collect();
            match factors.iter().all(|f| *f == 1.) {
                true => means,
                false => {
                    let factors = Tensor::from_vec(factors, (1, places, 1), &Device::Cpu)?;
                    let param = s.graph.derived(&format!("{MADE}{}", call.out()), ".counts", factors);
                    let factors = s.node(Op::Param(param), &[])?;
                    s.two(Binary::Mul, means, factors)?
                }
            }
        }
        _ => {
            let all = spread(&mut s, call, (id, channels, &w), |_| Some(NOWHERE))?;
            norm(&mut s, call, all, vec![3])?
        }
    };
    one(s.node(Op::Reshape { row }, &[made])?)
}

/// The p-norm along axes.
fn norm(s: &mut Steps, call: &Call, x: NodeId, axes: Vec<usize>) -> Result<NodeId> {
    let p = match call.has("p") && call.int("p", 2).is_err() {
        true => call.float("p", 2.)?,
        false => call.int("p", 2)? as f64,
    };
    if !(p >= 1. && p.is_finite()) {
        return Err(call.fail(format!("p = {p} is not at least 1")));
    }
    let sizes = s.act(Activation::Abs, x)?;
    let sum = |s: &mut Steps, x| s.node(Op::Reduce { kind: Reduction::Sum, axes: axes.clone(), keep: true }, &[x]);
    if p == 1. {
        return sum(s, sizes);
    }
    // Zeros have no slope: they are lifted by less than counts.
    let sizes = s.act(Activation::Clip(1e-15, f64::INFINITY), sizes)?;
    let powers = s.by(Binary::Pow, sizes, p)?;
    let total = sum(s, powers)?;
    s.by(Binary::Pow, total, 1. / p)
}

/// The p-norm of all places of a channel.
pub fn global_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    if shape.rank() < 3 {
        return Err(call.fail("its input has no axes after the channels"));
    }
    let axes = (2..shape.rank()).collect();
    let mut s = Steps::new(graph, call);
    one(norm(&mut s, call, id, axes)?)
}

/// A convolution over three axes of places: the product of all windows with the weight.
pub fn conv(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let weight = Rc::clone(call.known(1)?);
    let [outputs, per_group, kernel @ ..] = &weight.dims[..] else {
        return Err(call.fail(format!("its weight has shape {:?}", weight.dims)));
    };
    if kernel.contains(&0) {
        return Err(call.fail("its kernel is empty"));
    }
    let (id, channels, w) = windows(graph, call, kernel.to_vec())?;
    let groups =
        usize::try_from(call.int("group", 1)?).ok().filter(|&g| g > 0 && channels % g == 0 && outputs % g == 0);
    let Some(groups) = groups.filter(|g| channels / g == *per_group) else {
        return Err(call.fail(format!("its weight {:?} and groups do not fit {channels} channels", weight.dims)));
    };
    let (places, area, out) = (w.places(), w.area(), outputs / groups);
    let tensor = weight.tensor().ok_or_else(|| call.fail(format!("`{}` must be floating point", weight.name)))?;
    graph.spend(call, &weight.dims)?;
    let matrix = tensor.reshape((1, groups, out, per_group * area))?.transpose(2, 3)?.contiguous()?;
    let matrix = graph.derived(&weight.name, "[windows]", matrix);
    let bias = super::extents::bias(graph, call, 2)?;
    let mut s = Steps::new(graph, call);
    let all = spread(&mut s, call, (id, channels, &w), |_| Some(NOWHERE))?;
    // [groups, places, channels of a group x area]
    let grouped = s.node(Op::Reshape { row: vec![groups, *per_group, places, area] }, &[all])?;
    let turned = s.node(Op::Transpose { axes: vec![0, 1, 3, 2, 4] }, &[grouped])?;
    let rows = s.node(Op::Reshape { row: vec![groups, places, per_group * area] }, &[turned])?;
    let matrix = s.node(Op::Param(matrix), &[])?;
    let mut made = s.node(Op::MatMul, &[rows, matrix])?;
    if let Some(bias) = bias {
        let shift = s.node(Op::Param(bias), &[])?;
        let shift = s.node(Op::Reshape { row: vec![1, groups, 1, out] }, &[shift])?;
        made = s.two(Binary::Add, made, shift)?;
    }
    let back = s.node(Op::Transpose { axes: vec![0, 1, 3, 2] }, &[made])?;
    one(s.node(Op::Reshape { row: [&[*outputs], &w.count[..]].concat() }, &[back])?)
}

/// An image whose pixels are sums of the entries of all windows that cover them.
pub fn col2im(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let list = |i: usize| -> Result<Vec<usize>> {
        let list = call.short_ints(i)?;
        let sizes = list.iter().map(|&v| usize::try_from(v).ok().filter(|v| (1..=MAX_EXTENT as usize).contains(v)));
        sizes.collect::<Option<Vec<_>>>().ok_or_else(|| call.fail(format!("{list:?} are not sizes")))
    };
    let (size, kernel) = (list(1)?, list(2)?);
    if size.len() != kernel.len() || !(1..=3).contains(&size.len()) {
        return Err(call.fail("its image and blocks differ in axes, or have more than 3"));
    }
    let w = Windows::of(call, &size, kernel)?;
    let (places, area, pixels) = (w.places(), w.area(), size.iter().product::<usize>());
    let channels = shape.row[0] / area;
    if shape.row != [channels * area, places] {
        return Err(call.fail(format!("a row {:?} is not blocks of {area} for {places} places", shape.row)));
    }
    graph.spend(call, &[channels, pixels, area])?;
    let taps = w.taps();
    let mut s = Steps::new(graph, call);
    let mut sum: Option<NodeId> = None;
    for k in 0..area {
        let mut from = vec![NOWHERE; channels * pixels];
        for place in 0..places {
            if let Some(at) = taps[place * area + k].filter(|at| *at != NOWHERE) {
                (0..channels).for_each(|c| {
                    from[c * pixels + at as usize] = ((c * area + k) * places + place) as u32;
                });
            }
        }
        let part = s.node(Op::Pick { from: from.into(), row: [&[channels], &size[..]].concat() }, &[id])?;
        sum = Some(match sum {
            Some(sum) => s.two(Binary::Add, sum, part)?,
            None => part,
        });
    }
    sum.map_or_else(|| Err(call.fail("its blocks are empty")), one)
}
