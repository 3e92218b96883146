//! Sums and maxima over windows, channel by channel: depthwise convolution, average and maximum pools, and their input
//! gradients, which are sums over windows too.

use super::finish::{Finish, Sink, store};
use super::isa::{Isa, Kernel};
use super::memory::{Buffer, from};
use super::product::parallel;
use super::simd::Simd;

/// One source of a target along an axis: its index, the kernel position between them, and a weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) source: usize,
    pub(crate) at: usize,
    pub(crate) weight: f32,
}

/// The sources of every target along one axis.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    starts: Vec<usize>,
    all: Vec<Link>,
    /// Sources and kernel positions there are.
    pub(super) sources: usize,
    pub(super) span: usize,
}

/// One axis of a window that slides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slide {
    pub(crate) size: usize,
    pub(crate) count: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) lead: usize,
}

impl Links {
    /// From inputs to outputs; `weight(output, inputs inside)`.
    pub(crate) fn forward(s: Slide, weight: impl Fn(usize, usize) -> f32) -> Self {
        // Kernel positions are found, not tried: a pool's kernel may be much larger than what it covers.
        let inside = |o: usize| {
            let start = o * s.stride;
            let low = s.lead.saturating_sub(start).div_ceil(s.dilation);
            let high = (s.size + s.lead).saturating_sub(start).div_ceil(s.dilation).min(s.kernel);
            (low..high.max(low)).map(move |k| (start + k * s.dilation - s.lead, k))
        };
        let of = |o: usize| {
            let weight = weight(o, inside(o).count());
            inside(o).map(|(source, at)| Link { source, at, weight }).collect::<Vec<_>>()
        };
        Self::collect((0..s.count).map(of), s.size, s.kernel)
    }

    /// The same links from outputs to inputs.
    pub(crate) fn reversed(&self) -> Self {
        let mut of = vec![vec![]; self.sources];
        for target in 0..self.targets() {
            self.of(target).iter().for_each(|l| of[l.source].push(Link { source: target, ..*l }));
        }
        Self::collect(of.into_iter(), self.targets(), self.span)
    }

    /// Whether every target has sources, which it shares with no other.
    fn apart(&self) -> bool {
        let ends = self.starts.windows(2).all(|s| s[0] < s[1]);
        ends && self.all.windows(2).all(|l| l[0].source < l[1].source)
    }

    /// Whether targets are pairs of neighbours, the last perhaps alone.
    fn pairs(&self) -> bool {
        self.span == 2 && self.apart() && self.all.iter().enumerate().all(|(i, l)| l.source == i && l.at == i % 2)
    }

    fn collect(of: impl Iterator<Item = Vec<Link>>, sources: usize, span: usize) -> Self {
        let (mut starts, mut all) = (vec![0], vec![]);
        for links in of {
            all.extend(links);
            starts.push(all.len());
        }
        Self { starts, all, sources, span }
    }

    pub(super) fn targets(&self) -> usize {
        self.starts.len() - 1
    }

    #[inline(always)]
    pub(super) fn of(&self, target: usize) -> &[Link] {
        &self.all[self.starts[target]..self.starts[target + 1]]
    }
}

/// Links of rows and of columns.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    pub(crate) rows: Links,
    pub(crate) columns: Links,
}

impl Grid {
    pub(crate) fn reversed(&self) -> Self {
        Self { rows: self.rows.reversed(), columns: self.columns.reversed() }
    }
    pub(super) fn targets(&self) -> usize {
        self.rows.targets() * self.columns.targets()
    }
    pub(super) fn sources(&self) -> usize {
        self.rows.sources * self.columns.sources
    }
    /// Kernel positions.
    pub(super) fn area(&self) -> usize {
        self.rows.span * self.columns.span
    }
}

impl Grid {
    /// Whether every target has sources, which it shares with no other.
    pub(crate) fn apart(&self) -> bool {
        self.rows.apart() && self.columns.apart()
    }

    /// Whether targets are squares of four neighbours, those at the far edges perhaps fewer.
    pub(crate) fn squares(&self) -> bool {
        self.rows.pairs() && self.columns.pairs()
    }
}

/// How a source counts.
#[derive(Clone, Copy)]
pub(crate) enum Weigh<'a> {
    /// By its links' weights.
    Links,
    /// By a weight for each kernel position and channel, `[kernel, channels]` padded.
    Kernel(&'a [f32], usize),
    /// Where the bits of its kernel position are set: back through a maximum.
    Winners(&'a [u8]),
}

/// `[kernel, channels]` weights of a depthwise convolution, padded.
pub(crate) fn pad_channels(channels: usize, rows: usize, weight: impl Fn(usize, usize) -> f32) -> (Buffer, usize) {
    let stride = super::finish::padded_channels(channels);
    let mut buffer = Buffer::default();
    buffer.reserve(stride * rows.max(1));
    for (row, values) in buffer.floats_mut().chunks_mut(stride).take(rows).enumerate() {
        values.iter_mut().take(channels).enumerate().for_each(|(c, v)| *v = weight(row, c));
    }
    (buffer, stride)
}

struct Sums<'a> {
    grid: &'a Grid,
    x: &'a [f32],
    weigh: Weigh<'a>,
    /// Row of targets, counted over all images.
    row: usize,
    finish: &'a Finish<'a>,
    sink: &'a Sink<'a>,
}

impl Kernel for Sums<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (channels, grid) = (self.sink.channels, self.grid);
        let (image, y) = (self.row / grid.rows.targets(), self.row % grid.rows.targets());
        let source = image * grid.sources();
        let stride = super::finish::mask_stride(channels);
        for x in 0..grid.columns.targets() {
            let pixel = self.row * grid.columns.targets() + x;
            for channel in (0..channels).step_by(S::LANES) {
                let width = (channels - channel).min(S::LANES);
                // SAFETY: links name sources of the image, whose length `sums` checked, as it did the weights and the
                // sink; tasks have rows of their own.
                unsafe {
                    let mut sum = S::splat(0.);
                    for row in grid.rows.of(y) {
                        // Row by row: long windows lose less to rounding.
                        let mut part = S::splat(0.);
                        for column in grid.columns.of(x) {
                            let p = source + row.source * grid.columns.sources + column.source;
                            let v = S::load_up_to(from(self.x, p * channels + channel, width), width);
                            let k = row.at * grid.columns.span + column.at;
                            part = match self.weigh {
                                Weigh::Links => S::fma(v, S::splat(row.weight * column.weight), part),
                                Weigh::Kernel(w, stride) => {
                                    S::fma(v, S::load(from(w, k * stride + channel, S::LANES)), part)
                                }
                                Weigh::Winners(bits) => {
                                    let at = (p * grid.area() + k) * stride + channel / 8;
                                    S::add(part, S::keep(super::finish::bits::<S>(bits, at), v))
                                }
                            };
                        }
                        sum = S::add(sum, part);
                    }
                    store::<S>(self.finish, self.sink, sum, pixel, channel, width);
                }
            }
        }
    }
}

/// For `n` images, every target's sum over its sources.
#[expect(clippy::too_many_arguments, reason = "what a window needs")]
pub(crate) fn sums(
    isa: Isa,
    n: usize,
    channels: usize,
    grid: &Grid,
    weigh: Weigh<'_>,
    x: &[f32],
    finish: &Finish<'_>,
    (out, mask): (&mut [f32], Option<&mut [u8]>),
) {
    let sink = Sink::new(finish, n * grid.targets(), channels, out, mask, None);
    assert!(x.len() >= n * grid.sources() * channels, "a value is too short");
    match weigh {
        Weigh::Links => {}
        Weigh::Kernel(w, stride) => {
            assert!(
                w.len() >= grid.area() * stride && stride >= super::finish::padded_channels(channels),
                "too few weights"
            );
        }
        Weigh::Winners(bits) => {
            let stride = super::finish::mask_stride(channels);
            assert!(bits.len() >= n * grid.sources() * grid.area() * stride, "too few bits");
        }
    }
    parallel(n * grid.rows.targets(), |row| {
        // SAFETY: all lengths are asserted; a task writes its own row of pixels.
        unsafe { isa.run(Sums { grid, x, weigh, row, finish, sink: &sink }) }
    });
}
