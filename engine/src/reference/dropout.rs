//! Dropout (Srivastava et al. 2014), scaled in training as PyTorch does, so that evaluation is the identity.

use super::array::Array;
use super::site::{Remembered, Site};
use crate::cpu::Float;
use rayon::prelude::*;
use robust_core::{Draw, Error, Result};

/// The entries that pass are drawn row by row from the row's own noise: a sample's mask does not depend on its neighbours.
pub(super) fn forward<F: Float>(x: Array<F>, rate: f64, train: Option<&Draw>) -> Result<(Array<F>, Option<Vec<bool>>)> {
    let Some(draw) = train else { return Ok((x, None)) };
    if draw.rows.len() != x.dims[0] {
        return Err(Error::internal(format!("{} rows of noise for {} rows", draw.rows.len(), x.dims[0])));
    }
    let width = x.row_len();
    let mut passed = vec![true; x.data().len()];
    passed.par_chunks_mut(width.max(1)).zip(draw.rows).for_each(|(row, key)| {
        let mut noise = draw.noise(key);
        row.iter_mut().for_each(|p| *p = f64::from(noise.unit()) >= rate);
    });
    Ok((masked(x, &passed, rate), Some(passed)))
}

pub(super) fn pull<F: Float>(grad: Array<F>, rate: f64, site: &Site<'_, F>) -> Result<Array<F>> {
    match site.memory {
        None => Ok(grad),
        Some(_) => match site.memory()? {
            Remembered::Passed(passed) => Ok(masked(grad, passed, rate)),
            _ => Err(Error::internal("the tape lacks a dropout's mask")),
        },
    }
}

fn masked<F: Float>(x: Array<F>, passed: &[bool], rate: f64) -> Array<F> {
    let (dims, scale) = (x.dims.clone(), 1. / (1. - rate));
    let mut data = x.into_vec();
    data.iter_mut().zip(passed).for_each(|(v, p)| *v = if *p { F::of(v.wide() * scale) } else { F::ZERO });
    Array::new(dims, data)
}
