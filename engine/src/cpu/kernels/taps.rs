//! Convolution as a matrix product: each output pixel's window is gathered into a row, a block of rows at a time.
//!
//! The same code computes the input gradient: of a stride of s it is s x s convolutions of stride 1 over the output's
//! gradient, each of which fills every s-th row and column of the input's.

use super::finish::{Finish, Second, Sink};
use super::isa::Isa;
use super::memory::{Shared, scratch};
use super::product::{Block, Packed, Place, Raw, parallel};
use rayon::prelude::*;

/// Floats of gathered rows a thread works on at a time.
const GATHERED: usize = 96 << 10;
/// Floats that are copied at once, of runs that are no longer.
const SHORT: usize = 16;
/// Columns below which groups are computed together.
const NARROW: usize = 16;

/// Height and width, as signed numbers where windows may start outside.
pub(crate) type Offset = [isize; 2];

/// One kernel position: where it reads and which weight it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tap {
    pub(crate) read: Offset,
    pub(crate) kernel: [usize; 2],
}

/// Taps that read neighbouring columns.
#[derive(Debug)]
struct Run {
    read: Offset,
    count: usize,
}

/// Sizes of one call: channels-last images in and out, and the grid of pixels that are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) input: [usize; 2],
    pub(crate) grid: [usize; 2],
    pub(crate) output: [usize; 2],
}

/// `out[y * step + start] = sum over taps of w[tap] in[y * stride + tap]`.
#[derive(Debug)]
pub(crate) struct Taps {
    runs: Vec<Run>,
    taps: usize,
    /// Channels a group reads, groups, and one matrix for each.
    channels: usize,
    groups: usize,
    weights: Vec<Packed>,
    pub(crate) stride: [usize; 2],
    pub(crate) step: [usize; 2],
    pub(crate) start: [usize; 2],
}

impl Taps {
    /// `channels` are what a group reads and writes; `weight(output, input, kernel)` gets the channels of all groups.
    pub(crate) fn new(
        isa: Isa,
        mut taps: Vec<Tap>,
        channels: [usize; 2],
        groups: usize,
        weight: &(dyn Fn(usize, usize, [usize; 2]) -> f32 + Sync),
    ) -> Self {
        taps.sort_by_key(|t| t.read);
        // Groups of few channels would leave most lanes idle: several side by side, zeros between them.
        let merged = (1..=groups)
            .find(|m| groups.is_multiple_of(*m) && (channels[1] * m >= NARROW || *m == groups))
            .unwrap_or(1);
        let [read, write] = channels.map(|c| c * merged);
        let matrix = |g: usize| {
            Packed::new(isa, taps.len() * read, write, |k, n| {
                let (tap, i) = (k / read, k % read);
                let same = i / channels[0] == n / channels[1];
                if same { weight(g * write + n, g * read + i, taps[tap].kernel) } else { 0. }
            })
        };
        let mut runs: Vec<Run> = vec![];
        for tap in &taps {
            match runs.last_mut() {
                Some(run) if run.read[0] == tap.read[0] && run.read[1] + run.count as isize == tap.read[1] => {
                    run.count += 1;
                }
                _ => runs.push(Run { read: tap.read, count: 1 }),
            }
        }
        let weights = (0..groups / merged).map(matrix).collect();
        let one = [1, 1];
        Self {
            runs,
            taps: taps.len(),
            channels: read,
            groups: groups / merged,
            weights,
            stride: one,
            step: one,
            start: [0, 0],
        }
    }

    /// Whether the image itself is the matrix.
    fn pointwise(&self, s: &Sizes) -> bool {
        let plain = self.groups == 1 && self.stride == [1, 1] && self.step == [1, 1] && self.start == [0, 0];
        let one = self.runs.len() == 1 && self.runs[0].count == 1 && self.runs[0].read == [0, 0];
        plain && one && s.input == s.grid && s.grid == s.output
    }

    /// `n` images `x` to `out`; `finish` speaks of `out`.
    #[expect(clippy::too_many_arguments, reason = "what a convolution is")]
    pub(crate) fn run(
        &self,
        isa: Isa,
        n: usize,
        sizes: &Sizes,
        x: &[f32],
        finish: &Finish<'_>,
        (out, mask): (&mut [f32], Option<&mut [u8]>),
        next: Option<Second<'_>>,
    ) {
        let write: usize = self.weights.iter().map(|w| w.n).sum();
        let sink = Sink::new(finish, n * sizes.output[0] * sizes.output[1], write, out, mask, next);
        let total = n * sizes.grid[0] * sizes.grid[1];
        assert!(x.len() >= n * sizes.input[0] * sizes.input[1] * self.channels * self.groups, "an image is too short");
        let fits = |grid: usize, step: usize, start: usize, size: usize| (grid - 1) * step + start < size;
        assert!(total == 0 || (0..2).all(|i| fits(sizes.grid[i], self.step[i], self.start[i], sizes.output[i])));
        assert!(n * sizes.output[0] * sizes.output[1] <= u32::MAX as usize, "a batch has too many pixels");
        let (depth, tall) = (self.taps * self.channels, isa.tile().0);
        let direct = self.pointwise(sizes);
        let stride = if direct { self.channels } else { depth.next_multiple_of(16) + 16 };
        let most = (GATHERED / stride).clamp(tall, 240) / tall * tall;
        let rows = total.div_ceil(rayon::current_num_threads()).next_multiple_of(tall).min(most);
        parallel(total.div_ceil(rows.max(1)), |task| {
            let first = task * rows;
            let count = (total - first).min(rows);
            if direct {
                let a = &x[first * stride..];
                self.block(isa, a, stride, count, 0, Place::From(first), finish, &sink);
                return;
            }
            scratch(count * stride + count, |scratch| {
                let (a, places) = scratch.split_at_mut(count * stride);
                // Pixel numbers live in the same scratch memory, as bits.
                let places = bytes_as_u32(places);
                for g in 0..self.groups {
                    self.gather(sizes, x, first, g, stride, a, places);
                    self.block(isa, a, stride, count, g, Place::Table(places), finish, &sink);
                }
            });
        });
    }

    #[expect(clippy::too_many_arguments, reason = "one block of a convolution")]
    fn block(
        &self,
        isa: Isa,
        a: &[f32],
        lda: usize,
        rows: usize,
        group: usize,
        place: Place<'_>,
        finish: &Finish<'_>,
        sink: &Sink<'_>,
    ) {
        let weights = &self.weights[group];
        let panels = 0..weights.panels();
        let channel = group * weights.n;
        assert!(a.len() >= (rows - 1) * lda + weights.k);
        let block = Block { a, lda, rows, weights, panels, place, channel, finish, sink };
        // SAFETY: `a` holds the rows (asserted); `Sink::new` and the grid's check bound the pixels, and each task has
        // pixels of its own.
        unsafe { isa.run(&block) }
    }

    /// Fills the rows of a block with the windows of its pixels, and the pixels' places in the output.
    #[expect(clippy::too_many_arguments, reason = "one block of a convolution")]
    fn gather(&self, s: &Sizes, x: &[f32], first: usize, g: usize, stride: usize, a: &mut [f32], places: &mut [u32]) {
        let (c, all) = (self.channels, self.channels * self.groups);
        let ([h, w], [gh, gw]) = (s.input, s.grid);
        for (i, (row, place)) in a.chunks_mut(stride).zip(places).enumerate() {
            let p = first + i;
            let (image, y, xx) = (p / (gh * gw), p / gw % gh, p % gw);
            let (oy, ox) = (y * self.step[0] + self.start[0], xx * self.step[1] + self.start[1]);
            *place = ((image * s.output[0] + oy) * s.output[1] + ox) as u32;
            let mut to = 0;
            for run in &self.runs {
                let len = run.count * c;
                let iy = (y * self.stride[0]) as isize + run.read[0];
                let ix = (xx * self.stride[1]) as isize + run.read[1];
                // Taps of this run left of the image, and those before its right edge.
                let skip = (-ix).clamp(0, run.count as isize) as usize;
                let end = (w as isize - ix).clamp(skip as isize, run.count as isize) as usize;
                if iy < 0 || iy >= h as isize || skip == end {
                    row[to..to + len].fill(0.);
                    to += len;
                    continue;
                }
                let from = (image * h + iy as usize) * w + (ix + skip as isize) as usize;
                // A copy of fixed length is one instruction; what it writes too much the next run or no one reads.
                let short = len <= SHORT && end - skip == run.count && self.groups == 1;
                match (short.then(|| x.get(from * c..from * c + SHORT)).flatten(), row.get_mut(to..to + SHORT)) {
                    (Some(x), Some(row)) => row.copy_from_slice(x),
                    _ => {
                        let row = &mut row[to..to + len];
                        row[..skip * c].fill(0.);
                        row[end * c..].fill(0.);
                        if self.groups == 1 {
                            row[skip * c..end * c].copy_from_slice(&x[from * c..][..(end - skip) * c]);
                        } else {
                            for t in 0..end - skip {
                                row[(skip + t) * c..][..c].copy_from_slice(&x[(from + t) * all + g * c..][..c]);
                            }
                        }
                    }
                }
                to += len;
            }
        }
    }
}

fn bytes_as_u32(floats: &mut [f32]) -> &mut [u32] {
    // SAFETY: f32 and u32 have one size and alignment, and any bits are a value of both.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len()) }
}

/// The input gradient of a convolution that reads few channels: one product makes what every output pixel sends to every
/// entry of its window, which is then added up, output pixels in order.
#[derive(Debug)]
pub(crate) struct Spread {
    weights: Packed,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) lead: [usize; 2],
    channels: usize,
}

impl Spread {
    /// `channels` are what the convolution reads and writes.
    pub(crate) fn new(
        isa: Isa,
        kernel: [usize; 2],
        channels: [usize; 2],
        weight: &(dyn Fn(usize, usize, [usize; 2]) -> f32 + Sync),
    ) -> Self {
        let c = channels[0];
        let weights = Packed::new(isa, channels[1], kernel[0] * kernel[1] * c, |o, n| {
            weight(o, n % c, [n / c / kernel[1], n / c % kernel[1]])
        });
        Self { weights, kernel, stride: [1, 1], dilation: [1, 1], lead: [0, 0], channels: c }
    }

    /// `grad` is `[n, output, channels written]`, `dx` `[n, input, channels read]`.
    pub(crate) fn run(&self, isa: Isa, n: usize, input: [usize; 2], output: [usize; 2], grad: &[f32], dx: &mut [f32]) {
        let ([h, w], [oh, ow], c) = (input, output, self.channels);
        assert!(grad.len() >= n * oh * ow * self.weights.k && dx.len() >= n * h * w * c, "a gradient is too short");
        // As many rows at a time as fit, several to spread the cost of rows needed twice.
        let band = (GATHERED / (ow * self.weights.width()) * self.stride[0]).clamp(4, h.max(4));
        let bands = h.div_ceil(band);
        dx[..n * h * w * c].par_chunks_mut(h * w * c).enumerate().for_each(|(image, dx)| {
            let grad = &grad[image * oh * ow * self.weights.k..][..oh * ow * self.weights.k];
            let rows = dx.par_chunks_mut(band * w * c).enumerate();
            debug_assert_eq!(rows.len(), bands);
            rows.for_each(|(i, dx)| self.band(isa, [i * band, (i * band + band).min(h)], w, [oh, ow], grad, dx));
        });
    }

    /// Rows `from..to` of one image's gradient.
    fn band(&self, isa: Isa, [from, to]: [usize; 2], w: usize, [oh, ow]: [usize; 2], grad: &[f32], dx: &mut [f32]) {
        let (c, width, k) = (self.channels, self.weights.width(), self.weights.k);
        dx.fill(0.);
        let reach = (self.kernel[0] - 1) * self.dilation[0];
        for oy in (from + self.lead[0]).saturating_sub(reach) / self.stride[0]..oh {
            if oy * self.stride[0] >= to + self.lead[0] {
                break;
            }
            scratch(ow * width, |cols| {
                let raw = Raw {
                    a: &grad[oy * ow * k..][..ow * k],
                    lda: k,
                    rows: ow,
                    weights: self.weights.view(),
                    out: Shared::new(cols),
                    at: 0,
                    ldc: width,
                };
                // SAFETY: `a` has `ow` rows of `k`, `cols` as many of `width`, which is whole panels.
                unsafe { isa.run(&raw) };
                for i in 0..self.kernel[0] {
                    let Some(y) = (oy * self.stride[0] + i * self.dilation[0]).checked_sub(self.lead[0]) else {
                        continue;
                    };
                    if (from..to).contains(&y) {
                        self.add_row(&cols[i * self.kernel[1] * c..], width, w, &mut dx[(y - from) * w * c..][..w * c]);
                    }
                }
            });
        }
    }

    /// Adds what one row of output pixels sends to one row of the input through one row of the kernel.
    fn add_row(&self, cols: &[f32], width: usize, w: usize, dx: &mut [f32]) {
        let c = self.channels;
        for (ox, sent) in cols.chunks(width).enumerate() {
            if self.dilation[1] == 1 {
                let (at, lead) = (ox * self.stride[1], self.lead[1]);
                let skip = lead.saturating_sub(at).min(self.kernel[1]);
                let first = (at + skip).saturating_sub(lead);
                let end = (w.saturating_sub(first) + skip).min(self.kernel[1]);
                if skip < end {
                    let to = &mut dx[first * c..][..(end - skip) * c];
                    to.iter_mut().zip(&sent[skip * c..end * c]).for_each(|(d, s)| *d += s);
                }
                continue;
            }
            for j in 0..self.kernel[1] {
                let at = (ox * self.stride[1] + j * self.dilation[1]).checked_sub(self.lead[1]).filter(|x| *x < w);
                let Some(x) = at else { continue };
                dx[x * c..][..c].iter_mut().zip(&sent[j * c..][..c]).for_each(|(d, s)| *d += s);
            }
        }
    }
}
