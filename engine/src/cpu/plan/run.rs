//! The steps of a plan forwards, on buffers that are kept between runs.

use super::conv::Pooling;
use super::pool::{Held, Pool, Stay};
use super::step::{Cell, CellId, CellPlace, Pieces, Plain, Step, StepKind, Steps};
use crate::cpu::kernels::*;
use crate::graph::{Network, NodeId};
use crate::reference::{Saved, Single};
use robust_core::{Error, Result};
use std::sync::Arc;

/// What every run of a plan shares.
pub(super) struct Core {
    pub(super) net: Arc<Network>,
    pub(super) single: Single,
    pub(super) steps: Steps,
    pub(super) isa: Isa,
}

impl Core {
    pub(super) fn place(&self, node: NodeId) -> Result<&CellPlace> {
        let place = self.steps.places.get(node.0).and_then(Option::as_ref);
        place.ok_or_else(|| Error::internal(format!("the value of node {} was not exposed", node.0)))
    }
}

/// One forward pass: values that were kept, and what the way back needs.
pub(super) struct Run {
    pub(super) with: Arc<Core>,
    pub(super) n: usize,
    cells: Vec<Option<Held>>,
    /// How long each cell's value is needed.
    stay: Vec<Stay>,
    /// Bits of ReLUs, or of a pool's winners, by step; bits of a second output.
    pub(super) masks: Vec<Option<Held>>,
    pub(super) seconds: Vec<Option<Held>>,
    pub(super) saved: Vec<Option<Saved>>,
    pub(super) pool: Pool,
}

/// How many readers each cell's value has, those behind the pass included, and how long it is needed.
pub(super) fn lifetimes(steps: &Steps, keep: &[CellId], record: bool) -> (Vec<usize>, Vec<Stay>) {
    let (mut readers, mut stay) = (vec![0; steps.cells.len()], vec![Stay::Short; steps.cells.len()]);
    steps.list.iter().flat_map(Step::reads).for_each(|c| readers[c.0] += 1);
    let saved = steps.list.iter().filter(|_| record).flat_map(Step::saves);
    for c in keep.iter().chain(saved) {
        readers[c.0] += 1;
        stay[c.0] = Stay::Long;
    }
    (readers, stay)
}

/// Where a step writes: its value, the bits of its ReLU or of a pool's winners, and a second value made of the first.
struct Sinks<'a> {
    to: &'a mut [f32],
    bits: Option<&'a mut [u8]>,
    next: Option<Second<'a>>,
}

impl Run {
    /// Runs `n` rows of `x` (plain); values of `keep` stay; with `record`, so does what gradients need.
    pub(super) fn forward(
        with: Arc<Core>,
        pool: Pool,
        n: usize,
        x: &[f32],
        keep: &[CellId],
        record: bool,
    ) -> Result<Self> {
        let core = Arc::clone(&with);
        let steps = &core.steps;
        let blank = || (0..steps.list.len()).map(|_| None).collect::<Vec<Option<Held>>>();
        let (mut readers, stay) = lifetimes(steps, keep, record);
        let mut run = Self {
            with,
            n,
            cells: (0..steps.cells.len()).map(|_| None).collect(),
            stay,
            masks: blank(),
            seconds: blank(),
            saved: (0..steps.list.len()).map(|_| None).collect(),
            pool: pool.lending(!record),
        };
        let mut first = run.room(steps.input);
        first.floats_mut()[..x.len()].copy_from_slice(x);
        run.cells[steps.input.0] = Some(first);
        for (i, step) in steps.list.iter().enumerate() {
            run.step(i, step, record)?;
            for c in step.reads() {
                readers[c.0] -= 1;
                if readers[c.0] == 0 {
                    run.pool.give(run.cells[c.0].take());
                }
            }
        }
        Ok(run)
    }

    pub(super) fn cell(&self, c: CellId) -> Cell {
        self.with.steps.cells[c.0]
    }

    /// A buffer for the value of a cell.
    fn room(&mut self, c: CellId) -> Held {
        let (len, stay) = (self.n * self.cell(c).len(), self.stay[c.0]);
        self.pool.bytes(len * size_of::<f32>(), stay)
    }

    /// The value of a cell, `[n, pixels, channels]`.
    pub(super) fn value(&self, c: CellId) -> Result<&[f32]> {
        let buffer = self.cells[c.0].as_ref().ok_or_else(|| Error::internal("a value was freed too early"))?;
        Ok(&buffer.floats()[..self.n * self.cell(c).len()])
    }

    fn step(&mut self, i: usize, step: &Step, record: bool) -> Result<()> {
        let n = self.n;
        let cell = self.cell(step.out);
        let pixels = n * cell.pixels;
        let mut out = self.room(step.out);
        let bits = pixels * mask_stride(cell.channels);
        let mut mask = match step.kind.winners() {
            Some(grid) => record.then(|| self.winners(pixels, grid, cell.channels)),
            None => (record && step.relu).then(|| self.pool.bytes(bits, Stay::Long)),
        };
        let mut second = step.next.as_ref().map(|(_, c)| self.room(*c));
        let mut second_mask = second.as_ref().filter(|_| record).map(|_| self.pool.bytes(bits, Stay::Long));
        if let StepKind::Reference(node) = step.kind {
            let inputs: Result<Vec<Vec<f32>>> = step.inputs.iter().map(|c| Ok(self.value(*c)?.to_vec())).collect();
            let (value, saved) = self.with.single.forward(node, inputs?, n, record)?;
            out.floats_mut()[..value.len()].copy_from_slice(&value);
            self.saved[i] = saved;
        } else {
            let x = self.value(step.inputs[0])?;
            let add = step.add.map(|c| self.value(c)).transpose()?;
            let finish = Finish { add, relu: step.relu, ..Finish::default() };
            let to = out.floats_mut();
            let bits = mask.as_deref_mut().map(Buffer::bytes_mut);
            let next = step.next.as_ref().zip(second.as_mut()).and_then(|((plain, _), out)| {
                let (scale, shift) = (plain.scale.as_ref()?.floats(), plain.shift.as_ref()?.floats());
                let mask = second_mask.as_deref_mut().map(Buffer::bytes_mut);
                Some(Second { scale, shift, out: out.floats_mut(), mask })
            });
            self.apply(step, x, &finish, Sinks { to, bits, next })?;
        }
        self.cells[step.out.0] = Some(out);
        self.masks[i] = mask;
        self.seconds[i] = second_mask;
        if let Some((_, next)) = &step.next {
            self.cells[next.0] = second;
        }
        Ok(())
    }

    /// What a step computes, from its first input to its sinks.
    fn apply(&self, step: &Step, x: &[f32], finish: &Finish, sinks: Sinks) -> Result<()> {
        let (n, isa) = (self.n, self.with.isa);
        let cell = self.cell(step.out);
        let shape = (n * cell.pixels, cell.channels);
        let Sinks { to, bits, next } = sinks;
        match &step.kind {
            StepKind::Conv(conv) => match &conv.pool {
                Some(Pooling { grid, relu, .. }) => {
                    conv.run_pooled(isa, n, x, Pooled { grid, relu: *relu, winners: bits }, to);
                }
                None => {
                    let finish = Finish { bias: conv.bias.as_ref().map(Buffer::floats), ..*finish };
                    conv.run(isa, n, x, &finish, (to, bits), next);
                }
            },
            StepKind::Dense(dense) => {
                let finish = Finish { bias: dense.bias.as_ref().map(Buffer::floats), ..*finish };
                let rows = shape.0 * shape.1 / dense.write;
                product(isa, &dense.weights.forward, x, dense.read, rows, &finish, (to, bits));
            }
            StepKind::Pass(Plain { scale, shift }) => {
                let (scale, bias) = (scale.as_ref().map(Buffer::floats), shift.as_ref().map(Buffer::floats));
                pass(isa, shape, x, &Finish { scale, bias, ..*finish }, (to, bits), next);
            }
            StepKind::Maximum { grid, .. } => {
                maxima(isa, n, cell.channels, x, Pooled { grid, relu: false, winners: bits }, to);
            }
            StepKind::Average { grid, .. } => sums(isa, n, cell.channels, grid, Weigh::Links, x, finish, (to, bits)),
            StepKind::Permute { there, .. } => there.copy(n, x, to),
            StepKind::Bend(curve) => bend(isa, *curve, shape, x, Slope::None, finish, to),
            StepKind::Norm { gamma, beta, eps } => {
                let rows = Rows::Norm { gamma: gamma.floats(), beta: beta.floats(), eps: *eps };
                each_row(isa, rows, shape, x, finish, to);
            }
            StepKind::Softmax => each_row(isa, Rows::Softmax, shape, x, finish, to),
            StepKind::Sparse(bands) => bands.forward(x, &mut to[..n * cell.len()]),
            StepKind::Attention(heads) => {
                heads.forward(isa, n, x, self.value(step.inputs[1])?, self.value(step.inputs[2])?, to);
            }
            StepKind::Pieces(pieces) => self.lay(step, pieces, &mut to[..n * cell.len()])?,
            StepKind::Times(share) => times(isa, shape, (x, self.value(step.inputs[1])?), *share, finish, to),
            StepKind::Shift(row) => {
                let finish = Finish { add: Some(row.floats()), ..Finish::default() };
                let rows = to[..n * cell.len()].chunks_mut(cell.len()).zip(x.chunks(cell.len()));
                rows.for_each(|(to, x)| pass(isa, (cell.pixels, cell.channels), x, &finish, (to, None), None));
            }
            StepKind::Reference(_) => {}
        }
        Ok(())
    }

    /// Copies inputs and constants to their places in the output.
    fn lay(&self, step: &Step, pieces: &Pieces, to: &mut [f32]) -> Result<()> {
        if let Some(value) = pieces.fill {
            to.fill(value);
        }
        let len = self.cell(step.out).len();
        let mut inputs = step.inputs.iter();
        for part in &pieces.parts {
            match &part.constant {
                Some(row) => {
                    let own = part.moves.len();
                    part.moves.copy([own, len], &row.floats()[..own], to);
                }
                None => {
                    let Some(&c) = inputs.next() else { break };
                    part.moves.copy([self.cell(c).len(), len], self.value(c)?, to);
                }
            }
        }
        Ok(())
    }

    fn winners(&mut self, pixels: usize, grid: &Grid, channels: usize) -> Held {
        self.pool.bytes(pixels * winner_bytes(grid, channels), Stay::Long)
    }

    /// Gives every buffer back.
    pub(super) fn finish(mut self) -> Pool {
        self.cells.into_iter().chain(self.masks).chain(self.seconds).for_each(|b| self.pool.give(b));
        self.pool
    }
}
