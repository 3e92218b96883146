//! Slices, concatenations and padding: parts of rows copied from one place to another.

use super::compiler::Compiler;
use super::layout::Layout;
use super::moves::{Move, Strided, picked};
use super::step::{CellId, CellPlace, Part, Pieces, StepKind};
use crate::cpu::kernels::Buffer;
use crate::graph::{NodeId, Op};
use robust_core::{Error, Result};

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
        self.push(StepKind::Pieces(pieces), cells, out, None, false);
        self.set_place(i, CellPlace { cell: out, layout: Layout::ordered(&row, order) });
        Ok(())
    }
}
