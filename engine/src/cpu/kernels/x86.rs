//! AVX2 with FMA, and AVX-512.

use super::simd::Simd;
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Lanes below `n` have their sign bit set.
#[inline(always)]
fn first(n: usize) -> [i32; 8] {
    let mut lanes = [0; 8];
    (0..n.min(8)).for_each(|i| lanes[i] = -1);
    lanes
}

/// The sum of four lanes, halves onto each other.
#[inline(always)]
unsafe fn four(v: __m128) -> f32 {
    // SAFETY: the caller has AVX.
    unsafe {
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
}

macro_rules! plain {
    ($v:ty: $($name:ident ( $($arg:ident: $t:ty),* ) -> $out:ty = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($arg: $t),*) -> $out {
            // SAFETY: the caller promised the instruction set and valid pointers.
            unsafe { $body }
        })*
    };
}

// SAFETY: each function is an instruction or a few; masked loads and stores touch the first `n` entries alone.
unsafe impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const VECTORS: usize = 2;
    plain! { __m256:
        splat(v: f32) -> __m256 = _mm256_set1_ps(v);
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        store(p: *mut f32, v: __m256) -> () = _mm256_storeu_ps(p, v);
        load_part(p: *const f32, n: usize) -> __m256 =
            _mm256_maskload_ps(p, _mm256_loadu_si256(first(n).as_ptr().cast()));
        store_part(p: *mut f32, v: __m256, n: usize) -> () =
            _mm256_maskstore_ps(p, _mm256_loadu_si256(first(n).as_ptr().cast()), v);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fnma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        above(a: __m256, b: __m256) -> u32 = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(a, b)) as u32;
        pick(bits: u32, a: __m256, b: __m256) -> __m256 = {
            let lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lane), lane);
            _mm256_blendv_ps(b, a, _mm256_castsi256_ps(set))
        };
        round(v: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        exp2(v: __m256) -> __m256 = {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        };
        total(v: __m256) -> f32 = four(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)));
    }
}

#[derive(Clone, Copy)]
pub(super) struct Avx512;

#[inline(always)]
fn lanes(n: usize) -> u16 {
    ((1u32 << n.min(16)) - 1) as u16
}

// SAFETY: each function is an instruction or a few; masked loads and stores touch the first `n` entries alone.
unsafe impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const VECTORS: usize = 2;
    plain! { __m512:
        splat(v: f32) -> __m512 = _mm512_set1_ps(v);
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        store(p: *mut f32, v: __m512) -> () = _mm512_storeu_ps(p, v);
        load_part(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(lanes(n), p);
        store_part(p: *mut f32, v: __m512, n: usize) -> () = _mm512_mask_storeu_ps(p, lanes(n), v);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fnma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        above(a: __m512, b: __m512) -> u32 = u32::from(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(a, b));
        pick(bits: u32, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(bits as u16, b, a);
        round(v: __m512) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        exp2(v: __m512) -> __m512 = _mm512_scalef_ps(_mm512_set1_ps(1.), v);
        total(v: __m512) -> f32 = {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), high);
            four(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)))
        };
    }
}
