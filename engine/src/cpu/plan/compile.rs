//! From a network to steps: chains of nodes become one step, layouts are chosen, ops without a kernel are left to the
//! reference.

use super::Precision;
use super::conv::{Choice, Conv, Shape as ConvShape, floats, padded};
use super::layout::Layout;
use super::step::{Cell, CellId, Dense, Kind, Place, Plain, Step, Steps};
use crate::cpu::kernels::{Grid, Isa, Links, MAX_AREA, Packed, Slide};
use crate::network::{Activation, Binary, Network, NodeId, Op, Reduction, Window};
use crate::reference::Single;
use robust_core::{Error, Result};
use std::sync::Arc;

/// `x * scale + shift` along one axis of a row; one value for all when the axis is `None`.
struct Affine {
    input: NodeId,
    axis: Option<usize>,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

/// Nodes that run as one step: a head, affine maps after it, another value added, a ReLU.
struct Chain {
    head: usize,
    affine: Vec<usize>,
    add: Option<usize>,
    relu: bool,
    last: usize,
}

/// Which weights are brought into their kernels' form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    For(Precision),
    /// None: only to see which steps there would be.
    None,
}

struct Compiler<'a> {
    net: &'a Arc<Network>,
    reference: &'a Single,
    isa: Isa,
    exposed: Vec<bool>,
    readers: Vec<Vec<usize>>,
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
                chain.affine.iter().chain([&chain.head, &chain.last]).for_each(|&k| taken[k] = true);
                if let Some(add) = self.add_node(&chain) {
                    taken[add] = true;
                }
                let last = chain.last;
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
        self.steps.places = self.places;
        Ok(self.steps)
    }

    fn row(&self, i: usize) -> &[usize] {
        &self.net.shapes()[i].row
    }

    /// The only node that reads `i`, where nothing else needs its value.
    fn sole_reader(&self, i: usize) -> Option<usize> {
        match self.readers[i][..] {
            [one] if !self.exposed[i] => Some(one),
            _ => None,
        }
    }

    /// The per-channel map of a node, if it is one.
    fn affine(&self, i: usize) -> Result<Option<Affine>> {
        let (node, row) = (&self.net.nodes()[i], self.row(i));
        if let &Op::BatchNorm { mean, var, gamma, beta, eps } = &node.op {
            let or = |p: Option<_>, v: f64| p.map_or_else(|| Ok(vec![v; row[0]]), |p| floats(self.net, p));
            let (mean, var) = (floats(self.net, mean)?, floats(self.net, var)?);
            let (gamma, beta) = (or(gamma, 1.)?, or(beta, 0.)?);
            let scale: Vec<f64> = gamma.iter().zip(&var).map(|(g, v)| g / (v + eps).sqrt()).collect();
            let shift = scale.iter().zip(&mean).zip(&beta).map(|((s, m), b)| b - s * m).collect();
            return Ok(Some(Affine { input: node.inputs[0], axis: Some(0), scale, shift }));
        }
        let Op::Binary(kind) = node.op else { return Ok(None) };
        let batched = |j: usize| self.net.shapes()[node.inputs[j].0].batched;
        let (x, c) = match (batched(0), batched(1)) {
            (true, false) => (node.inputs[0], node.inputs[1]),
            (false, true) if matches!(kind, Binary::Add | Binary::Mul) => (node.inputs[1], node.inputs[0]),
            _ => return Ok(None),
        };
        let Some((dims, values)) = self.reference.constant(c) else { return Ok(None) };
        if self.row(x.0) != row || dims.len() > row.len() + 1 {
            return Ok(None);
        }
        // Aligned at the end; only one axis may vary.
        let lead = row.len() + 1 - dims.len();
        let vary: Vec<usize> = (0..dims.len()).filter(|&a| dims[a] > 1).map(|a| a + lead).collect();
        let axis = match vary[..] {
            [] => None,
            [a] if a > 0 => Some(a - 1),
            _ => return Ok(None),
        };
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let n = values.len();
        let (scale, shift) = match kind {
            Binary::Add => (vec![1.; n], values),
            Binary::Sub => (vec![1.; n], values.iter().map(|v| -v).collect()),
            Binary::Mul => (values, vec![0.; n]),
            Binary::Div if values.iter().all(|v| *v != 0.) => (values.iter().map(|v| 1. / v).collect(), vec![0.; n]),
            _ => return Ok(None),
        };
        Ok(Some(Affine { input: x, axis, scale, shift }))
    }

    /// Whether a node adds two values of one shape.
    fn adds(&self, i: usize) -> bool {
        let node = &self.net.nodes()[i];
        let same = |j: &NodeId| self.net.shapes()[j.0] == self.net.shapes()[i];
        node.op == Op::Binary(Binary::Add) && node.inputs.iter().all(same) && node.inputs[0] != node.inputs[1]
    }

    fn add_node(&self, chain: &Chain) -> Option<usize> {
        chain.add.and_then(|_| {
            let end = chain.affine.last().copied().unwrap_or(chain.head);
            if self.adds(chain.head) { Some(chain.head) } else { self.readers[end].first().copied() }
        })
    }

    fn chain(&self, head: usize, taken: &[bool]) -> Result<Option<Chain>> {
        let node = &self.net.nodes()[head];
        let own = self.affine(head)?;
        let (mut cur, mut add) = (head, None);
        // Along which axis the head can scale.
        let mut axis = match &node.op {
            Op::Conv2d { .. } => Some(0),
            Op::Linear { .. } => Some(self.row(head).len() - 1),
            Op::Act(Activation::Relu) => {
                return Ok(Some(Chain { head, affine: vec![], add: None, relu: true, last: head }));
            }
            _ if own.is_some() => own.and_then(|a| a.axis),
            _ if self.adds(head) => {
                add = Some(node.inputs[1].0);
                None
            }
            _ => return Ok(None),
        };
        let mut affine = vec![];
        while add.is_none()
            && let Some(next) = self.sole_reader(cur).filter(|n| !taken[*n])
            && let Some(map) = self.affine(next)?.filter(|m| m.axis.is_none() || axis.is_none() || m.axis == axis)
        {
            axis = axis.or(map.axis);
            affine.push(next);
            cur = next;
        }
        if add.is_none()
            && let Some(next) = self.sole_reader(cur).filter(|n| !taken[*n] && self.adds(*n))
        {
            add = self.net.nodes()[next].inputs.iter().map(|j| j.0).find(|j| *j != cur);
            cur = next;
        }
        let relu = |n: &usize| !taken[*n] && self.net.nodes()[*n].op == Op::Act(Activation::Relu);
        let after = self.sole_reader(cur).filter(relu);
        Ok(Some(Chain { head, affine, add, relu: after.is_some(), last: after.unwrap_or(cur) }))
    }

    fn place(&self, i: NodeId) -> Result<Place> {
        self.places[i.0].clone().ok_or_else(|| Error::internal(format!("node {} has no value yet", i.0)))
    }

    /// The value of a node in memory with its axes in `order`, copied if it is not.
    fn ordered(&mut self, i: NodeId, order: &[usize]) -> Result<CellId> {
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

    fn cell(&mut self, pixels: usize, channels: usize) -> CellId {
        self.steps.cells.push(Cell { pixels, channels });
        CellId(self.steps.cells.len() - 1)
    }

    fn push(&mut self, kind: Kind, inputs: Vec<CellId>, out: CellId, add: Option<CellId>, relu: bool) {
        self.steps.list.push(Step { kind, inputs, out, add, relu, next: None });
    }

    fn input(&mut self, i: usize) {
        let row = self.row(i).to_vec();
        let channels = row.last().copied().unwrap_or(1);
        let cell = self.cell(row.iter().product::<usize>() / channels.max(1), channels);
        self.steps.input = cell;
        self.places[i] = Some(Place { cell, layout: Layout::plain(&row) });
    }

    /// Scale and shift of a chain's affine maps for `n` channels; `None` when there are none.
    fn composed(&self, nodes: &[usize], n: usize) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
        let (mut scale, mut shift) = (vec![1.; n], vec![0.; n]);
        for &i in nodes {
            let Some(map) = self.affine(i)? else { return Err(Error::internal("a chain lost its map")) };
            let at = |v: &[f64], c: usize| v[if v.len() == 1 { 0 } else { c }];
            for c in 0..n {
                scale[c] *= at(&map.scale, c);
                shift[c] = shift[c] * at(&map.scale, c) + at(&map.shift, c);
            }
        }
        Ok((!nodes.is_empty()).then_some((scale, shift)))
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
        let conv = Conv::new(self.net, self.isa, &shape, scale, shift, &mut self.choice)?;
        let fits = conv.masks(false);
        let out = self.cell(output[1] * output[2], output[0]);
        let layout = Layout::ordered(&output, &[1, 2, 0]);
        self.finish(chain, Kind::Conv(Box::new(conv)), x, Place { cell: out, layout }, fits)
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
        self.places[chain.last] = Some(place.clone());
        if !fits {
            let Cell { pixels, channels } = self.steps.cells[place.cell.0];
            let out = self.cell(pixels, channels);
            self.push(Kind::Pass(Plain { scale: None, shift: None }), vec![place.cell], out, None, true);
            self.places[chain.last] = Some(Place { cell: out, ..place });
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
            _ => self.fallback(i),
        }
    }

    /// A maximum pool, or an average.
    fn pool(&mut self, i: usize, w: Window, average: Option<bool>) -> Result<()> {
        let input = self.net.nodes()[i].inputs[0];
        let &[c, h, wi] = self.row(input.0) else { return Err(Error::internal("not an image")) };
        let count = |size: usize, a: usize| {
            crate::shape::windows(size, w.kernel[a], w.stride[a], (w.pads[a], w.pads[a + 2]), w.ceil)
        };
        let counts = [count(h, 0)?, count(wi, 1)?];
        let axis = |a: usize, size: usize| {
            let stride = w.stride[a].min(crate::network::MAX_ROW);
            let slide = Slide { size, count: counts[a], kernel: w.kernel[a], stride, dilation: 1, lead: w.pads[a] };
            Links::forward(slide, |o, inside| {
                let padded = (o * stride + w.kernel[a]).min(size + w.pads[a] + w.pads[a + 2]) - o * stride;
                1. / if average == Some(true) { padded } else { inside.max(1) } as f32
            })
        };
        let grid = Grid { rows: axis(0, h), columns: axis(1, wi) };
        let x = self.ordered(input, &[1, 2, 0])?;
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

/// Scale and shift of a layer's affine maps with its own bias inside.
fn with_bias(maps: Option<(Vec<f64>, Vec<f64>)>, bias: Option<Vec<f64>>, n: usize) -> (Vec<f64>, Option<Vec<f64>>) {
    match (maps, bias) {
        (None, bias) => (vec![1.; n], bias),
        (Some((scale, shift)), None) => (scale, Some(shift)),
        (Some((scale, shift)), Some(bias)) => {
            let shift = scale.iter().zip(&bias).zip(&shift).map(|((s, b), t)| s * b + t).collect();
            (scale, Some(shift))
        }
    }
}
