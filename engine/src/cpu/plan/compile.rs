//! From a network to steps: chains of nodes become one step, layouts are chosen, ops without a kernel are left to the
//! reference.

use super::Precision;
use super::conv::{Choice, Conv, Pooling, Shape as ConvShape, floats, padded};
use super::fuse::{Chain, with_bias};
use super::layout::Layout;
use super::step::{Cell, CellId, Dense, Kind, Place, Plain, Step, Steps};
use crate::cpu::kernels::{Buffer, Curve, Grid, Heads, Isa, Links, MAX_AREA, Packed, Slide};
use crate::network::{Activation, Binary, Network, NodeId, Op, Reduction, Window};
use crate::reference::Single;
use robust_core::{Error, Result};
use std::sync::Arc;

/// Windows along an axis up to which their links are listed.
pub(super) const LINKS: usize = 1 << 16;

/// Which weights are brought into their kernels' form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    For(Precision),
    /// None: only to see which steps there would be.
    None,
}

pub(super) struct Compiler<'a> {
    pub(super) net: &'a Arc<Network>,
    pub(super) reference: &'a Single,
    isa: Isa,
    pub(super) exposed: Vec<bool>,
    pub(super) readers: Vec<Vec<usize>>,
    places: Vec<Option<Place>>,
    steps: Steps,
    choice: Choice,
}

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
    Compiler { net, reference, isa, exposed, readers, places, steps, choice }.run()
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
                Kind::Pass(Plain { scale: Some(_), shift: Some(_) }) if step.relu && step.add.is_none() => {
                    makers[step.inputs[0].0].filter(|_| cells[step.inputs[0].0] == cells[step.out.0])
                }
                _ => None,
            };
            let able = |m: &usize| matches!(&list[*m].kind, Kind::Conv(c) if c.seconds()) && list[*m].next.is_none();
            if let Some(m) = maker.filter(able) {
                let step = list.remove(i);
                if let Kind::Pass(plain) = step.kind {
                    list[m].next = Some((plain, step.out));
                }
                continue;
            }
            makers[step.out.0] = Some(i);
            i += 1;
        }
    }

    pub(super) fn row(&self, i: usize) -> &[usize] {
        &self.net.shapes()[i].row
    }

    pub(super) fn place(&self, i: NodeId) -> Result<Place> {
        self.places[i.0].clone().ok_or_else(|| Error::internal(format!("node {} has no value yet", i.0)))
    }

    /// The value of a node in memory with its axes in `order`, copied if it is not.
    pub(super) fn ordered(&mut self, i: NodeId, order: &[usize]) -> Result<CellId> {
        let (place, row) = (self.place(i)?, self.row(i.0).to_vec());
        if place.layout.is(&row, order) {
            return Ok(place.cell);
        }
        let plain: Vec<usize> = (0..row.len()).collect();
        let layout = Layout::ordered(&row, order);
        let channels = order.last().map_or(1, |&a| row[a]);
        let made = match (order == plain, place.layout.is_plain()) {
            (_, true) => self.copied(&place, layout, channels),
            (true, false) => self.copied(&place, layout, channels),
            (false, false) => {
                let plain = self.copied(&place, Layout::plain(&row), row.last().copied().unwrap_or(1));
                self.copied(&plain, layout, channels)
            }
        };
        // Later readers find the copy in the order they most likely want.
        self.places[i.0] = Some(made.clone());
        Ok(made.cell)
    }

    /// A copy between the plain order and another; one of the two is plain.
    fn copied(&mut self, from: &Place, layout: Layout, channels: usize) -> Place {
        let (there, back) = match from.layout.is_plain() {
            true => (layout.write(), layout.read()),
            false => (from.layout.read(), from.layout.write()),
        };
        let len = self.steps.cells[from.cell.0].len();
        let out = self.cell(len / channels.max(1), channels);
        self.push(Kind::Permute { there, back }, vec![from.cell], out, None, false);
        Place { cell: out, layout }
    }

    pub(super) fn set_place(&mut self, i: usize, place: Place) {
        self.places[i] = Some(place);
    }

    pub(super) fn cell(&mut self, pixels: usize, channels: usize) -> CellId {
        self.steps.cells.push(Cell { pixels, channels });
        CellId(self.steps.cells.len() - 1)
    }

    pub(super) fn push(&mut self, kind: Kind, inputs: Vec<CellId>, out: CellId, add: Option<CellId>, relu: bool) {
        self.steps.list.push(Step { kind, inputs, out, add, relu, next: None });
    }

    fn input(&mut self, i: usize) {
        let row = self.row(i).to_vec();
        let channels = row.last().copied().unwrap_or(1);
        let cell = self.cell(row.iter().product::<usize>() / channels.max(1), channels);
        self.steps.input = cell;
        self.places[i] = Some(Place { cell, layout: Layout::plain(&row) });
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
            self.push(Kind::Conv(Box::new(conv)), vec![x], out, None, false);
            self.places[chain.last()] = Some(Place { cell: out, layout });
            return Ok(());
        }
        let fits = conv.masks(false);
        let out = self.cell(size[0] * size[1], output[0]);
        let layout = Layout::ordered(&output, &[1, 2, 0]);
        self.finish(chain, Kind::Conv(Box::new(conv)), x, Place { cell: out, layout }, fits)?;
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
            place = Place { cell: self.ordered(input, &plain)?, layout: Layout::plain(&row) };
        }
        let layout = match row.len() {
            1 => Layout::plain(&[o]),
            _ => place.layout.with_last(&row, o).ok_or_else(|| Error::internal("a layout cannot be widened"))?,
        };
        let maps = self.composed(&chain.affine, o)?;
        let bias = bias.map(|b| floats(self.net, b)).transpose()?;
        let (scale, shift) = with_bias(maps, bias, o);
        let mut values = floats(self.net, weight)?;
        values.chunks_mut(i).zip(&scale).for_each(|(w, s)| w.iter_mut().for_each(|w| *w *= s));
        let column = |k: usize| order.as_ref().map_or(k, |o| o[k]);
        let wanted = if self.choice.weights == Weights::None { 0 } else { o };
        let forward = Packed::new(self.isa, i, wanted, |k, n| values[n * i + column(k)] as f32);
        let backward = (self.choice.weights == Weights::For(Precision::Fast))
            .then(|| Packed::new(self.isa, o, i, |k, n| values[k * i + column(n)] as f32));
        let dense = Dense { read: i, write: o, bias: shift.map(|s| padded(&s)), forward, backward };
        let rows = row.iter().product::<usize>() / i;
        let out = self.cell(rows, o);
        self.finish(chain, Kind::Dense(Box::new(dense)), place.cell, Place { cell: out, layout }, true)
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
        let kind = Kind::Pass(Plain {
            scale: maps.as_ref().map(|(s, _)| padded(s)),
            shift: maps.as_ref().map(|(_, s)| padded(s)),
        });
        let out = self.cell(pixels, channels);
        self.finish(chain, kind, cell, Place { cell: out, layout }, true)
    }

    /// Adds the step with what follows it; an added value is brought into its layout.
    fn finish(&mut self, chain: &Chain, kind: Kind, x: CellId, place: Place, masks: bool) -> Result<()> {
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
            self.push(Kind::Pass(Plain { scale: None, shift: None }), vec![place.cell], out, None, true);
            self.places[chain.last()] = Some(Place { cell: out, ..place });
        }
        Ok(())
    }

    /// The cell of a node in the layout of `place`, which has the same row.
    fn alike(&mut self, i: NodeId, place: &Place) -> Result<CellId> {
        let other = self.place(i)?;
        if other.layout.logical_eq(&place.layout) {
            return Ok(other.cell);
        }
        let row = self.row(i.0).to_vec();
        let plain = match other.layout.is_plain() {
            true => other,
            false => self.copied(&other, Layout::plain(&row), row.last().copied().unwrap_or(1)),
        };
        if place.layout.is_plain() {
            return Ok(plain.cell);
        }
        let channels = self.steps.cells[place.cell.0].channels;
        Ok(self.copied(&plain, place.layout.clone(), channels).cell)
    }

    fn single(&mut self, i: usize) -> Result<()> {
        let node = self.net.nodes()[i].clone();
        match &node.op {
            Op::Reshape { .. } => {
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
            _ => self.by_kind(i),
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
            _ => self.fallback(i),
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
    fn made(&mut self, i: usize, kind: Kind, inputs: Vec<CellId>, channels: usize, layout: Layout) -> Result<()> {
        let out = self.cell(self.row(i).iter().product::<usize>() / channels, channels);
        self.push(kind, inputs, out, None, false);
        self.places[i] = Some(Place { cell: out, layout });
        Ok(())
    }

    /// A step over the last axis.
    fn by_last(&mut self, i: usize, kind: Kind) -> Result<()> {
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
    fn pooled(&mut self, i: usize, x: CellId, [c, h, wi]: [usize; 3], w: Window, average: Option<bool>) -> Result<()> {
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

    fn fallback(&mut self, i: usize) -> Result<()> {
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
    crate::shape::windows(size, w.kernel[a], w.stride[a], (w.pads[a], w.pads[a + 2]), w.ceil)
}

/// The links of a pool over an image; averages count pads or do not.
fn pool_grid(w: Window, size: [usize; 2], average: Option<bool>) -> Result<Grid> {
    let axis = |a: usize| {
        let (size, count, stride) = (size[a], pool_windows(&w, size[a], a)?, w.stride[a].min(crate::network::MAX_ROW));
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
        _ => return None,
    })
}
