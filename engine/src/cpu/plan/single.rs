//! Ops that are steps of their own, those that only move where values are, and those left to the reference.

use super::compile::{Compiler, LINKS};
use super::conv::{floats, padded};
use super::layout::Layout;
use super::step::{CellId, Kind, Place};
use crate::cpu::kernels::{Buffer, Curve, Grid, Heads, Links, MAX_AREA, Slide};
use crate::graph::{Activation, Binary, NodeId, Op, Reduction, Window};
use robust_core::{Error, Result};

impl Compiler<'_> {
    pub(super) fn single(&mut self, i: usize) -> Result<()> {
        let node = self.net.nodes()[i].clone();
        match &node.op {
            // Plans evaluate: what training drops passes.
            Op::Reshape { .. } | Op::Dropout { .. } => {
                self.places[i] = Some(self.place(node.inputs[0])?);
                Ok(())
            }
            Op::Transpose { axes } => {
                let axes: Vec<usize> = axes[1..].iter().map(|a| a - 1).collect();
                let (place, row) = (self.place(node.inputs[0])?, self.row(node.inputs[0].0).to_vec());
                match place.layout.transposed(&row, &axes) {
                    Some(layout) => self.places[i] = Some(Place { cell: place.cell, layout }),
                    None => {
                        let plain = self.copied(&place, Layout::plain(&row), row.last().copied().unwrap_or(1));
                        let layout = plain.layout.transposed(&row, &axes);
                        let layout = layout.ok_or_else(|| Error::internal("a plain row cannot be transposed"))?;
                        self.places[i] = Some(Place { cell: plain.cell, layout });
                    }
                }
                Ok(())
            }
            Op::MaxPool(w) if w.kernel[0].saturating_mul(w.kernel[1]) <= MAX_AREA => self.pool(i, *w, None),
            Op::AvgPool { window, count_pads } => self.pool(i, *window, Some(*count_pads)),
            Op::Reduce { kind: Reduction::Mean, axes, .. }
                if axes[..] == [2, 3] && self.row(node.inputs[0].0).len() == 3 =>
            {
                let &[_, h, w] = self.row(node.inputs[0].0) else { return Err(Error::internal("not an image")) };
                self.pool(i, Window { kernel: [h, w], stride: [1, 1], pads: [0; 4], ceil: false }, Some(false))
            }
            Op::Reduce { kind: Reduction::Mean, axes, .. }
                if axes[..] == [1] && self.row(node.inputs[0].0).len() == 2 =>
            {
                let &[t, c] = self.row(node.inputs[0].0) else { return Err(Error::internal("no tokens")) };
                if t > LINKS {
                    return self.fallback(i);
                }
                let x = self.ordered(node.inputs[0], &[0, 1])?;
                let window = Window { kernel: [t, 1], stride: [1, 1], pads: [0; 4], ceil: false };
                self.pooled(i, x, [c, t, 1], window, Some(false))?;
                let cell = self.place(NodeId(i))?.cell;
                self.set_place(i, Place { cell, layout: Layout::plain(&[c]) });
                Ok(())
            }
            Op::Input
            | Op::Param(_)
            | Op::Conv2d { .. }
            | Op::Linear { .. }
            | Op::MatMul
            | Op::BatchNorm { .. }
            | Op::MeanSparse { .. }
            | Op::LayerNorm { .. }
            | Op::Attention { .. }
            | Op::Act(_)
            | Op::Binary(_)
            | Op::Choose
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::MaxPool(_)
            | Op::KeepTop { .. }
            | Op::Reduce { .. }
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Pick { .. }
            | Op::Sorted { .. }
            | Op::GridSample { .. }
            | Op::Pad { .. } => self.by_kind(i),
        }
    }

    /// Ops of encoders, and what is left.
    fn by_kind(&mut self, i: usize) -> Result<()> {
        let node = self.net.nodes()[i].clone();
        match &node.op {
            Op::LayerNorm { gamma, beta, eps } => {
                let c = self.row(i).last().copied().unwrap_or(1);
                let or = |p: &Option<_>, v: f64| p.map_or_else(|| Ok(vec![v; c]), |p| floats(self.net, p));
                let (gamma, beta) = (padded(&or(gamma, 1.)?), padded(&or(beta, 0.)?));
                self.by_last(i, Kind::Norm { gamma, beta, eps: *eps as f32 })
            }
            Op::MeanSparse { .. } => self.mean_sparse(i),
            Op::Softmax { axis } if *axis == self.row(i).len() => self.by_last(i, Kind::Softmax),
            &Op::Attention { heads, scale } => self.attention(i, heads, scale as f32),
            Op::Act(act) => match curve(act) {
                Some(curve) => {
                    let Place { cell, layout } = self.place(node.inputs[0])?;
                    let channels = self.steps.cells[cell.0].channels;
                    self.made(i, Kind::Bend(curve), vec![cell], channels, layout)
                }
                None => self.fallback(i),
            },
            Op::Slice { .. } | Op::Concat { .. } | Op::Pad { .. } => self.pieces(i),
            Op::Binary(Binary::Mul) if node.inputs.iter().all(|j| self.net.shapes()[j.0].batched) => self.times(i),
            Op::Binary(Binary::Add) => match self.row_added(i) {
                Some((x, row)) => {
                    let plain: Vec<usize> = (0..self.row(i).len()).collect();
                    let cell = self.ordered(x, &plain)?;
                    let mut constants = Buffer::default();
                    constants.reserve(row.len());
                    constants.floats_mut()[..row.len()].copy_from_slice(&row);
                    let (channels, layout) = (self.steps.cells[cell.0].channels, Layout::plain(self.row(i)));
                    self.made(i, Kind::Shift(constants), vec![cell], channels, layout)
                }
                None => self.fallback(i),
            },
            Op::Input
            | Op::Param(_)
            | Op::Conv2d { .. }
            | Op::Linear { .. }
            | Op::MatMul
            | Op::BatchNorm { .. }
            | Op::Binary(_)
            | Op::Choose
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::KeepTop { .. }
            | Op::Pick { .. }
            | Op::Sorted { .. }
            | Op::GridSample { .. }
            | Op::Reduce { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Dropout { .. } => self.fallback(i),
        }
    }

    fn attention(&mut self, i: usize, heads: usize, scale: f32) -> Result<()> {
        let inputs = self.net.nodes()[i].inputs.clone();
        let (q, k) = (self.row(inputs[0].0).to_vec(), self.row(inputs[1].0).to_vec());
        let (&[.., asking, width], &[.., asked, _]) = (&q[..], &k[..]) else {
            return Err(Error::internal("attention needs tokens"));
        };
        let windows = if q.len() == 3 { q[0] } else { 1 };
        let mut kind = Heads { windows, tokens: [asking, asked], heads, depth: width / heads, scale, bias: None };
        if let Some(&bias) = inputs.get(3) {
            let values = self.reference.constant(bias).ok_or_else(|| Error::internal("a bias is no constant"))?;
            let heads = values.0.iter().rev().nth(2).copied().unwrap_or(1);
            kind.bias = Some(kind.lay_bias(self.isa, heads, values.1));
        }
        let plain: Vec<usize> = (0..q.len()).collect();
        let cells = inputs[..3].iter().map(|&j| self.ordered(j, &plain)).collect::<Result<Vec<_>>>()?;
        self.made(i, Kind::Attention(kind), cells, width, Layout::plain(&q))
    }

    /// The product of two values of one shape, or of an image and one factor a channel.
    fn times(&mut self, i: usize) -> Result<()> {
        let mut inputs = self.net.nodes()[i].inputs.clone();
        let [a, b] = [0, 1].map(|k| self.row(inputs[k].0).to_vec());
        if a == b {
            let place = self.place(inputs[0])?;
            let other = self.alike(inputs[1], &place)?;
            let channels = self.steps.cells[place.cell.0].channels;
            return self.made(i, Kind::Times(1), vec![place.cell, other], channels, place.layout);
        }
        if a.len() == 3 && a[1..] == [1, 1] {
            inputs.swap(0, 1);
        }
        let (x, z) = (self.row(inputs[0].0).to_vec(), self.row(inputs[1].0).to_vec());
        match (&x[..], &z[..]) {
            (&[c, h, w], &[d, 1, 1]) if c == d => {
                let cells = vec![self.ordered(inputs[0], &[1, 2, 0])?, self.ordered(inputs[1], &[0, 1, 2])?];
                self.made(i, Kind::Times(h * w), cells, c, Layout::ordered(&x, &[1, 2, 0]))
            }
            _ => self.fallback(i),
        }
    }

    /// A step that makes the value of node `i`.
    pub(super) fn made(
        &mut self,
        i: usize,
        kind: Kind,
        inputs: Vec<CellId>,
        channels: usize,
        layout: Layout,
    ) -> Result<()> {
        let out = self.cell(self.row(i).iter().product::<usize>() / channels, channels);
        self.push(kind, inputs, out, None, false);
        self.places[i] = Some(Place { cell: out, layout });
        Ok(())
    }

    /// A step over the last axis.
    pub(super) fn by_last(&mut self, i: usize, kind: Kind) -> Result<()> {
        let (input, row) = (self.net.nodes()[i].inputs[0], self.row(i).to_vec());
        let c = row.last().copied().unwrap_or(1);
        let place = self.place(input)?;
        let (cell, layout) = match place.layout.with_last(&row, c) {
            Some(layout) => (place.cell, layout),
            None => {
                let plain: Vec<usize> = (0..row.len()).collect();
                (self.ordered(input, &plain)?, Layout::plain(&row))
            }
        };
        self.made(i, kind, vec![cell], c, layout)
    }

    /// A value and one row of constants that a node adds to it.
    fn row_added(&self, i: usize) -> Option<(NodeId, Vec<f32>)> {
        let (node, row) = (&self.net.nodes()[i], self.row(i));
        let [a, b] = node.inputs[..] else { return None };
        let (x, c) = if self.net.shapes()[a.0].batched { (a, b) } else { (b, a) };
        let (dims, values) = self.reference.constant(c)?;
        let full = dims == row || dims.split_first().is_some_and(|(&n, rest)| n == 1 && rest == row);
        (full && self.net.shapes()[x.0].batched && self.row(x.0) == row).then(|| (x, values.to_vec()))
    }

    /// A maximum pool, or an average.
    fn pool(&mut self, i: usize, w: Window, average: Option<bool>) -> Result<()> {
        let input = self.net.nodes()[i].inputs[0];
        let &[c, h, wi] = self.row(input.0) else { return Err(Error::internal("not an image")) };
        let counts = [pool_windows(&w, h, 0)?, pool_windows(&w, wi, 1)?];
        if counts.iter().any(|c| *c > LINKS) {
            return self.fallback(i);
        }
        let x = self.ordered(input, &[1, 2, 0])?;
        self.pooled(i, x, [c, h, wi], w, average)
    }

    /// The value of node `i`: a pool of the image in cell `x`.
    pub(super) fn pooled(
        &mut self,
        i: usize,
        x: CellId,
        [c, h, wi]: [usize; 3],
        w: Window,
        average: Option<bool>,
    ) -> Result<()> {
        let grid = pool_grid(w, [h, wi], average)?;
        let counts = [pool_windows(&w, h, 0)?, pool_windows(&w, wi, 1)?];
        let out = self.cell(counts[0] * counts[1], c);
        let back = grid.reversed();
        let kind = if average.is_some() { Kind::Average { grid, back } } else { Kind::Maximum { grid, back } };
        self.push(kind, vec![x], out, None, false);
        let layout = Layout::ordered(&[c, counts[0], counts[1]], &[1, 2, 0]);
        self.places[i] = Some(Place { cell: out, layout });
        Ok(())
    }

    pub(super) fn fallback(&mut self, i: usize) -> Result<()> {
        let node = self.net.nodes()[i].clone();
        let mut cells = vec![];
        for &j in node.inputs.iter().filter(|j| self.net.shapes()[j.0].batched) {
            let place = self.place(j)?;
            let row = self.row(j.0).to_vec();
            cells.push(match place.layout.is_plain() {
                true => place.cell,
                false => self.copied(&place, Layout::plain(&row), row.last().copied().unwrap_or(1)).cell,
            });
        }
        let row = self.row(i).to_vec();
        let channels = row.last().copied().unwrap_or(1);
        let out = self.cell(row.iter().product::<usize>() / channels.max(1), channels);
        self.push(Kind::Reference(NodeId(i)), cells, out, None, false);
        self.places[i] = Some(Place { cell: out, layout: Layout::plain(&row) });
        Ok(())
    }
}

/// Windows of a pool along an axis of `size` entries.
fn pool_windows(w: &Window, size: usize, a: usize) -> Result<usize> {
    crate::graph::windows(size, w.kernel[a], w.stride[a], (w.pads[a], w.pads[a + 2]), w.ceil)
}

/// The links of a pool over an image; averages count pads or do not.
pub(super) fn pool_grid(w: Window, size: [usize; 2], average: Option<bool>) -> Result<Grid> {
    let axis = |a: usize| {
        let (size, count, stride) = (size[a], pool_windows(&w, size[a], a)?, w.stride[a].min(crate::graph::MAX_ROW));
        let slide = Slide { size, count, kernel: w.kernel[a], stride, dilation: 1, lead: w.pads[a] };
        Ok::<_, Error>(Links::forward(slide, |o, inside| {
            let padded = (o * stride + w.kernel[a]).min(size + w.pads[a] + w.pads[a + 2]) - o * stride;
            1. / if average == Some(true) { padded } else { inside.max(1) } as f32
        }))
    };
    Ok(Grid { rows: axis(0)?, columns: axis(1)? })
}

/// The kernel of an activation, if there is one.
fn curve(act: &Activation) -> Option<Curve> {
    Some(match *act {
        Activation::Gelu => Curve::Gelu,
        Activation::Silu => Curve::Silu,
        Activation::Sigmoid => Curve::Sigmoid,
        Activation::Tanh => Curve::Tanh,
        Activation::LeakyRelu(slope) => Curve::Leaky(slope as f32),
        Activation::Clip(low, high) => Curve::Clip(low as f32, high as f32),
        Activation::Elu(scale) => Curve::Elu(scale as f32),
        Activation::HardSigmoid { alpha, beta } => Curve::HardSigmoid(alpha as f32, beta as f32),
        Activation::HardSwish => Curve::HardSwish,
        Activation::GeluTanh => Curve::GeluTanh,
        Activation::Sin => Curve::Sin,
        Activation::Cos => Curve::Cos,
        _ => return None,
    })
}
