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
