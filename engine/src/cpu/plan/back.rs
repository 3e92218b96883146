//! The steps of a plan backwards: from gradients of its values to that of the input.

use super::conv::Conv;
use super::pool::Held;
use super::run::Run;
use super::step::{Cell, CellId, Pieces, Plain, Step, StepKind};
use crate::cpu::kernels::*;
use crate::graph::NodeId;
use robust_core::{Error, Result};
use std::rc::Rc;
use std::sync::Arc;

impl Run {
    /// The input's gradient (plain) from `seeds`, which are in their cells' layouts.
    pub(super) fn pull(&mut self, seeds: &[(CellId, Vec<f32>)], out: &mut [f32]) -> Result<()> {
        let core = Arc::clone(&self.with);
        let steps = &core.steps;
        let cells = steps.cells.len();
        let mut back = Back { grads: vec![None; cells], pending: vec![0; cells], makers: vec![None; cells] };
        for (i, step) in steps.list.iter().enumerate() {
            back.makers[step.out.0] = Some((i, false));
            if let Some((_, next)) = &step.next {
                back.makers[next.0] = Some((i, true));
            }
        }
        seeds.iter().for_each(|(c, _)| back.pending[c.0] += 1);
        for step in steps.list.iter().rev() {
            if step.next.as_ref().is_some_and(|(_, c)| back.pending[c.0] > 0) {
                back.pending[step.out.0] += 1;
            }
            if back.pending[step.out.0] > 0 {
                step.reads().for_each(|c| back.pending[c.0] += 1);
            }
        }
        for (cell, seed) in seeds {
            self.contribute(&mut back, *cell, true, |run, finish, out| {
                let Cell { channels, .. } = run.cell(*cell);
                pass(run.with.isa, (seed.len() / channels, channels), seed, finish, (out, None), None);
                Ok(())
            })?;
        }
        for (i, step) in steps.list.iter().enumerate().rev() {
            self.pull_step(&mut back, i, step)?;
        }
        match back.grads[steps.input.0].take() {
            Some(grad) => {
                out.copy_from_slice(&grad.floats()[..out.len()]);
                self.release(grad);
            }
            None => out.fill(0.),
        }
        Ok(())
    }

    fn release(&mut self, grad: Rc<Held>) {
        self.pool.give(Rc::into_inner(grad));
    }

    /// The bits of the ReLU that made a cell.
    fn mask(&self, back: &Back, cell: CellId) -> Option<&[u8]> {
        let (i, second) = back.makers[cell.0]?;
        let mask = match second {
            true => &self.seconds[i],
            false if self.with.steps.list[i].relu => &self.masks[i],
            false => return None,
        };
        mask.as_deref().map(Buffer::bytes)
    }

    /// Adds to a cell's gradient what `f` computes; the last to do so also goes back through the cell's ReLU.
    fn contribute(
        &mut self,
        back: &mut Back,
        cell: CellId,
        masks: bool,
        f: impl FnOnce(&Self, &Finish<'_>, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        back.pending[cell.0] -= 1;
        let shape = self.cell(cell);
        let size = self.n * shape.len();
        let existing = back.grads[cell.0].take();
        let mut out = self.pool.floats(size);
        let mut kept = None;
        {
            let keep = if back.pending[cell.0] == 0 { self.mask(back, cell) } else { None };
            let add = existing.as_ref().map(|b| &b.floats()[..size]);
            let finish = Finish { add, keep: keep.filter(|_| masks), ..Finish::default() };
            f(self, &finish, &mut out.floats_mut()[..size])?;
            if keep.is_some() && !masks {
                kept = Some(size);
            }
        }
        if let Some(size) = kept {
            let mut kept = self.pool.floats(size);
            let finish = Finish { keep: self.mask(back, cell), ..Finish::default() };
            let pixels = (self.n * shape.pixels, shape.channels);
            pass(self.with.isa, pixels, out.floats(), &finish, (kept.floats_mut(), None), None);
            self.pool.give(Some(std::mem::replace(&mut out, kept)));
        }
        existing.into_iter().for_each(|e| self.release(e));
        back.grads[cell.0] = Some(Rc::new(out));
        Ok(())
    }

    fn pull_step(&mut self, back: &mut Back, i: usize, step: &Step) -> Result<()> {
        if let Some((plain, next)) = &step.next
            && let Some(grad) = back.grads[next.0].take()
        {
            // Masked already by its last contributor.
            self.scale(back, step.out, grad.floats(), plain)?;
            self.release(grad);
        }
        let Some(grad) = back.grads[step.out.0].take() else { return Ok(()) };
        if let Some(add) = step.add {
            let alone = back.grads[add.0].is_none() && (back.pending[add.0] > 1 || self.mask(back, add).is_none());
            if alone {
                back.pending[add.0] -= 1;
                back.grads[add.0] = Some(Rc::clone(&grad));
            } else {
                self.scale(back, add, grad.floats(), &Plain::default())?;
            }
        }
        let grad = match step.kind {
            StepKind::Bend(curve) => match self.bend_in_place(back, step, curve, grad)? {
                Some(grad) => grad,
                None => return Ok(()),
            },
            _ => grad,
        };
        self.pull_kind(back, i, step, &grad)?;
        self.release(grad);
        Ok(())
    }

    /// Turns the gradient of a curve's value into that of its argument where it stands, if nothing else reads it and
    /// nothing is added; otherwise it comes back.
    fn bend_in_place(
        &mut self,
        back: &mut Back,
        step: &Step,
        curve: Curve,
        grad: Rc<Held>,
    ) -> Result<Option<Rc<Held>>> {
        let (x, Cell { pixels, channels }) = (step.inputs[0], self.cell(step.out));
        if back.grads[x.0].is_some() || self.mask(back, x).is_some() {
            return Ok(Some(grad));
        }
        let mut grad = match Rc::try_unwrap(grad) {
            Ok(grad) => grad,
            Err(shared) => return Ok(Some(shared)),
        };
        let (value, to) = (self.value(x)?, grad.floats_mut());
        bend(self.with.isa, curve, (self.n * pixels, channels), value, Slope::Own, &Finish::default(), to);
        back.pending[x.0] -= 1;
        back.grads[x.0] = Some(Rc::new(grad));
        Ok(None)
    }

    /// A gradient times a scale per channel, added to that of `cell`.
    fn scale(&mut self, back: &mut Back, cell: CellId, grad: &[f32], plain: &Plain) -> Result<()> {
        self.contribute(back, cell, true, |run, finish, out| {
            let Cell { pixels, channels } = run.cell(cell);
            let finish = Finish { scale: plain.scale.as_ref().map(Buffer::floats), ..*finish };
            pass(run.with.isa, (run.n * pixels, channels), grad, &finish, (out, None), None);
            Ok(())
        })
    }

    fn pull_kind(&mut self, back: &mut Back, i: usize, step: &Step, grad: &Rc<Held>) -> Result<()> {
        let core = Arc::clone(&self.with);
        let (n, isa) = (self.n, core.isa);
        let (x, from) = (step.inputs[0], self.cell(step.out));
        let to = self.cell(x);
        let g = &grad.floats()[..n * from.len()];
        let pixels = (g.len() / from.channels, from.channels);
        let alike = |channels: usize| alike(channels, to.channels);
        match &step.kind {
            StepKind::Conv(conv) => self.pull_conv(back, i, step, conv, g),
            StepKind::Dense(dense) => self.contribute(back, x, alike(dense.read), |_, finish, out| {
                let weights = dense.weights.backward.as_ref();
                let weights = weights.ok_or_else(|| Error::internal("an exact plan has no gradient"))?;
                product(isa, weights, g, dense.write, g.len() / dense.write, finish, (out, None));
                Ok(())
            }),
            // A step without scale whose memory has another shape than its input's.
            StepKind::Pass(plain) => self.contribute(back, x, alike(from.channels), |_, finish, out| {
                let finish = Finish { scale: plain.scale.as_ref().map(Buffer::floats), ..*finish };
                pass(isa, pixels, g, &finish, (out, None), None);
                Ok(())
            }),
            StepKind::Maximum { back: grid, .. } => {
                let won = self.masks[i].take().ok_or_else(|| Error::internal("a pool lost its winners"))?;
                let done = self.contribute(back, x, alike(from.channels), |_, finish, out| {
                    sums(isa, n, from.channels, grid, Weigh::Winners(won.bytes()), g, finish, (out, None));
                    Ok(())
                });
                self.masks[i] = Some(won);
                done
            }
            StepKind::Average { back: grid, .. } => self.contribute(back, x, alike(from.channels), |_, finish, out| {
                sums(isa, n, from.channels, grid, Weigh::Links, g, finish, (out, None));
                Ok(())
            }),
            StepKind::Permute { back: walk, .. } => {
                let mut bare = self.pool.floats(n * to.len());
                walk.copy(n, g, bare.floats_mut());
                self.hand(back, x, bare)
            }
            StepKind::Pieces(pieces) => self.pull_pieces(back, step, pieces, g),
            StepKind::Times(share) => self.pull_times(back, step, *share, g),
            StepKind::Bend(curve) => self.contribute(back, x, alike(from.channels), |run, finish, out| {
                bend(isa, *curve, pixels, run.value(x)?, Slope::Of(g), finish, out);
                Ok(())
            }),
            StepKind::Norm { gamma, eps, .. } => self.contribute(back, x, alike(from.channels), |run, finish, out| {
                let rows = Rows::NormBack { gamma: gamma.floats(), eps: *eps, other: run.value(x)? };
                each_row(isa, rows, pixels, g, finish, out);
                Ok(())
            }),
            StepKind::Softmax => self.contribute(back, x, alike(from.channels), |run, finish, out| {
                each_row(isa, Rows::SoftmaxBack { other: run.value(step.out)? }, pixels, g, finish, out);
                Ok(())
            }),
            StepKind::Sparse(bands) => {
                let mut bare = self.pool.floats(g.len());
                bands.pull(self.value(x)?, g, &mut bare.floats_mut()[..g.len()]);
                self.hand(back, x, bare)
            }
            StepKind::Shift(_) => self.scale(back, x, g, &Plain::default()),
            StepKind::Attention(heads) => self.pull_attention(back, step, heads, g),
            StepKind::Reference(node) => self.pull_reference(back, i, step, *node, g),
        }
    }

    /// To every input what its places in the output got.
    fn pull_pieces(&mut self, back: &mut Back, step: &Step, pieces: &Pieces, grad: &[f32]) -> Result<()> {
        let (n, from) = (self.n, self.cell(step.out));
        let parts = pieces.parts.iter().filter(|p| p.constant.is_none());
        for (part, &c) in parts.zip(&step.inputs) {
            let len = self.cell(c).len();
            let mut bare = self.pool.floats(n * len);
            let to = &mut bare.floats_mut()[..n * len];
            if !part.covers {
                to.fill(0.);
            }
            part.back.copy([from.len(), len], grad, to);
            self.hand(back, c, bare)?;
        }
        Ok(())
    }

    /// Back through a convolution, and first through the pool of its result.
    fn pull_conv(&mut self, back: &mut Back, i: usize, step: &Step, conv: &Conv, grad: &[f32]) -> Result<()> {
        let core = Arc::clone(&self.with);
        let (n, isa) = (self.n, core.isa);
        let Some(pool) = &conv.pool else { return self.pull_plain(back, step, conv, (grad, None)) };
        let bits = self.masks[i].take().ok_or_else(|| Error::internal("a pool lost its winners"))?;
        let won = Won { back: &pool.back, winners: bits.bytes() };
        let done = match conv.unpools(&core.net, isa)? {
            true => self.pull_plain(back, step, conv, (grad, Some(won))),
            false => {
                let mut spread = self.pool.floats(n * conv.output[0] * conv.output[1] * conv.write);
                let (weigh, to) = (Weigh::Winners(won.winners), (spread.floats_mut(), None));
                sums(isa, n, conv.write, won.back, weigh, grad, &Finish::default(), to);
                let done = self.pull_plain(back, step, conv, (spread.floats(), None));
                self.pool.give(Some(spread));
                done
            }
        };
        self.masks[i] = Some(bits);
        done
    }

    fn pull_plain(&mut self, back: &mut Back, step: &Step, conv: &Conv, grad: (&[f32], Option<Won<'_>>)) -> Result<()> {
        let core = Arc::clone(&self.with);
        let (n, isa, net, x) = (self.n, core.isa, &core.net, step.inputs[0]);
        let to = self.cell(x);
        if conv.bare(net, isa)? {
            let mut bare = self.pool.floats(n * to.len());
            conv.pull(net, isa, n, grad, &Finish::default(), bare.floats_mut())?;
            self.scale(back, x, bare.floats(), &Plain::default())?;
            self.pool.give(Some(bare));
            return Ok(());
        }
        let masks = conv.masks(true) && alike(conv.read, to.channels);
        self.contribute(back, x, masks, |_, finish, out| conv.pull(net, isa, n, grad, finish, out))
    }

    fn pull_attention(&mut self, back: &mut Back, step: &Step, heads: &Heads, grad: &[f32]) -> Result<()> {
        let sizes = [0, 1, 2].map(|i| self.n * self.cell(step.inputs[i]).len());
        let mut grads = sizes.map(|size| self.pool.floats(size));
        {
            let values = [self.value(step.inputs[0])?, self.value(step.inputs[1])?, self.value(step.inputs[2])?];
            heads.backward(self.with.isa, self.n, values, grad, grads.each_mut().map(|g| g.floats_mut()));
        }
        step.inputs.iter().zip(grads).try_for_each(|(&cell, grad)| self.hand(back, cell, grad))
    }

    /// Adds a gradient to that of a cell; alone and unmasked it stays where it is.
    fn hand(&mut self, back: &mut Back, cell: CellId, grad: Held) -> Result<()> {
        if back.grads[cell.0].is_none() && (back.pending[cell.0] > 1 || self.mask(back, cell).is_none()) {
            back.pending[cell.0] -= 1;
            back.grads[cell.0] = Some(Rc::new(grad));
        } else {
            self.scale(back, cell, grad.floats(), &Plain::default())?;
            self.pool.give(Some(grad));
        }
        Ok(())
    }

    fn pull_times(&mut self, back: &mut Back, step: &Step, share: usize, grad: &[f32]) -> Result<()> {
        let (n, isa, Cell { pixels, channels }) = (self.n, self.with.isa, self.cell(step.out));
        let (size, whole) = ((n * pixels, channels), Finish::default());
        let [x, z] = [step.inputs[0], step.inputs[1]];
        let mut first = self.pool.floats(grad.len());
        times(isa, size, (grad, self.value(z)?), share, &whole, first.floats_mut());
        self.hand(back, x, first)?;
        let mut second = self.pool.floats(grad.len() / share);
        match share {
            1 => times(isa, size, (grad, self.value(x)?), 1, &whole, second.floats_mut()),
            _ => channel_dots(isa, (n, share, channels), (grad, self.value(x)?), second.floats_mut()),
        }
        self.hand(back, z, second)
    }

    fn pull_reference(&mut self, back: &mut Back, i: usize, step: &Step, node: NodeId, grad: &[f32]) -> Result<()> {
        let saved = self.saved[i].as_ref().ok_or_else(|| Error::internal("an op lost what it saved"))?;
        let pulled = self.with.single.pull(node, saved, grad.to_vec(), self.n)?;
        for (&cell, pulled) in step.inputs.iter().zip(pulled) {
            self.scale(back, cell, &pulled, &Plain::default())?;
        }
        Ok(())
    }
}

/// Whether two ways to see a value have its bits in the same places: where the channels are the same, or whole bytes make
/// up every pixel.
fn alike(a: usize, b: usize) -> bool {
    a == b || (a.is_multiple_of(16) && b.is_multiple_of(16))
}

/// Gradients on their way back.
struct Back {
    grads: Vec<Option<Rc<Held>>>,
    /// Contributions each cell's gradient still waits for.
    pending: Vec<usize>,
    /// The step that makes each cell, and whether as its second output.
    makers: Vec<Option<(usize, bool)>>,
}
