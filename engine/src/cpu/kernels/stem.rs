//! Convolutions that read few channels, as the first of nearly every network. Forwards, windows overlap in a padded copy of
//! the image, so that none is gathered; the input gradient is a dot product over output channels for every entry, where a
//! matrix product would leave most lanes idle.

use super::finish::{Finish, Second, Sink, store};
use super::isa::{Isa, Kernel};
use super::maximum::{Maxima, Pool, Pooled, Unpooled, Won};
use super::memory::{Buffer, Shared, from, scratch};
use super::product::{Packed, by_rows, parallel};
use super::simd::Simd;
use std::ops::Range;

/// Floats of a padded copy a thread works on at a time.
const COPIED: usize = 96 << 10;
/// Floats of a copy and of results that are about to be pooled.
const POOLED: usize = 64 << 10;
/// Floats of a copy beyond which windows are gathered after all.
const LONGEST: usize = 1 << 22;
/// Lanes that channels are padded to.
const WIDE: usize = 16;

/// One side of a stem: what it reads, padded by what its windows need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Where the first window begins; negative in the padding.
    pub(crate) start: [isize; 2],
}

impl Windows {
    /// Rows or columns that `count` windows cover.
    fn span(&self, axis: usize, count: usize) -> usize {
        (count.max(1) - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// Whether the copy of one output row is small, with `width` floats a column.
    pub(crate) fn fit(&self, width: usize) -> bool {
        let sides = [self.span(0, 1), self.span(1, self.output[1]), width];
        sides.iter().try_fold(1usize, |all, s| all.checked_mul(*s)).is_some_and(|floats| floats <= LONGEST)
    }

    /// Output rows whose copy, of `width` floats a column, fits; fewer where images alone do not occupy all threads.
    fn band(&self, n: usize, width: usize) -> usize {
        let line = self.span(1, self.output[1]) * width;
        let extra = (self.kernel[0] - 1) * self.dilation[0];
        let fits = (COPIED / line.max(1)).saturating_sub(extra) / self.stride[0];
        let shares = (2 * rayon::current_num_threads()).div_ceil(n.max(1)).max(1);
        fits.min(self.output[0].div_ceil(shares)).max(1)
    }

    /// Copies what the windows of output rows `rows` see, `width` floats a column; `fill(y, columns, to)` gives part of an
    /// image's row.
    fn copy(&self, rows: &Range<usize>, width: usize, fill: impl Fn(usize, Range<usize>, &mut [f32]), to: &mut [f32]) {
        let ([h, w], columns) = (self.input, self.span(1, self.output[1]));
        let first = (rows.start * self.stride[0]) as isize + self.start[0];
        let skip = (-self.start[1]).clamp(0, columns as isize) as usize;
        let end = (w as isize - self.start[1]).clamp(skip as isize, columns as isize) as usize;
        for (i, line) in to.chunks_mut(columns * width).enumerate() {
            let y = first + i as isize;
            if y < 0 || y >= h as isize || skip == end {
                line.fill(0.);
                continue;
            }
            let x = (skip as isize + self.start[1]) as usize;
            line[..skip * width].fill(0.);
            line[end * width..].fill(0.);
            fill(y as usize, x..x + end - skip, &mut line[skip * width..end * width]);
        }
    }

    /// The bands of output rows that tasks work on.
    fn bands(&self, n: usize, width: usize) -> Vec<Range<usize>> {
        let (band, rows) = (self.band(n, width), self.output[0]);
        (0..rows).step_by(band).map(|first| first..(first + band).min(rows)).collect()
    }

    /// Calls `f` with an image, a band of its output rows (by index) and what their windows see, on all threads;
    /// `fill(image, y, columns, to)` gives part of an image's row.
    fn each(
        &self,
        n: usize,
        bands: &[Range<usize>],
        width: usize,
        fill: impl Fn(usize, usize, Range<usize>, &mut [f32]) + Sync + Send,
        f: impl Fn(usize, usize, &[f32]) + Sync + Send,
    ) {
        parallel(n * bands.len(), |task| {
            let (image, band) = (task / bands.len(), task % bands.len());
            let rows = &bands[band];
            let len = self.span(0, rows.len()) * self.span(1, self.output[1]) * width;
            scratch(len, |copy| {
                self.copy(rows, width, |y, columns, to| fill(image, y, columns, to), copy);
                f(image, band, copy);
            });
        });
    }
}

/// Forwards.
#[derive(Debug)]
pub(crate) struct Stem {
    windows: Windows,
    weights: Packed,
    channels: usize,
    /// Where each row of the weights reads, from a window's first entry.
    offsets: Vec<u32>,
}

impl Stem {
    /// Rows of weights a stem may have: what is summed without a break.
    pub(crate) const DEEPEST: usize = super::product::CHUNK;

    /// `channels` are what the convolution reads and writes; `weight(output, input, kernel)`.
    pub(crate) fn new(
        isa: Isa,
        windows: Windows,
        channels: [usize; 2],
        weight: &(dyn Fn(usize, usize, [usize; 2]) -> f32 + Sync),
    ) -> Self {
        let ([kh, kw], c) = (windows.kernel, channels[0]);
        let line = windows.span(1, windows.output[1]) * c;
        let taps = (0..kh).flat_map(|i| (0..kw).map(move |j| [i, j]));
        let at = |[i, j]: [usize; 2]| i * windows.dilation[0] * line + j * windows.dilation[1] * c;
        let offsets = taps.flat_map(|k| (0..c).map(move |ci| (at(k) + ci) as u32)).collect();
        let weights = Packed::new(isa, kh * kw * c, channels[1], |k, o| weight(o, k % c, [k / c / kw, k / c % kw]));
        Self { windows, weights, channels: c, offsets }
    }

    pub(crate) fn run(
        &self,
        isa: Isa,
        n: usize,
        x: &[f32],
        finish: &Finish<'_>,
        (out, mask): (&mut [f32], Option<&mut [u8]>),
        next: Option<Second<'_>>,
    ) {
        let w = &self.windows;
        let sink = Sink::new(finish, n * w.output[0] * w.output[1], self.weights.n, out, mask, next);
        let bands = w.bands(n, self.channels);
        self.each(n, x, &bands, |image, band, copy| {
            let first = (image * w.output[0] + bands[band].start) * w.output[1];
            self.rows(isa, bands[band].len(), copy, first, finish, &sink);
        });
    }

    /// As [`Stem::run`], but each band of results is pooled at once. The pool's targets must be apart.
    pub(crate) fn run_pooled(
        &self,
        isa: Isa,
        n: usize,
        x: &[f32],
        finish: &Finish<'_>,
        pooled: Pooled<'_>,
        out: &mut [f32],
    ) {
        let (w, written) = (&self.windows, self.weights.n);
        let pool = Pool::new(n, written, pooled, out);
        let grid = pool.grid;
        assert!(grid.apart() && grid.sources() == w.output[0] * w.output[1], "a pool does not fit");
        // Bands of targets, and the rows that they read.
        let line = w.span(1, w.output[1]) * self.channels + w.output[1] * written;
        let most = (POOLED / line.max(1)).min(w.band(n, self.channels));
        let (mut targets, mut bands): (Vec<Range<usize>>, Vec<Range<usize>>) = (vec![], vec![]);
        for y in 0..grid.rows.targets() {
            let of = grid.rows.of(y);
            let rows = of[0].source..of[of.len() - 1].source + 1;
            match (targets.last_mut(), bands.last_mut()) {
                (Some(targets), Some(band)) if rows.end - band.start <= most => {
                    (targets.end, band.end) = (y + 1, rows.end);
                }
                _ => {
                    targets.push(y..y + 1);
                    bands.push(rows);
                }
            }
        }
        self.each(n, x, &bands, |image, band, copy| {
            let (rows, size) = (bands[band].clone(), bands[band].len() * w.output[1]);
            scratch(size * written, |made| {
                let sink = Sink::new(finish, size, written, made, None, None);
                self.rows(isa, rows.len(), copy, 0, finish, &sink);
                for y in targets[band].clone() {
                    // SAFETY: the band holds the rows that its targets read, `Pool::new` checked the rest, and tasks
                    // have targets of their own.
                    unsafe { isa.run(Maxima { pool: &pool, image, y, x: made, first: rows.start }) }
                }
            });
        });
    }

    fn each(&self, n: usize, x: &[f32], bands: &[Range<usize>], f: impl Fn(usize, usize, &[f32]) + Sync + Send) {
        let ([h, width], c) = (self.windows.input, self.channels);
        assert!(x.len() >= n * h * width * c, "an image is too short");
        let fill = |image: usize, y: usize, columns: Range<usize>, to: &mut [f32]| {
            to.copy_from_slice(&x[((image * h + y) * width + columns.start) * c..][..columns.len() * c]);
        };
        self.windows.each(n, bands, c, fill, f);
    }

    /// `count` rows of output pixels from pixel `first` of the sink on, whose windows begin where `copy` does.
    fn rows(&self, isa: Isa, count: usize, copy: &[f32], first: usize, finish: &Finish<'_>, sink: &Sink<'_>) {
        let w = &self.windows;
        let line = w.span(1, w.output[1]) * self.channels;
        for i in 0..count {
            let a = &copy[i * w.stride[0] * line..];
            let (pixel, step) = (first + i * w.output[1], w.stride[1] * self.channels);
            let row = Row { stem: self, a, step, pixel, count: w.output[1], finish, sink };
            // SAFETY: the copy holds the windows of its rows, `Sink::new` checked the pixels, and tasks have rows of their
            // own.
            unsafe { isa.run(&row) }
        }
    }
}

/// One row of output pixels.
struct Row<'a> {
    stem: &'a Stem,
    a: &'a [f32],
    /// Floats from one window to the next.
    step: usize,
    pixel: usize,
    count: usize,
    finish: &'a Finish<'a>,
    sink: &'a Sink<'a>,
}

#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const N: usize>(row: &Row<'_>, first: usize, panel: usize) {
    let weights = &row.stem.weights;
    // SAFETY: `Row::run` walks pixels below `count`, whose windows lie in `a`, and panels of the weights.
    unsafe {
        let mut acc = [[S::splat(0.); N]; M];
        let mut b = from(weights.data.floats(), panel * weights.k * weights.panel, weights.k * weights.panel);
        for &offset in &row.stem.offsets {
            let a = from(row.a, first * row.step + offset as usize, (M - 1) * row.step + 1);
            let mut w = [S::splat(0.); N];
            for n in 0..N {
                w[n] = S::load(b.add(n * S::LANES));
            }
            for m in 0..M {
                let x = S::splat(*a.add(m * row.step));
                for n in 0..N {
                    acc[m][n] = S::fma(x, w[n], acc[m][n]);
                }
            }
            b = b.add(weights.panel);
        }
        for (m, sums) in acc.iter().enumerate() {
            for (n, &sum) in sums.iter().enumerate() {
                let channel = panel * weights.panel + n * S::LANES;
                if channel >= weights.n {
                    break;
                }
                let width = (weights.n - channel).min(S::LANES);
                store::<S>(row.finish, row.sink, sum, row.pixel + first + m, channel, width);
            }
        }
    }
}

impl Kernel for &Row<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let weights = &self.stem.weights;
        for panel in 0..weights.panels() {
            let narrow = S::VECTORS == 1 || weights.n - panel * weights.panel <= S::LANES;
            let mut m = 0;
            while m < self.count {
                let left = self.count - m;
                // SAFETY: pixels and panels are in range, see `tile`.
                m += unsafe {
                    if narrow {
                        by_rows!(left, 1, tile(self, m, panel))
                    } else {
                        by_rows!(left, 2, tile(self, m, panel))
                    }
                };
            }
        }
    }
}

/// The input gradient of a convolution of stride 1.
#[derive(Debug)]
pub(crate) struct Dots {
    windows: Windows,
    /// `[kernel, channels read, channels written]`, the last padded to [`WIDE`].
    weights: Buffer,
    read: usize,
    written: usize,
}

impl Dots {
    /// Floats a column of the copy takes.
    pub(crate) fn width(written: usize) -> usize {
        written.next_multiple_of(WIDE)
    }

    /// `windows` slide over the output's gradient; `weight(output, input, kernel)` gets their kernel positions.
    pub(crate) fn new(
        windows: Windows,
        [read, written]: [usize; 2],
        weight: &(dyn Fn(usize, usize, [usize; 2]) -> f32 + Sync),
    ) -> Self {
        let ([kh, kw], wide) = (windows.kernel, Self::width(written));
        let mut weights = Buffer::default();
        weights.reserve(kh * kw * read * wide);
        for (at, row) in weights.floats_mut().chunks_mut(wide).take(kh * kw * read).enumerate() {
            let (tap, i) = (at / read, at % read);
            row[..written].iter_mut().enumerate().for_each(|(o, w)| *w = weight(o, i, [tap / kw, tap % kw]));
        }
        Self { windows, weights, read, written }
    }

    /// `grad` is `[n, output, channels written]`, or what is left of it behind a pool; `dx` `[n, input, channels read]`.
    pub(crate) fn run(&self, isa: Isa, n: usize, grad: &[f32], won: Option<Won<'_>>, dx: &mut [f32]) {
        let (w, wide, c) = (&self.windows, Self::width(self.written), self.written);
        assert!(dx.len() >= n * w.output[0] * w.output[1] * self.read, "a gradient is too short");
        let [h, width] = w.input;
        match won {
            Some(won) => {
                won.check(n, c, grad);
                assert!(won.back.targets() == h * width, "a pool does not fit");
            }
            None => assert!(grad.len() >= n * h * width * c, "a gradient is too short"),
        }
        let fill = |image: usize, y: usize, columns: Range<usize>, to: &mut [f32]| match won {
            // SAFETY: `Won::check` counted values and bits; `to` is this task's own.
            Some(won) => unsafe { isa.run(Unpooled { won, grad, channels: c, image, y, columns, to, width: wide }) },
            None => {
                let from = &grad[((image * h + y) * width + columns.start) * c..][..columns.len() * c];
                if c == wide {
                    return to.copy_from_slice(from);
                }
                for (to, from) in to.chunks_mut(wide).zip(from.chunks(c)) {
                    to[..c].copy_from_slice(from);
                    to[c..].fill(0.);
                }
            }
        };
        let (bands, out) = (w.bands(n, wide), Shared::new(dx));
        w.each(n, &bands, wide, fill, |image, band, copy| {
            for (i, y) in bands[band].clone().enumerate() {
                let at = (image * w.output[0] + y) * w.output[1] * self.read;
                let line = Line { dots: self, first: i, copy, wide, out, at };
                // SAFETY: the copy holds the windows of its rows; `dx` holds all pixels (asserted), and tasks have rows of
                // their own.
                unsafe { isa.run(&line) }
            }
        });
    }
}

/// One row of the input's gradient.
struct Line<'a> {
    dots: &'a Dots,
    /// Row of the copy where its windows begin.
    first: usize,
    copy: &'a [f32],
    wide: usize,
    out: Shared<'a, f32>,
    at: usize,
}

/// `P` pixels from `x` on, `C` channels from `channel` on.
#[inline(always)]
unsafe fn dots<S: Simd, const P: usize, const C: usize>(line: &Line<'_>, x: usize, channel: usize) {
    let (d, wide) = (line.dots, line.wide);
    let (w, columns) = (&d.windows, d.windows.span(1, d.windows.output[1]));
    // SAFETY: `Line::run` walks pixels of the row, whose windows lie in the copy, and channels that are read.
    unsafe {
        let mut acc = [[S::splat(0.); C]; P];
        for i in 0..w.kernel[0] {
            for j in 0..w.kernel[1] {
                let at = ((line.first + i * w.dilation[0]) * columns + x + j * w.dilation[1]) * wide;
                let g = from(line.copy, at, P * wide);
                let tap = ((i * w.kernel[1] + j) * d.read + channel) * wide;
                let weights = from(d.weights.floats(), tap, C * wide);
                for o in (0..wide).step_by(S::LANES) {
                    for p in 0..P {
                        let v = S::load(g.add(p * wide + o));
                        for c in 0..C {
                            acc[p][c] = S::fma(v, S::load(weights.add(c * wide + o)), acc[p][c]);
                        }
                    }
                }
            }
        }
        for (p, sums) in acc.iter().enumerate() {
            for (c, &sum) in sums.iter().enumerate() {
                *line.out.at(line.at + (x + p) * d.read + channel + c, 1) = S::total(sum);
            }
        }
    }
}

impl Kernel for &Line<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (read, count) = (self.dots.read, self.dots.windows.output[1]);
        let mut channel = 0;
        while channel < read {
            let mut x = 0;
            while x < count {
                let left = count - x;
                // SAFETY: pixels and channels are in range, see `dots`.
                x += unsafe {
                    match (read - channel, left) {
                        (1, 8..) => {
                            dots::<S, 8, 1>(self, x, channel);
                            8
                        }
                        (1, 4..) => {
                            dots::<S, 4, 1>(self, x, channel);
                            4
                        }
                        (1, _) => {
                            dots::<S, 1, 1>(self, x, channel);
                            1
                        }
                        (2, 4..) => {
                            dots::<S, 4, 2>(self, x, channel);
                            4
                        }
                        (2, _) => {
                            dots::<S, 1, 2>(self, x, channel);
                            1
                        }
                        (_, 4..) => {
                            dots::<S, 4, 3>(self, x, channel);
                            4
                        }
                        (_, _) => {
                            dots::<S, 1, 3>(self, x, channel);
                            1
                        }
                    }
                };
            }
            channel += 3.min(read - channel);
        }
    }
}
