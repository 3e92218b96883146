//! Elementwise functions of two values with numpy broadcasting. Ties of max and min share the gradient evenly.

use super::array::{Array, broadcast_strides};
use super::site::{Pulled, Saves, Site};
use super::view::expand;
use crate::cpu::Float;
use crate::graph::Binary;
use robust_core::{Error, Result};

pub(super) fn saves(kind: Binary) -> Saves {
    match kind {
        Binary::Add | Binary::Sub => Saves::NOTHING,
        _ => Saves::INPUTS,
    }
}

pub(super) fn forward<F: Float>(kind: Binary, a: Array<F>, b: Array<F>, dims: Vec<usize>) -> Result<Array<F>> {
    match kind {
        Binary::Add => apply(a, b, &dims, |a, b| a + b),
        Binary::Sub => apply(a, b, &dims, |a, b| a - b),
        Binary::Mul => apply(a, b, &dims, |a, b| a * b),
        Binary::Div => apply(a, b, &dims, |a, b| a / b),
        Binary::Pow => apply(a, b, &dims, power),
        Binary::Max => apply(a, b, &dims, |a, b| if b > a || b.nan() { b } else { a }),
        Binary::Min => apply(a, b, &dims, |a, b| if b < a || b.nan() { b } else { a }),
    }
}

fn apply<F: Float>(a: Array<F>, b: Array<F>, dims: &[usize], f: impl Fn(F, F) -> F + Sync) -> Result<Array<F>> {
    if a.dims == dims {
        let b = align(b, dims)?;
        return Ok(a.zip_cyclic(&b, f));
    }
    if b.dims == dims {
        let a = align(a, dims)?;
        return Ok(b.zip_cyclic(&a, |b, a| f(a, b)));
    }
    let b = align(b, dims)?;
    Ok(expand(&a, dims)?.zip_cyclic(&b, f))
}

/// The second value where the first is not 0, else the third.
pub(super) fn choose<F: Float>(inputs: &[Array<F>], dims: &[usize]) -> Result<Array<F>> {
    let [mask, yes, no] = inputs else { return Err(Error::internal("a choice needs three values")) };
    let (mask, yes, no) = (expand(mask, dims)?, expand(yes, dims)?, expand(no, dims)?);
    let out = mask.data().iter().zip(yes.data().iter().zip(no.data()));
    let out = out.map(|(m, (y, n))| if *m == F::ZERO { *n } else { *y }).collect();
    Ok(Array::new(dims.to_vec(), out))
}

pub(super) fn pull_choice<F: Float>(site: &Site<'_, F>, grad: &Array<F>) -> Result<Pulled<F>> {
    let mask = expand(site.input(0)?, &grad.dims)?;
    let part = |i: usize, chosen: bool| -> Result<Option<Array<F>>> {
        if !site.wants[i] {
            return Ok(None);
        }
        let own = grad.clone().zip(&mask, |g, m| if (m != F::ZERO) == chosen { g } else { F::ZERO });
        own.sum_to(&site.input_dims[i]).map(Some)
    };
    let none = site.wants[0].then(|| Array::zeros(site.input_dims[0].clone()));
    Ok(Pulled { inputs: vec![none, part(1, true)?, part(2, false)?], params: vec![] })
}

/// `x` read as one row of `dims` if it is the same for every row, else as all of `dims`.
fn align<F: Float>(x: Array<F>, dims: &[usize]) -> Result<Array<F>> {
    if x.dims == dims {
        return Ok(x);
    }
    let strides = broadcast_strides(&x.dims, dims)?;
    match (strides.as_slice(), dims) {
        ([0, ..], [_, row @ ..]) => {
            let one: Vec<usize> = std::iter::once(1).chain(row.iter().copied()).collect();
            expand(&x, &one)
        }
        _ => expand(&x, dims),
    }
}

pub(super) fn pull<F: Float>(kind: Binary, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let mut inputs = vec![None, None];
    for (side, slot) in inputs.iter_mut().enumerate().filter(|(side, _)| site.wants[*side]) {
        let g = match (kind, side) {
            (Binary::Add, _) | (Binary::Sub, 0) => grad.clone(),
            (Binary::Sub, _) => grad.clone().map(|g| -g),
            _ => {
                let (a, b) = (expand(site.input(0)?, &grad.dims)?, align(site.input(1)?.clone(), &grad.dims)?);
                a.zip_cyclic(&b, |a, b| slope(kind, side, a, b)).zip(&grad, |s, g| s * g)
            }
        };
        *slot = Some(g.sum_to(&site.input_dims[side])?);
    }
    Ok(Pulled { inputs, params: vec![] })
}

fn slope<F: Float>(kind: Binary, side: usize, a: F, b: F) -> F {
    let pick = |wins: bool| match () {
        () if a == b => F::of(0.5),
        () if wins => F::ONE,
        () => F::ZERO,
    };
    match (kind, side) {
        (Binary::Add | Binary::Sub, 0) | (Binary::Add, _) => F::ONE,
        (Binary::Sub, _) => -F::ONE,
        (Binary::Mul, 0) => b,
        (Binary::Mul, _) => a,
        (Binary::Div, 0) => F::ONE / b,
        (Binary::Div, _) => -a / (b * b),
        (Binary::Pow, 0) if b == F::ZERO => F::ZERO,
        (Binary::Pow, 0) => b * power(a, b - F::ONE),
        (Binary::Pow, _) if a == F::ZERO && b >= F::ZERO => F::ZERO,
        (Binary::Pow, _) => power(a, b) * a.ln(),
        (Binary::Max, 0) => pick(a > b),
        (Binary::Max, _) => pick(b > a),
        (Binary::Min, 0) => pick(a < b),
        (Binary::Min, _) => pick(b < a),
    }
}

/// Squares, roots and their like exactly: normalisation layers are built of them.
fn power<F: Float>(a: F, b: F) -> F {
    match () {
        () if b == F::ONE => a,
        () if b == F::of(2.) => a * a,
        () if b == F::of(0.5) && a >= F::ZERO => a.sqrt(),
        () => a.pow(b),
    }
}
