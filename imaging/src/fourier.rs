//! Discrete Fourier and cosine transforms of many signals side by side: sample `t` of signal `l` lies at `t * lanes + l`,
//! so that every loop runs along memory. Any length; quick when its prime factors are small. The same bits on every
//! machine, which is why it is ours.

use crate::vector::wide;
use std::f64::consts::PI;

/// Real and imaginary parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Complex {
    pub re: Vec<f64>,
    pub im: Vec<f64>,
}

impl Complex {
    pub fn zeros(len: usize) -> Self {
        Self { re: vec![0.; len], im: vec![0.; len] }
    }

    /// A matrix of `rows` rows turned on its side.
    pub fn transposed(&self, rows: usize) -> Self {
        let turn = |v: &[f64]| {
            let columns = v.len() / rows.max(1);
            let mut out = vec![0.; v.len()];
            // Small squares, so that neither side jumps through memory.
            for y0 in (0..rows).step_by(16) {
                for x0 in (0..columns).step_by(16) {
                    for y in y0..(y0 + 16).min(rows) {
                        for x in x0..(x0 + 16).min(columns) {
                            out[x * rows + y] = v[y * columns + x];
                        }
                    }
                }
            }
            out
        };
        Self { re: turn(&self.re), im: turn(&self.im) }
    }
}

/// The transform of one length.
#[derive(Debug, Clone)]
pub struct Fourier {
    n: usize,
    factors: Vec<usize>,
    /// exp(-2 pi i k / n).
    roots: Vec<(f64, f64)>,
}

impl Fourier {
    /// `n` of at least 1.
    pub fn new(n: usize) -> Self {
        let (mut rest, mut factors) = (n.max(1), vec![]);
        for p in std::iter::once(4).chain(2..) {
            while rest % p == 0 {
                factors.push(p);
                rest /= p;
            }
            if rest == 1 {
                break;
            }
        }
        let root = |k: usize| {
            let (sin, cos) = libm::sincos(-2. * PI * k as f64 / n as f64);
            (cos, sin)
        };
        Self { n, factors, roots: (0..n).map(root).collect() }
    }

    /// `X[k] = sum over t of x[t] exp(-2 pi i k t / n)` of each of `lanes` signals, unscaled.
    pub fn forward(&self, x: &mut Complex, lanes: usize) {
        let mut y = Complex::zeros(x.re.len());
        let (mut left, mut done) = (self.n, 1);
        for &p in &self.factors {
            wide(
                #[inline(always)]
                || self.pass(p, left, done * lanes, x, &mut y),
            );
            std::mem::swap(x, &mut y);
            (left, done) = (left / p, done * p);
        }
    }

    /// The inverse, scaled by 1/n.
    pub fn inverse(&self, x: &mut Complex, lanes: usize) {
        std::mem::swap(&mut x.re, &mut x.im);
        self.forward(x, lanes);
        std::mem::swap(&mut x.re, &mut x.im);
        let scale = 1. / self.n as f64;
        x.re.iter_mut().chain(&mut x.im).for_each(|v| *v *= scale);
    }

    /// One step of Stockham's algorithm: radix `p` of the `left` points that remain, in runs of `run` neighbours.
    #[inline(always)]
    fn pass(&self, p: usize, left: usize, run: usize, x: &Complex, y: &mut Complex) {
        const BLOCK: usize = 16;
        let m = left / p;
        let jump = self.n / left; // roots of `left` among roots of n
        // exp(-2 pi i (i j / p + i k / left))
        let root = |i: usize, j: usize, k: usize| self.roots[(i * (j * m + k)) % left * jump];
        for k in 0..m {
            for i in 0..p {
                let to = run * (p * k + i);
                let (re, rest_re) = y.re[to..][..run].as_chunks_mut::<BLOCK>();
                let (im, rest_im) = y.im[to..][..run].as_chunks_mut::<BLOCK>();
                for (block, (re, im)) in re.iter_mut().zip(im).enumerate() {
                    let (mut u, mut v) = ([0.; BLOCK], [0.; BLOCK]);
                    for j in 0..p {
                        let (c, s) = root(i, j, k);
                        let from = run * (k + m * j) + block * BLOCK;
                        let (a, b) = (&x.re[from..][..BLOCK], &x.im[from..][..BLOCK]);
                        for (((u, v), a), b) in u.iter_mut().zip(&mut v).zip(a).zip(b) {
                            *u += a * c - b * s;
                            *v += a * s + b * c;
                        }
                    }
                    (*re, *im) = (u, v);
                }
                let done = run - rest_re.len();
                for (at, (re, im)) in rest_re.iter_mut().zip(rest_im).enumerate() {
                    (*re, *im) = (0..p).fold((0., 0.), |(u, v), j| {
                        let (c, s) = root(i, j, k);
                        let from = run * (k + m * j) + done + at;
                        let (a, b) = (x.re[from], x.im[from]);
                        (u + (a * c - b * s), v + (a * s + b * c))
                    });
                }
            }
        }
    }
}

/// A symmetric filter with mirrored borders (the last sample twice) along signals of length `n`: in the cosine domain it
/// is a product, however wide the kernel. `w` is the centre and the right half. Both parts of `x` are signals.
pub fn filter_mirrored(x: &mut Complex, n: usize, lanes: usize, w: &[f64]) {
    let fourier = Fourier::new(n);
    let gain = response(w, n, n);
    // Even samples forwards, odd ones backwards: the cosine transform becomes a Fourier transform (Makhoul 1980).
    let place = |t: usize| if t < n.div_ceil(2) { 2 * t } else { 2 * (n - t) - 1 };
    let mut v = Complex::zeros(n * lanes);
    for t in 0..n {
        v.re[t * lanes..][..lanes].copy_from_slice(&x.re[place(t) * lanes..][..lanes]);
        v.im[t * lanes..][..lanes].copy_from_slice(&x.im[place(t) * lanes..][..lanes]);
    }
    fourier.forward(&mut v, lanes);
    for k in 0..=n / 2 {
        let (sin, cos) = libm::sincos(PI * k as f64 / (2. * n as f64));
        let other = n - k;
        // C[n] counts as zero; the middle one is its own partner.
        let gains = (gain[k], if k == 0 { 0. } else { gain[other] });
        let turn = |a: (f64, f64), b: (f64, f64)| {
            // C[k] and C[n - k] from V[k] and V[n - k], filtered.
            let c = ((cos * (a.0 + b.0) + sin * (a.1 - b.1)) / 2., (cos * (a.1 + b.1) - sin * (a.0 - b.0)) / 2.);
            let d = ((sin * (a.0 + b.0) - cos * (a.1 - b.1)) / 2., (sin * (a.1 + b.1) + cos * (a.0 - b.0)) / 2.);
            let (c, d) = ((c.0 * gains.0, c.1 * gains.0), (d.0 * gains.1, d.1 * gains.1));
            // V[k] = e^(i theta) (C[k] - i C[n - k]), V[n - k] = e^(-i theta) (C[k] + i C[n - k]).
            let (e, f) = ((c.0 + d.1, c.1 - d.0), (c.0 - d.1, c.1 + d.0));
            ((cos * e.0 - sin * e.1, cos * e.1 + sin * e.0), (cos * f.0 + sin * f.1, cos * f.1 - sin * f.0))
        };
        if k == 0 || other == k {
            for (re, im) in v.re[k * lanes..][..lanes].iter_mut().zip(&mut v.im[k * lanes..][..lanes]) {
                let own = (*re, *im);
                (*re, *im) = turn(own, own).0;
            }
            continue;
        }
        let (low_re, high_re) = v.re.split_at_mut(other * lanes);
        let (low_im, high_im) = v.im.split_at_mut(other * lanes);
        let (ar, ai) = (&mut low_re[k * lanes..][..lanes], &mut low_im[k * lanes..][..lanes]);
        let (br, bi) = (&mut high_re[..lanes], &mut high_im[..lanes]);
        wide(
            #[inline(always)]
            || {
                let (low, high) = (ar.iter_mut().zip(ai.iter_mut()), br.iter_mut().zip(bi.iter_mut()));
                for ((ar, ai), (br, bi)) in low.zip(high) {
                    ((*ar, *ai), (*br, *bi)) = turn((*ar, *ai), (*br, *bi));
                }
            },
        );
    }
    fourier.inverse(&mut v, lanes);
    for t in 0..n {
        x.re[place(t) * lanes..][..lanes].copy_from_slice(&v.re[t * lanes..][..lanes]);
        x.im[place(t) * lanes..][..lanes].copy_from_slice(&v.im[t * lanes..][..lanes]);
    }
}

/// What the filter makes of the first `count` cosines of length n.
fn response(w: &[f64], n: usize, count: usize) -> Vec<f64> {
    // Reduced before the cosine is taken, so that long kernels lose no digits.
    let cosines: Vec<f64> = (0..2 * n).map(|i| libm::cos(PI * i as f64 / n as f64)).collect();
    let one =
        |k: usize| w.iter().enumerate().skip(1).fold(w[0], |sum, (j, w)| sum + 2. * w * cosines[(j * k) % (2 * n)]);
    (0..count).map(one).collect()
}

/// The mirrored filter `w` along both axes of a field `[n, n]`, as far as its first `count` cosines go: what a wide
/// smoothing leaves of noise lies in few of them.
pub fn smooth_few(x: &mut [f64], n: usize, w: &[f64], count: usize) {
    let (n, count) = (n.max(1), count.clamp(1, n.max(1)));
    let gain = response(w, n, count);
    let size = |k: usize| if k == 0 { 1. / n as f64 } else { 2. / n as f64 };
    let turns: Vec<f64> = (0..4 * n).map(|i| libm::cos(PI * i as f64 / (2 * n) as f64)).collect();
    let cosine = |k: usize, t: usize| turns[k * (2 * t + 1) % (4 * n)];
    // Of each cosine all places, and of each place all cosines.
    let rows: Vec<f64> = (0..count * n).map(|i| cosine(i / n, i % n)).collect();
    let columns: Vec<f64> = (0..count * n).map(|i| cosine(i % count, i / count)).collect();
    let (mut half, mut back, mut shares) = (vec![0.; count * n], vec![0.; count * n], vec![0.; count]);
    wide(
        #[inline(always)]
        || {
            for (t, line) in x.chunks_exact(n).enumerate() {
                for (sums, c) in half.chunks_exact_mut(n).zip(&columns[t * count..]) {
                    sums.iter_mut().zip(line).for_each(|(s, v)| *s += c * v);
                }
            }
            for (k, (sums, to)) in half.chunks_exact(n).zip(back.chunks_exact_mut(n)).enumerate() {
                shares.fill(0.);
                for (sum, place) in sums.iter().zip(columns.chunks_exact(count)) {
                    shares.iter_mut().zip(place).for_each(|(s, c)| *s += sum * c);
                }
                for (l, (share, row)) in shares.iter().zip(rows.chunks_exact(n)).enumerate() {
                    let share = share * gain[k] * gain[l] * size(k) * size(l);
                    to.iter_mut().zip(row).for_each(|(v, c)| *v += share * c);
                }
            }
            for (t, line) in x.chunks_exact_mut(n).enumerate() {
                line.fill(0.);
                for (from, c) in back.chunks_exact(n).zip(&columns[t * count..]) {
                    line.iter_mut().zip(from).for_each(|(v, f)| *v += c * f);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gaussian::{Edge, blur, blur_axis, kernel};

    fn signal(len: usize) -> Complex {
        let at = |i: usize| ((i * i * 7 + 3 * i) % 101) as f64 / 101.;
        Complex { re: (0..len).map(at).collect(), im: (0..len).map(|i| at(i + 13)).collect() }
    }

    #[test]
    fn a_transform_is_its_sum_and_its_inverse_undoes_it() {
        for n in [1, 2, 7, 12, 13, 28, 32, 45] {
            for lanes in [1, 3, 20] {
                let x = signal(n * lanes);
                let mut y = x.clone();
                let fourier = Fourier::new(n);
                fourier.forward(&mut y, lanes);
                for k in 0..n {
                    let (mut re, mut im) = (0., 0.);
                    for t in 0..n {
                        let (s, c) = (-2. * PI * (k * t) as f64 / n as f64).sin_cos();
                        re += x.re[t * lanes] * c - x.im[t * lanes] * s;
                        im += x.re[t * lanes] * s + x.im[t * lanes] * c;
                    }
                    let gap = (re - y.re[k * lanes]).abs() + (im - y.im[k * lanes]).abs();
                    assert!(gap < 1e-11, "{n} {lanes} {k}: {gap}");
                }
                fourier.inverse(&mut y, lanes);
                assert!(x.re.iter().zip(&y.re).chain(x.im.iter().zip(&y.im)).all(|(a, b)| (a - b).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn a_wide_mirrored_filter_is_the_direct_one() {
        for (n, sigma) in [(5, 3.), (8, 1.), (28, 40.), (33, 9.)] {
            let w = kernel(sigma, 3.);
            let lanes = 4;
            let mut x = signal(n * lanes);
            let (mut a, mut b) = (x.re.clone(), x.im.clone());
            filter_mirrored(&mut x, n, lanes, &w);
            blur_axis(&mut a, n, lanes, 1, &w, Edge::Symmetric);
            blur_axis(&mut b, n, lanes, 1, &w, Edge::Symmetric);
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13);
            assert!(close(&x.re, &a) && close(&x.im, &b), "{n} {sigma}");
        }
    }

    #[test]
    fn the_first_cosines_hold_nearly_all_that_a_wide_filter_leaves() {
        for (n, sigma) in [(64, 5.), (33, 9.), (50, 40.)] {
            let w = kernel(sigma, 3.);
            let noise = signal(n * n).re.iter().map(|v| (v * 7919.).fract() - 0.5).collect::<Vec<f64>>();
            let (mut all, mut few, mut direct) = (noise.clone(), noise.clone(), noise);
            smooth_few(&mut all, n, &w, n);
            smooth_few(&mut few, n, &w, (4.3 * n as f64 / (PI * sigma)).ceil() as usize + 1);
            blur(&mut direct, n, n, 1, &w, Edge::Symmetric);
            let gap = |a: &[f64]| a.iter().zip(&direct).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            let power = direct.iter().map(|v| v * v).sum::<f64>();
            assert!(gap(&all) < 1e-24 * power && gap(&few) < 1e-4 * power, "{n} {sigma}: {}", gap(&few) / power);
        }
    }

    #[test]
    fn a_transposed_matrix_comes_back() {
        let x = signal(37 * 21);
        assert_eq!(x.transposed(37).transposed(21), x);
        assert_eq!(x.transposed(37).re[1], x.re[21]);
    }
}
