//! Slices, concatenations and padding: parts of rows copied from one place to another.

use super::compile::Compiler;
use super::layout::Layout;
use super::step::{CellId, Kind, Part, Pieces, Place};
use crate::cpu::kernels::Buffer;
use crate::graph::{NodeId, Op};
use robust_core::{Error, Result};

/// One box of entries: where it is in a row that is read and in one that is written.
#[derive(Debug, Clone)]
pub(super) struct Move {
    dims: Vec<usize>,
    from: Strided,
    to: Strided,
}

/// A first entry, and the distance of the next one along each dimension.
#[derive(Debug, Clone)]
struct Strided {
    start: usize,
    steps: Vec<usize>,
}

impl Strided {
    /// The whole of a row of these dimensions.
    fn whole(dims: &[usize]) -> Self {
        let mut steps = vec![1; dims.len()];
        for i in (1..dims.len()).rev() {
            steps[i - 1] = steps[i] * dims[i];
        }
        Self { start: 0, steps }
    }
}

impl Move {
    fn new(dims: Vec<usize>, from: Strided, to: Strided) -> Self {
        let mut m = Self { dims: vec![], from: Strided { steps: vec![], ..from }, to: Strided { steps: vec![], ..to } };
        // Dimensions that lie side by side on both sides are one.
        for (i, &dim) in dims.iter().enumerate().filter(|(_, d)| **d > 1) {
            let steps = [from.steps[i], to.steps[i]];
            match (m.dims.last_mut(), m.from.steps.last_mut(), m.to.steps.last_mut()) {
                (Some(last), Some(a), Some(b)) if [*a, *b] == steps.map(|s| s * dim) => {
                    *last *= dim;
                    [*a, *b] = steps;
                }
                _ => {
                    m.dims.push(dim);
                    m.from.steps.push(steps[0]);
                    m.to.steps.push(steps[1]);
                }
            }
        }
        m
    }

    /// Entries of the box.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub(super) fn reversed(&self) -> Self {
        Self { dims: self.dims.clone(), from: self.to.clone(), to: self.from.clone() }
    }

    /// Copies the box in each row of `x` to the same row of `out`, which has `[read, written]` entries; a single row of `x`
    /// goes to all.
    pub(super) fn copy(&self, [read, written]: [usize; 2], x: &[f32], out: &mut [f32]) {
        use rayon::prelude::*;
        let rows = x.len() / read;
        out.par_chunks_mut(written).enumerate().for_each(|(i, out)| {
            let x = &x[if rows == 1 { 0 } else { i * read }..][..read];
            self.along(0, [self.from.start, self.to.start], x, out);
        });
    }

    fn along(&self, axis: usize, [mut from, mut to]: [usize; 2], x: &[f32], out: &mut [f32]) {
        let Some(&count) = self.dims.get(axis) else { return out[to] = x[from] };
        let (a, b) = (self.from.steps[axis], self.to.steps[axis]);
        if axis + 1 == self.dims.len() && [a, b] == [1, 1] {
            return out[to..to + count].copy_from_slice(&x[from..from + count]);
        }
        for _ in 0..count {
            self.along(axis + 1, [from, to], x, out);
            (from, to) = (from + a, to + b);
        }
    }
}

fn picked(row: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|&a| row[a]).collect()
}

impl Compiler<'_> {
    /// The order in which memory holds the images of `inputs` alike: channels last if all are so, plain otherwise.
    fn common_order(&self, inputs: &[NodeId]) -> Vec<usize> {
        let last = |&i: &NodeId| {
            let row = self.row(i.0);
            row.len() == 3 && self.place(i).is_ok_and(|p| p.layout.is(row, &[1, 2, 0]) && !p.layout.is_plain())
        };
        let batched: Vec<NodeId> = inputs.iter().copied().filter(|i| self.net.shapes()[i.0].batched).collect();
        match batched.iter().all(last) && !batched.is_empty() {
            true => vec![1, 2, 0],
            false => (0..self.row(inputs[0].0).len()).collect(),
        }
    }

    /// A slice, a concatenation or padding.
    pub(super) fn pieces(&mut self, i: usize) -> Result<()> {
        let node = self.net.nodes()[i].clone();
        let out = self.row(i).to_vec();
        let Some(&first) = node.inputs.iter().find(|j| self.net.shapes()[j.0].batched) else {
            return Err(Error::internal("a value comes from nowhere"));
        };
        let mut order = self.common_order(&node.inputs);
        if order.len() != out.len() {
            order = (0..self.row(first.0).len()).collect();
        }
        // Where a logical axis of a row is in memory.
        let place = |axis: usize| order.iter().position(|&a| a == axis).unwrap_or(axis);
        let target = Strided::whole(&picked(&out, &order));
        let (mut parts, mut cells, mut fill) = (vec![], vec![], None);
        let mut at = 0;
        for &j in &node.inputs {
            let row = match self.net.shapes()[j.0].batched {
                true => self.row(j.0).to_vec(),
                false => self.row(j.0).get(1..).unwrap_or(&[]).to_vec(),
            };
            let dims = picked(&row, &order);
            let whole = Strided::whole(&dims);
            let (mut to, mut from, mut shape, mut covers) = (target.clone(), whole, dims, true);
            match &node.op {
                Op::Concat { axis } => {
                    to.start = at * to.steps[place(axis - 1)];
                    at += row[axis - 1];
                }
                Op::Slice { axis, start, step, .. } => {
                    let k = place(axis - 1);
                    from.start = start * from.steps[k];
                    // A single entry has no next one.
                    from.steps[k] *= if out[axis - 1] > 1 { *step } else { 1 };
                    (shape, covers) = (picked(&out, &order), false);
                }
                Op::Pad { pads, value } => {
                    to.start = pads.iter().enumerate().map(|(a, p)| p.0 * to.steps[place(a)]).sum();
                    fill = Some(*value as f32);
                }
                _ => return Err(Error::internal("no pieces")),
            }
            let moves = Move::new(shape, from, to);
            let source = if self.net.shapes()[j.0].batched {
                cells.push(self.ordered(j, &order)?);
                None
            } else {
                Some(self.laid(j, &row, &order)?)
            };
            parts.push(Part { back: moves.reversed(), moves, constant: source, covers });
        }
        self.assembled(i, Pieces { parts, fill }, cells, &order)
    }

    /// A constant in memory order.
    fn laid(&self, i: NodeId, row: &[usize], order: &[usize]) -> Result<Buffer> {
        let (_, values) = self.reference.constant(i).ok_or_else(|| Error::internal("a piece has no value"))?;
        let mut buffer = Buffer::default();
        buffer.reserve(values.len());
        let at = Layout::ordered(row, order).logical();
        buffer.floats_mut().iter_mut().zip(at).for_each(|(to, from)| *to = values[from]);
        Ok(buffer)
    }

    fn assembled(&mut self, i: usize, pieces: Pieces, cells: Vec<CellId>, order: &[usize]) -> Result<()> {
        let row = self.row(i).to_vec();
        let channels = order.last().map_or(1, |&a| row[a]);
        let out = self.cell(row.iter().product::<usize>() / channels.max(1), channels);
        self.push(Kind::Pieces(pieces), cells, out, None, false);
        self.set_place(i, Place { cell: out, layout: Layout::ordered(&row, order) });
        Ok(())
    }
}
