//! Ops that are steps of their own, those that only move where values are, and those left to the reference.

use super::compiler::{Compiler, pool_windows};
use super::conv::{floats, padded};
use super::layout::Layout;
use super::precision::LINKS;
use super::step::{CellPlace, StepKind};
use crate::cpu::kernels::{Buffer, Curve, Heads, MAX_AREA};
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
                    Some(layout) => self.places[i] = Some(CellPlace { cell: place.cell, layout }),
                    None => {
                        let plain = self.copied(&place, Layout::plain(&row), row.last().copied().unwrap_or(1));
                        let layout = plain.layout.transposed(&row, &axes);
                        let layout = layout.ok_or_else(|| Error::internal("a plain row cannot be transposed"))?;
                        self.places[i] = Some(CellPlace { cell: plain.cell, layout });
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
                self.set_place(i, CellPlace { cell, layout: Layout::plain(&[c]) });
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
                self.by_last(i, StepKind::Norm { gamma, beta, eps: *eps as f32 })
            }
            Op::MeanSparse { .. } => self.mean_sparse(i),
            Op::Softmax { axis } if *axis == self.row(i).len() => self.by_last(i, StepKind::Softmax),
            &Op::Attention { heads, scale } => self.attention(i, heads, scale as f32),
            Op::Act(act) => match curve(act) {
                Some(curve) => {
                    let CellPlace { cell, layout } = self.place(node.inputs[0])?;
                    let channels = self.steps.cells[cell.0].channels;
                    self.made(i, StepKind::Bend(curve), vec![cell], channels, layout)
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
                    self.made(i, StepKind::Shift(constants), vec![cell], channels, layout)
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
            let values = self.reference.constant(bias).ok_or_else(|| Error::internal("a bias is not a constant"))?;
            let heads = values.0.iter().rev().nth(2).copied().unwrap_or(1);
            kind.bias = Some(kind.lay_bias(self.isa, heads, values.1));
        }
        let plain: Vec<usize> = (0..q.len()).collect();
        let cells = inputs[..3].iter().map(|&j| self.ordered(j, &plain)).collect::<Result<Vec<_>>>()?;
        self.made(i, StepKind::Attention(kind), cells, width, Layout::plain(&q))
    }

    /// The product of two values of one shape, or of an image and one factor a channel.
    fn times(&mut self, i: usize) -> Result<()> {
        let mut inputs = self.net.nodes()[i].inputs.clone();
        let [a, b] = [0, 1].map(|k| self.row(inputs[k].0).to_vec());
        if a == b {
            let place = self.place(inputs[0])?;
            let other = self.alike(inputs[1], &place)?;
            let channels = self.steps.cells[place.cell.0].channels;
            return self.made(i, StepKind::Times(1), vec![place.cell, other], channels, place.layout);
        }
        if a.len() == 3 && a[1..] == [1, 1] {
            inputs.swap(0, 1);
        }
        let (x, z) = (self.row(inputs[0].0).to_vec(), self.row(inputs[1].0).to_vec());
        match (&x[..], &z[..]) {
            (&[c, h, w], &[d, 1, 1]) if c == d => {
                let cells = vec![self.ordered(inputs[0], &[1, 2, 0])?, self.ordered(inputs[1], &[0, 1, 2])?];
                self.made(i, StepKind::Times(h * w), cells, c, Layout::ordered(&x, &[1, 2, 0]))
            }
            _ => self.fallback(i),
        }
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
        self.push(StepKind::Reference(NodeId(i)), cells, out, None, false);
        self.places[i] = Some(CellPlace { cell: out, layout: Layout::plain(&row) });
        Ok(())
    }
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
