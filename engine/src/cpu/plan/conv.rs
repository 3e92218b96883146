//! A convolution ready to run forwards and backwards: which kernel computes it, and its weights in that kernel's form.

use super::super::kernels::*;
use super::precision::{LINKS, Precision, Weights};
use crate::graph::{MAX_ROW, Network, ParamId};
use robust_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Bytes of Winograd weights a network may have in each direction; layers beyond it are computed directly.
const WINOGRAD_BYTES: usize = 3 << 30;
/// Channels on both sides that make Winograd worth its transforms.
const WINOGRAD_CHANNELS: usize = 12;
/// Channels up to which a convolution is a stem, which gathers no windows.
const STEM_CHANNELS: usize = 8;

/// A convolution over checked shapes, batch norm folded in.
#[derive(Debug)]
pub(super) struct Conv {
    weight: ParamId,
    scale: Vec<f64>,
    pub(super) bias: Option<Buffer>,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) read: usize,
    pub(super) write: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    lead: [usize; 2],
    groups: usize,
    winograd: bool,
    /// A maximum pool that is taken of the result before it is stored.
    pub(super) pool: Option<Pooling>,
    forward: Algorithm,
    backward: OnceLock<Algorithm>,
}

/// A maximum pool: links from its results to what they are the largest of, and back. With `relu`, one comes before it or
/// after it, which is the same.
#[derive(Debug)]
pub(super) struct Pooling {
    pub(super) grid: Grid,
    pub(super) back: Grid,
    pub(super) relu: bool,
}

#[derive(Debug)]
enum Algorithm {
    Winograd(Winograd, [isize; 2]),
    Taps(Vec<Taps>),
    Depthwise(Grid, Buffer, usize),
    Stem(Stem),
    Dots(Dots),
    Spread(Spread),
}

/// What a convolution is made of, besides its weights.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) weight: ParamId,
    pub(super) input: [usize; 3],
    pub(super) output: [usize; 3],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) pads: [usize; 4],
    pub(super) groups: usize,
}

/// Whether layers use Winograd, and what it has cost so far.
pub(super) struct Choice {
    pub(super) weights: Weights,
    pub(super) spent: usize,
}

/// Values per channel, padded as kernels read them.
pub(super) fn padded(values: &[f64]) -> Buffer {
    pad_channels(values.len(), 1, |_, c| values[c] as f32).0
}

pub(super) fn floats(net: &Network, p: ParamId) -> Result<Vec<f64>> {
    let flat = net.params()[p.0].value.flatten_all()?.to_dtype(candle_core::DType::F64)?;
    Ok(flat.to_vec1::<f64>()?)
}

impl Conv {
    /// `scale` and `shift` are what follows the convolution, per output channel.
    pub(super) fn new(
        net: &Network,
        isa: Isa,
        shape: &Shape,
        scale: Vec<f64>,
        shift: Option<Vec<f64>>,
        choice: &mut Choice,
    ) -> Result<Self> {
        let &[_, _, kh, kw] = net.params()[shape.weight.0].value.dims() else {
            return Err(Error::internal("a convolution needs four axes"));
        };
        let ([read, h, w], [write, oh, ow]) = (shape.input, shape.output);
        let mut conv = Self {
            weight: shape.weight,
            scale,
            bias: shift.map(|s| padded(&s)),
            input: [h, w],
            output: [oh, ow],
            read,
            write,
            kernel: [kh, kw],
            // Beyond the image neither is ever taken: bounding them keeps the arithmetic in range.
            stride: shape.stride.map(|s| s.min(MAX_ROW)),
            dilation: shape.dilation.map(|d| d.min(MAX_ROW)),
            lead: [shape.pads[0], shape.pads[1]],
            groups: shape.groups,
            winograd: false,
            pool: None,
            forward: Algorithm::Taps(vec![]),
            backward: OnceLock::new(),
        };
        let bytes = 36 * 4 * read * write;
        conv.winograd = choice.weights == Weights::For(Precision::Fast)
            && conv.suits_winograd()
            && choice.spent + bytes <= WINOGRAD_BYTES;
        choice.spent += if conv.winograd { bytes } else { 0 };
        if choice.weights != Weights::None {
            conv.forward = conv.make_forward(net, isa)?;
        }
        Ok(conv)
    }

    fn suits_winograd(&self) -> bool {
        let square = matches!(self.kernel, [3, 3] | [5, 5]);
        let plain = self.stride == [1, 1] && self.dilation == [1, 1] && self.groups == 1;
        square && plain && self.read.min(self.write) >= WINOGRAD_CHANNELS
    }

    fn is_depthwise(&self) -> bool {
        let few = self.input.iter().chain(&self.output).all(|d| *d <= LINKS);
        few && self.groups > 1 && self.groups == self.read && self.read == self.write
    }

    /// The weights `[o, i, kh, kw]` with the scale of what follows.
    fn folded(&self, net: &Network) -> Result<Vec<f32>> {
        let mut weights = floats(net, self.weight)?;
        let each = weights.len() / self.write;
        weights.chunks_mut(each).zip(&self.scale).for_each(|(w, s)| w.iter_mut().for_each(|w| *w *= s));
        Ok(weights.into_iter().map(|w| w as f32).collect())
    }

    fn slide(&self, axis: usize) -> Slide {
        Slide {
            size: self.input[axis],
            count: self.output[axis],
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            lead: self.lead[axis],
        }
    }

    fn grid(&self) -> Grid {
        let axis = |a| Links::forward(self.slide(a), |_, _| 1.);
        Grid { rows: axis(0), columns: axis(1) }
    }

    /// Kernel positions along `axis` whose reads can fall inside the input at all.
    fn useful(&self, axis: usize) -> impl Iterator<Item = usize> {
        let s = self.slide(axis);
        let reach = s.size + s.lead;
        (0..s.kernel).take_while(move |k| k.checked_mul(s.dilation).is_some_and(|at| at < reach))
    }

    fn windows(&self) -> Windows {
        Windows {
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            start: self.lead.map(|l| -(l as isize)),
        }
    }

    /// Whether it reads few channels through windows that lie in the image, or nearly.
    fn is_stem(&self) -> bool {
        let near = [0, 1].iter().all(|&a| self.useful(a).count() == self.kernel[a]);
        let area = self.kernel[0] * self.kernel[1];
        self.groups == 1 && self.read <= STEM_CHANNELS && area > 1 && area * self.read <= Stem::DEEPEST && near
    }

    fn make_forward(&self, net: &Network, isa: Isa) -> Result<Algorithm> {
        let w = self.folded(net)?;
        let (per_group, [kh, kw]) = (self.read / self.groups, self.kernel);
        // `i` counts the channels of all groups.
        let at = |o: usize, i: usize, [y, x]: [usize; 2]| w[((o * per_group + i % per_group) * kh + y) * kw + x];
        if self.winograd {
            let start = self.lead.map(|l| -(l as isize));
            return Ok(Algorithm::Winograd(Winograd::new(isa, kh, [self.read, self.write], &at), start));
        }
        if self.is_depthwise() {
            let (weights, stride) = pad_channels(self.read, kh * kw, |k, c| at(c, c, [k / kw, k % kw]));
            return Ok(Algorithm::Depthwise(self.grid(), weights, stride));
        }
        let windows = self.windows();
        if self.is_stem() && windows.fit(self.read) {
            return Ok(Algorithm::Stem(Stem::new(isa, windows, [self.read, self.write], &at)));
        }
        let offset = |axis: usize, k: usize| (k * self.dilation[axis]) as isize - self.lead[axis] as isize;
        let taps = self.useful(0).flat_map(|y| self.useful(1).map(move |x| [y, x]));
        let taps = taps.map(|kernel| Tap { read: [offset(0, kernel[0]), offset(1, kernel[1])], kernel }).collect();
        let channels = [per_group, self.write / self.groups];
        let mut taps = Taps::new(isa, taps, channels, self.groups, &at);
        taps.stride = self.stride;
        Ok(Algorithm::Taps(vec![taps]))
    }

    fn make_backward(&self, net: &Network, isa: Isa) -> Result<Algorithm> {
        let w = self.folded(net)?;
        let (per_group, write, [kh, kw]) = (self.read / self.groups, self.write / self.groups, self.kernel);
        let at = |o: usize, i: usize, [y, x]: [usize; 2]| w[((o * per_group + i % per_group) * kh + y) * kw + x];
        // The roles of input and output channels are exchanged; `i` counts all inputs, `o` all outputs.
        let turned = |i: usize, o: usize, k: [usize; 2]| at(o, i, k);
        if self.winograd {
            let flipped = |i: usize, o: usize, [y, x]: [usize; 2]| at(o, i, [kh - 1 - y, kw - 1 - x]);
            let start = [0, 1].map(|a| self.lead[a] as isize - (self.kernel[a] as isize - 1));
            return Ok(Algorithm::Winograd(Winograd::new(isa, kh, [self.write, self.read], &flipped), start));
        }
        if self.is_depthwise() {
            let (weights, stride) = pad_channels(self.read, kh * kw, |k, c| at(c, c, [k / kw, k % kw]));
            return Ok(Algorithm::Depthwise(self.grid().reversed(), weights, stride));
        }
        let back = Windows {
            input: self.output,
            output: self.input,
            start: [0, 1].map(|a| self.lead[a] as isize - ((self.kernel[a] - 1) * self.dilation[a]) as isize),
            ..self.windows()
        };
        if self.is_stem() && self.stride == [1, 1] && back.fit(Dots::width(self.write)) {
            let flipped = |o: usize, i: usize, [y, x]: [usize; 2]| at(o, i, [kh - 1 - y, kw - 1 - x]);
            return Ok(Algorithm::Dots(Dots::new(back, [self.read, self.write], &flipped)));
        }
        if self.is_stem() {
            let mut spread = Spread::new(isa, self.kernel, [self.read, self.write], &at);
            (spread.stride, spread.dilation, spread.lead) = (self.stride, self.dilation, self.lead);
            return Ok(Algorithm::Spread(spread));
        }
        let (rows, columns) = (self.phases(0), self.phases(1));
        let mut all = vec![];
        let full = |axis: usize, found: usize| found == self.stride[axis].min(self.input[axis]);
        let covered = full(0, rows.len()) && full(1, columns.len());
        if !covered {
            // Entries no window reads: without taps the sum is empty and the finish alone is stored.
            all.push(Taps::new(isa, vec![], [write, per_group], self.groups, &turned));
        }
        for (&y, rows) in &rows {
            for (&x, columns) in &columns {
                let pairs = rows.iter().flat_map(|a| columns.iter().map(move |b| (a, b)));
                let taps = pairs.map(|(a, b)| Tap { read: [a.1, b.1], kernel: [a.0, b.0] }).collect();
                let mut taps = Taps::new(isa, taps, [write, per_group], self.groups, &turned);
                (taps.step, taps.start) = (self.stride, [y, x]);
                all.push(taps);
            }
        }
        Ok(Algorithm::Taps(all))
    }

    /// Rows or columns of the input by their remainder: each remainder meets kernel positions of its own, each with the
    /// first row of the output it reads there.
    fn phases(&self, axis: usize) -> BTreeMap<usize, Vec<(usize, isize)>> {
        let (stride, lead, dilation) = (self.stride[axis], self.lead[axis], self.dilation[axis]);
        let mut by_start: BTreeMap<usize, Vec<(usize, isize)>> = BTreeMap::new();
        for k in self.useful(axis) {
            // Input y reads output (y + lead - k dilation) / stride.
            let shift = lead as isize - (k * dilation) as isize;
            let start = (-shift).rem_euclid(stride as isize) as usize;
            let read = (start as isize + shift) / stride as isize;
            // A remainder beyond the input is met by none of its rows.
            if start < self.input[axis] {
                by_start.entry(start).or_default().push((k, read));
            }
        }
        by_start
    }

    /// Whether a finish may have masks: bits of groups begin at whole bytes.
    pub(super) fn masks(&self, backward: bool) -> bool {
        let per_group = if backward { self.read } else { self.write } / self.groups;
        self.groups == 1 || self.is_depthwise() || per_group.is_multiple_of(16)
    }

    /// Whether results can be pooled before they are stored.
    pub(super) fn pools(&self, grid: &Grid) -> bool {
        match self.winograd {
            true => grid.squares(),
            false => !self.is_depthwise() && self.is_stem() && self.windows().fit(self.read) && grid.apart(),
        }
    }

    /// Whether the way back reads a gradient behind the pool; otherwise it must be spread out first.
    pub(super) fn unpools(&self, net: &Network, isa: Isa) -> Result<bool> {
        Ok(matches!(self.back(net, isa)?, Algorithm::Winograd(..) | Algorithm::Dots(_)))
    }

    /// Whether only a plain gradient can be computed: what `Finish` asks must be a pass of its own.
    pub(super) fn bare(&self, net: &Network, isa: Isa) -> Result<bool> {
        Ok(matches!(self.back(net, isa)?, Algorithm::Spread(_) | Algorithm::Dots(_)))
    }

    /// Whether the way back may need room beside its result: [`Conv::bare`] before there are weights for it.
    pub(super) fn may_be_bare(&self) -> bool {
        !self.winograd && !self.is_depthwise() && self.is_stem()
    }

    fn back(&self, net: &Network, isa: Isa) -> Result<&Algorithm> {
        if self.backward.get().is_none() {
            let made = self.make_backward(net, isa)?;
            let _ = self.backward.set(made);
        }
        self.backward.get().ok_or_else(|| Error::internal("a convolution lost its weights"))
    }

    pub(super) fn run(
        &self,
        isa: Isa,
        n: usize,
        x: &[f32],
        finish: &Finish<'_>,
        to: (&mut [f32], Option<&mut [u8]>),
        next: Option<Second<'_>>,
    ) {
        match &self.forward {
            Algorithm::Winograd(w, start) => {
                let frame = Frame { input: self.input, output: self.output, start: *start };
                w.run(isa, n, &frame, (x, None), finish, to, next);
            }
            Algorithm::Taps(taps) => {
                let sizes = Sizes { input: self.input, grid: self.output, output: self.output };
                if let Some(taps) = taps.first() {
                    taps.run(isa, n, &sizes, x, finish, to, next);
                }
            }
            Algorithm::Depthwise(grid, weights, stride) => {
                sums(isa, n, self.write, grid, Weigh::Kernel(weights.floats(), *stride), x, finish, to);
            }
            Algorithm::Stem(stem) => stem.run(isa, n, x, finish, to, next),
            Algorithm::Spread(_) | Algorithm::Dots(_) => {}
        }
    }

    /// As [`Conv::run`] with the results pooled; [`Conv::pools`] said that they can be.
    pub(super) fn run_pooled(&self, isa: Isa, n: usize, x: &[f32], pooled: Pooled<'_>, out: &mut [f32]) {
        let bias = self.bias.as_ref().map(Buffer::floats);
        match &self.forward {
            Algorithm::Winograd(w, start) => {
                let frame = Frame { input: self.input, output: self.output, start: *start };
                w.run_pooled(isa, n, &frame, x, bias, pooled, out);
            }
            Algorithm::Stem(stem) => {
                stem.run_pooled(isa, n, x, &Finish { bias, ..Finish::default() }, pooled, out);
            }
            _ => {}
        }
    }

    /// The input gradient; where [`Conv::bare`] says so, `finish` must be empty. With `won`, `grad` is behind the pool.
    pub(super) fn pull(
        &self,
        net: &Network,
        isa: Isa,
        n: usize,
        (grad, won): (&[f32], Option<Won<'_>>),
        finish: &Finish<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        match self.back(net, isa)? {
            Algorithm::Winograd(w, start) => {
                let frame = Frame { input: self.output, output: self.input, start: *start };
                w.run(isa, n, &frame, (grad, won), finish, (out, None), None);
            }
            Algorithm::Taps(all) => {
                for taps in all {
                    let grid = |a: usize| (self.input[a] - taps.start[a]).div_ceil(taps.step[a]);
                    let sizes = Sizes { input: self.output, grid: [grid(0), grid(1)], output: self.input };
                    taps.run(isa, n, &sizes, grad, finish, (&mut *out, None), None);
                }
            }
            Algorithm::Depthwise(grid, weights, stride) => {
                sums(isa, n, self.read, grid, Weigh::Kernel(weights.floats(), *stride), grad, finish, (out, None));
            }
            Algorithm::Stem(_) => {}
            Algorithm::Dots(dots) => dots.run(isa, n, grad, won, out),
            Algorithm::Spread(spread) => spread.run(isa, n, self.input, self.output, grad, out),
        }
        Ok(())
    }

    /// Whether a second output can be stored; a pooled result is stored by other kernels, which make one.
    pub(super) fn seconds(&self) -> bool {
        self.pool.is_none() && !self.is_depthwise() && self.masks(false)
    }
}
