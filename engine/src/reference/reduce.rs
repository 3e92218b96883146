//! Mean, sum and maximum over axes: entries in row-major order, sums in f64. Tied maxima share the gradient evenly.

use super::array::{Array, broadcast_strides};
use super::site::{Pulled, Saves, Site};
use super::view::expand;
use crate::cpu::Float;
use crate::graph::Reduction;
use robust_core::Result;

pub(super) fn saves(kind: Reduction) -> Saves {
    if kind == Reduction::Max { Saves::BOTH } else { Saves::NOTHING }
}

/// The input's shape with 1 along the reduced axes.
fn kept(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    dims.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect()
}

pub(super) fn forward<F: Float>(kind: Reduction, x: Array<F>, axes: &[usize], dims: Vec<usize>) -> Result<Array<F>> {
    let kept = kept(&x.dims, axes);
    let count: usize = axes.iter().map(|&a| x.dims[a]).product();
    let out = match kind {
        Reduction::Sum => x.sum_to(&kept)?,
        Reduction::Mean => x.sum_to(&kept)?.map(|v| v / F::of(count as f64)),
        Reduction::Max => max(&x, &kept)?,
    };
    Ok(out.with_dims(dims))
}

fn max<F: Float>(x: &Array<F>, kept: &[usize]) -> Result<Array<F>> {
    let strides = broadcast_strides(kept, &x.dims)?;
    let mut at = super::array::Odometer::new(&x.dims, &strides);
    let mut out = vec![F::of(f64::NEG_INFINITY); kept.iter().product()];
    for &v in x.data() {
        let best = &mut out[at.offset];
        // A NaN wins and stays.
        if v > *best || v.nan() {
            *best = v;
        }
        at.step();
    }
    Ok(Array::new(kept.to_vec(), out))
}

pub(super) fn pull<F: Float>(kind: Reduction, site: &Site<'_, F>, axes: &[usize], grad: Array<F>) -> Result<Pulled<F>> {
    let dims = &site.input_dims[0];
    let kept = kept(dims, axes);
    let grad = grad.with_dims(kept.clone());
    let count: usize = axes.iter().map(|&a| dims[a]).product();
    Ok(Pulled::one(match kind {
        Reduction::Sum => expand(&grad, dims)?,
        Reduction::Mean => expand(&grad.map(|g| g / F::of(count as f64)), dims)?,
        Reduction::Max => {
            let best = expand(&site.output()?.clone().with_dims(kept.clone()), dims)?;
            let wins = best.zip(site.input(0)?, |b, x| if b == x { F::ONE } else { F::ZERO });
            let share = grad.zip(&wins.clone().sum_to(&kept)?, |g, ties| g / ties);
            wins.zip(&expand(&share, dims)?, |w, s| w * s)
        }
    }))
}
