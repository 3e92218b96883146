//! Loops over slices that the compiler turns into the widest vectors of the machine. Sums keep their order and products
//! are never fused with them, so the bits are those of a plain loop on any machine.

use pulp::Arch;

/// Samples handled at once: what fits the registers.
const BLOCK: usize = 16;

/// `out[i] = p[i + r s] w[0] + sum over j = r..1 of (p[i + (r - j) s] + p[i + (r + j) s]) w[j]`: a symmetric filter with
/// the outermost pair added first, as scipy does. `p` holds `2 r s` more samples than `out`, `w` the centre and r weights.
pub fn symmetric(p: &[f64], step: usize, w: &[f64], out: &mut [f64]) {
    wide(
        #[inline(always)]
        || symmetric_loop(p, step, w, out),
    );
}

#[inline(always)]
fn symmetric_loop(p: &[f64], step: usize, w: &[f64], out: &mut [f64]) {
    let r = w.len().saturating_sub(1);
    let Some(&centre) = w.first() else { return };
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let rest_at = blocks.len() * BLOCK;
    for (at, out) in blocks.iter_mut().enumerate().map(|(n, out)| (n * BLOCK, out)) {
        let mut acc = [0.; BLOCK];
        acc.iter_mut().zip(&p[at + r * step..][..BLOCK]).for_each(|(a, v)| *a = v * centre);
        for j in (1..=r).rev() {
            let (left, right) = (&p[at + (r - j) * step..][..BLOCK], &p[at + (r + j) * step..][..BLOCK]);
            for ((a, l), r) in acc.iter_mut().zip(left).zip(right) {
                *a += (l + r) * w[j];
            }
        }
        *out = acc;
    }
    for (n, out) in rest.iter_mut().enumerate() {
        let at = rest_at + n;
        let pairs = (1..=r).rev().map(|j| (p[at + (r - j) * step] + p[at + (r + j) * step]) * w[j]);
        *out = pairs.fold(p[at + r * step] * centre, |a, v| a + v);
    }
}

/// `out[i] = sum of w p[i + offset]` over `taps` of (offset, w), in their order.
pub fn taps(p: &[f64], taps: &[(usize, f64)], out: &mut [f64]) {
    wide(
        #[inline(always)]
        || taps_loop(p, taps, out),
    );
}

#[inline(always)]
fn taps_loop(p: &[f64], taps: &[(usize, f64)], out: &mut [f64]) {
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let rest_at = blocks.len() * BLOCK;
    for (at, out) in blocks.iter_mut().enumerate().map(|(n, out)| (n * BLOCK, out)) {
        let mut acc = [0.; BLOCK];
        for &(offset, w) in taps {
            acc.iter_mut().zip(&p[at + offset..][..BLOCK]).for_each(|(a, v)| *a += v * w);
        }
        *out = acc;
    }
    for (n, out) in rest.iter_mut().enumerate() {
        *out = taps.iter().fold(0., |a, &(offset, w)| a + p[rest_at + n + offset] * w);
    }
}

/// Runs `work` with the widest vectors of the machine: for loops of one's own. A closure that is not inlined is compiled for
/// the oldest machine: write `wide(#[inline(always)] || ...)`. It is `FnMut` though called once, since calling such a closure
/// by value goes through a function of its own.
#[inline(always)]
pub fn wide<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;
        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// Cut off toward zero after clipping to `[0, 255]`: what `np.uint8(np.clip(v, 0, 255))` gives.
#[inline(always)]
#[expect(clippy::manual_clamp, reason = "NaN becomes 0")]
pub fn truncated(v: f64) -> u8 {
    // Added to 2^52 a whole number lies in the lowest bits. A cast would take lanes one by one.
    (v.max(0.).min(255.).floor() + (1u64 << 52) as f64).to_bits() as u8
}

/// [`truncated`] of a single.
#[inline(always)]
#[expect(clippy::manual_clamp, reason = "NaN becomes 0")]
pub fn truncated_f32(v: f32) -> u8 {
    (v.max(0.).min(255.).floor() + (1u32 << 23) as f32).to_bits() as u8
}

/// NumPy's sum of contiguous doubles: pairwise above 128 terms, eight partial sums below.
pub fn numpy_sum(v: &[f64]) -> f64 {
    let n = v.len();
    if n < 8 {
        return v.iter().fold(0., |a, b| a + b);
    }
    if n <= 128 {
        let (blocks, rest) = v.as_chunks::<8>();
        let mut s = [0.; 8];
        for block in blocks {
            s.iter_mut().zip(block).for_each(|(a, b)| *a += b);
        }
        let all = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
        return rest.iter().fold(all, |a, b| a + b);
    }
    let half = n / 2 - (n / 2) % 8;
    numpy_sum(&v[..half]) + numpy_sum(&v[half..])
}

/// e^x for |x| up to 700, correctly rounded in all but one of some 10^9 cases: filters are summed to whole numbers and cut
/// off, where the last bit of a weight decides a level. Slow; for weights.
pub fn exp(x: f64) -> f64 {
    // ln 2 in three parts of which the first two have zeros at their ends.
    const LN2: [f64; 3] = [0.6931471804855391, 7.440617109802979e-11, 2.0941744292700725e-21];
    let k = (x * std::f64::consts::LOG2_E).round_ties_even();
    let (a, e) = two_sum(x - k * LN2[0], -k * LN2[1]);
    let r = (a, e - k * LN2[2]);
    let mut sum = (1., 0.);
    for n in (1..=24).rev() {
        // sum = 1 + r sum / n
        let (p, e) = two_product(sum.0, r.0);
        let e = e + sum.0 * r.1 + sum.1 * r.0;
        let n = f64::from(n);
        let q = p / n;
        let (back, error) = two_product(q, n);
        let rest = ((p - back) - error + e) / n;
        let (s, f) = two_sum(1., q);
        sum = two_sum(s, f + rest);
    }
    libm::ldexp(sum.0 + sum.1, k as i32)
}

/// Sine and cosine within 2e-16 or so for |x| up to 10^5, without a branch: loops over it become vectors.
#[inline(always)]
pub fn sin_cos(x: f64) -> (f64, f64) {
    // Adding 1.5 * 2^52 rounds to a whole number, whose low bits are then those of the sum.
    const ROUND: f64 = 6_755_399_441_055_744.;
    // pi/2 in three parts, the first two of 33 bits (Cody and Waite 1980); polynomials of fdlibm.
    const PART: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21];
    let shifted = x * std::f64::consts::FRAC_2_PI + ROUND;
    let (turns, k) = (shifted.to_bits(), shifted - ROUND);
    let r = ((x - k * PART[0]) - k * PART[1]) - k * PART[2];
    let z = r * r;
    let s = -1.666_666_666_666_663_2e-1
        + z * (8.333_333_333_322_49e-3
            + z * (-1.984_126_982_985_795e-4
                + z * (2.755_731_370_707_006_8e-6 + z * (-2.505_076_025_340_686_3e-8 + z * 1.589_690_995_211_55e-10))));
    let c = 4.166_666_666_666_66e-2
        + z * (-1.388_888_888_887_411e-3
            + z * (2.480_158_728_947_673e-5
                + z * (-2.755_731_435_139_066_3e-7
                    + z * (2.087_572_321_298_175e-9 + z * -1.135_964_755_778_819_5e-11))));
    let (sin, cos) = (r + r * z * s, 1. - 0.5 * z + z * z * c);
    let (sin, cos) = if turns & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let flip = |v: f64, bit: u64| f64::from_bits(v.to_bits() ^ (bit << 63));
    (flip(sin, (turns >> 1) & 1), flip(cos, ((turns >> 1) ^ turns) & 1))
}

/// A sum and its rounding error (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// A product and its rounding error.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let p = a * b;
    (p, libm::fma(a, b, -p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symmetric_filter_is_its_definition_for_any_length() {
        let p: Vec<f64> = (0..200).map(|v| f64::from(v * v % 37)).collect();
        let w = [0.5, 0.2, 0.05];
        for n in [1, 15, 16, 17, 50] {
            let mut out = vec![0.; n];
            symmetric(&p[..n + 12], 3, &w, &mut out);
            for (i, v) in out.iter().enumerate() {
                let want = p[i + 6] * w[0] + (p[i] + p[i + 12]) * w[2] + (p[i + 3] + p[i + 9]) * w[1];
                assert_eq!(*v, want, "{n} {i}");
            }
            let mut same = vec![0.; n];
            taps(&p, &[(0, 0.05), (3, 0.2), (6, 0.5), (9, 0.2), (12, 0.05)], &mut same);
            assert!(out.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    #[test]
    fn powers_of_e_are_rounded_correctly() {
        // From 50-digit decimal arithmetic.
        let known = [
            (0.0, 1.0),
            (-2.0, 0.1353352832366127),
            (-8.0, 0.00033546262790251185),
            (-0.5, 0.6065306597126334),
            (-0.3333333333333333, 0.7165313105737893),
            (-12.5, 3.726653172078671e-06),
            (-100.25, 2.897198083210148e-44),
            (0.7, 2.0137527074704766),
            (-2.6872848822480244, 0.06806549454640964),
            (-16.948674738744653, 4.357968486044411e-08),
            (-15.275492379532281, 2.3224049645945742e-07),
            (-5.101380514788434, 0.006088335723702158),
            (-9.908701741838819, 4.973996904930442e-05),
            (-8.989821295774762, 0.0001246723707263944),
            (-13.031859454455258, 2.1894516043735823e-06),
            (-15.774467022710263, 1.4100548837078868e-07),
            (-1.8771917354846979, 0.15301922138935597),
            (-0.5669495304401262, 0.5672531907233221),
            (-16.715302078397393, 5.5034692469333284e-08),
            (-8.655341358101067, 0.00017419392670035705),
        ];
        for (x, y) in known {
            assert_eq!(exp(x), y, "{x}");
        }
    }

    #[test]
    fn sines_and_cosines_are_those_of_the_library() {
        for i in -40_000..40_000 {
            let x = f64::from(i) * 0.037 + f64::from(i).powi(3) * 1e-9;
            let (sin, cos) = sin_cos(x);
            let gap = (sin - libm::sin(x)).abs().max((cos - libm::cos(x)).abs());
            assert!(gap < 1e-15, "{x}: {gap}");
        }
    }

    #[test]
    fn sums_are_those_of_numpy() {
        // np.sum(np.arange(n) * 0.1) for n = 7, 100, 1000, printed with repr.
        let sum = |n: usize| numpy_sum(&(0..n).map(|v| v as f64 * 0.1).collect::<Vec<_>>());
        assert_eq!([sum(7), sum(100), sum(1000)], [2.1, 495., 49950.]);
    }
}
