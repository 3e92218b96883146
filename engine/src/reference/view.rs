//! Entries of a buffer that lie apart, in the order of a shape.

use super::array::{Array, Odometer, broadcast_strides};
use crate::cpu::Float;
use rayon::prelude::*;
use robust_core::Result;

/// Entries `start + sum(index * strides)` of a buffer, in row-major order of `dims`.
pub(super) struct View<'a> {
    pub(super) dims: &'a [usize],
    pub(super) strides: &'a [usize],
    pub(super) start: usize,
}

impl View<'_> {
    /// Calls `visit(position in the view, offset in the buffer, run, stride)` for every run along the last axis.
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (Some((&run, dims)), Some((&stride, strides))) = (self.dims.split_last(), self.strides.split_last()) else {
            return visit(0, self.start, 1, 1);
        };
        let mut at = Odometer::new(dims, strides);
        for i in 0..dims.iter().product() {
            visit(i * run, self.start + at.offset, run, stride);
            at.step();
        }
    }

    /// The viewed entries of `src`.
    pub(super) fn read<F: Float>(&self, src: &[F]) -> Vec<F> {
        let mut out = vec![F::ZERO; self.dims.iter().product()];
        let copy = |view: &View<'_>, out: &mut [F]| {
            view.runs(|to, from, run, stride| match stride {
                1 => out[to..to + run].copy_from_slice(&src[from..from + run]),
                0 => out[to..to + run].fill(src[from]),
                s => out[to..to + run].iter_mut().zip(src[from..].iter().step_by(s)).for_each(|(o, &v)| *o = v),
            });
        };
        match self.dims {
            [] => copy(self, &mut out),
            [_, row @ ..] => {
                let size: usize = row.iter().product();
                out.par_chunks_mut(size.max(1)).enumerate().for_each(|(i, out)| {
                    let start = self.start + i * self.strides[0];
                    copy(&View { dims: row, strides: &self.strides[1..], start }, out);
                });
            }
        }
        out
    }

    /// Stores `src` at the viewed entries of `dst`, whose rows along axis 0 have `row` entries.
    pub(super) fn write<F: Float>(&self, dst: &mut [F], row: usize, src: &[F]) {
        let store = |view: &View<'_>, dst: &mut [F], src: &[F]| {
            view.runs(|from, to, run, stride| match stride {
                1 => dst[to..to + run].copy_from_slice(&src[from..from + run]),
                s => dst[to..].iter_mut().step_by(s).zip(&src[from..from + run]).for_each(|(d, &v)| *d = v),
            });
        };
        let own_rows = self.strides.first() == Some(&row) && self.start < row && self.dims[0] * row == dst.len();
        if !own_rows {
            return store(self, dst, src);
        }
        let inner = View { dims: &self.dims[1..], strides: &self.strides[1..], start: self.start };
        let size: usize = inner.dims.iter().product();
        dst.par_chunks_mut(row).zip(src.par_chunks(size)).for_each(|(dst, src)| store(&inner, dst, src));
    }
}

/// `x` repeated along its broadcast axes.
pub(super) fn expand<F: Float>(x: &Array<F>, dims: &[usize]) -> Result<Array<F>> {
    if x.dims == dims {
        return Ok(x.clone());
    }
    let strides = broadcast_strides(&x.dims, dims)?;
    Ok(Array::new(dims.to_vec(), View { dims, strides: &strides, start: 0 }.read(x.data())))
}
