//! The largest entries of each line, the others set to zero, or the entries in order. Of equal entries the first ones win.

use super::array::Array;
use crate::cpu::Float;
use rayon::prelude::*;

fn last<F: Float>(x: &Array<F>) -> usize {
    x.dims.last().copied().unwrap_or(1).max(1)
}

/// Sets the entries of `out` to zero where `line` has more than `k - 1` larger ones. NaN counts as largest: it stays seen.
fn mask<F: Float>(line: &[F], out: &mut [F], k: usize) {
    if k >= line.len() {
        return;
    }
    let mut order: Vec<usize> = (0..line.len()).collect();
    let wide = |i: usize| if line[i].nan() { f64::INFINITY } else { line[i].wide() };
    order.select_nth_unstable_by(k, |&a, &b| wide(b).total_cmp(&wide(a)).then(a.cmp(&b)));
    order[k..].iter().for_each(|&i| out[i] = F::ZERO);
}

pub(super) fn forward<F: Float>(x: Array<F>, k: usize) -> Array<F> {
    pull(&x.clone(), k, x)
}

pub(super) fn pull<F: Float>(x: &Array<F>, k: usize, grad: Array<F>) -> Array<F> {
    let (size, dims) = (last(x), grad.dims.clone());
    let mut out = grad.into_vec();
    out.par_chunks_mut(size).zip(x.data().par_chunks(size)).for_each(|(out, line)| mask(line, out, k));
    Array::new(dims, out)
}

/// Places of the `k` largest or smallest entries of a line, in order. NaN counts as largest.
fn order<F: Float>(line: &[F], k: usize, largest: bool) -> Vec<usize> {
    let wide = |i: usize| if line[i].nan() { f64::INFINITY } else { line[i].wide() + 0. };
    let mut all: Vec<usize> = (0..line.len()).collect();
    all.sort_by(|&a, &b| match largest {
        true => wide(b).total_cmp(&wide(a)),
        false => wide(a).total_cmp(&wide(b)),
    });
    all.truncate(k);
    all
}

pub(super) fn sorted<F: Float>(x: &Array<F>, k: usize, largest: bool, dims: Vec<usize>) -> Array<F> {
    let mut out = vec![F::ZERO; dims.iter().product()];
    out.par_chunks_mut(k.max(1)).zip(x.data().par_chunks(last(x))).for_each(|(out, line)| {
        out.iter_mut().zip(order(line, k, largest)).for_each(|(o, at)| *o = line[at]);
    });
    Array::new(dims, out)
}

pub(super) fn pull_sorted<F: Float>(x: &Array<F>, k: usize, largest: bool, grad: &Array<F>) -> Array<F> {
    let mut out = vec![F::ZERO; x.data().len()];
    let lines = out.par_chunks_mut(last(x)).zip(x.data().par_chunks(last(x)).zip(grad.data().par_chunks(k.max(1))));
    lines.for_each(|(out, (line, grad))| {
        order(line, k, largest).into_iter().zip(grad).for_each(|(at, g)| out[at] = *g);
    });
    Array::new(x.dims.clone(), out)
}
