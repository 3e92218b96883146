//! The memory of a forward pass with its gradient, before there are weights: the passes are gone through with a pool of
//! sizes.

use super::pool::{Held, Pool, Stay};
use super::run::lifetimes;
use super::step::{CellId, Step, StepKind, Steps};
use crate::cpu::kernels::{mask_stride, winner_bytes};

type Size = Held<usize>;

/// Bytes of `n` rows: of values, masks and gradients of a pass and the way back, where a little more is counted than it
/// takes, and of the values of an exact pass, which has a pool of its own.
pub(super) fn bytes(steps: &Steps, output: CellId, n: usize) -> usize {
    let blank = || (0..steps.cells.len()).map(|_| None).collect();
    let pass = |record| Pass { steps, n, record, pool: Pool::default(), values: blank(), grads: blank(), saved: 0 };
    let (mut fast, mut exact) = (pass(true), pass(false));
    exact.forward(output);
    fast.forward(output);
    fast.back(output);
    fast.pool.made.saturating_add(fast.saved).saturating_add(exact.pool.made)
}

struct Pass<'a> {
    steps: &'a Steps,
    n: usize,
    /// Whether there is a way back.
    record: bool,
    pool: Pool<usize>,
    values: Vec<Option<Size>>,
    grads: Vec<Option<Size>>,
    /// What the reference interpreter keeps, outside of the pool.
    saved: usize,
}

impl Pass<'_> {
    fn size(&self, c: CellId) -> usize {
        self.n.saturating_mul(self.steps.cells[c.0].len()).saturating_mul(size_of::<f32>())
    }

    fn forward(&mut self, output: CellId) {
        let (mut readers, stay) = lifetimes(self.steps, &[output], self.record);
        self.value(self.steps.input, &stay);
        for step in &self.steps.list {
            self.value(step.out, &stay);
            step.next.iter().for_each(|(_, c)| self.value(*c, &stay));
            if self.record {
                self.masks(step);
            }
            if let StepKind::Reference(_) = step.kind {
                // Its input and its output as it knows them.
                let all = step.inputs.iter().chain([&step.out]).map(|c| self.size(*c));
                self.saved = all.fold(self.saved, usize::saturating_add);
            }
            for c in step.reads() {
                readers[c.0] -= 1;
                if readers[c.0] == 0 {
                    self.pool.give(self.values[c.0].take());
                }
            }
        }
    }

    fn value(&mut self, c: CellId, stay: &[Stay]) {
        self.values[c.0] = Some(self.pool.bytes(self.size(c), stay[c.0]));
    }

    /// Bits of ReLUs and of pools' winners, which stay for good.
    fn masks(&mut self, step: &Step) {
        let cell = self.steps.cells[step.out.0];
        let pixels = self.n.saturating_mul(cell.pixels);
        let bits = pixels.saturating_mul(mask_stride(cell.channels));
        let first = match step.kind.winners() {
            Some(grid) => Some(pixels.saturating_mul(winner_bytes(grid, cell.channels))),
            None => step.relu.then_some(bits),
        };
        for bytes in first.into_iter().chain(step.next.as_ref().map(|_| bits)) {
            // Nobody gives it back: its place in the pool is taken.
            self.pool.bytes(bytes, Stay::Long);
        }
    }

    fn back(&mut self, output: CellId) {
        self.contribute(output);
        for step in self.steps.list.iter().rev() {
            if let Some(grad) = step.next.as_ref().and_then(|(_, next)| self.grads[next.0].take()) {
                self.contribute(step.out);
                self.pool.give(Some(grad));
            }
            let Some(grad) = self.grads[step.out.0].take() else { continue };
            step.add.into_iter().for_each(|c| self.contribute(c));
            let beside = self.beside(step);
            step.inputs.iter().for_each(|c| self.contribute(*c));
            beside.into_iter().chain([grad]).for_each(|b| self.pool.give(Some(b)));
        }
    }

    /// A gradient of a cell, in the place of what was there.
    fn contribute(&mut self, c: CellId) {
        let sum = self.pool.bytes(self.size(c), Stay::Short);
        let before = self.grads[c.0].replace(sum);
        self.pool.give(before);
    }

    /// Room that a step may need on its way back beside the gradients of its inputs.
    fn beside(&mut self, step: &Step) -> Vec<Size> {
        let mut sizes: Vec<usize> = match &step.kind {
            StepKind::Conv(conv) if conv.may_be_bare() => vec![self.size(step.inputs[0])],
            // A result whose bits are elsewhere goes through its mask by itself.
            StepKind::Conv(conv) if !conv.masks(true) => vec![self.size(step.inputs[0])],
            StepKind::Conv(_) | StepKind::Dense(_) | StepKind::Average { .. } | StepKind::Shift(_) => vec![],
            _ => step.inputs.iter().map(|c| self.size(*c)).collect(),
        };
        if let StepKind::Conv(conv) = &step.kind
            && conv.pool.is_some()
        {
            sizes.push(self.n * conv.output[0] * conv.output[1] * conv.write * size_of::<f32>());
        }
        sizes.into_iter().map(|size| self.pool.bytes(size, Stay::Short)).collect()
    }
}
