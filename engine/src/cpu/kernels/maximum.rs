//! Maximum pools: after a convolution they read what it has just made, before that leaves the cache, and their gradient is
//! spread out again where the convolution's own way back reads it.
//!
//! A pool passes a gradient on to the first of its largest sources. Kernel positions that won have a bit each, `[pixels,
//! kernel]` masks; with a ReLU before or after the pool nothing has won where the largest value is not above zero.

use super::finish::{Finish, Sink, bits, mask_stride, set_bits, tail};
use super::isa::{Isa, Kernel};
use super::memory::{Shared, from};
use super::product::parallel;
use super::simd::Simd;
use super::window::Grid;

/// Kernel positions a maximum pool may have.
pub(crate) const MAX_AREA: usize = 64;

/// Bytes of winners for each output pixel.
pub(crate) fn winner_bytes(grid: &Grid, channels: usize) -> usize {
    grid.area() * mask_stride(channels)
}

/// What a caller hands over to have values pooled before they are stored; its `winners` get [`winner_bytes`] a pixel.
pub(crate) struct Pooled<'a> {
    pub(crate) grid: &'a Grid,
    pub(crate) relu: bool,
    pub(crate) winners: Option<&'a mut [u8]>,
}

/// A gradient behind a pool, `[n, targets, channels]`, and which kernel positions won; `back` leads from sources to targets.
#[derive(Clone, Copy)]
pub(crate) struct Won<'a> {
    pub(crate) back: &'a Grid,
    pub(crate) winners: &'a [u8],
}

/// A pool as all tasks see it.
#[derive(Clone, Copy)]
pub(super) struct Pool<'a> {
    pub(super) grid: &'a Grid,
    squares: bool,
    relu: bool,
    sink: Sink<'a>,
    winners: Option<Shared<'a, u8>>,
}

impl<'a> Pool<'a> {
    /// Over `n` images.
    ///
    /// # Panics
    /// When the pool is too large or a slice too short.
    pub(super) fn new(n: usize, channels: usize, pooled: Pooled<'a>, out: &'a mut [f32]) -> Self {
        let Pooled { grid, relu, winners } = pooled;
        let sink = Sink::new(&Finish::default(), n * grid.targets(), channels, out, None, None);
        let bytes = n * grid.targets() * winner_bytes(grid, channels);
        assert!(grid.area() <= MAX_AREA && winners.as_ref().is_none_or(|w| w.len() >= bytes), "too few bits");
        Self { grid, squares: grid.squares(), relu, sink, winners: winners.map(Shared::new) }
    }

    /// Stores the largest value of a target and the positions that hold it, each of which beat all before it.
    ///
    /// # Safety
    /// `pixel` and the channels exist, `won` has a place for every kernel position, and no other thread writes here.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(&self, best: S::V, won: &[u32], pixel: usize, channel: usize, width: usize) {
        // SAFETY: `new` checked the slices against the pixels and channels the caller promised to stay within.
        unsafe {
            let zero = S::splat(0.);
            if let Some(winners) = self.winners {
                let mut left = tail(width);
                if self.relu {
                    left &= S::above(best, zero);
                }
                let (area, stride) = (self.grid.area(), mask_stride(self.sink.channels));
                for k in (0..area).rev() {
                    set_bits::<S>(winners, (pixel * area + k) * stride + channel / 8, won[k] & left);
                    left &= !won[k];
                }
            }
            // In this order a NaN stays.
            let best = if self.relu { S::max(zero, best) } else { best };
            S::store_up_to(self.sink.out.at(pixel * self.sink.channels + channel, width), best, width);
        }
    }
}

/// Which lanes of `v` beat `best`, the largest so far: the first maximum stays; a NaN wins and stays.
#[inline(always)]
unsafe fn beats<S: Simd>(v: S::V, best: S::V) -> u32 {
    // SAFETY: arithmetic alone.
    unsafe { S::above(v, best) & !S::above(best, best) }
}

/// One row of targets.
pub(super) struct Maxima<'a> {
    pub(super) pool: &'a Pool<'a>,
    pub(super) image: usize,
    pub(super) y: usize,
    /// Rows of the image's sources from row `first` on.
    pub(super) x: &'a [f32],
    pub(super) first: usize,
}

/// The largest of four, and which lanes of each beat those before it.
#[inline(always)]
pub(super) unsafe fn best_of<S: Simd>(values: [S::V; 4]) -> (S::V, [u32; 4]) {
    // SAFETY: arithmetic alone.
    unsafe {
        let (mut best, mut won) = (values[0], [u32::MAX, 0, 0, 0]);
        for k in 1..4 {
            won[k] = beats::<S>(values[k], best);
            best = S::pick(won[k], values[k], best);
        }
        (best, won)
    }
}

impl Maxima<'_> {
    /// Targets that are whole squares, from the left on; the number of them.
    #[inline(always)]
    unsafe fn squares<S: Simd>(&self, row: usize) -> usize {
        let (grid, c) = (self.pool.grid, self.pool.sink.channels);
        let (wide, rows) = (grid.columns.sources, grid.rows.of(self.y));
        let whole = if self.pool.squares && rows.len() == 2 { wide / 2 } else { 0 };
        for x in 0..whole.min(grid.columns.targets()) {
            let p = ((rows[0].source - self.first) * wide + 2 * x) * c;
            for channel in (0..c).step_by(S::LANES) {
                let width = (c - channel).min(S::LANES);
                // SAFETY: the caller holds both rows of sources, in which the square lies.
                unsafe {
                    let mut square = [S::splat(0.); 4];
                    for k in 0..4 {
                        let at = p + (k / 2 * wide + k % 2) * c + channel;
                        square[k] = S::load_up_to(from(self.x, at, width), width);
                    }
                    let (best, won) = best_of::<S>(square);
                    self.pool.store::<S>(best, &won, row + x, channel, width);
                }
            }
        }
        whole.min(grid.columns.targets())
    }
}

impl Kernel for Maxima<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (grid, channels) = (self.pool.grid, self.pool.sink.channels);
        let row = (self.image * grid.rows.targets() + self.y) * grid.columns.targets();
        // SAFETY: as below.
        let done = unsafe { self.squares::<S>(row) };
        for x in done..grid.columns.targets() {
            for channel in (0..channels).step_by(S::LANES) {
                let width = (channels - channel).min(S::LANES);
                let mut won = [0u32; MAX_AREA];
                // SAFETY: links name sources of the image, and the caller holds those of this row; tasks have rows of
                // their own.
                unsafe {
                    let mut best = S::splat(f32::NEG_INFINITY);
                    let mut first = true;
                    for row in grid.rows.of(self.y) {
                        for column in grid.columns.of(x) {
                            let p = (row.source - self.first) * grid.columns.sources + column.source;
                            let v = S::load_up_to(from(self.x, p * channels + channel, width), width);
                            let wins = if first { u32::MAX } else { beats::<S>(v, best) };
                            first = false;
                            best = S::pick(wins, v, best);
                            won[row.at * grid.columns.span + column.at] = wins;
                        }
                    }
                    self.pool.store::<S>(best, &won, row + x, channel, width);
                }
            }
        }
    }
}

/// For `n` images `[n, sources, channels]`, every target's largest source.
pub(crate) fn maxima(isa: Isa, n: usize, channels: usize, x: &[f32], pooled: Pooled<'_>, out: &mut [f32]) {
    let pool = Pool::new(n, channels, pooled, out);
    let (targets, size) = (pool.grid.rows.targets(), pool.grid.sources() * channels);
    assert!(x.len() >= n * size, "a value is too short");
    parallel(n * targets, |row| {
        let (image, y) = (row / targets, row % targets);
        let x = &x[image * size..][..size];
        // SAFETY: all lengths are asserted; a task writes its own row of pixels.
        unsafe { isa.run(Maxima { pool: &pool, image, y, x, first: 0 }) }
    });
}

impl Won<'_> {
    /// # Panics
    /// When a slice is too short for `n` images of `channels`.
    pub(super) fn check(&self, n: usize, channels: usize, grad: &[f32]) {
        let targets = n * self.back.sources();
        assert!(grad.len() >= targets * channels, "a gradient is too short");
        assert!(self.winners.len() >= targets * winner_bytes(self.back, channels), "too few bits");
    }
}

/// One row of sources of an image, whose targets are apart, gets its gradient: `to` has `width` floats for each source, zeros behind the channels.
pub(super) struct Unpooled<'a> {
    pub(super) won: Won<'a>,
    pub(super) grad: &'a [f32],
    pub(super) channels: usize,
    pub(super) image: usize,
    pub(super) y: usize,
    pub(super) columns: std::ops::Range<usize>,
    pub(super) to: &'a mut [f32],
    pub(super) width: usize,
}

impl Kernel for Unpooled<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Won { back, winners } = self.won;
        let (c, stride, area) = (self.channels, mask_stride(self.channels), back.area());
        // Targets are apart: a source belongs to one or none.
        let row = back.rows.of(self.y).first();
        for (to, x) in self.to.chunks_mut(self.width).zip(self.columns) {
            let (Some(row), Some(column)) = (row, back.columns.of(x).first()) else {
                to.fill(0.);
                continue;
            };
            if c < to.len() {
                to[c..].fill(0.);
            }
            let p = self.image * back.sources() + row.source * back.columns.sources + column.source;
            let first = (p * area + row.at * back.columns.span + column.at) * stride;
            for channel in (0..c).step_by(S::LANES) {
                let width = (c - channel).min(S::LANES);
                // SAFETY: links name targets of the image, whose values and bits `Won::check` counted.
                unsafe {
                    let won = bits::<S>(winners, first + channel / 8);
                    let v = S::load_up_to(from(self.grad, p * c + channel, width), width);
                    S::store_up_to(to[channel..channel + width].as_mut_ptr(), S::keep(won, v), width);
                }
            }
        }
    }
}
