//! Ops that move entries and compute nothing: each is a strided view read or written.

use super::array::{Array, Odometer};
use super::site::{Pulled, Site};
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
    fn write<F: Float>(&self, dst: &mut [F], row: usize, src: &[F]) {
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

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut out = vec![1; dims.len()];
    (1..dims.len()).rev().for_each(|i| out[i - 1] = out[i] * dims[i]);
    out
}

pub(super) fn transpose<F: Float>(x: &Array<F>, axes: &[usize]) -> Array<F> {
    let from = strides(&x.dims);
    let dims: Vec<usize> = axes.iter().map(|&a| x.dims[a]).collect();
    let strides: Vec<usize> = axes.iter().map(|&a| from[a]).collect();
    let data = View { dims: &dims, strides: &strides, start: 0 }.read(x.data());
    Array::new(dims, data)
}

pub(super) fn pull_transpose<F: Float>(grad: &Array<F>, axes: &[usize]) -> Array<F> {
    let mut back = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(i, &a)| back[a] = i);
    transpose(grad, &back)
}

/// `x[start, start + step, ...]` along `axis`, `dims[axis]` entries.
pub(super) fn slice<F: Float>(x: &Array<F>, axis: usize, [start, step]: [usize; 2], dims: Vec<usize>) -> Array<F> {
    let mut strides = strides(&x.dims);
    let start = start * strides[axis];
    // With one entry the step is never taken; a hostile one must not overflow.
    strides[axis] = if dims[axis] > 1 { strides[axis] * step } else { strides[axis] };
    let data = View { dims: &dims, strides: &strides, start }.read(x.data());
    Array::new(dims, data)
}

pub(super) fn pull_slice<F: Float>(
    grad: &Array<F>,
    axis: usize,
    [start, step]: [usize; 2],
    dims: &[usize],
) -> Array<F> {
    let full = strides(dims);
    let mut strides = full.clone();
    strides[axis] = if grad.dims[axis] > 1 { full[axis] * step } else { full[axis] };
    let mut out = vec![F::ZERO; dims.iter().product()];
    View { dims: &grad.dims, strides: &strides, start: start * full[axis] }.write(&mut out, full[0], grad.data());
    Array::new(dims.to_vec(), out)
}

pub(super) fn concat<F: Float>(parts: &[Array<F>], axis: usize, dims: Vec<usize>) -> Result<Array<F>> {
    let full = strides(&dims);
    let mut out = vec![F::ZERO; dims.iter().product()];
    let mut at = 0;
    for part in parts {
        let mut own = dims.clone();
        own[axis] = part.dims[axis];
        // A constant piece has 1 where the others have the batch.
        let part = super::binary::expand(part, &own)?;
        View { dims: &own, strides: &full, start: at * full[axis] }.write(&mut out, full[0], part.data());
        at += own[axis];
    }
    Ok(Array::new(dims, out))
}

pub(super) fn pull_concat<F: Float>(site: &Site<'_, F>, axis: usize, grad: &Array<F>) -> Result<Pulled<F>> {
    let mut inputs = vec![];
    let mut at = 0;
    for (dims, wanted) in site.input_dims.iter().zip(&site.wants) {
        let mut own = grad.dims.clone();
        own[axis] = dims[axis];
        inputs.push(if *wanted { Some(slice(grad, axis, [at, 1], own).sum_to(dims)?) } else { None });
        at += dims[axis];
    }
    Ok(Pulled { inputs, params: vec![] })
}

/// Where the input of a padding lies in its output.
fn pad_start(pads: &[(usize, usize)], dims: &[usize]) -> usize {
    let lead = dims.len() - pads.len();
    pads.iter().zip(&strides(dims)[lead..]).map(|((before, _), s)| before * s).sum()
}

pub(super) fn pad<F: Float>(x: &Array<F>, pads: &[(usize, usize)], value: f64, dims: Vec<usize>) -> Array<F> {
    let full = strides(&dims);
    let mut out = vec![F::of(value); dims.iter().product()];
    let row = full.first().copied().unwrap_or(1);
    View { dims: &x.dims, strides: &full, start: pad_start(pads, &dims) }.write(&mut out, row, x.data());
    Array::new(dims, out)
}

pub(super) fn pull_pad<F: Float>(grad: &Array<F>, pads: &[(usize, usize)], dims: &[usize]) -> Array<F> {
    let view = View { dims, strides: &strides(&grad.dims), start: pad_start(pads, &grad.dims) };
    Array::new(dims.to_vec(), view.read(grad.data()))
}
