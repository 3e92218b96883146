//! Hiera (Ryali et al. 2023) of transformers: attention within mask units, queries pooled between stages. Tokens are kept in
//! an order in which pooling is a maximum over leading parts.

use super::body::{Body, Family, Made};
use crate::layers::stack::Stack;
use crate::layers::tokens::{Act, attend, flatten, last, mean, mlp, reshape, transpose};
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op, Reduction};

pub static FAMILIES: &[Family] = &[Family { types: &["hiera"], prefixes: &["hiera."], build }];

struct Layer {
    out: usize,
    heads: usize,
    /// Tokens that become one.
    stride: usize,
    /// Tokens of a unit after pooling; attention is over all without.
    unit: Option<usize>,
    eps: f64,
    hidden: usize,
    act: Act,
}

fn build(b: &mut Body) -> Result<Made> {
    let c = b.config.clone();
    let p = b.prefix.clone();
    let (depths, heads) = (c.sizes("depths")?, c.sizes("num_heads")?);
    let (within, pools) = (c.flags("masked_unit_attention")?, c.count_or("num_query_pool", 3)?);
    let stages = depths.len();
    if [heads.len(), within.len()] != [stages; 2]
        || pools >= stages
        || depths.iter().any(|&d| d > crate::settings::MAX_LAYERS)
    {
        return Err(Error::load(
            "config.json",
            "depths, num_heads, masked_unit_attention and num_query_pool do not belong together",
        ));
    }
    let [unit_h, unit_w] = c.pair("masked_unit_size")?;
    let query = c.pair("query_stride")?;
    let (stride, pad, patch) = (c.pair("patch_stride")?, c.pair("patch_padding")?, c.pair("patch_size")?);
    let (width, grow, ratio) =
        (c.size("embed_dim")?, c.float_or("embed_dim_multiplier", 2.)?, c.float_or("mlp_ratio", 4.)?);
    let (eps, act) = (c.float_or("layer_norm_eps", 1e-6)?, Act::of(&c, "gelu")?);
    if c.pair("image_size")? != b.size {
        return Err(Error::load(
            "the input",
            format!("{:?} pixels; this family takes the settings' image_size alone", b.size),
        ));
    }
    let grid = [b.size[0] / stride[0], b.size[1] / stride[1]];
    let levels = u32::try_from(stages - 1).unwrap_or(u32::MAX);
    let cut = |n: usize, by: usize| by.checked_pow(levels).is_some_and(|all| all > 0 && n.is_multiple_of(all));
    if !cut(grid[0], query[0]) || !cut(grid[1], query[1]) {
        return Err(Error::load(
            "config.json",
            format!("{grid:?} tokens cannot be pooled by {query:?} in {stages} stages"),
        ));
    }
    let s = &mut b.stack;
    let name = format!("{p}embeddings.patch_embeddings.projection");
    let channels = s.channels(b.input);
    let weight = s.param(format!("{name}.weight"), &[width, channels, patch[0], patch[1]])?;
    let bias = Some(s.param(format!("{name}.bias"), &[width])?);
    let pads = [pad[0], pad[1], pad[0], pad[1]];
    let x = s.net.node(name, Op::Conv2d { weight, bias, stride, dilation: [1, 1], pads, groups: 1 }, &[b.input])?;
    let x = flatten(s, x, "tokens")?;
    let places = s.constant(&format!("{p}embeddings.position_embeddings"), &[1, grid[0] * grid[1], width])?;
    let x = s.add(x, places, "placed")?;
    let mut x = unroll(s, x, grid, query, stages - 1)?;
    let area = query[0] * query[1];
    let mut unit = unit_h * unit_w;
    for (i, &depth) in depths.iter().enumerate() {
        let out = (width as f64 * grow.powi(i as i32)) as usize;
        for j in 0..depth {
            // The first layer of a stage pools what the stage before it has left.
            let first = j == 0 && i > 0;
            let layer = Layer {
                out,
                heads: heads[i],
                stride: if first && i <= pools { area } else { 1 },
                unit: (within[i] || first && within[i - 1]).then_some(unit),
                eps,
                hidden: (out as f64 * ratio) as usize,
                act,
            };
            x = layer.lay(s, x, &format!("{p}encoder.stages.{i}.layers.{j}"))?;
        }
        unit /= area.max(1);
    }
    let x = mean(s, x, "mean", &[1])?;
    let x = s.layer_norm(x, &format!("{p}pooler.layernorm"), eps)?;
    if b.classifies { b.classifier(x, "classifier") } else { Ok(Made::Embedding(x)) }
}

/// The tokens that `levels` poolings will join come to lie `whole / stride` apart.
fn unroll(s: &mut Stack, x: NodeId, grid: [usize; 2], query: [usize; 2], levels: usize) -> Result<NodeId> {
    let width = last(s, x);
    let (mut x, mut grid, mut lead) = (x, grid, 1);
    for i in 0..levels {
        let small = [grid[0] / query[0], grid[1] / query[1]];
        x = reshape(s, x, &format!("unroll{i}.cut"), &[lead, small[0], query[0], small[1], query[1], width])?;
        x = transpose(s, x, &format!("unroll{i}"), &[0, 1, 3, 5, 2, 4, 6])?;
        lead *= query[0] * query[1];
        grid = small;
    }
    reshape(s, x, "unrolled", &[lead * grid[0] * grid[1], width])
}

/// The maximum over `stride` parts of an axis, the parts one after the other.
fn pool(s: &mut Stack, x: NodeId, name: &str, axis: usize, stride: usize) -> Result<NodeId> {
    let mut row = s.net.shape(x).row.clone();
    let all = row[axis - 1];
    if stride == 0 || !all.is_multiple_of(stride) {
        return Err(Error::load(format!("`{name}`"), format!("{all} tokens are not {stride} equal parts")));
    }
    row[axis - 1] = all / stride;
    row.insert(axis - 1, stride);
    let x = reshape(s, x, &format!("{name}.parts"), &row)?;
    s.net.node(name, Op::Reduce { kind: Reduction::Max, axes: vec![axis], keep: false }, &[x])
}

impl Layer {
    /// `[n, tokens, c]` to `[n, tokens / stride, out]`.
    fn lay(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let (tokens, width) = (s.net.shape(x).row[0], last(s, x));
        let normed = s.layer_norm(x, &at("layernorm_before"), self.eps)?;
        let mut x = x;
        if width != self.out {
            x = s.linear(normed, &at("proj"), self.out)?;
            x = pool(s, x, &at("pooled"), 1, self.stride)?;
        }
        s.dict.take(&at("attn.qkv.bias"), &[3 * self.out])?;
        let parts = s.thirds(normed, &at("attn.qkv"), self.out)?;
        // Windows are the inner axis in memory.
        let each = self.unit.map_or(tokens, |u| u * self.stride);
        if each == 0 || !tokens.is_multiple_of(each) {
            return Err(Error::load(format!("`{name}`"), format!("{tokens} tokens are not units of {each}")));
        }
        let windows = tokens / each;
        let mut by_window = [x; 3];
        for (i, (to, part)) in by_window.iter_mut().zip(parts).enumerate() {
            let y = reshape(s, part, &at(&format!("cut{i}")), &[each, windows, self.out])?;
            *to = transpose(s, y, &at(&format!("windows{i}")), &[0, 2, 1, 3])?;
        }
        if self.stride > 1 {
            by_window[0] = pool(s, by_window[0], &at("queries"), 2, self.stride)?;
        }
        let y = attend(s, by_window, self.heads, None, &at("attend"))?;
        let y = transpose(s, y, &at("unwindowed"), &[0, 2, 1, 3])?;
        let y = reshape(s, y, &at("tokens"), &[tokens / self.stride, self.out])?;
        let y = s.linear(y, &at("attn.proj"), self.out)?;
        let x = s.add(x, y, &at("add1"))?;
        let y = s.layer_norm(x, &at("layernorm_after"), self.eps)?;
        let y = mlp(s, y, [&at("mlp.fc1"), &at("mlp.fc2")], self.hidden, self.act)?;
        s.add(x, y, &at("add2"))
    }
}
