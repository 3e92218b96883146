//! Matrix products with weights packed once: `out[m, n] = sum over k of a[m, k] w[k, n]`.
//!
//! Every entry of the result is summed in an order that depends on `k` alone: in chunks of [`CHUNK`], one after the other,
//! each chunk from its first term to its last. Where an entry stands in a tile, a block or a batch changes nothing.

use super::finish::{Finish, Sink, store};
use super::isa::{Isa, Kernel};
use super::memory::{Buffer, Shared, from};
use super::simd::Simd;
use rayon::prelude::*;

/// Terms summed before a partial sum is put aside.
pub(super) const CHUNK: usize = 512;

/// Weights `[k, n]` in panels of as many columns as a tile has, each panel row by row.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
    pub(super) data: Buffer,
}

impl Packed {
    pub(crate) fn new(isa: Isa, k: usize, n: usize, weight: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let panel = isa.tile().1;
        let mut data = Buffer::default();
        let panels = n.div_ceil(panel);
        data.reserve(panels * k * panel + panel);
        let all = &mut data.floats_mut()[..panels * k * panel];
        if k > 0 {
            all.par_chunks_mut(k * panel).enumerate().for_each(|(j, rows)| {
                let from = j * panel;
                for (k, row) in rows.chunks_mut(panel).enumerate() {
                    let real = row.iter_mut().take(n - from).enumerate();
                    real.for_each(|(i, v)| *v = weight(k, from + i));
                }
            });
        }
        Self { k, n, panel, data }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.len_bytes()
    }

    /// Panels, the last perhaps partly empty.
    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(self.panel)
    }

    pub(super) fn width(&self) -> usize {
        self.panels() * self.panel
    }

    pub(super) fn view(&self) -> Panels<'_> {
        Panels { k: self.k, n: self.n, panel: self.panel, data: self.data.floats() }
    }
}

/// Packed weights, wherever they are.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    k: usize,
    n: usize,
    panel: usize,
    data: &'a [f32],
}

impl<'a> Panels<'a> {
    /// Floats that `[k, n]` takes.
    pub(super) fn room(isa: Isa, k: usize, n: usize) -> usize {
        let panel = isa.tile().1;
        n.div_ceil(panel) * panel * k
    }

    /// Packs `[k, n]`, whose entry is at `k * steps[0] + n * steps[1]`, into `memory`.
    pub(super) fn pack(
        isa: Isa,
        (k, n): (usize, usize),
        matrix: &[f32],
        steps: [usize; 2],
        memory: &'a mut [f32],
    ) -> Self {
        let panel = isa.tile().1;
        for (j, rows) in memory.chunks_mut(k * panel).enumerate().take(n.div_ceil(panel)) {
            let real = (n - j * panel).min(panel);
            for (k, row) in rows.chunks_mut(panel).enumerate() {
                let from = &matrix[k * steps[0] + j * panel * steps[1]..];
                match steps[1] {
                    1 => row[..real].copy_from_slice(&from[..real]),
                    step => row[..real].iter_mut().enumerate().for_each(|(i, v)| *v = from[i * step]),
                }
                row[real..].fill(0.);
            }
        }
        Self { k, n, panel, data: memory }
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(self.panel)
    }
}

/// Which pixel row `m` of a block belongs to.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    From(usize),
    Table(&'a [u32]),
}

impl Place<'_> {
    #[inline(always)]
    fn at(&self, m: usize) -> usize {
        match self {
            Place::From(first) => first + m,
            Place::Table(pixels) => pixels[m] as usize,
        }
    }
}

/// The sums of `M` rows and `N` vectors.
///
/// # Safety
/// `a` holds `M` rows of `k` entries `lda` apart, `b` holds `k` rows of `N` vectors `ldb` apart.
#[inline(always)]
unsafe fn sums<S: Simd, const M: usize, const N: usize>(
    k: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
) -> [[S::V; N]; M] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[S::splat(0.); N]; M];
        let (mut a, mut b) = (a, b);
        for _ in 0..k {
            let mut w = [S::splat(0.); N];
            for n in 0..N {
                w[n] = S::load(b.add(n * S::LANES));
            }
            for m in 0..M {
                let x = S::splat(*a.add(m * lda));
                for n in 0..N {
                    acc[m][n] = S::fma(x, w[n], acc[m][n]);
                }
            }
            a = a.add(1);
            b = b.add(ldb);
        }
        acc
    }
}

/// One block: `rows` rows of `a` against the panels `panels` of the weights.
pub(super) struct Block<'a> {
    pub(super) a: &'a [f32],
    pub(super) lda: usize,
    pub(super) rows: usize,
    pub(super) weights: &'a Packed,
    pub(super) panels: std::ops::Range<usize>,
    pub(super) place: Place<'a>,
    /// The channel that column 0 is.
    pub(super) channel: usize,
    pub(super) finish: &'a Finish<'a>,
    pub(super) sink: &'a Sink<'a>,
}

/// Calls `$f::<S, M, N>` with the largest `M` that fits.
macro_rules! by_rows {
    ($left:expr, $n:literal, $f:ident ( $($arg:expr),* )) => {
        match $left.min(S::ROWS) {
            12.. => { $f::<S, 12, $n>($($arg),*); 12 }
            8..12 => { $f::<S, 8, $n>($($arg),*); 8 }
            6..8 => { $f::<S, 6, $n>($($arg),*); 6 }
            4..6 => { $f::<S, 4, $n>($($arg),*); 4 }
            2..4 => { $f::<S, 2, $n>($($arg),*); 2 }
            _ => { $f::<S, 1, $n>($($arg),*); 1 }
        }
    };
}

pub(super) use by_rows;

/// One tile of one chunk of `k`.
struct Piece {
    m: usize,
    from: usize,
    to: usize,
    panel: usize,
}

#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const N: usize>(block: &Block<'_>, p: &Piece) {
    let (weights, sink) = (block.weights, block.sink);
    let k = p.to - p.from;
    // SAFETY: `run` walks rows below `rows` and panels of the packed weights; the caller of `Block` checked `a`.
    unsafe {
        let a = from(block.a, p.m * block.lda + p.from, if k == 0 { 0 } else { (M - 1) * block.lda + k });
        let b = from(weights.data.floats(), (p.panel * weights.k + p.from) * weights.panel, k * weights.panel);
        let acc = sums::<S, M, N>(k, a, block.lda, b, weights.panel);
        let first = p.panel * weights.panel;
        for (m, row) in acc.iter().enumerate() {
            let pixel = block.place.at(p.m + m);
            for (n, &sum) in row.iter().enumerate() {
                let column = first + n * S::LANES;
                if column >= weights.n {
                    break;
                }
                let (width, channel) = ((weights.n - column).min(S::LANES), block.channel + column);
                let out = sink.out.at(pixel * sink.channels + channel, width);
                let v = if p.from > 0 { S::add(S::load_up_to(out, width), sum) } else { sum };
                if p.to < weights.k {
                    S::store_up_to(out, v, width);
                } else {
                    store::<S>(block.finish, sink, v, pixel, channel, width);
                }
            }
        }
    }
}

impl Kernel for &Block<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let k = self.weights.k;
        let mut start = 0;
        loop {
            let end = (start + CHUNK).min(k);
            for panel in self.panels.clone() {
                // A last panel of one vector or less need not pay for two.
                let narrow = S::VECTORS == 1 || self.weights.n - panel * self.weights.panel <= S::LANES;
                let mut m = 0;
                while m < self.rows {
                    let piece = Piece { m, from: start, to: end, panel };
                    let left = self.rows - m;
                    // SAFETY: rows and panels are in range, see `tile`.
                    m += unsafe {
                        if narrow {
                            by_rows!(left, 1, tile(self, &piece))
                        } else {
                            by_rows!(left, 2, tile(self, &piece))
                        }
                    };
                }
            }
            start = end;
            if start >= k {
                return;
            }
        }
    }
}

/// A product without finish, stored as whole panels: what Winograd's middle step is.
pub(super) struct Raw<'a> {
    pub(super) a: &'a [f32],
    pub(super) lda: usize,
    pub(super) rows: usize,
    pub(super) weights: Panels<'a>,
    pub(super) out: Shared<'a, f32>,
    pub(super) at: usize,
    pub(super) ldc: usize,
}

#[inline(always)]
unsafe fn raw_tile<S: Simd, const M: usize, const N: usize>(raw: &Raw<'_>, p: &Piece) {
    let weights = raw.weights;
    // SAFETY: as in `tile`; `out` has room for whole panels.
    unsafe {
        let k = p.to - p.from;
        let a = from(raw.a, p.m * raw.lda + p.from, (M - 1) * raw.lda + k);
        let b = from(weights.data, (p.panel * weights.k + p.from) * weights.panel, k * weights.panel);
        let acc = sums::<S, M, N>(k, a, raw.lda, b, weights.panel);
        for (m, row) in acc.iter().enumerate() {
            for (n, &sum) in row.iter().enumerate() {
                let at = raw.at + (p.m + m) * raw.ldc + p.panel * weights.panel + n * S::LANES;
                let out = raw.out.at(at, S::LANES);
                S::store(out, if p.from > 0 { S::add(S::load(out), sum) } else { sum });
            }
        }
    }
}

impl Kernel for &Raw<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let weights = self.weights;
        for start in (0..weights.k).step_by(CHUNK) {
            let end = (start + CHUNK).min(weights.k);
            for panel in 0..weights.panels() {
                let narrow = S::VECTORS == 1 || weights.n - panel * weights.panel <= S::LANES;
                let mut m = 0;
                while m < self.rows {
                    let piece = Piece { m, from: start, to: end, panel };
                    let left = self.rows - m;
                    // SAFETY: rows and panels are in range, see `raw_tile`.
                    m += unsafe {
                        if narrow {
                            by_rows!(left, 1, raw_tile(self, &piece))
                        } else {
                            by_rows!(left, 2, raw_tile(self, &piece))
                        }
                    };
                }
            }
        }
    }
}

/// `a` is `[rows, k]` with rows `lda` apart; the result is `[rows, n]`, finished.
pub(crate) fn product(
    isa: Isa,
    weights: &Packed,
    a: &[f32],
    lda: usize,
    rows: usize,
    finish: &Finish<'_>,
    (out, mask): (&mut [f32], Option<&mut [u8]>),
) {
    assert!(lda >= weights.k && (rows == 0 || a.len() >= (rows - 1) * lda + weights.k), "a matrix is too short");
    let sink = Sink::new(finish, rows, weights.n, out, mask, None);
    // Blocks of rows first; where rows are few, panels are shared out too.
    let (tall, threads) = (isa.tile().0, rayon::current_num_threads());
    let block = rows.div_ceil(threads).next_multiple_of(tall).clamp(tall, 252);
    let blocks = rows.div_ceil(block.max(1));
    let groups = (2 * threads).div_ceil(blocks.max(1)).min(weights.panels()).max(1);
    let each = weights.panels().div_ceil(groups).max(1);
    parallel(blocks * weights.panels().div_ceil(each), |task| {
        let (group, first) = (task / blocks, task % blocks * block);
        let block = Block {
            a: &a[first * lda..],
            lda,
            rows: (rows - first).min(block),
            weights,
            panels: group * each..((group + 1) * each).min(weights.panels()),
            place: Place::From(first),
            channel: 0,
            finish,
            sink: &sink,
        };
        // SAFETY: the matrix is long enough (asserted above), tasks have rows and columns of their own.
        unsafe { isa.run(&block) }
    });
}

/// Runs tasks on the threads of the current pool; which thread runs what changes no result.
pub(super) fn parallel(tasks: usize, run: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 {
        (0..tasks).for_each(run);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(run);
    }
}
