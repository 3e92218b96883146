//! Shape inference: what each op makes of its inputs' shapes, or a message with what it expected and what it got.
//!
//! The batch is symbolic: it is axis 0 of every batched value and is never merged, moved or broadcast by an op. Sizes
//! come from files, so every sum and product is checked.

use super::network::MAX_ROW;
use super::node::Shape;
use super::op::{Activation, NOWHERE, Op, Pair, ParamId, Window};
use super::params::Param;
use robust_core::{Error, Kind, Result};

/// The shape of `op` over `inputs`.
///
/// # Errors
/// Kind `Load` for a wrong number of inputs, shapes that do not fit each other or the weights, and attributes without
/// meaning (stride 0, an axis out of range, the batch axis).
pub(crate) fn infer(op: &Op, inputs: &[&Shape], params: &[Param]) -> Result<Shape> {
    arity(op, inputs)?;
    let dims = |p: ParamId| match params.get(p.0) {
        Some(param) => Ok(param.value.dims()),
        None => Err(bad(format!("it reads weight {}, there are {}", p.0, params.len()))),
    };
    match op {
        Op::Input => Err(bad("an input is declared with `Builder::input`")),
        Op::Param(p) => Ok(Shape::constant(dims(*p)?)),
        Op::Conv2d { weight, bias, stride, dilation, pads, groups } => {
            let bias = bias.map(&dims).transpose()?;
            let (w, window) = (dims(*weight)?, (*stride, *dilation, *pads));
            conv(inputs[0], w, bias, window, *groups)
        }
        Op::Linear { weight, bias } => linear(inputs[0], dims(*weight)?, bias.map(&dims).transpose()?),
        Op::MatMul => matmul(inputs[0], inputs[1]),
        Op::BatchNorm { mean, var, gamma, beta, eps } => {
            let per_channel = [Some(*mean), Some(*var), *gamma, *beta];
            for p in per_channel.into_iter().flatten() {
                channels(inputs[0], dims(p)?)?;
            }
            variance(&params[var.0], *eps)?;
            Ok(inputs[0].clone())
        }
        Op::MeanSparse { mean, var, threshold, axis } => {
            mean_sparse(inputs[0], *axis, [dims(*mean)?, dims(*var)?], dims(*threshold)?)
        }
        Op::LayerNorm { gamma, beta, eps } => {
            let weights = [*gamma, *beta].into_iter().flatten().map(dims).collect::<Result<Vec<_>>>()?;
            layer_norm(inputs[0], &weights, *eps)
        }
        Op::Attention { heads, scale } => attention(inputs, *heads, *scale),
        Op::Act(act) => activation(inputs[0], act),
        Op::Binary(_) => broadcast(inputs[0], inputs[1]),
        Op::Choose => broadcast(inputs[0], &broadcast(inputs[1], inputs[2])?),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            place(inputs[0], *axis)?;
            Ok(inputs[0].clone())
        }
        Op::MaxPool(window) | Op::AvgPool { window, .. } => pool(inputs[0], window),
        Op::KeepTop { k } => match *k {
            0 => Err(bad("expected at least 1 entry to keep, got 0")),
            _ if inputs[0].row.is_empty() => Err(bad("expected a value with an axis besides the batch")),
            _ => Ok(inputs[0].clone()),
        },
        Op::Reduce { axes, keep, .. } => reduce(inputs[0], axes, *keep),
        Op::Reshape { row } => reshape(inputs[0], row),
        Op::Transpose { axes } => transpose(inputs[0], axes),
        Op::Concat { axis } => concat(inputs, *axis),
        Op::Slice { axis, start, end, step } => slice(inputs[0], *axis, [*start, *end, *step]),
        Op::Pick { from, row } => pick(inputs[0], from, row),
        Op::Sorted { k, .. } => match inputs[0].row.last() {
            Some(&size) if (1..=size).contains(k) => {
                let mut shape = inputs[0].clone();
                shape.row.last_mut().into_iter().for_each(|last| *last = *k);
                Ok(shape)
            }
            _ => Err(bad(format!("expected an axis of at least {k} > 0 entries, got {}", show(inputs[0])))),
        },
        Op::GridSample { .. } => grid_sample(inputs[0], inputs[1]),
        Op::Pad { pads, value } => pad(inputs[0], pads, *value),
        Op::Dropout { rate } => match (0. ..1.).contains(rate) && inputs[0].batched {
            true => Ok(inputs[0].clone()),
            false => Err(bad(format!(
                "expected an input [n, ...] and a rate from 0 to below 1, got {} and {rate}",
                show(inputs[0])
            ))),
        },
    }
}

fn mean_sparse(x: &Shape, axis: usize, statistics: [&[usize]; 2], threshold: &[usize]) -> Result<Shape> {
    let axis = place(x, axis)?;
    if !x.batched {
        return Err(bad(format!("expected an input [n, ..., c, ...], got {}", show(x))));
    }
    for dims in statistics {
        exactly("statistic", &[x.row[axis]], dims)?;
    }
    exactly("threshold", &[], threshold)?;
    Ok(x.clone())
}

fn layer_norm(x: &Shape, weights: &[&[usize]], eps: f64) -> Result<Shape> {
    let last = x.row.last().copied().filter(|_| x.batched);
    let last = last.ok_or_else(|| bad(format!("expected an input [n, ..., d], got {}", show(x))))?;
    for dims in weights {
        exactly("weight", &[last], dims)?;
    }
    match eps > 0. && eps.is_finite() {
        true => Ok(x.clone()),
        false => Err(bad(format!("expected an eps above 0, got {eps}"))),
    }
}

/// Positions of a window along one axis of `size` entries: PyTorch's rule, `ceil` included.
pub(crate) fn windows(size: usize, span: usize, stride: usize, pads: (usize, usize), ceil: bool) -> Result<usize> {
    if stride == 0 {
        return Err(bad("expected a stride of at least 1, got 0"));
    }
    let padded = sum(&[size, pads.0, pads.1])?;
    if span == 0 || span > padded {
        return Err(bad(format!("expected a window of 1 to {padded} entries (pads included), got {span}")));
    }
    let room = padded - span;
    let mut count = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
    if ceil && (count - 1).checked_mul(stride).is_none_or(|start| start >= size + pads.0) {
        count -= 1;
    }
    Ok(count)
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::Load, message)
}

fn sum(terms: &[usize]) -> Result<usize> {
    let total = terms.iter().try_fold(0usize, |a, &b| a.checked_add(b)).filter(|&t| t <= MAX_ROW);
    total.ok_or_else(|| bad(format!("sizes {terms:?} add up to more than {MAX_ROW} entries")))
}

fn product(dims: &[usize]) -> Result<usize> {
    let total = dims.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    total.ok_or_else(|| bad(format!("shape {dims:?} has more entries than a machine can count")))
}

fn arity(op: &Op, inputs: &[&Shape]) -> Result<()> {
    let expected = match op {
        Op::Input | Op::Param(_) => 0,
        Op::MatMul | Op::Binary(_) | Op::GridSample { .. } => 2,
        Op::Choose => 3,
        Op::Attention { .. } => inputs.len().clamp(3, 4),
        Op::Concat { .. } => inputs.len().max(1),
        Op::Conv2d { .. }
        | Op::Linear { .. }
        | Op::BatchNorm { .. }
        | Op::MeanSparse { .. }
        | Op::LayerNorm { .. }
        | Op::Act(_)
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::MaxPool(_)
        | Op::AvgPool { .. }
        | Op::KeepTop { .. }
        | Op::Reduce { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Pick { .. }
        | Op::Sorted { .. }
        | Op::Pad { .. }
        | Op::Dropout { .. } => 1,
    };
    match inputs.len() {
        n if n == expected => Ok(()),
        n => Err(bad(format!("expected {expected} inputs, got {n}"))),
    }
}

/// How messages write a shape: `[n, 3, 32, 32]`, or `[3, 32, 32]` for a constant.
fn show(shape: &Shape) -> String {
    let sizes = shape.row.iter().map(usize::to_string);
    let all: Vec<String> = shape.batched.then(|| "n".to_string()).into_iter().chain(sizes).collect();
    format!("[{}]", all.join(", "))
}

fn image(x: &Shape) -> Result<[usize; 3]> {
    match (x.batched, x.row.as_slice()) {
        (true, &[c, h, w]) => Ok([c, h, w]),
        _ => Err(bad(format!("expected an input [n, c, h, w], got {}", show(x)))),
    }
}

fn conv(
    x: &Shape,
    weight: &[usize],
    bias: Option<&[usize]>,
    window: (Pair, Pair, [usize; 4]),
    groups: usize,
) -> Result<Shape> {
    let [c, h, w] = image(x)?;
    let &[o, per_group, kh, kw] = weight else {
        return Err(bad(format!("expected a weight [o, c / groups, kh, kw], got {weight:?}")));
    };
    if groups == 0 || c % groups != 0 || o % groups != 0 || o == 0 {
        return Err(bad(format!("expected groups that divide {c} channels and {o} outputs, got {groups}")));
    }
    if per_group != c / groups {
        return Err(bad(format!("expected a weight of {} channels a group, got {weight:?}", c / groups)));
    }
    bias.map_or(Ok(()), |b| exactly("bias", &[o], b))?;
    let (stride, dilation, pads) = window;
    let span = |k: usize, d: usize| match (k, d) {
        (0, _) | (_, 0) => Err(bad(format!("expected a kernel and a dilation of at least 1, got {k} and {d}"))),
        _ => {
            (k - 1).checked_mul(d).and_then(|s| s.checked_add(1)).ok_or_else(|| bad(format!("dilation {d} overflows")))
        }
    };
    let rows = windows(h, span(kh, dilation[0])?, stride[0], (pads[0], pads[2]), false)?;
    let cols = windows(w, span(kw, dilation[1])?, stride[1], (pads[1], pads[3]), false)?;
    Ok(Shape::rows([o, rows, cols]))
}

fn exactly(what: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got { Ok(()) } else { Err(bad(format!("expected a {what} of shape {expected:?}, got {got:?}"))) }
}

fn linear(x: &Shape, weight: &[usize], bias: Option<&[usize]>) -> Result<Shape> {
    let &[o, i] = weight else {
        return Err(bad(format!("expected a weight [o, i], got {weight:?}")));
    };
    bias.map_or(Ok(()), |b| exactly("bias", &[o], b))?;
    let mut shape = x.clone();
    match shape.row.last_mut() {
        Some(last) if *last == i => *last = o,
        _ => return Err(bad(format!("expected an input whose last axis has {i} entries, got {}", show(x)))),
    }
    Ok(shape)
}

fn matmul(a: &Shape, b: &Shape) -> Result<Shape> {
    let refuse = |why: &str| Err(bad(format!("cannot multiply {} by {}: {why}", show(a), show(b))));
    if a.rank() < 2 || b.rank() < 2 {
        return refuse("expected at least two axes on both sides");
    }
    if b.batched && b.row.len() < 2 {
        return refuse("the sum would run over the batch");
    }
    // [n, k] by a constant [k, m]: the batch is the matrix's own row axis.
    if a.batched && a.row.len() == 1 {
        return match b.row.as_slice() {
            &[k, m] if !b.batched && k == a.row[0] => Ok(Shape::rows([m])),
            _ => refuse("expected a constant matrix with as many rows as the left side has columns"),
        };
    }
    let split = |s: &Shape| {
        let cut = s.row.len() - 2;
        (Shape { batched: s.batched, row: s.row[..cut].to_vec() }, s.row[cut], s.row[cut + 1])
    };
    let ((lead_a, m, k), (lead_b, k2, p)) = (split(a), split(b));
    if k != k2 {
        return refuse("the inner sizes differ");
    }
    let mut shape = broadcast(&lead_a, &lead_b).map_err(|e| e.within("leading axes"))?;
    shape.row.extend([m, p]);
    Ok(shape)
}

fn attention(inputs: &[&Shape], heads: usize, scale: f64) -> Result<Shape> {
    let [q, k, v, bias @ ..] = inputs else { return Err(bad("expected queries, keys and values")) };
    let parts = |s: &Shape| match s.row[..] {
        [tokens, width] if s.batched => Ok((None, tokens, width)),
        [windows, tokens, width] if s.batched => Ok((Some(windows), tokens, width)),
        _ => Err(bad(format!("expected a value [n, tokens, width] or [n, windows, tokens, width], got {}", show(s)))),
    };
    let ((windows, asking, width), (w, asked, keys), (u, valued, values)) = (parts(q)?, parts(k)?, parts(v)?);
    if asked != valued || width != keys || width != values || windows != w || windows != u {
        return Err(bad(format!("queries {}, keys {} and values {} do not fit", show(q), show(k), show(v))));
    }
    if heads == 0 || width % heads != 0 || !(scale > 0. && scale.is_finite()) {
        return Err(bad(format!("expected heads that divide {width} and a scale above 0, got {heads} and {scale}")));
    }
    if let [bias] = bias {
        let every = |size: usize, all: usize| size == 1 || size == all;
        let fits = match (windows, &bias.row[..]) {
            (None, &[1, h, s, t]) => every(h, heads) && [s, t] == [asking, asked],
            (Some(w), &[1, v, h, s, t]) => every(v, w) && every(h, heads) && [s, t] == [asking, asked],
            _ => false,
        };
        if bias.batched || !fits {
            let expected = match windows {
                None => format!("[1, {heads} or 1, {asking}, {asked}]"),
                Some(w) => format!("[1, {w} or 1, {heads} or 1, {asking}, {asked}]"),
            };
            return Err(bad(format!("expected a constant bias {expected}, got {}", show(bias))));
        }
    }
    Ok((*q).clone())
}

fn channels(x: &Shape, dims: &[usize]) -> Result<()> {
    match x.row.first() {
        Some(&c) if x.batched => exactly("statistic", &[c], dims),
        _ => Err(bad(format!("expected an input [n, c, ...], got {}", show(x)))),
    }
}

fn variance(var: &Param, eps: f64) -> Result<()> {
    let values = var.value.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
    match values.into_iter().find(|v| (v + eps).is_nan() || v + eps <= 0.) {
        Some(v) => Err(bad(format!("expected variances with variance + eps above 0, got {v} + {eps}"))),
        None => Ok(()),
    }
}

/// Whole numbers up to here are exact in single precision.
const MAX_WHOLE: f64 = (1 << 24) as f64;

fn activation(x: &Shape, act: &Activation) -> Result<Shape> {
    let fits = match *act {
        Activation::Clip(low, high) => low <= high,
        Activation::LeakyRelu(a) | Activation::Elu(a) => a.is_finite(),
        Activation::Quantise(low, high) => {
            low <= high && [low, high].iter().all(|b| b.fract() == 0. && b.abs() <= MAX_WHOLE)
        }
        Activation::HardSigmoid { alpha, beta } => alpha.is_finite() && beta.is_finite(),
        _ => true,
    };
    if fits { Ok(x.clone()) } else { Err(bad(format!("expected finite, ordered parameters, got {act:?}"))) }
}

/// numpy's rule over trailing axes, where the batch axis meets another batch axis or nothing (or a constant's 1).
fn broadcast(a: &Shape, b: &Shape) -> Result<Shape> {
    let refuse = |why: &str| Err(bad(format!("cannot broadcast {} against {}: {why}", show(a), show(b))));
    if a.batched && b.batched && a.rank() != b.rank() {
        return refuse("the batch axis of one would meet another axis of the other");
    }
    let batched = a.batched || b.batched;
    let rank = a.rank().max(b.rank());
    let mut row = Vec::with_capacity(rank);
    for i in 0..rank {
        // `None` stands for the batch, whose size is unknown.
        let at = |s: &Shape| match (i + s.rank()).checked_sub(rank) {
            None => Some(1),
            Some(0) if s.batched => None,
            Some(j) => Some(s.row[j - usize::from(s.batched)]),
        };
        match (at(a), at(b)) {
            (None, None) if i == 0 => {}
            (None, Some(1)) | (Some(1), None) if i == 0 => {}
            (Some(p), Some(q)) if p == q || q == 1 => row.push(p),
            (Some(1), Some(q)) => row.push(q),
            (None, _) | (_, None) => return refuse("the batch axis would meet an axis of the constant"),
            (Some(p), Some(q)) => return refuse(&format!("axis {i} has {p} and {q} entries")),
        }
    }
    Ok(Shape { batched, row })
}

/// The position in `row` of an axis that counts the batch.
fn place(x: &Shape, axis: usize) -> Result<usize> {
    let first = usize::from(x.batched);
    if axis < first || axis >= x.rank() {
        return Err(bad(format!("expected an axis from {first} to below {} of {}, got {axis}", x.rank(), show(x))));
    }
    Ok(axis - first)
}

fn pool(x: &Shape, window: &Window) -> Result<Shape> {
    let [c, h, w] = image(x)?;
    let &Window { kernel, stride, pads, ceil } = window;
    // A window that covers padding alone would have no maximum.
    if pads[0].max(pads[2]) >= kernel[0] || pads[1].max(pads[3]) >= kernel[1] {
        return Err(bad(format!("expected pads smaller than the kernel {kernel:?}, got {pads:?}")));
    }
    let rows = windows(h, kernel[0], stride[0], (pads[0], pads[2]), ceil)?;
    let cols = windows(w, kernel[1], stride[1], (pads[1], pads[3]), ceil)?;
    Ok(Shape::rows([c, rows, cols]))
}

fn reduce(x: &Shape, axes: &[usize], keep: bool) -> Result<Shape> {
    let mut gone = vec![false; x.row.len()];
    for &axis in axes {
        if std::mem::replace(&mut gone[place(x, axis)?], true) {
            return Err(bad(format!("expected distinct axes, got {axes:?}")));
        }
    }
    if axes.is_empty() {
        return Err(bad("expected at least one axis to reduce, got none"));
    }
    let kept = x.row.iter().zip(&gone).filter(|(_, g)| keep || !**g).map(|(&d, &g)| if g { 1 } else { d });
    Ok(Shape { batched: x.batched, row: kept.collect() })
}

fn reshape(x: &Shape, row: &[usize]) -> Result<Shape> {
    let (from, to) = (product(&x.row)?, product(row)?);
    if from != to {
        return Err(bad(format!("expected {from} entries a row as in {}, got {to} in {row:?}", show(x))));
    }
    Ok(Shape { batched: x.batched, row: row.to_vec() })
}

fn transpose(x: &Shape, axes: &[usize]) -> Result<Shape> {
    let mut seen = vec![false; x.rank()];
    let legal = axes.len() == x.rank()
        && axes.iter().all(|&a| a < seen.len() && !std::mem::replace(&mut seen[a], true))
        && (!x.batched || axes[0] == 0);
    if !legal {
        let fixed = if x.batched { " with 0 first" } else { "" };
        return Err(bad(format!("expected an order of the {} axes{fixed}, got {axes:?}", x.rank())));
    }
    let first = usize::from(x.batched);
    Ok(Shape { batched: x.batched, row: axes[first..].iter().map(|a| x.row[a - first]).collect() })
}

/// Constants whose leading axis is 1 are repeated for every row when another piece is batched (a class token).
fn concat(inputs: &[&Shape], axis: usize) -> Result<Shape> {
    let batched = inputs.iter().any(|s| s.batched);
    let mut out: Option<Shape> = None;
    for s in inputs {
        let row = match (batched && !s.batched, s.row.as_slice()) {
            (true, [1, row @ ..]) => row,
            (true, _) => {
                return Err(bad(format!("expected a constant piece with a leading axis of 1, got {}", show(s))));
            }
            (false, row) => row,
        };
        let piece = Shape { batched, row: row.to_vec() };
        let at = place(&piece, axis)?;
        out = Some(match out {
            None => piece,
            Some(mut all) => {
                let other = |a: &Shape| a.row.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, &d)| d).collect();
                let (expected, got): (Vec<usize>, Vec<usize>) = (other(&all), other(&piece));
                if all.row.len() != piece.row.len() || expected != got {
                    return Err(bad(format!(
                        "expected pieces that differ on axis {axis} alone, got {} and {}",
                        show(&all),
                        show(s)
                    )));
                }
                all.row[at] = sum(&[all.row[at], piece.row[at]])?;
                all
            }
        });
    }
    out.ok_or_else(|| bad("expected at least 1 input, got 0"))
}

fn slice(x: &Shape, axis: usize, [start, end, step]: [usize; 3]) -> Result<Shape> {
    let at = place(x, axis)?;
    if step == 0 || start >= end || end > x.row[at] {
        return Err(bad(format!(
            "expected start < end <= {} and a step of at least 1, got {start}, {end}, {step}",
            x.row[at]
        )));
    }
    let mut shape = x.clone();
    shape.row[at] = (end - start).div_ceil(step);
    Ok(shape)
}

fn pick(x: &Shape, from: &[u32], row: &[usize]) -> Result<Shape> {
    let (all, made) = (product(&x.row)?, product(row)?);
    if from.len() != made {
        return Err(bad(format!("expected {made} places for {row:?}, got {}", from.len())));
    }
    match from.iter().find(|&&at| at != NOWHERE && at as usize >= all) {
        Some(at) => Err(bad(format!("expected places below {all} of {}, got {at}", show(x)))),
        None => Ok(Shape { batched: x.batched, row: row.to_vec() }),
    }
}

/// An image `[n, c, h, w]` and places `[n, h2, w2, 2]`, one of which may be a constant with a leading axis of 1.
fn grid_sample(x: &Shape, grid: &Shape) -> Result<Shape> {
    let row = |s: &Shape| match (s.batched, &s.row[..]) {
        (true, &[a, b, c]) | (false, &[1, a, b, c]) => Some([a, b, c]),
        _ => None,
    };
    match (row(x), row(grid)) {
        (Some([c, ..]), Some([h, w, 2])) if x.batched || grid.batched => Ok(Shape::rows([c, h, w])),
        _ => Err(bad(format!(
            "expected an image [n, c, h, w] and places [n, h, w, 2], got {} and {}",
            show(x),
            show(grid)
        ))),
    }
}

fn pad(x: &Shape, pads: &[(usize, usize)], value: f64) -> Result<Shape> {
    if pads.len() != x.row.len() || value.is_nan() {
        return Err(bad(format!("expected {} pairs of pads and a number, got {pads:?} and {value}", x.row.len())));
    }
    let row: Result<Vec<usize>> = x.row.iter().zip(pads).map(|(&d, &(a, b))| sum(&[d, a, b])).collect();
    Ok(Shape { batched: x.batched, row: row? })
}

#[cfg(test)]
mod tests;
