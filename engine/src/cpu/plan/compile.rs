//! From a network to steps: chains of nodes become one step, layouts are chosen.

use super::compiler::{Compiler, pool_grid};
use super::conv::{Choice, Conv, Pooling, Shape as ConvShape, floats, padded};
use super::fuse::{Chain, with_bias};
use super::layout::Layout;
use super::precision::{Precision, Weights};
use super::step::{Cell, CellId, CellPlace, Dense, Plain, StepKind, Steps, Weighed};
use crate::cpu::kernels::{Isa, Packed};
use crate::graph::{Network, NodeId, Op, ParamId};
use crate::reference::Single;
use robust_core::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Compiles `net`; values of `expose` stay available.
pub(super) fn compile(
    net: &Arc<Network>,
    reference: &Single,
    isa: Isa,
    weights: Weights,
    expose: &[NodeId],
) -> Result<Steps> {
    let mut exposed = vec![false; net.nodes().len()];
    expose.iter().chain([&net.output()]).for_each(|e| exposed[e.0] = true);
    let mut readers = vec![vec![]; net.nodes().len()];
    for (i, node) in net.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|j| readers[j.0].push(i));
    }
    let places = vec![None; net.nodes().len()];
    let steps = Steps::default();
    let choice = Choice { weights, spent: 0 };
    Compiler { net, reference, isa, exposed, readers, places, steps, choice, dense: HashMap::new() }.run()
}

impl Compiler<'_> {
    fn run(mut self) -> Result<Steps> {
        let nodes = self.net.nodes();
        let mut taken = vec![false; nodes.len()];
        let mut chains: Vec<Option<Chain>> = (0..nodes.len()).map(|_| None).collect();
        for i in 0..nodes.len() {
            if !self.net.shapes()[i].batched || taken[i] {
                continue;
            }
            if let Some(chain) = self.chain(i, &taken)? {
                chain.nodes.iter().for_each(|&k| taken[k] = true);
                let last = chain.last();
                chains[last] = Some(chain);
            }
        }
        for (i, node) in nodes.iter().enumerate() {
            if !self.net.shapes()[i].batched {
                continue;
            }
            match chains[i].take() {
                Some(chain) => self.fused(&chain)?,
                None if taken[i] => {}
                None if node.op == Op::Input => self.input(i),
                None => self.single(i)?,
            }
        }
        self.join();
        self.steps.places = self.places;
        Ok(self.steps)
    }

    /// Joins a scale, a shift and a ReLU to the convolution whose result they read: it stores both.
    fn join(&mut self) {
        let Steps { list, cells, .. } = &mut self.steps;
        let mut makers = vec![None; cells.len()];
        let mut i = 0;
        while i < list.len() {
            let step = &list[i];
            let maker = match &step.kind {
                StepKind::Pass(Plain { scale: Some(_), shift: Some(_) }) if step.relu && step.add.is_none() => {
                    makers[step.inputs[0].0].filter(|_| cells[step.inputs[0].0] == cells[step.out.0])
                }
                _ => None,
            };
            let able =
                |m: &usize| matches!(&list[*m].kind, StepKind::Conv(c) if c.seconds()) && list[*m].next.is_none();
            if let Some(m) = maker.filter(able) {
                let step = list.remove(i);
                if let StepKind::Pass(plain) = step.kind {
                    list[m].next = Some((plain, step.out));
                }
                continue;
            }
            makers[step.out.0] = Some(i);
            i += 1;
        }
    }

    fn input(&mut self, i: usize) {
        let row = self.row(i).to_vec();
        let channels = row.last().copied().unwrap_or(1);
        let cell = self.cell(row.iter().product::<usize>() / channels.max(1), channels);
        self.steps.input = cell;
        self.places[i] = Some(CellPlace { cell, layout: Layout::plain(&row) });
    }

    fn fused(&mut self, chain: &Chain) -> Result<()> {
        let node = &self.net.nodes()[chain.head];
        match &node.op {
            Op::Conv2d { .. } => self.conv(chain),
            Op::Linear { .. } => self.linear(chain),
            _ => self.pass(chain),
        }
    }

    fn conv(&mut self, chain: &Chain) -> Result<()> {
        let node = &self.net.nodes()[chain.head];
        let &Op::Conv2d { weight, bias, stride, dilation, pads, groups } = &node.op else {
            return Err(Error::internal("not a convolution"));
        };
        let three = |row: &[usize]| <[usize; 3]>::try_from(row).map_err(|_| Error::internal("an image has three axes"));
        let (input, output) = (three(self.row(node.inputs[0].0))?, three(self.row(chain.head))?);
        let x = self.ordered(node.inputs[0], &[1, 2, 0])?;
        let maps = self.composed(&chain.affine, output[0])?;
        let bias = bias.map(|b| floats(self.net, b)).transpose()?;
        let (scale, shift) = with_bias(maps, bias, output[0]);
        let shape = ConvShape { weight, input, output, stride, dilation, pads, groups };
        let mut conv = Conv::new(self.net, self.isa, &shape, scale, shift, &mut self.choice)?;
        let size = [output[1], output[2]];
        let grid = chain.pool.map(|w| pool_grid(w, size, None)).transpose()?;
        if let Some(grid) = grid.filter(|g| conv.pools(g)) {
            conv.pool = Some(Pooling { back: grid.reversed(), grid, relu: chain.relu });
            let cells = self.row(chain.last()).iter().product::<usize>() / output[0];
            let layout = Layout::ordered(self.row(chain.last()), &[1, 2, 0]);
            let out = self.cell(cells, output[0]);
            self.push(StepKind::Conv(Box::new(conv)), vec![x], out, None, false);
            self.places[chain.last()] = Some(CellPlace { cell: out, layout });
            return Ok(());
        }
        let fits = conv.masks(false);
        let out = self.cell(size[0] * size[1], output[0]);
        let layout = Layout::ordered(&output, &[1, 2, 0]);
        self.finish(chain, StepKind::Conv(Box::new(conv)), x, CellPlace { cell: out, layout }, fits)?;
        match (chain.pool, self.places[chain.last()].clone()) {
            (Some(window), Some(made)) => self.pooled(chain.last(), made.cell, output, window, None),
            _ => Ok(()),
        }
    }

    fn linear(&mut self, chain: &Chain) -> Result<()> {
        let node = &self.net.nodes()[chain.head];
        let &Op::Linear { weight, bias } = &node.op else { return Err(Error::internal("not a linear layer")) };
        let (input, row) = (node.inputs[0], self.row(node.inputs[0].0).to_vec());
        let &[o, i] = self.net.params()[weight.0].value.dims() else {
            return Err(Error::internal("a linear layer needs two axes"));
        };
        let mut place = self.place(input)?;
        let mut order = None;
        if row.len() == 1 {
            // Any order of the features will do: the weights follow it.
            order = (!place.layout.is_plain()).then(|| place.layout.logical());
        } else if place.layout.with_last(&row, o).is_none() {
            let plain: Vec<usize> = (0..row.len()).collect();
            place = CellPlace { cell: self.ordered(input, &plain)?, layout: Layout::plain(&row) };
        }
        let layout = match row.len() {
            1 => Layout::plain(&[o]),
            _ => place.layout.with_last(&row, o).ok_or_else(|| Error::internal("a layout cannot be widened"))?,
        };
        let maps = self.composed(&chain.affine, o)?;
        let bias = bias.map(|b| floats(self.net, b)).transpose()?;
        let (scale, shift) = with_bias(maps, bias, o);
        let plain = chain.affine.is_empty() && order.is_none();
        let weights = match self.dense.get(&weight).filter(|_| plain) {
            Some(made) => made.clone(),
            None => self.weighed(weight, &scale, order.as_deref())?,
        };
        if plain {
            self.dense.insert(weight, weights.clone());
        }
        let dense = Dense { read: i, write: o, bias: shift.map(|s| padded(&s)), weights };
        let rows = row.iter().product::<usize>() / i;
        let out = self.cell(rows, o);
        self.finish(chain, StepKind::Dense(Box::new(dense)), place.cell, CellPlace { cell: out, layout }, true)
    }

    /// The weights of a linear layer, scaled by output and with the inputs in this order.
    fn weighed(&self, weight: ParamId, scale: &[f64], order: Option<&[usize]>) -> Result<Weighed> {
        let &[o, i] = self.net.params()[weight.0].value.dims() else {
            return Err(Error::internal("a linear layer needs two axes"));
        };
        let mut values = floats(self.net, weight)?;
        values.chunks_mut(i).zip(scale).for_each(|(w, s)| w.iter_mut().for_each(|w| *w *= s));
        let column = |k: usize| order.map_or(k, |o| o[k]);
        let wanted = if self.choice.weights == Weights::None { 0 } else { o };
        let forward = Packed::new(self.isa, i, wanted, |k, n| values[n * i + column(k)] as f32);
        let backward = (self.choice.weights == Weights::For(Precision::Fast))
            .then(|| Arc::new(Packed::new(self.isa, o, i, |k, n| values[k * i + column(n)] as f32)));
        Ok(Weighed { forward: Arc::new(forward), backward })
    }

    /// A step that works entry by entry.
    fn pass(&mut self, chain: &Chain) -> Result<()> {
        let node = &self.net.nodes()[chain.head];
        let own = self.affine(chain.head)?;
        let input = own.as_ref().map_or(node.inputs[0], |a| a.input);
        let row = self.row(chain.head).to_vec();
        let nodes: Vec<usize> = own.iter().map(|_| chain.head).chain(chain.affine.iter().copied()).collect();
        let axes: Result<Vec<Option<usize>>> =
            nodes.iter().map(|&n| Ok(self.affine(n)?.and_then(|a| a.axis))).collect();
        let axis = axes?.into_iter().flatten().next();
        let cell = match axis {
            // The axis that varies goes innermost.
            Some(axis) => {
                let order: Vec<usize> = (0..row.len()).filter(|a| *a != axis).chain([axis]).collect();
                self.ordered(input, &order)?
            }
            None => self.place(input)?.cell,
        };
        let layout = self.place(input)?.layout;
        let layout = match axis {
            Some(axis) => {
                let order: Vec<usize> = (0..row.len()).filter(|a| *a != axis).chain([axis]).collect();
                Layout::ordered(&row, &order)
            }
            None => layout,
        };
        let Cell { pixels, channels } = self.steps.cells[cell.0];
        let (pixels, channels) = match axis {
            Some(axis) => (pixels * channels / row[axis], row[axis]),
            None => (pixels, channels),
        };
        let maps = self.composed(&nodes, channels)?;
        let kind = StepKind::Pass(Plain {
            scale: maps.as_ref().map(|(s, _)| padded(s)),
            shift: maps.as_ref().map(|(_, s)| padded(s)),
        });
        let out = self.cell(pixels, channels);
        self.finish(chain, kind, cell, CellPlace { cell: out, layout }, true)
    }

    /// Adds the step with what follows it; an added value is brought into its layout.
    fn finish(&mut self, chain: &Chain, kind: StepKind, x: CellId, place: CellPlace, masks: bool) -> Result<()> {
        let mut add = None;
        if let Some(other) = chain.add {
            add = Some(self.alike(NodeId(other), &place)?);
        }
        let fits = masks || !chain.relu;
        self.push(kind, vec![x], place.cell, add, chain.relu && fits);
        self.places[chain.last()] = Some(place.clone());
        if !fits {
            let Cell { pixels, channels } = self.steps.cells[place.cell.0];
            let out = self.cell(pixels, channels);
            self.push(StepKind::Pass(Plain { scale: None, shift: None }), vec![place.cell], out, None, true);
            self.places[chain.last()] = Some(CellPlace { cell: out, ..place });
        }
        Ok(())
    }
}
