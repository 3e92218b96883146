//! Ops that move entries and compute nothing: each is a strided view read or written.

use super::array::Array;
use super::site::{Pulled, Site};
use super::view::{View, expand};
use crate::cpu::Float;
use robust_core::Result;

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
        let part = expand(part, &own)?;
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
