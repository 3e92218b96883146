//! Winograd's minimal filtering on tiles of 6 x 6 (Winograd 1980; Lavin and Gray 2016): 4 x 4 outputs of a 3 x 3 kernel
//! with 36 products instead of 144, 2 x 2 outputs of a 5 x 5 kernel with 36 instead of 100. Interpolation points 0, 1, -1, 2,
//! -2 and infinity for both, so they share the transform of the input.

use super::finish::{Finish, Second, Sink, bits, mask_stride, store};
use super::isa::{Isa, Kernel};
use super::maximum::{Pool, Pooled, Won, best_of};
use super::memory::{Shared, from, scratch};
use super::product::{Packed, Raw, parallel};
use super::simd::Simd;
use super::taps::Offset;
use rayon::prelude::*;

/// Bytes of transformed weights up to which each thread runs whole tiles on its own.
const LOCAL: usize = 3 << 20;
/// Floats of transformed tiles (in and out) that a thread or all threads together work on.
const OWN: usize = 160 << 10;
const TOGETHER: usize = 4 << 20;

/// What `G g G^T` needs: rows by output position, for kernels of 3 and 5.
fn kernel_row(i: usize, r: usize) -> Vec<f64> {
    let powers = |p: f64, scale: f64| (0..r).map(|k| p.powi(k as i32) * scale).collect();
    match i {
        0 => powers(0., 0.25),
        1 => powers(1., -1. / 6.),
        2 => powers(-1., -1. / 6.),
        3 => powers(2., 1. / 24.),
        4 => powers(-2., 1. / 24.),
        _ => (0..r).map(|k| f64::from(u8::from(k + 1 == r))).collect(),
    }
}

/// Transformed weights of a convolution of stride 1.
#[derive(Debug)]
pub(crate) struct Winograd {
    /// Outputs of a tile along each axis: 4 or 2.
    m: usize,
    read: usize,
    write: usize,
    weights: Vec<Packed>,
}

/// Sizes of one call: the input, the output, and where the first window starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) start: Offset,
}

impl Winograd {
    /// For `kernel` 3 or 5; `weight(output, input, kernel)`.
    pub(crate) fn new(
        isa: Isa,
        kernel: usize,
        [read, write]: [usize; 2],
        weight: &(dyn Fn(usize, usize, [usize; 2]) -> f32 + Sync),
    ) -> Self {
        let rows: Vec<Vec<f64>> = (0..6).map(|i| kernel_row(i, kernel)).collect();
        // [input][output][36], so that packing reads neighbours.
        let mut all = vec![0f32; read * write * 36];
        all.par_chunks_mut(36).enumerate().for_each(|(at, u)| {
            let (i, o) = (at / write, at % write);
            let mut half = [[0f64; 5]; 6];
            for (half, row) in half.iter_mut().zip(&rows) {
                for (y, g) in row.iter().enumerate().filter(|(_, g)| **g != 0.) {
                    (0..kernel).for_each(|x| half[x] += g * f64::from(weight(o, i, [y, x])));
                }
            }
            for (f, u) in u.iter_mut().enumerate() {
                *u = rows[f % 6].iter().zip(&half[f / 6]).map(|(g, h)| g * h).sum::<f64>() as f32;
            }
        });
        let weights = (0..36).map(|f| Packed::new(isa, read, write, |i, o| all[(i * write + o) * 36 + f])).collect();
        Self { m: 7 - kernel, read, write, weights }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weights.iter().map(Packed::bytes).sum()
    }

    /// `n` channels-last images `x` to `out`; `finish` speaks of `out`. An image may be a gradient that comes from behind a
    /// pool of squares.
    #[expect(clippy::too_many_arguments, reason = "what a convolution is")]
    pub(crate) fn run(
        &self,
        isa: Isa,
        n: usize,
        frame: &Frame,
        (x, won): (&[f32], Option<Won<'_>>),
        finish: &Finish<'_>,
        (out, mask): (&mut [f32], Option<&mut [u8]>),
        next: Option<Second<'_>>,
    ) {
        let sink = Sink::new(finish, n * frame.output[0] * frame.output[1], self.write, out, mask, next);
        self.call(isa, n, frame, (x, won), finish, To::Sink(&sink));
    }

    /// As [`Winograd::run`] with results pooled by squares before they are stored; of `finish` only the bias counts.
    #[expect(clippy::too_many_arguments, reason = "what a convolution is")]
    pub(crate) fn run_pooled(
        &self,
        isa: Isa,
        n: usize,
        frame: &Frame,
        x: &[f32],
        bias: Option<&[f32]>,
        pooled: Pooled<'_>,
        out: &mut [f32],
    ) {
        let pool = Pool::new(n, self.write, pooled, out);
        let wide = super::finish::padded_channels(self.write);
        assert!(bias.is_none_or(|b| b.len() >= wide), "a vector of channels is not padded");
        assert!(pool.grid.squares() && pool.grid.sources() == frame.output[0] * frame.output[1], "a pool does not fit");
        let finish = Finish { bias, ..Finish::default() };
        self.call(isa, n, frame, (x, None), &finish, To::Pool(&pool));
    }

    fn call(
        &self,
        isa: Isa,
        n: usize,
        frame: &Frame,
        (x, won): (&[f32], Option<Won<'_>>),
        finish: &Finish<'_>,
        to: To<'_>,
    ) {
        let tiles = frame.output.map(|o| o.div_ceil(self.m));
        match won {
            Some(won) => {
                won.check(n, self.read, x);
                let fits = won.back.targets() == frame.input[0] * frame.input[1] && won.back.area() == 4;
                assert!(fits, "a pool does not fit");
            }
            None => assert!(x.len() >= n * frame.input[0] * frame.input[1] * self.read, "an image is too short"),
        }
        let call = Call { w: self, isa, frame, tiles, x, won, finish, to };
        let total = n * tiles[0] * tiles[1];
        let (tall, threads) = (isa.tile().0, rayon::current_num_threads());
        let (ldv, ldm) = self.strides();
        let each = 36 * (ldv + ldm);
        if self.bytes() <= LOCAL {
            let most = (OWN / each).clamp(tall, 20 * tall) / tall * tall;
            let count = total.div_ceil(threads).next_multiple_of(tall).min(most);
            parallel(total.div_ceil(count), |task| {
                let (first, count) = (task * count, (total - task * count).min(count));
                scratch(count * each, |memory| {
                    let (v, m) = memory.split_at_mut(count * 36 * ldv);
                    call.transform(Shared::new(v), count, first, 0..count);
                    (0..36).for_each(|f| call.multiply(v, Shared::new(m), count, f));
                    call.restore(m, count, first, 0..count);
                });
            });
            return;
        }
        let most = (TOGETHER / each).clamp(2 * tall, 1 << 20) / tall * tall;
        for first in (0..total).step_by(most) {
            let count = (total - first).min(most);
            let part = count.div_ceil(4 * threads).max(1);
            let parts = count.div_ceil(part);
            let range = |i: usize| i * part..((i + 1) * part).min(count);
            scratch(count * each, |memory| {
                let (v, m) = memory.split_at_mut(count * 36 * ldv);
                let (shared_v, shared_m) = (Shared::new(v), Shared::new(m));
                parallel(parts, |i| call.transform(shared_v, count, first, range(i)));
                let v = &*v;
                parallel(36, |f| call.multiply(v, shared_m, count, f));
                let m = &*m;
                parallel(parts, |i| call.restore(m, count, first, range(i)));
            });
        }
    }

    /// Floats from one tile to the next in the transformed input and output; odd multiples of a cache line, so that
    /// tiles do not meet in the same sets.
    fn strides(&self) -> (usize, usize) {
        let odd = |n: usize| {
            let lines = n.div_ceil(16);
            (lines + usize::from(lines.is_multiple_of(2))) * 16
        };
        (odd(self.read), odd(self.weights[0].width()))
    }
}

/// One call, as all its tasks see it.
struct Call<'a> {
    w: &'a Winograd,
    isa: Isa,
    frame: &'a Frame,
    tiles: [usize; 2],
    x: &'a [f32],
    won: Option<Won<'a>>,
    finish: &'a Finish<'a>,
    to: To<'a>,
}

/// Where results go.
#[derive(Clone, Copy)]
enum To<'a> {
    Sink(&'a Sink<'a>),
    Pool(&'a Pool<'a>),
}

impl Call<'_> {
    /// Tiles `range` of a block that begins at tile `first` and has `count`.
    fn transform(&self, v: Shared<'_, f32>, count: usize, first: usize, range: std::ops::Range<usize>) {
        assert!(v.len() >= 36 * count * self.w.strides().0 && range.end <= count);
        // SAFETY: the block's memory is long enough (asserted), the caller keeps ranges apart.
        unsafe { self.isa.run(Transform { call: self, v, count, first, range }) }
    }

    fn multiply(&self, v: &[f32], m: Shared<'_, f32>, count: usize, f: usize) {
        let (ldv, ldm) = self.w.strides();
        assert!(v.len() >= 36 * count * ldv && m.len() >= 36 * count * ldm && f < 36);
        let a = &v[f * count * ldv..][..count * ldv];
        let (weights, at) = (self.w.weights[f].view(), f * count * ldm);
        let raw = Raw { a, lda: ldv, rows: count, weights, out: m, at, ldc: ldm };
        // SAFETY: both blocks are long enough (asserted), `f` names entries of `m` that no other task writes.
        unsafe { self.isa.run(&raw) }
    }

    fn restore(&self, m: &[f32], count: usize, first: usize, range: std::ops::Range<usize>) {
        assert!(m.len() >= 36 * count * self.w.strides().1 && range.end <= count);
        // SAFETY: the block's memory is long enough (asserted), the caller keeps ranges apart.
        unsafe { self.isa.run(Restore { call: self, m, count, first, range }) }
    }

    /// Image, tile row and tile column.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [th, tw] = self.tiles;
        [tile / (th * tw), tile / tw % th, tile % tw]
    }
}

struct Transform<'a> {
    call: &'a Call<'a>,
    v: Shared<'a, f32>,
    count: usize,
    first: usize,
    range: std::ops::Range<usize>,
}

/// `B^T d` of six vectors.
#[inline(always)]
unsafe fn inward<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: arithmetic alone.
    unsafe {
        let (two, four, five) = (S::splat(2.), S::splat(4.), S::splat(5.));
        let (a, b) = (S::fnma(four, d[2], d[4]), S::fnma(four, d[1], d[3]));
        let (e, f) = (S::sub(d[4], d[2]), S::mul(two, S::sub(d[3], d[1])));
        [
            S::fma(four, d[0], S::fnma(five, d[2], d[4])),
            S::add(a, b),
            S::sub(a, b),
            S::add(e, f),
            S::sub(e, f),
            S::fma(four, d[1], S::fnma(five, d[3], d[5])),
        ]
    }
}

impl Kernel for Transform<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let call = self.call;
        let ([h, w], c) = (call.frame.input, call.w.read);
        let (ldv, stride) = (call.w.strides().0, mask_stride(c));
        let pooled = call.won.map(|w| [w.back.rows.sources, w.back.columns.sources]);
        for t in self.range.clone() {
            let [image, ty, tx] = call.place(self.first + t);
            let y0 = (ty * call.w.m) as isize + call.frame.start[0];
            let x0 = (tx * call.w.m) as isize + call.frame.start[1];
            // Behind a pool of squares pixels are the pool's, and every place has bits of its own in one of them.
            let ([rows, columns], halves) = (pooled.unwrap_or([h, w]), pooled.is_some());
            let place = |from: isize, i: usize, size: usize, targets: usize| {
                let at = usize::try_from(from + i as isize).ok().filter(|at| *at < size)?;
                let (target, bit) = if halves { (at / 2, at % 2) } else { (at, 0) };
                (target < targets).then_some((target, bit))
            };
            let ys: [_; 6] = std::array::from_fn(|i| place(y0, i, h, rows));
            let xs: [_; 6] = std::array::from_fn(|j| place(x0, j, w, columns));
            let mut at = [[usize::MAX; 6]; 6];
            let mut bit = [[0; 6]; 6];
            for i in 0..6 {
                for j in 0..6 {
                    if let (Some((y, dy)), Some((x, dx))) = (ys[i], xs[j]) {
                        let pixel = (image * rows + y) * columns + x;
                        at[i][j] = pixel * c;
                        bit[i][j] = (pixel * 4 + 2 * dy + dx) * stride;
                    }
                }
            }
            let places = Places { at, bit };
            let inside = at.iter().flatten().all(|at| *at != usize::MAX);
            for from_c in (0..c).step_by(S::LANES) {
                let width = (c - from_c).min(S::LANES);
                // SAFETY: places hold entries of images, whose length the caller checked; a stored vector ends within the
                // tile's `ldv` floats, as those are whole lines.
                unsafe {
                    let half = match (inside && width == S::LANES, pooled.is_some()) {
                        (true, false) => self.half::<S, true, false>(&places, from_c, width),
                        (true, true) => self.half::<S, true, true>(&places, from_c, width),
                        (false, false) => self.half::<S, false, false>(&places, from_c, width),
                        (false, true) => self.half::<S, false, true>(&places, from_c, width),
                    };
                    for (i, half) in half.iter().enumerate() {
                        for (j, &v) in inward::<S>(*half).iter().enumerate() {
                            S::store(self.v.at(((i * 6 + j) * self.count + t) * ldv + from_c, S::LANES), v);
                        }
                    }
                }
            }
        }
    }
}

/// Where the entries of a tile begin, `usize::MAX` outside the image, and behind a pool their bits.
struct Places {
    at: [[usize; 6]; 6],
    bit: [[usize; 6]; 6],
}

impl Transform<'_> {
    /// The tile transformed along columns; `WHOLE` tiles are whole vectors inside the image, `WON` is behind a pool.
    #[inline(always)]
    unsafe fn half<S: Simd, const WHOLE: bool, const WON: bool>(
        &self,
        places: &Places,
        channel: usize,
        width: usize,
    ) -> [[S::V; 6]; 6] {
        let winners = if let Some(won) = self.call.won { won.winners } else { &[] };
        // SAFETY: as the caller promised of the places.
        unsafe {
            let mut half = [[S::splat(0.); 6]; 6];
            for j in 0..6 {
                let mut d = [S::splat(0.); 6];
                for i in 0..6 {
                    let at = places.at[i][j];
                    if WHOLE {
                        d[i] = S::load(from(self.call.x, at + channel, S::LANES));
                    } else if at != usize::MAX {
                        d[i] = S::load_up_to(from(self.call.x, at + channel, width), width);
                    }
                    if WON && (WHOLE || at != usize::MAX) {
                        d[i] = S::keep(bits::<S>(winners, places.bit[i][j] + channel / 8), d[i]);
                    }
                }
                let d = inward::<S>(d);
                for i in 0..6 {
                    half[i][j] = d[i];
                }
            }
            half
        }
    }
}

struct Restore<'a> {
    call: &'a Call<'a>,
    m: &'a [f32],
    count: usize,
    first: usize,
    range: std::ops::Range<usize>,
}

/// `A^T d` for four outputs.
#[inline(always)]
unsafe fn outward4<S: Simd>(d: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: arithmetic alone.
    unsafe {
        let (a, b) = (S::add(d[1], d[2]), S::sub(d[1], d[2]));
        let (s, t) = (S::add(d[3], d[4]), S::sub(d[3], d[4]));
        [
            S::add(S::add(d[0], a), s),
            S::fma(S::splat(2.), t, b),
            S::fma(S::splat(4.), s, a),
            S::add(S::fma(S::splat(8.), t, b), d[5]),
        ]
    }
}

/// `A^T d` for two outputs.
#[inline(always)]
unsafe fn outward2<S: Simd>(d: [S::V; 6]) -> [S::V; 2] {
    // SAFETY: arithmetic alone.
    unsafe {
        let (a, b) = (S::add(d[1], d[2]), S::sub(d[1], d[2]));
        let (s, t) = (S::add(d[3], d[4]), S::sub(d[3], d[4]));
        [S::add(S::add(d[0], a), s), S::add(S::fma(S::splat(2.), t, b), d[5])]
    }
}

impl Restore<'_> {
    /// Stores the largest of every square of a tile.
    #[inline(always)]
    unsafe fn pool<S: Simd, const M: usize>(
        &self,
        pool: &Pool<'_>,
        t: usize,
        values: &[[S::V; M]; M],
        channel: usize,
        width: usize,
    ) {
        let ([oh, ow], [image, ty, tx]) = (self.call.frame.output, self.call.place(self.first + t));
        let [ph, pw] = [pool.grid.rows.targets(), pool.grid.columns.targets()];
        for i in 0..M / 2 {
            for j in 0..M / 2 {
                let (y, x) = (ty * (M / 2) + i, tx * (M / 2) + j);
                if y >= ph || x >= pw {
                    continue;
                }
                // Where the square is cut off, its first value again, which beats nothing.
                let mut square = [values[2 * i][2 * j]; 4];
                for k in 1..4 {
                    if 2 * y + k / 2 < oh && 2 * x + k % 2 < ow {
                        square[k] = values[2 * i + k / 2][2 * j + k % 2];
                    }
                }
                // SAFETY: arithmetic, and a pixel of the pool's that lies in this tile alone.
                unsafe {
                    let (best, won) = best_of::<S>(square);
                    pool.store::<S>(best, &won, (image * ph + y) * pw + x, channel, width);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize>(&self, t: usize, outward: impl Fn([S::V; 6]) -> [S::V; M], ldm: usize) {
        let call = self.call;
        let [image, ty, tx] = call.place(self.first + t);
        let ([oh, ow], c) = (call.frame.output, call.w.write);
        for channel in (0..c).step_by(S::LANES) {
            let width = (c - channel).min(S::LANES);
            // SAFETY: loads stay within the tile's `ldm` floats, whole panels; rows and columns beyond the output are
            // left out, and `Sink::new` checked the rest.
            unsafe {
                let mut half = [[S::splat(0.); 6]; M];
                for j in 0..6 {
                    let mut d = [S::splat(0.); 6];
                    for i in 0..6 {
                        d[i] = S::load(from(self.m, ((i * 6 + j) * self.count + t) * ldm + channel, S::LANES));
                    }
                    let d = outward(d);
                    for i in 0..M {
                        half[i][j] = d[i];
                    }
                }
                let sink = match call.to {
                    To::Sink(sink) => sink,
                    To::Pool(pool) => {
                        let bias = call.finish.bias.map_or(S::splat(0.), |b| S::load(from(b, channel, S::LANES)));
                        let mut values = [[bias; M]; M];
                        for i in 0..M {
                            let row = outward(half[i]);
                            for j in 0..M {
                                values[i][j] = S::add(row[j], bias);
                            }
                        }
                        self.pool::<S, M>(pool, t, &values, channel, width);
                        continue;
                    }
                };
                for (i, half) in half.iter().enumerate() {
                    let y = ty * M + i;
                    if y >= oh {
                        break;
                    }
                    for (j, &v) in outward(*half).iter().enumerate() {
                        let x = tx * M + j;
                        if x < ow {
                            let pixel = (image * oh + y) * ow + x;
                            store::<S>(call.finish, sink, v, pixel, channel, width);
                        }
                    }
                }
            }
        }
    }
}

impl Kernel for Restore<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let ldm = self.call.w.strides().1;
        for t in self.range.clone() {
            // SAFETY: the caller's promise.
            unsafe {
                if self.call.w.m == 4 {
                    self.tile::<S, 4>(t, |d| outward4::<S>(d), ldm);
                } else {
                    self.tile::<S, 2>(t, |d| outward2::<S>(d), ldm);
                }
            }
        }
    }
}
