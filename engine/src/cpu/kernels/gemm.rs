//! Matrix products of the `gemm` crate behind bounds checks: the only unsafe code outside vector kernels.
//!
//! One call runs on one thread, so the order of its sums depends on its dimensions alone; callers run many calls in
//! parallel and keep the dimensions of each independent of the batch.

use crate::cpu::Float;

/// A strided view of a matrix inside a slice.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, F> {
    data: &'a [F],
    rows: usize,
    cols: usize,
    strides: [usize; 2],
}

impl<'a, F> Mat<'a, F> {
    /// Row-major `[rows, cols]`, whose rows start `stride` entries apart.
    pub(crate) fn rows(data: &'a [F], rows: usize, cols: usize, stride: usize) -> Self {
        Self { data, rows, cols, strides: [stride, 1] }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, strides: [self.strides[1], self.strides[0]], ..self }
    }

    fn fits(&self) -> bool {
        let last = |n: usize, stride: usize| n.checked_sub(1).and_then(|n| n.checked_mul(stride));
        match (last(self.rows, self.strides[0]), last(self.cols, self.strides[1])) {
            (Some(a), Some(b)) => a.checked_add(b).is_some_and(|end| end < self.data.len()),
            _ => false,
        }
    }
}

/// `out = a b`, or `out += a b`; `out` is row-major with rows `stride` entries apart, as many as `a` has.
///
/// # Panics
/// When a view reaches beyond its slice or sizes disagree: callers derive them from checked shapes.
pub(crate) fn gemm<F: Float>(out: &mut [F], stride: usize, accumulate: bool, a: Mat<'_, F>, b: Mat<'_, F>) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let target = Mat::rows(&*out, m, n, stride);
    assert!(b.rows == k && a.fits() && b.fits() && target.fits() && stride >= n, "matrix views must fit their slices");
    let [a_rs, a_cs] = a.strides.map(|s| s as isize);
    let [b_rs, b_cs] = b.strides.map(|s| s as isize);
    // SAFETY: `fits` bounds every address the three views can name, `stride >= n` keeps the rows of `out` apart, and
    // `out` is borrowed mutably, so it overlaps neither `a` nor `b`. gemm accepts f32 and f64, the types of `Float`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a_cs,
            a_rs,
            b.data.as_ptr(),
            b_cs,
            b_rs,
            F::ONE,
            F::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
