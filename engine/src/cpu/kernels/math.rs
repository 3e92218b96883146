//! Transcendental functions on vectors, within a few roundings of f32.

use super::simd::Simd;

/// `e^v`, for arguments clamped to where the result is a normal number; NaN stays.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(v: S::V) -> S::V {
    // SAFETY: arithmetic alone.
    unsafe {
        let v = S::min(S::splat(88.), S::max(S::splat(-87.), v));
        let n = S::round(S::mul(v, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first exact in products with n.
        let r = S::fnma(n, S::splat(0.693_359_4), v);
        let r = S::fnma(n, S::splat(-2.121_944_4e-4), r);
        // e^r on [-ln 2 / 2, ln 2 / 2] by its Taylor series, whose next term is below 2e-9.
        let mut p = S::splat(1. / 5040.);
        for c in [1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1., 1.] {
            p = S::fma(p, r, S::splat(c));
        }
        S::mul(p, S::exp2(n))
    }
}

/// `1 / (1 + e^-v)`.
#[inline(always)]
pub(super) unsafe fn sigmoid<S: Simd>(v: S::V) -> S::V {
    // SAFETY: arithmetic alone.
    unsafe {
        let one = S::splat(1.);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.), v))))
    }
}

/// The normal distribution's cumulative probability and density (Abramowitz and Stegun 7.1.26, within 1.5e-7).
#[inline(always)]
pub(super) unsafe fn normal<S: Simd>(v: S::V) -> (S::V, S::V) {
    // SAFETY: arithmetic alone.
    unsafe {
        let (one, zero) = (S::splat(1.), S::splat(0.));
        let negative = S::above(zero, v);
        let size = S::pick(negative, S::sub(zero, v), v);
        let z = S::mul(size, S::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = S::div(one, S::fma(z, S::splat(0.327_591_1), one));
        let mut p = S::splat(1.061_405_4);
        for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
            p = S::fma(p, t, S::splat(c));
        }
        let e = exp::<S>(S::sub(zero, S::mul(z, z)));
        // The tail beyond |v|, half of what erfc gives.
        let tail = S::mul(S::mul(S::mul(p, t), e), S::splat(0.5));
        let below = S::pick(negative, tail, S::sub(one, tail));
        (below, S::mul(e, S::splat(0.398_942_3)))
    }
}

/// Where [`sin_cos`] stops reducing by itself: multiples of pi have at most 12 bits until there.
const FAR: f32 = 8192.;

/// Sine and cosine of radians, within two roundings of 1.
#[inline(always)]
pub(super) unsafe fn sin_cos<S: Simd>(v: S::V) -> (S::V, S::V) {
    // SAFETY: arithmetic, and stores to arrays of 16 entries, which are at least `LANES`.
    unsafe {
        let (one, half) = (S::splat(1.), S::splat(0.5));
        let far = S::above(S::max(v, S::sub(S::splat(0.), v)), S::splat(FAR));
        let near = S::pick(far, S::splat(0.), v);
        let n = S::round(S::mul(near, S::splat(std::f32::consts::FRAC_1_PI)));
        // pi in three parts, the first two exact in products with n.
        let mut r = near;
        for part in [3.140_625, 9.675_026e-4, 1.509_958e-7] {
            r = S::fnma(n, S::splat(part), r);
        }
        let square = S::mul(r, r);
        // Taylor series on [-pi / 2, pi / 2], whose next terms are below 1e-9.
        let mut p = S::splat(1. / 6_227_020_800.);
        for c in [-1. / 39_916_800., 1. / 362_880., -1. / 5040., 1. / 120., -1. / 6.] {
            p = S::fma(p, square, S::splat(c));
        }
        let sin = S::fma(S::mul(r, square), p, r);
        let mut p = S::splat(-1. / 87_178_291_200.);
        for c in [1. / 479_001_600., -1. / 3_628_800., 1. / 40_320., -1. / 720., 1. / 24., -0.5, 1.] {
            p = S::fma(p, square, S::splat(c));
        }
        // Odd multiples of pi turn the sign.
        let odd = S::fnma(S::splat(2.), S::round(S::mul(n, half)), n);
        let sign = S::fnma(S::mul(odd, odd), S::splat(2.), one);
        let (sin, cos) = (S::mul(sin, sign), S::mul(p, sign));
        if far == 0 {
            return (sin, cos);
        }
        // Lane by lane, so that an entry's bits do not depend on its neighbours; NaN comes here too.
        let [mut sines, mut cosines, mut all] = [[0f32; 16]; 3];
        S::store(all.as_mut_ptr(), v);
        S::store(sines.as_mut_ptr(), sin);
        S::store(cosines.as_mut_ptr(), cos);
        for i in (0..S::LANES).filter(|i| far >> i & 1 == 1) {
            (sines[i], cosines[i]) = (libm::sinf(all[i]), libm::cosf(all[i]));
        }
        (S::load(sines.as_ptr()), S::load(cosines.as_ptr()))
    }
}
