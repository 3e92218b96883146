//! Pieces that transformers share, laid onto a [`Stack`]: tokens are `[n, tokens, width]` or `[n, windows, tokens, width]`.

use super::stack::Stack;
use crate::compose::cubic;
use crate::options::Options;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result, nearest};
use robust_engine::{Activation, Binary, NodeId, Op, Reduction};

/// An activation by the name transformers have for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    Plain(Activation),
    /// `x sigmoid(1.702 x)`, CLIP's.
    QuickGelu,
}

const ACTS: [(&str, Act); 12] = [
    ("gelu", Act::Plain(Activation::Gelu)),
    ("gelu_new", Act::Plain(Activation::GeluTanh)),
    ("gelu_pytorch_tanh", Act::Plain(Activation::GeluTanh)),
    ("quick_gelu", Act::QuickGelu),
    ("relu", Act::Plain(Activation::Relu)),
    ("relu6", Act::Plain(Activation::Clip(0., 6.))),
    ("silu", Act::Plain(Activation::Silu)),
    ("swish", Act::Plain(Activation::Silu)),
    ("hardswish", Act::Plain(Activation::HardSwish)),
    ("leaky_relu", Act::Plain(Activation::LeakyRelu(0.01))),
    ("tanh", Act::Plain(Activation::Tanh)),
    ("sigmoid", Act::Plain(Activation::Sigmoid)),
];

impl Act {
    /// What the user says of a file that does not say it.
    pub fn said(options: &Options, usual: Act) -> Result<Self> {
        options
            .activation
            .as_deref()
            .map_or(Ok(usual), Self::named)
            .map_err(|why| Error::usage(format!("activation: {why}")))
    }

    pub fn named(name: &str) -> std::result::Result<Self, String> {
        ACTS.iter().find(|(n, _)| *n == name).map(|(_, a)| *a).ok_or_else(|| {
            let close = nearest(name, ACTS.iter().map(|(n, _)| *n)).map(|n| format!(" (nearest: `{n}`)"));
            format!("`{name}` is not known here{}", close.unwrap_or_default())
        })
    }

    pub fn apply(self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        match self {
            Act::Plain(act) => s.act(x, name, act),
            // x sigmoid(a x) = silu(a x) / a
            Act::QuickGelu => {
                let x = scale(s, x, 1.702, &format!("{name}.in"))?;
                let x = s.act(x, &format!("{name}.silu"), Activation::Silu)?;
                scale(s, x, 1. / 1.702, name)
            }
        }
    }
}

/// A value that no file holds.
pub fn made(s: &mut Stack, name: &str, values: Vec<f64>, dims: &[usize]) -> Result<NodeId> {
    let param = s.net.param(name, Tensor::from_vec(values, dims, &Device::Cpu)?);
    s.net.node(name, Op::Param(param), &[])
}

pub fn scale(s: &mut Stack, x: NodeId, by: f64, name: &str) -> Result<NodeId> {
    let by = made(s, &format!("{name}.factor"), vec![by], &[])?;
    s.net.node(name, Op::Binary(Binary::Mul), &[x, by])
}

pub fn reshape(s: &mut Stack, x: NodeId, name: &str, row: &[usize]) -> Result<NodeId> {
    s.net.node(name, Op::Reshape { row: row.to_vec() }, &[x])
}

/// `axes` count the batch.
pub fn transpose(s: &mut Stack, x: NodeId, name: &str, axes: &[usize]) -> Result<NodeId> {
    s.net.node(name, Op::Transpose { axes: axes.to_vec() }, &[x])
}

pub fn slice(s: &mut Stack, x: NodeId, name: &str, axis: usize, start: usize, end: usize) -> Result<NodeId> {
    s.net.node(name, Op::Slice { axis, start, end, step: 1 }, &[x])
}

pub fn mean(s: &mut Stack, x: NodeId, name: &str, axes: &[usize]) -> Result<NodeId> {
    s.net.node(name, Op::Reduce { kind: Reduction::Mean, axes: axes.to_vec(), keep: false }, &[x])
}

/// One token of `[n, tokens, width]` as `[n, width]`.
pub fn token(s: &mut Stack, x: NodeId, name: &str, at: usize) -> Result<NodeId> {
    let width = last(s, x);
    let x = slice(s, x, &format!("{name}.token"), 1, at, at + 1)?;
    reshape(s, x, name, &[width])
}

/// Entries of the last axis.
pub fn last(s: &Stack, x: NodeId) -> usize {
    s.net.shape(x).row.last().copied().unwrap_or(0)
}

/// `[n, c, h, w]` as tokens `[n, h w, c]`.
pub fn flatten(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let row = s.net.shape(x).row.clone();
    let (channels, area) = (row[0], row[1..].iter().product());
    let x = reshape(s, x, &format!("{name}.flat"), &[channels, area])?;
    transpose(s, x, name, &[0, 2, 1])
}

/// `x / max(|x|, 1e-12)` over the last axis of `[n, ..., d]`.
pub fn unit(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let axes = vec![s.net.shape(x).row.len()];
    let squares = s.net.node(format!("{name}.squares"), Op::Binary(Binary::Mul), &[x, x])?;
    let sum = Op::Reduce { kind: Reduction::Sum, axes, keep: true };
    let sum = s.net.node(format!("{name}.sum"), sum, &[squares])?;
    let sum = s.act(sum, &format!("{name}.floor"), Activation::Clip(1e-24, f64::INFINITY))?;
    let norm = s.act(sum, &format!("{name}.norm"), Activation::Sqrt)?;
    s.net.node(name, Op::Binary(Binary::Div), &[x, norm])
}

/// Softmax attention of `heads` heads, queries times `1 / sqrt(depth)`; `bias` is added to the scores
/// (`[1, heads, queries, keys]`, with windows `[1, windows or 1, heads, queries, keys]`).
pub fn attend(s: &mut Stack, [q, k, v]: [NodeId; 3], heads: usize, bias: Option<NodeId>, name: &str) -> Result<NodeId> {
    let width = last(s, q);
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(Error::load(format!("`{name}`"), format!("{width} entries are not {heads} equal heads")));
    }
    let scale = 1. / ((width / heads) as f64).sqrt();
    let inputs: Vec<NodeId> = [q, k, v].into_iter().chain(bias).collect();
    s.net.node(name, Op::Attention { heads, scale }, &inputs)
}

/// Linear, activation, linear.
pub fn mlp(s: &mut Stack, x: NodeId, [wide, narrow]: [&str; 2], hidden: usize, act: Act) -> Result<NodeId> {
    let width = last(s, x);
    let x = s.linear(x, wide, hidden)?;
    let x = act.apply(s, x, &format!("{wide}.act"))?;
    s.linear(x, narrow, width)
}

/// `narrow(act(gate(x)) wide(x))` (Shazeer 2020); the layers have biases, or none of them has.
pub fn gated(s: &mut Stack, x: NodeId, names: [&str; 3], hidden: usize, act: Act) -> Result<NodeId> {
    let biased = names.iter().any(|n| s.dict.contains(&format!("{n}.bias")));
    let [gate, wide, narrow] = names;
    let parts = [s.linear_with(x, gate, hidden, biased)?, s.linear_with(x, wide, hidden, biased)?];
    through(s, parts, narrow, (last(s, x), biased), act)
}

/// As [`gated`] where the gate's and the wide layer's weights are kept as one, the gate's first.
pub fn gated_as_one(s: &mut Stack, x: NodeId, names: [&str; 2], hidden: usize, act: Act) -> Result<NodeId> {
    let biased = names.iter().any(|n| s.dict.contains(&format!("{n}.bias")));
    let parts = s.halves(x, names[0], hidden, biased)?;
    through(s, parts, names[1], (last(s, x), biased), act)
}

fn through(
    s: &mut Stack,
    [gate, wide]: [NodeId; 2],
    narrow: &str,
    (width, biased): (usize, bool),
    act: Act,
) -> Result<NodeId> {
    let gate = act.apply(s, gate, &format!("{narrow}.gate"))?;
    let x = s.net.node(format!("{narrow}.gated"), Op::Binary(Binary::Mul), &[gate, wide])?;
    s.linear_with(x, narrow, width, biased)
}

/// `x` times a weight `[width]`.
pub fn layer_scale(s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let width = last(s, x);
    let by = s.constant(name, &[width])?;
    s.net.node(format!("{name}.scaled"), Op::Binary(Binary::Mul), &[x, by])
}

/// A bias of scores, in f32 as its table is.
pub fn score_bias(s: &mut Stack, name: &str, values: Vec<f64>, dims: &[usize]) -> Result<NodeId> {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    let param = s.net.param(name, Tensor::from_vec(values, dims, &Device::Cpu)?);
    s.net.node(name, Op::Param(param), &[])
}

/// A tensor's entries in f64, row-major.
pub fn values(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?)
}

/// The scores' bias `[1, heads, 1 + h w, 1 + h w]` of a table with three entries for pairs that hold the class token.
pub fn relative_with_class(s: &mut Stack, name: &str, heads: usize, [h, w]: [usize; 2]) -> Result<NodeId> {
    let entries = (2 * h - 1) * (2 * w - 1) + 3;
    let table = s.dict.take(name, &[entries, heads])?;
    let area = h * w;
    s.dict.spend(name, &[heads, area + 1, area + 1])?;
    let inner = offsets(h, w);
    let mut index = vec![entries - 1];
    index.extend(std::iter::repeat_n(entries - 3, area));
    for row in inner.chunks(area) {
        index.push(entries - 2);
        index.extend(row);
    }
    let values = looked_up(&values(&table)?, heads, &index)?;
    score_bias(s, name, values, &[1, heads, area + 1, area + 1])
}

/// Rows of a table `[entries, heads]` looked up for every pair of positions: `[heads, pairs...]`, row-major.
pub fn looked_up(table: &[f64], heads: usize, index: &[usize]) -> Result<Vec<f64>> {
    let at = |head: usize, i: usize| table.get(i * heads + head).copied();
    let all = (0..heads).flat_map(|h| index.iter().map(move |&i| at(h, i)));
    all.collect::<Option<_>>().ok_or_else(|| Error::internal("a relative position lies outside its table"))
}

/// For positions of an `h` by `w` grid, the index of each pair's offset in a table of `(2 h - 1)(2 w - 1)`.
pub fn offsets(h: usize, w: usize) -> Vec<usize> {
    let places: Vec<(usize, usize)> = (0..h).flat_map(|y| (0..w).map(move |x| (y, x))).collect();
    let pair = |&(y, x): &(usize, usize), &(v, u): &(usize, usize)| (y + h - 1 - v) * (2 * w - 1) + (x + w - 1 - u);
    places.iter().flat_map(|a| places.iter().map(move |b| pair(a, b))).collect()
}

/// A grid `[from, from, width]` of embeddings resized to `to` as torch's `interpolate(mode="bicubic",
/// align_corners=False)` does; with `smooth`, as with `antialias=True`.
pub fn resize_grid(grid: &[f64], from: [usize; 2], to: [usize; 2], width: usize, smooth: bool) -> Vec<f64> {
    let rows = taps(from[0], to[0], smooth);
    let cols = taps(from[1], to[1], smooth);
    let mut wide = vec![0.; from[0] * to[1] * width];
    for y in 0..from[0] {
        for (x, taps) in cols.iter().enumerate() {
            for &(u, weight) in taps {
                let (dst, src) = ((y * to[1] + x) * width, (y * from[1] + u) * width);
                (0..width).for_each(|c| wide[dst + c] += weight * grid[src + c]);
            }
        }
    }
    let mut out = vec![0.; to[0] * to[1] * width];
    let line = to[1] * width;
    for (y, taps) in rows.iter().enumerate() {
        for &(v, weight) in taps {
            (0..line).for_each(|i| out[y * line + i] += weight * wide[v * line + i]);
        }
    }
    out
}

/// For every new place, the old places it is made of and their weights.
fn taps(from: usize, to: usize, smooth: bool) -> Vec<Vec<(usize, f64)>> {
    let ratio = from as f64 / to as f64;
    let top = from as isize - 1;
    let one = |i: usize| -> Vec<(usize, f64)> {
        let centre = (i as f64 + 0.5) * ratio;
        if smooth {
            // Places outside are left out, the others share the whole.
            let stretch = ratio.max(1.);
            let first = ((centre - 2. * stretch + 0.5) as isize).max(0);
            let end = ((centre + 2. * stretch + 0.5) as isize).min(top + 1);
            let raw: Vec<(usize, f64)> =
                (first..end).map(|j| (j as usize, cubic((j as f64 + 0.5 - centre) / stretch, -0.5))).collect();
            let sum: f64 = raw.iter().map(|(_, w)| w).sum();
            raw.into_iter().map(|(j, w)| (j, w / sum)).collect()
        } else {
            // Places outside count as the nearest one inside.
            let left = (centre - 0.5).floor();
            let part = centre - 0.5 - left;
            (-1..3).map(|d| ((left as isize + d).clamp(0, top) as usize, cubic(part - d as f64, -0.75))).collect()
        }
    };
    (0..to).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_resized_as_pytorch_resizes_them() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/huggingface/resize.json");
        let all: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let floats =
            |v: &serde_json::Value| v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
        let grid = floats(&all["grid"]);
        for case in all["cases"].as_array().unwrap() {
            let to = [0, 1].map(|i| case["size"][i].as_u64().unwrap() as usize);
            let smooth = case["smooth"].as_bool().unwrap();
            let ours = resize_grid(&grid, [3, 3], to, 2, smooth);
            let gap = ours.iter().zip(floats(&case["values"])).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
            assert!(gap < 1e-12, "{to:?} {smooth}: {gap:e}");
        }
    }
}
