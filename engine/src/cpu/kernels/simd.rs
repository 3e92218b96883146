//! What a vector kernel may ask of an instruction set. Kernels are written once over [`Simd`] and compiled once for each set.

/// A set of vector instructions on f32.
///
/// # Safety
/// Every function may be called only on a processor that has the instructions; pointers must be valid for `LANES` (or
/// `n`) entries. They need not be aligned. An implementation must not touch memory beyond those entries.
pub(super) unsafe trait Simd: Copy + 'static {
    type V: Copy;
    const LANES: usize;
    /// Rows and vectors of a tile of a matrix product: as many sums as the registers hold.
    const ROWS: usize;
    const VECTORS: usize;

    unsafe fn splat(v: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` entries (1 to `LANES`), zeros behind them.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    unsafe fn store_part(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a b + c`, rounded once where the set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a b`.
    unsafe fn fnma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of `a` and `b`; `b` where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of `a` and `b`; `b` where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Bit `i` is set where entry `i` of `a` is not at most that of `b` (also where one is NaN).
    unsafe fn above(a: Self::V, b: Self::V) -> u32;
    /// `a` where the bit is set, `b` elsewhere.
    unsafe fn pick(bits: u32, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integers.
    unsafe fn round(v: Self::V) -> Self::V;
    /// 2 to integers from -126 to 127.
    unsafe fn exp2(v: Self::V) -> Self::V;

    /// `v` where the bit is set, 0 elsewhere.
    #[inline(always)]
    unsafe fn keep(bits: u32, v: Self::V) -> Self::V {
        // SAFETY: as the caller promised.
        unsafe { Self::pick(bits, v, Self::splat(0.)) }
    }
    /// The first `n` entries, `LANES` or fewer.
    #[inline(always)]
    unsafe fn load_up_to(p: *const f32, n: usize) -> Self::V {
        // SAFETY: as the caller promised for `n` entries.
        unsafe { if n >= Self::LANES { Self::load(p) } else { Self::load_part(p, n) } }
    }
    #[inline(always)]
    unsafe fn store_up_to(p: *mut f32, v: Self::V, n: usize) {
        // SAFETY: as the caller promised for `n` entries.
        unsafe { if n >= Self::LANES { Self::store(p, v) } else { Self::store_part(p, v, n) } }
    }
    /// The sum of all entries, in a fixed order.
    #[inline(always)]
    unsafe fn total(v: Self::V) -> f32 {
        let mut lanes = [0f32; 16];
        // SAFETY: 16 entries are at least `LANES`.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        let mut n = Self::LANES;
        while n > 1 {
            n /= 2;
            (0..n).for_each(|i| lanes[i] += lanes[i + n]);
        }
        lanes[0]
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        let mut lanes = [0f32; 16];
        // SAFETY: 16 entries are at least `LANES`.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        lanes[1..Self::LANES].iter().fold(lanes[0], |m, &v| if v <= m { m } else { v })
    }
}

/// Eight entries in plain Rust: what the compiler makes of it runs anywhere.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type Eight = [f32; 8];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> Eight {
    let mut out = [0.; 8];
    (0..8).for_each(|i| out[i] = f(i));
    out
}

// SAFETY: plain Rust; only the loads and stores touch memory, and only what the trait allows.
unsafe impl Simd for Portable {
    type V = Eight;
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Eight {
        [v; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Eight {
        // SAFETY: the caller promised eight entries.
        unsafe { p.cast::<Eight>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Eight) {
        // SAFETY: the caller promised eight entries.
        unsafe { p.cast::<Eight>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Eight {
        let mut out = [0.; 8];
        // SAFETY: the caller promised `n` entries, at most eight.
        unsafe { std::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), n.min(8)) };
        out
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: Eight, n: usize) {
        // SAFETY: the caller promised `n` entries, at most eight.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n.min(8)) };
    }
    #[inline(always)]
    unsafe fn add(a: Eight, b: Eight) -> Eight {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Eight, b: Eight) -> Eight {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Eight, b: Eight) -> Eight {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Eight, b: Eight) -> Eight {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Eight, b: Eight, c: Eight) -> Eight {
        each(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn fnma(a: Eight, b: Eight, c: Eight) -> Eight {
        each(|i| c[i] - a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Eight, b: Eight) -> Eight {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Eight, b: Eight) -> Eight {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn above(a: Eight, b: Eight) -> u32 {
        (0..8).fold(0, |bits, i| bits | (u32::from(a[i] > b[i] || a[i].is_nan() || b[i].is_nan()) << i))
    }
    #[inline(always)]
    unsafe fn pick(bits: u32, a: Eight, b: Eight) -> Eight {
        each(|i| if (bits >> i) & 1 == 1 { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn round(v: Eight) -> Eight {
        each(|i| v[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn exp2(v: Eight) -> Eight {
        each(|i| f32::from_bits(((v[i] as i32 + 127) << 23) as u32))
    }
}
