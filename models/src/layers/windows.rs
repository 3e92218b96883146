//! Attention within windows that shift by half every second block: Swin (Liu et al. 2021) and Swin v2 (Liu et al. 2022), in the
//! names of any package. v1 norms before a part and looks relative places up in a table; v2 norms after it, compares queries
//! and keys by cosine, and has a small network for relative places.

use super::stack::Stack;
use super::tokens;
use super::tokens::{Act, attend, last, made, reshape, transpose, unit};
use crate::weights::StateDict;
use candle_core::Tensor;
use robust_core::{Error, Result};
use robust_engine::{Binary, NodeId, Op};

/// Norms have PyTorch's default in all packages.
pub(crate) const EPS: f64 = 1e-5;
/// Added to the scores of positions that only the shift brought together.
pub(crate) const FAR: f64 = -100.;
/// v2: scales of cosines stop here, and so do the biases of places.
const MAX_SCALE: f64 = 100.;
const MAX_PLACE: f64 = 16.;
/// Products that make a table of v2: twenty times those of the largest network.
const MAX_WORK: usize = 1 << 30;

/// Where a package keeps queries, keys and values.
#[derive(Clone, Copy)]
pub(crate) enum Qkv {
    Apart([&'static str; 3]),
    /// One weight `[3 c, c]`; its bias beside it, or as `q_bias` and `v_bias`.
    Joined(&'static str),
}

/// Where a package keeps the parts of a block.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub norms: [&'static str; 2],
    /// What the attention's own names start with.
    pub attention: &'static str,
    pub qkv: Qkv,
    pub out: &'static str,
    pub mlp: [&'static str; 2],
    /// v2: two linear layers from an offset to a bias for each head.
    pub places: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Version {
    V1,
    /// `trained`: the window of pre-training, where it was another one.
    V2 {
        trained: Option<usize>,
    },
}

/// A block on a grid `[h, w]` of tokens.
pub(crate) struct Block<'a> {
    pub names: &'a Names,
    pub version: Version,
    pub grid: [usize; 2],
    pub heads: usize,
    pub window: [usize; 2],
    pub shift: [usize; 2],
    pub hidden: usize,
    pub eps: f64,
    /// Whether queries and values have biases.
    pub biased: bool,
    /// [`FAR`], or what the package makes of it.
    pub far: f64,
    pub act: Act,
}

impl Block<'_> {
    /// `[n, h w, c]` to the same.
    pub fn lay(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let after = self.version != Version::V1;
        let [first, second] = self.names.norms.map(at);
        let normed = |s: &mut Stack, y: NodeId, norm: &str, here: bool| match here {
            true => s.layer_norm(y, norm, self.eps),
            false => Ok(y),
        };
        let y = normed(s, x, &first, !after)?;
        let y = self.windowed(s, y, name)?;
        let y = normed(s, y, &first, after)?;
        let x = s.add(x, y, &at("add1"))?;
        let x = s.sparse_last(x, &at("meansparse1"))?;
        let y = normed(s, x, &second, !after)?;
        let y = self.mlp(s, y, name)?;
        let y = normed(s, y, &second, after)?;
        let x = s.add(x, y, &at("add2"))?;
        s.sparse_last(x, &at("meansparse2"))
    }

    fn mlp(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let ([wide, narrow], width) = (self.names.mlp.map(at), last(s, x));
        let x = s.linear(x, &wide, self.hidden)?;
        let x = s.sparse_last(x, &at("mlp.meansparse1"))?;
        let x = self.act.apply(s, x, &format!("{wide}.act"))?;
        let x = s.linear(x, &narrow, width)?;
        s.sparse_last(x, &at("mlp.meansparse2"))
    }

    /// Attention within windows of the shifted grid, padded to whole windows.
    fn windowed(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let c = last(s, x);
        let ([h, w], [m, n]) = (self.grid, self.window);
        let (high, wide) = (h.next_multiple_of(m), w.next_multiple_of(n));
        let mut y = reshape(s, x, &at("image"), &[h, w, c])?;
        if high + wide > h + w {
            let pads = vec![(0, high - h), (0, wide - w), (0, 0)];
            y = s.net.node(at("pad"), Op::Pad { pads, value: 0. }, &[y])?;
        }
        for axis in [1, 2] {
            y = roll(s, y, &at(&format!("shift{axis}")), axis, self.shift[axis - 1])?;
        }
        // [h, w, c] -> [windows, m n, c]
        let y = reshape(s, y, &at("cut"), &[high / m, m, wide / n, n, c])?;
        let y = transpose(s, y, &at("windows"), &[0, 1, 3, 2, 4, 5])?;
        let y = reshape(s, y, &at("window_tokens"), &[high / m * (wide / n), m * n, c])?;
        let bias = self.bias(s, name, [high, wide])?;
        let parts = self.parts(s, y, name)?;
        let y = attend(s, parts, self.heads, Some(bias), &at("attend"))?;
        let y = s.linear(y, &at(self.names.out), c)?;
        let y = reshape(s, y, &at("uncut"), &[high / m, wide / n, m, n, c])?;
        let y = transpose(s, y, &at("unwindowed"), &[0, 1, 3, 2, 4, 5])?;
        let mut y = reshape(s, y, &at("unrolled"), &[high, wide, c])?;
        for (axis, part) in [(1, high), (2, wide)] {
            y = roll(s, y, &at(&format!("back{axis}")), axis, (part - self.shift[axis - 1]) % part)?;
        }
        for (axis, part, all) in [(1, h, high), (2, w, wide)] {
            if part < all {
                y = tokens::slice(s, y, &at(&format!("crop{axis}")), axis, 0, part)?;
            }
        }
        reshape(s, y, &at("tokens"), &[h * w, c])
    }

    /// Queries, keys and values; v2's keys have no bias.
    fn parts(&self, s: &mut Stack, y: NodeId, name: &str) -> Result<[NodeId; 3]> {
        let c = last(s, y);
        let v2 = self.version != Version::V1;
        let mut parts = [y; 3];
        match self.names.qkv {
            Qkv::Apart(names) => {
                for (i, (part, which)) in parts.iter_mut().zip(names).enumerate() {
                    let which = format!("{name}.{which}");
                    *part = s.linear_with(y, &which, c, self.biased && !(v2 && i == 1))?;
                }
            }
            Qkv::Joined(which) => {
                let which = format!("{name}.{which}");
                let bias = match self.biased {
                    true => Some(joined_bias(s, &which, &format!("{name}.{}", self.names.attention), c, v2)?),
                    false => None,
                };
                parts = s.thirds_with(y, &which, &format!("{which}.weight"), bias, c)?;
            }
        }
        if v2 {
            let scale = format!("{name}.{}logit_scale", self.names.attention);
            let [q, k, v] = parts;
            parts = [
                cosine(s, q, self.heads, Some(&scale), &format!("{name}.q"))?,
                cosine(s, k, self.heads, None, &format!("{name}.k"))?,
                v,
            ];
        }
        Ok(parts)
    }

    /// Relative places, and for shifted windows what keeps strangers apart: `[1, windows or 1, heads, m n, m n]`.
    fn bias(&self, s: &mut Stack, name: &str, [h, w]: [usize; 2]) -> Result<NodeId> {
        let [m, n] = self.window;
        let (area, windows) = (m * n, h / m * (w / n));
        let node = match self.version {
            Version::V1 => format!("{name}.{}relative_position_bias_table", self.names.attention),
            Version::V2 { .. } => format!("{name}.{}", self.names.places),
        };
        let apart = if self.shift == [0, 0] { 1 } else { windows };
        s.dict.spend(&node, &[apart, self.heads, area, area])?;
        let table = match self.version {
            Version::V1 => tokens::values(&s.dict.take(&node, &[(2 * m - 1) * (2 * n - 1), self.heads])?)?,
            Version::V2 { trained } => self.places(s, name, &node, trained)?,
        };
        let places = tokens::looked_up(&table, self.heads, &tokens::offsets(m, n))?;
        let put = |s: &mut Stack, values: Vec<f64>, windows: usize| {
            let dims = [1, windows, self.heads, area, area];
            // A table is in f32; what v2 computes is rounded by nobody.
            if self.version == Version::V1 {
                tokens::score_bias(s, &node, values, &dims)
            } else {
                made(s, &node, values, &dims)
            }
        };
        if self.shift == [0, 0] {
            return put(s, places, 1);
        }
        let region = |i: usize, all: usize, side: usize, shift: usize| match shift {
            0 => 0,
            _ => usize::from(i >= all - side) + usize::from(i >= all - shift),
        };
        let mut values = Vec::with_capacity(windows * places.len());
        for (top, left) in (0..h / m).flat_map(|y| (0..w / n).map(move |x| (y * m, x * n))) {
            let of =
                |i: usize| 3 * region(top + i / n, h, m, self.shift[0]) + region(left + i % n, w, n, self.shift[1]);
            let of: Vec<usize> = (0..area).map(of).collect();
            for (i, place) in places.iter().enumerate() {
                let (a, b) = (of[i / area % area], of[i % area]);
                values.push(place + if a == b { 0. } else { self.far });
            }
        }
        put(s, values, windows)
    }

    /// v2's table `[(2 m - 1)(2 n - 1), heads]`: `16 sigmoid(linear(relu(linear(offset))))`, where offsets grow as logarithms.
    fn places(&self, s: &mut Stack, name: &str, net: &str, trained: Option<usize>) -> Result<Vec<f64>> {
        let [m, n] = self.window;
        let offsets = offsets(s, &format!("{name}.{}relative_coords_table", self.names.attention), [m, n], trained)?;
        let [hidden, _] = s.dict.sizes(&format!("{net}.0.weight"))?;
        let first = tokens::values(&s.dict.take(&format!("{net}.0.weight"), &[hidden, 2])?)?;
        let bias = tokens::values(&s.dict.take(&format!("{net}.0.bias"), &[hidden])?)?;
        let second = tokens::values(&s.dict.take(&format!("{net}.2.weight"), &[self.heads, hidden])?)?;
        // What does not fit stands in as less; the file is refused in the end.
        if first.len() != 2 * hidden || bias.len() != hidden || second.len() != self.heads * hidden {
            return Err(Error::load(format!("`{net}`"), "its weights do not fit"));
        }
        let work = (offsets.len() / 2).saturating_mul(self.heads).saturating_mul(hidden);
        if work > MAX_WORK {
            return Err(Error::load(
                format!("`{net}`"),
                format!("{hidden} units for {} heads are beyond any network", self.heads),
            ));
        }
        let mut table = Vec::with_capacity(offsets.len() / 2 * self.heads);
        for offset in offsets.chunks(2) {
            let wide = first.chunks(2).zip(&bias).map(|(w, b)| w[0] * offset[0] + w[1] * offset[1] + b);
            let wide: Vec<f64> = wide.map(|v| if v < 0. { 0. } else { v }).collect();
            for weights in second.chunks(hidden) {
                let sum: f64 = weights.iter().zip(&wide).map(|(w, x)| w * x).sum();
                table.push(MAX_PLACE / (1. + (-sum).exp()));
            }
        }
        Ok(table)
    }
}

/// Vertical and horizontal offsets of all pairs of places: `sign(d) log2(1 + 8 |d|) / 3` for `d` in parts of the window; the
/// file's own where it keeps them.
fn offsets(s: &mut Stack, name: &str, [m, n]: [usize; 2], trained: Option<usize>) -> Result<Vec<f64>> {
    if s.dict.contains(name) {
        let table = s.dict.take(name, &[1, 2 * m - 1, 2 * n - 1, 2])?;
        return tokens::values(&table.broadcast_as((1, 2 * m - 1, 2 * n - 1, 2))?);
    }
    let one = |i: usize, side: usize| {
        let part = (i as f64 - (side as f64 - 1.)) / (trained.unwrap_or(side).saturating_sub(1).max(1)) as f64;
        // In f32, as the packages keep it.
        f64::from(((1. + 8. * part.abs()).log2() / 3. * part.signum() * f64::from(u8::from(part != 0.))) as f32)
    };
    Ok((0..2 * m - 1).flat_map(|y| (0..2 * n - 1).flat_map(move |x| [one(y, m), one(x, n)])).collect())
}

/// The bias `[3 c]` of a joined weight: beside it, or as `q_bias` and `v_bias`; with `bare_keys` the middle third counts as
/// zeros.
pub(crate) fn joined_bias(s: &mut Stack, name: &str, apart: &str, c: usize, bare_keys: bool) -> Result<Tensor> {
    let [query, value] = ["q_bias", "v_bias"].map(|part| format!("{apart}{part}"));
    let [query, value] = match s.dict.contains(&query) || s.dict.contains(&value) {
        true => [s.dict.take(&query, &[c])?, s.dict.take(&value, &[c])?],
        false => {
            let all = s.dict.take(&format!("{name}.bias"), &[3 * c])?;
            if !bare_keys || all.dims() != [3 * c] {
                return Ok(all);
            }
            [all.narrow(0, 0, c)?, all.narrow(0, 2 * c, c)?]
        }
    };
    Ok(Tensor::cat(&[&query, &query.zeros_like()?, &value], 0)?)
}

/// Whether a joined weight has such a bias: of a network all blocks do, or none.
pub(crate) fn is_biased(dict: &StateDict, name: &str, apart: &str) -> bool {
    let names = [format!("{name}.bias"), format!("{apart}q_bias"), format!("{apart}v_bias")];
    names.iter().any(|n| dict.contains(n))
}

/// Queries or keys of length 1 within each head, times the head's scale and what undoes attention's own.
fn cosine(s: &mut Stack, x: NodeId, heads: usize, scale: Option<&str>, name: &str) -> Result<NodeId> {
    let row = s.net.shape(x).row.clone();
    let width = last(s, x);
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(Error::load(format!("`{name}`"), format!("{width} entries are not {heads} equal heads")));
    }
    let depth = width / heads;
    let apart = [&row[..row.len() - 1], &[heads, depth]].concat();
    let x = reshape(s, x, &format!("{name}.split"), &apart)?;
    let mut x = unit(s, x, &format!("{name}.unit"))?;
    if let Some(file) = scale {
        let scales = tokens::values(&s.dict.take(file, &[heads, 1, 1])?)?;
        // A NaN stays one, to be refused with the other weights.
        let bounded = |v: f64| if v > MAX_SCALE { MAX_SCALE } else { v };
        let scales: Vec<f64> = scales.iter().map(|v| bounded(v.exp()) * (depth as f64).sqrt()).collect();
        let count = scales.len();
        let scales = made(s, file, scales, &[count, 1])?;
        x = s.net.node(format!("{name}.scaled"), Op::Binary(Binary::Mul), &[x, scales])?;
    }
    reshape(s, x, name, &row)
}

/// Entries `by, by + 1, ...` of an axis first, those before them last.
fn roll(s: &mut Stack, x: NodeId, name: &str, axis: usize, by: usize) -> Result<NodeId> {
    if by == 0 {
        return Ok(x);
    }
    let all = s.net.shape(x).row[axis - 1];
    let tail = tokens::slice(s, x, &format!("{name}.tail"), axis, by, all)?;
    let head = tokens::slice(s, x, &format!("{name}.head"), axis, 0, by)?;
    s.net.node(name, Op::Concat { axis }, &[tail, head])
}

/// Two by two tokens side by side, then half as many entries; v1 norms before that (with this epsilon), v2 after it.
pub(crate) fn merge(s: &mut Stack, x: NodeId, name: &str, [h, w]: [usize; 2], v1: Option<f64>) -> Result<NodeId> {
    let c = last(s, x);
    let mut x = reshape(s, x, &format!("{name}.image"), &[h, w, c])?;
    let (h, w) = if h % 2 + w % 2 > 0 {
        let pads = vec![(0, h % 2), (0, w % 2), (0, 0)];
        x = s.net.node(format!("{name}.pad"), Op::Pad { pads, value: 0. }, &[x])?;
        (h + h % 2, w + w % 2)
    } else {
        (h, w)
    };
    let mut parts = vec![];
    for (row, col) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let every = |axis: usize, start: usize, end: usize| Op::Slice { axis, start, end, step: 2 };
        let lines = s.net.node(format!("{name}.rows{row}{col}"), every(1, row, h), &[x])?;
        parts.push(s.net.node(format!("{name}.part{row}{col}"), every(2, col, w), &[lines])?);
    }
    let x = s.net.node(format!("{name}.joined"), Op::Concat { axis: 3 }, &parts)?;
    let mut x = reshape(s, x, &format!("{name}.tokens"), &[h / 2 * (w / 2), 4 * c])?;
    let norm = format!("{name}.norm");
    if let Some(eps) = v1 {
        x = s.layer_norm(x, &norm, eps)?;
    }
    x = s.linear_with(x, &format!("{name}.reduction"), 2 * c, false)?;
    if v1.is_some() { Ok(x) } else { s.layer_norm(x, &norm, EPS) }
}
