//! The largest entries of each line, the others set to zero. Of equal entries the first ones win.

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
