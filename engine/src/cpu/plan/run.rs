//! Runs the steps of a plan forwards and backwards.

use super::conv::{Conv, Pooling};
use super::pool::{Held, Pool, Stay};
use super::step::{Cell, CellId, Kind, Plain, Step, Steps};
use crate::cpu::kernels::*;
use crate::network::{Network, NodeId};
use crate::reference::{Saved, Single};
use robust_core::{Error, Result};
use std::rc::Rc;
use std::sync::Arc;

/// What every run of a plan shares.
pub(super) struct Core {
    pub(super) net: Arc<Network>,
    pub(super) single: Single,
    pub(super) steps: Steps,
    pub(super) isa: Isa,
}

/// One forward pass: values that were kept, and what the way back needs.
pub(super) struct Run {
    with: Arc<Core>,
    pub(super) n: usize,
    cells: Vec<Option<Held>>,
    /// How long each cell's value is needed.
    stay: Vec<Stay>,
    /// Bits of ReLUs, or of a pool's winners, by step; bits of a second output.
    masks: Vec<Option<Held>>,
    seconds: Vec<Option<Held>>,
    saved: Vec<Option<Saved>>,
    pub(super) pool: Pool,
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
        let mut run = Self {
            with,
            n,
            cells: (0..steps.cells.len()).map(|_| None).collect(),
            stay: vec![Stay::Short; steps.cells.len()],
            masks: blank(),
            seconds: blank(),
            saved: (0..steps.list.len()).map(|_| None).collect(),
            pool: pool.lending(!record),
        };
        let mut readers = vec![0usize; steps.cells.len()];
        steps.list.iter().flat_map(Step::reads).for_each(|c| readers[c.0] += 1);
        let saved = steps.list.iter().filter(|_| record).flat_map(Step::saves);
        for c in keep.iter().chain(saved) {
            readers[c.0] += 1;
            run.stay[c.0] = Stay::Long;
        }
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

    fn cell(&self, c: CellId) -> Cell {
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
        let (n, isa) = (self.n, self.with.isa);
        let cell = self.cell(step.out);
        let pixels = n * cell.pixels;
        let mut out = self.room(step.out);
        let bits = pixels * mask_stride(cell.channels);
        let mut mask = (record && step.relu).then(|| self.pool.bytes(bits, Stay::Long));
        let mut second = step.next.as_ref().map(|(_, c)| self.room(*c));
        let mut second_mask = second.as_ref().filter(|_| record).map(|_| self.pool.bytes(bits, Stay::Long));
        if let Kind::Reference(node) = step.kind {
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
            match &step.kind {
                Kind::Conv(conv) if conv.pool.is_some() => {
                    let Some(Pooling { grid, relu, .. }) = &conv.pool else { return Ok(()) };
                    let mut won = record.then(|| self.winners(pixels, grid, cell.channels));
                    let winners = won.as_deref_mut().map(Buffer::bytes_mut);
                    let pooled = Pooled { grid, relu: *relu, winners };
                    conv.run_pooled(isa, n, self.value(step.inputs[0])?, pooled, to);
                    mask = won;
                }
                Kind::Conv(conv) => {
                    let finish = Finish { bias: conv.bias.as_ref().map(Buffer::floats), ..finish };
                    conv.run(isa, n, x, &finish, (to, bits), next);
                }
                Kind::Dense(dense) => {
                    let finish = Finish { bias: dense.bias.as_ref().map(Buffer::floats), ..finish };
                    product(
                        isa,
                        &dense.forward,
                        x,
                        dense.read,
                        pixels * cell.channels / dense.write,
                        &finish,
                        (to, bits),
                    );
                }
                Kind::Pass(Plain { scale, shift }) => {
                    let (scale, bias) = (scale.as_ref().map(Buffer::floats), shift.as_ref().map(Buffer::floats));
                    pass(isa, (pixels, cell.channels), x, &Finish { scale, bias, ..finish }, (to, bits), next);
                }
                Kind::Maximum { grid, .. } => {
                    let mut won = record.then(|| self.winners(pixels, grid, cell.channels));
                    let winners = won.as_deref_mut().map(Buffer::bytes_mut);
                    let x = self.value(step.inputs[0])?;
                    maxima(isa, n, cell.channels, x, Pooled { grid, relu: false, winners }, to);
                    mask = won;
                }
                Kind::Average { grid, .. } => {
                    sums(isa, n, cell.channels, grid, Weigh::Links, x, &finish, (to, bits));
                }
                Kind::Permute { there, .. } => there.copy(n, x, to),
                Kind::Bend(curve) => bend(isa, *curve, (pixels, cell.channels), x, Slope::None, &finish, to),
                Kind::Norm { gamma, beta, eps } => {
                    let rows = Rows::Norm { gamma: gamma.floats(), beta: beta.floats(), eps: *eps };
                    each_row(isa, rows, (pixels, cell.channels), x, &finish, to);
                }
                Kind::Softmax => each_row(isa, Rows::Softmax, (pixels, cell.channels), x, &finish, to),
                Kind::Attention(heads) => {
                    heads.forward(isa, n, x, self.value(step.inputs[1])?, self.value(step.inputs[2])?, to);
                }
                Kind::Pieces(pieces) => {
                    let to = &mut to[..n * cell.len()];
                    if let Some(value) = pieces.fill {
                        to.fill(value);
                    }
                    let mut inputs = step.inputs.iter();
                    for part in &pieces.parts {
                        match &part.constant {
                            Some(row) => {
                                let len = part.moves.len();
                                part.moves.copy([len, cell.len()], &row.floats()[..len], to);
                            }
                            None => {
                                let Some(&c) = inputs.next() else { break };
                                part.moves.copy([self.cell(c).len(), cell.len()], self.value(c)?, to);
                            }
                        }
                    }
                }
                Kind::Times(share) => {
                    times(isa, (pixels, cell.channels), (x, self.value(step.inputs[1])?), *share, &finish, to);
                }
                Kind::Shift(row) => {
                    let finish = Finish { add: Some(row.floats()), ..Finish::default() };
                    let rows = to[..n * cell.len()].chunks_mut(cell.len()).zip(x.chunks(cell.len()));
                    rows.for_each(|(to, x)| pass(isa, (cell.pixels, cell.channels), x, &finish, (to, None), None));
                }
                Kind::Reference(_) => {}
            }
        }
        self.cells[step.out.0] = Some(out);
        self.masks[i] = mask;
        self.seconds[i] = second_mask;
        if let Some((_, next)) = &step.next {
            self.cells[next.0] = second;
        }
        Ok(())
    }

    fn winners(&mut self, pixels: usize, grid: &Grid, channels: usize) -> Held {
        self.pool.bytes(pixels * winner_bytes(grid, channels), Stay::Long)
    }

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
            Kind::Bend(curve) => match self.bend_in_place(back, step, curve, grad)? {
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
        let alike = |channels: usize| alike(channels, to.channels);
        match &step.kind {
            Kind::Conv(conv) => self.pull_conv(back, i, step, conv, g),
            Kind::Dense(dense) => self.contribute(back, x, alike(dense.read), |_, finish, out| {
                let weights =
                    dense.backward.as_ref().ok_or_else(|| Error::internal("an exact plan has no gradient"))?;
                product(isa, weights, g, dense.write, g.len() / dense.write, finish, (out, None));
                Ok(())
            }),
            Kind::Pass(plain) => {
                // A step without scale whose memory has another shape than its input's.
                let channels = from.channels;
                self.contribute(back, x, alike(channels), |_, finish, out| {
                    let finish = Finish { scale: plain.scale.as_ref().map(Buffer::floats), ..*finish };
                    pass(isa, (g.len() / channels, channels), g, &finish, (out, None), None);
                    Ok(())
                })
            }
            Kind::Maximum { back: grid, .. } => {
                let won = self.masks[i].take().ok_or_else(|| Error::internal("a pool lost its winners"))?;
                let done = self.contribute(back, x, alike(from.channels), |_, finish, out| {
                    sums(isa, n, from.channels, grid, Weigh::Winners(won.bytes()), g, finish, (out, None));
                    Ok(())
                });
                self.masks[i] = Some(won);
                done
            }
            Kind::Average { back: grid, .. } => self.contribute(back, x, alike(from.channels), |_, finish, out| {
                sums(isa, n, from.channels, grid, Weigh::Links, g, finish, (out, None));
                Ok(())
            }),
            Kind::Permute { back: walk, .. } => {
                let mut bare = self.pool.floats(n * to.len());
                walk.copy(n, g, bare.floats_mut());
                self.hand(back, x, bare)
            }
            Kind::Pieces(pieces) => {
                let parts = pieces.parts.iter().filter(|p| p.constant.is_none());
                for (part, &c) in parts.zip(&step.inputs) {
                    let len = self.cell(c).len();
                    let mut bare = self.pool.floats(n * len);
                    let to = &mut bare.floats_mut()[..n * len];
                    if !part.covers {
                        to.fill(0.);
                    }
                    part.back.copy([from.len(), len], g, to);
                    self.hand(back, c, bare)?;
                }
                Ok(())
            }
            Kind::Times(share) => self.pull_times(back, step, *share, g),
            Kind::Bend(curve) => self.contribute(back, x, alike(from.channels), |run, finish, out| {
                bend(isa, *curve, (g.len() / from.channels, from.channels), run.value(x)?, Slope::Of(g), finish, out);
                Ok(())
            }),
            Kind::Norm { gamma, eps, .. } => self.contribute(back, x, alike(from.channels), |run, finish, out| {
                let rows = Rows::NormBack { gamma: gamma.floats(), eps: *eps, other: run.value(x)? };
                each_row(isa, rows, (g.len() / from.channels, from.channels), g, finish, out);
                Ok(())
            }),
            Kind::Softmax => self.contribute(back, x, alike(from.channels), |run, finish, out| {
                let rows = Rows::SoftmaxBack { other: run.value(step.out)? };
                each_row(isa, rows, (g.len() / from.channels, from.channels), g, finish, out);
                Ok(())
            }),
            Kind::Shift(_) => self.scale(back, x, g, &Plain::default()),
            Kind::Attention(heads) => self.pull_attention(back, step, heads, g),
            Kind::Reference(node) => self.pull_reference(back, i, step, *node, g),
        }
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

    /// Gives every buffer back.
    pub(super) fn finish(mut self) -> Pool {
        self.cells.into_iter().chain(self.masks).chain(self.seconds).for_each(|b| self.pool.give(b));
        self.pool
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
