//! Swin transformers (Liu et al. 2021) of transformers: attention within windows that shift by half every second block.

use super::tokens::{self, Act, attend, flatten, last, mean, mlp, reshape, transpose};
use super::{Body, Family, Made};
use crate::arch::stack::{Conv, Stack};
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op};

pub static FAMILIES: &[Family] = &[Family { types: &["swin"], prefixes: &["swin."], build }];

/// Norms outside the blocks have PyTorch's default, whatever the settings say.
const EPS: f64 = 1e-5;
/// Added to the scores of positions that only the shift brought together.
const FAR: f64 = -100.;

struct Block {
    heads: usize,
    window: usize,
    shift: usize,
    eps: f64,
    biased: bool,
    ratio: f64,
    act: Act,
}

fn build(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let p = b.prefix.clone();
    let (width, patch, window) = (c.size("embed_dim")?, c.size("patch_size")?, c.size("window_size")?);
    let (depths, heads) = (c.sizes("depths")?, c.sizes("num_heads")?);
    if depths.len() != heads.len() || depths.iter().any(|&d| d > super::config::MAX_LAYERS) {
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
        for j in 0..depth {
            // One window that holds the whole grid does not shift.
            let whole = grid[0].min(grid[1]) <= window;
            if whole && grid[0].min(grid[1]) < window {
                return Err(Error::load("the input", format!("{grid:?} patches are fewer than a window of {window}"))
                    .hint("the input must be as large as in training"));
            }
            let block = Block {
                heads,
                window,
                shift: if j % 2 == 0 || whole { 0 } else { window / 2 },
                eps: c.float_or("layer_norm_eps", EPS)?,
                biased: c.flag_or("qkv_bias", true)?,
                ratio: c.float_or("mlp_ratio", 4.)?,
                act: Act::of(&c, "gelu")?,
            };
            x = block.lay(s, x, &format!("{stage}.blocks.{j}"), grid)?;
        }
        if i + 1 < depths.len() {
            x = merge(s, x, &format!("{stage}.downsample"), grid)?;
            grid = grid.map(|n| n.div_ceil(2));
        }
    }
    let x = s.layer_norm(x, &format!("{p}layernorm"), c.float_or("layer_norm_eps", EPS)?)?;
    let x = mean(s, x, "pooled", &[1])?;
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}

impl Block {
    /// `[n, h w, c]` to the same.
    fn lay(&self, s: &mut Stack, x: NodeId, name: &str, [h, w]: [usize; 2]) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let c = last(s, x);
        let n = self.window;
        let (below, right) = (h.next_multiple_of(n) - h, w.next_multiple_of(n) - w);
        let (high, wide) = (h + below, w + right);
        let y = s.layer_norm(x, &at("layernorm_before"), self.eps)?;
        let mut y = reshape(s, y, &at("image"), &[h, w, c])?;
        if below + right > 0 {
            y = s.net.node(at("pad"), Op::Pad { pads: vec![(0, below), (0, right), (0, 0)], value: 0. }, &[y])?;
        }
        y = self.rolled(s, y, &at("shift"), self.shift)?;
        // [h, w, c] -> [windows, n n, c]
        let y = reshape(s, y, &at("cut"), &[high / n, n, wide / n, n, c])?;
        let y = transpose(s, y, &at("windows"), &[0, 1, 3, 2, 4, 5])?;
        let y = reshape(s, y, &at("window_tokens"), &[high / n * (wide / n), n * n, c])?;
        let bias = self.bias(s, &at("attention.self.relative_position_bias_table"), [high, wide])?;
        let mut parts = [y; 3];
        for (part, which) in parts.iter_mut().zip(["query", "key", "value"]) {
            *part = s.linear_with(y, &at(&format!("attention.self.{which}")), c, self.biased)?;
        }
        let y = attend(s, parts, self.heads, Some(bias), &at("attend"))?;
        let y = s.linear(y, &at("attention.output.dense"), c)?;
        let y = reshape(s, y, &at("uncut"), &[high / n, wide / n, n, n, c])?;
        let y = transpose(s, y, &at("unwindowed"), &[0, 1, 3, 2, 4, 5])?;
        let mut y = reshape(s, y, &at("unrolled"), &[high, wide, c])?;
        for (axis, part) in [(1, high), (2, wide)] {
            y = roll(s, y, &at(&format!("back{axis}")), axis, (part - self.shift) % part)?;
        }
        for (axis, part, all) in [(1, h, high), (2, w, wide)] {
            if part < all {
                y = tokens::slice(s, y, &at(&format!("crop{axis}")), axis, 0, part)?;
            }
        }
        let y = reshape(s, y, &at("tokens"), &[h * w, c])?;
        let x = s.add(x, y, &at("add1"))?;
        let y = s.layer_norm(x, &at("layernorm_after"), self.eps)?;
        let hidden = (c as f64 * self.ratio) as usize;
        let y = mlp(s, y, [&at("intermediate.dense"), &at("output.dense")], hidden, self.act)?;
        s.add(x, y, &at("add2"))
    }

    fn rolled(&self, s: &mut Stack, mut x: NodeId, name: &str, by: usize) -> Result<NodeId> {
        for axis in [1, 2] {
            x = roll(s, x, &format!("{name}{axis}"), axis, by)?;
        }
        Ok(x)
    }

    /// Relative places, and for shifted windows what keeps strangers apart: `[1, windows or 1, heads, n n, n n]`.
    fn bias(&self, s: &mut Stack, name: &str, [h, w]: [usize; 2]) -> Result<NodeId> {
        let n = self.window;
        let side = 2 * n - 1;
        let table = s.dict.take(name, &[side * side, self.heads])?;
        tokens::check_bias(name, &[h / n * (w / n), self.heads, n * n, n * n])?;
        let places = tokens::looked_up(&table, self.heads, &tokens::offsets(n, n))?;
        let area = n * n;
        if self.shift == 0 {
            return tokens::score_bias(s, name, places, &[1, 1, self.heads, area, area]);
        }
        let region = |i: usize, all: usize| usize::from(i >= all - n) + usize::from(i >= all - self.shift);
        let mut values = vec![];
        for (top, left) in (0..h / n).flat_map(|y| (0..w / n).map(move |x| (y * n, x * n))) {
            let of: Vec<usize> = (0..area).map(|i| 3 * region(top + i / n, h) + region(left + i % n, w)).collect();
            for (i, place) in places.iter().enumerate() {
                let (a, b) = (of[i / area % area], of[i % area]);
                values.push(place + if a == b { 0. } else { FAR });
            }
        }
        tokens::score_bias(s, name, values, &[1, h / n * (w / n), self.heads, area, area])
    }
}

/// Entries `by, by + 1, ...` of an axis first, those before them last.
fn roll(s: &mut Stack, x: NodeId, name: &str, axis: usize, by: usize) -> Result<NodeId> {
    let all = s.net.shape(x).row[axis - 1];
    if by == 0 {
        return Ok(x);
    }
    let head = tokens::slice(s, x, &format!("{name}.head"), axis, by, all)?;
    let tail = tokens::slice(s, x, &format!("{name}.tail"), axis, 0, by)?;
    s.net.node(name, Op::Concat { axis }, &[head, tail])
}

/// Two by two tokens side by side, normed, then half as many entries.
fn merge(s: &mut Stack, x: NodeId, name: &str, [h, w]: [usize; 2]) -> Result<NodeId> {
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
    let x = reshape(s, x, &format!("{name}.tokens"), &[h / 2 * (w / 2), 4 * c])?;
    let x = s.layer_norm(x, &format!("{name}.norm"), EPS)?;
    s.linear_with(x, &format!("{name}.reduction"), 2 * c, false)
}
