//! Softmax and its logarithm along one axis; maxima are subtracted first, sums are taken in f64 in order.

use super::array::Array;
use crate::cpu::Float;
use rayon::prelude::*;

/// Calls `f` with every line along `axis`: a block of entries and the line's positions in it.
fn lines<F: Float>(data: &mut [F], other: Option<&[F]>, dims: &[usize], axis: usize, f: impl Fn(Line<'_, F>) + Sync) {
    let (len, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let block = len * inner;
    data.par_chunks_mut(block).enumerate().for_each(|(i, data)| {
        let other = other.map(|o| &o[i * block..][..block]);
        for from in 0..inner {
            f(Line { data: &mut *data, other: other.unwrap_or(&[]), from, step: inner, len });
        }
    });
}

struct Line<'a, F> {
    data: &'a mut [F],
    other: &'a [F],
    from: usize,
    step: usize,
    len: usize,
}

impl<F: Float> Line<'_, F> {
    fn places(&self) -> impl Iterator<Item = usize> + use<F> {
        let (from, step) = (self.from, self.step);
        (0..self.len).map(move |i| from + i * step)
    }

    fn max(&self) -> F {
        self.places().skip(1).fold(self.data[self.from], |m, i| if self.data[i] > m { self.data[i] } else { m })
    }

    /// Sum of `f` over the line.
    fn sum(&self, f: impl Fn(usize) -> f64) -> f64 {
        self.places().map(f).sum()
    }
}

pub(super) fn forward<F: Float>(x: Array<F>, axis: usize, log: bool) -> Array<F> {
    let dims = x.dims.clone();
    let mut data = x.into_vec();
    lines(&mut data, None, &dims, axis, |line| {
        let max = line.max();
        if log {
            let norm = max.wide() + libm::log(line.sum(|i| (line.data[i] - max).exp().wide()));
            line.places().for_each(|i| line.data[i] = F::of(line.data[i].wide() - norm));
        } else {
            line.places().for_each(|i| line.data[i] = (line.data[i] - max).exp());
            let scale = F::of(1. / line.sum(|i| line.data[i].wide()));
            line.places().for_each(|i| line.data[i] *= scale);
        }
    });
    Array::new(dims, data)
}

/// From the output `y`: `y (g - sum g y)`, or `g - exp(y) sum g` for the logarithm.
pub(super) fn pull<F: Float>(y: &Array<F>, axis: usize, log: bool, grad: Array<F>) -> Array<F> {
    let dims = grad.dims.clone();
    let mut data = grad.into_vec();
    lines(&mut data, Some(y.data()), &dims, axis, |line| {
        let y = line.other;
        if log {
            let sum = F::of(line.sum(|i| line.data[i].wide()));
            line.places().for_each(|i| line.data[i] -= y[i].exp() * sum);
        } else {
            let dot = F::of(line.sum(|i| line.data[i].wide() * y[i].wide()));
            line.places().for_each(|i| line.data[i] = y[i] * (line.data[i] - dot));
        }
    });
    Array::new(dims, data)
}
