//! NEON: pairs of four lanes, so that masks are whole bytes.

use super::simd::Simd;
use std::arch::aarch64::*;

#[derive(Clone, Copy)]
pub(super) struct Neon;

type Pair = [float32x4_t; 2];

macro_rules! pairs {
    ($($name:ident ( $($arg:ident),* ) = $call:ident ( $($use:ident),* );)*) => {
        $(#[inline(always)]
        unsafe fn $name($($arg: Pair),*) -> Pair {
            // SAFETY: NEON is part of every aarch64 target.
            unsafe { [$call($($use[0]),*), $call($($use[1]),*)] }
        })*
    };
}

/// Set lanes of four bits, from bit `shift` on.
#[inline(always)]
unsafe fn lanes(bits: u32, shift: u32) -> uint32x4_t {
    let four = [1u32, 2, 4, 8];
    // SAFETY: four entries are read from an array of four.
    unsafe {
        let lane = vld1q_u32(four.as_ptr());
        vtstq_u32(vdupq_n_u32(bits >> shift), lane)
    }
}

#[inline(always)]
unsafe fn not_at_most(a: float32x4_t, b: float32x4_t) -> u32 {
    let four = [1u32, 2, 4, 8];
    // SAFETY: four entries are read from an array of four.
    unsafe { vaddvq_u32(vbicq_u32(vld1q_u32(four.as_ptr()), vcleq_f32(a, b))) }
}

#[inline(always)]
unsafe fn power(v: float32x4_t) -> float32x4_t {
    // SAFETY: arithmetic alone.
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(v), vdupq_n_s32(127)))) }
}

// SAFETY: each function is a few instructions; partial loads and stores go through an array of eight.
unsafe impl Simd for Neon {
    type V = Pair;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Pair {
        // SAFETY: arithmetic alone.
        unsafe { [vdupq_n_f32(v); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Pair {
        // SAFETY: the caller promised eight entries.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Pair) {
        // SAFETY: the caller promised eight entries.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Pair {
        let mut out = [0f32; 8];
        // SAFETY: the caller promised `n` entries, at most eight.
        unsafe {
            std::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), n.min(8));
            Self::load(out.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: Pair, n: usize) {
        let mut out = [0f32; 8];
        // SAFETY: the caller promised `n` entries, at most eight.
        unsafe {
            Self::store(out.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(out.as_ptr(), p, n.min(8));
        }
    }
    pairs! {
        add(a, b) = vaddq_f32(a, b);
        sub(a, b) = vsubq_f32(a, b);
        mul(a, b) = vmulq_f32(a, b);
        div(a, b) = vdivq_f32(a, b);
        fma(a, b, c) = vfmaq_f32(c, a, b);
        fnma(a, b, c) = vfmsq_f32(c, a, b);
        round(v) = vrndnq_f32(v);
        exp2(v) = power(v);
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        // SAFETY: arithmetic alone.
        unsafe { [vbslq_f32(vcgtq_f32(a[0], b[0]), a[0], b[0]), vbslq_f32(vcgtq_f32(a[1], b[1]), a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Pair, b: Pair) -> Pair {
        // SAFETY: arithmetic alone.
        unsafe { [vbslq_f32(vcltq_f32(a[0], b[0]), a[0], b[0]), vbslq_f32(vcltq_f32(a[1], b[1]), a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn above(a: Pair, b: Pair) -> u32 {
        // SAFETY: arithmetic alone.
        unsafe { not_at_most(a[0], b[0]) | (not_at_most(a[1], b[1]) << 4) }
    }
    #[inline(always)]
    unsafe fn pick(bits: u32, a: Pair, b: Pair) -> Pair {
        // SAFETY: arithmetic alone.
        unsafe { [vbslq_f32(lanes(bits, 0), a[0], b[0]), vbslq_f32(lanes(bits, 4), a[1], b[1])] }
    }
}
