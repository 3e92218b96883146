//! Entries of a row by their places.

use super::array::Array;
use crate::cpu::Float;
use crate::graph::NOWHERE;
use rayon::prelude::*;

/// Entries `from` of each row of `x`; `dims` are those of the result.
pub(super) fn forward<F: Float>(x: &Array<F>, from: &[u32], dims: Vec<usize>) -> Array<F> {
    let rows = dims.iter().product::<usize>() / from.len().max(1);
    let size = x.data().len() / rows.max(1);
    let mut out = vec![F::ZERO; rows * from.len()];
    out.par_chunks_mut(from.len().max(1)).zip(x.data().par_chunks(size.max(1))).for_each(|(out, x)| {
        out.iter_mut().zip(from).filter(|(_, at)| **at != NOWHERE).for_each(|(o, &at)| *o = x[at as usize]);
    });
    Array::new(dims, out)
}

/// `dims` are those of the input. Gradients of entries that were picked several times are added up in order, in f64.
pub(super) fn pull<F: Float>(grad: &Array<F>, from: &[u32], dims: &[usize]) -> Array<F> {
    let rows = grad.data().len() / from.len().max(1);
    let mut out = vec![F::ZERO; dims.iter().product()];
    let size = out.len() / rows.max(1);
    out.par_chunks_mut(size.max(1)).zip(grad.data().par_chunks(from.len().max(1))).for_each(|(out, grad)| {
        let mut sums = vec![0f64; out.len()];
        grad.iter().zip(from).filter(|(_, at)| **at != NOWHERE).for_each(|(g, &at)| sums[at as usize] += g.wide());
        out.iter_mut().zip(sums).for_each(|(o, sum)| *o = F::of(sum));
    });
    Array::new(dims.to_vec(), out)
}
