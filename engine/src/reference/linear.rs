//! Matrix products: fully connected layers and products of two values.

use super::array::{Array, broadcast_strides};
use super::site::{Pulled, Site};
use crate::cpu::Float;
use crate::cpu::kernels::gemm::{Mat, gemm};
use crate::graph::{Op, ParamId};
use rayon::prelude::*;
use robust_core::{Error, Result};

/// Rows of one matrix product when a row of the batch has fewer: all products of a layer then have equal dimensions,
/// and a row's sums do not depend on how many rows came with it.
const BLOCK: usize = 16;
/// Rows of a weight gradient one task computes.
const STRIP: usize = 64;

/// `x [rows, k] * w [k, m] + bias [m]` in blocks of `rest` rows (one batch row), or [`BLOCK`] if that is fewer.
fn product<F: Float>(x: &[F], k: usize, w: Mat<'_, F>, m: usize, rest: usize, bias: Option<&[F]>) -> Vec<F> {
    let block = rest.max(BLOCK);
    let mut out = vec![F::ZERO; x.len() / k * m];
    out.par_chunks_mut(block * m).zip(x.par_chunks(block * k)).for_each(|(out, x)| {
        if let Some(bias) = bias {
            out.chunks_mut(m).for_each(|row| row.copy_from_slice(bias));
        }
        if x.len() == block * k {
            gemm(out, m, true, Mat::rows(x, block, k, k), w);
        } else {
            let (mut padded, mut full) = (x.to_vec(), out.to_vec());
            padded.resize(block * k, F::ZERO);
            full.resize(block * m, F::ZERO);
            gemm(&mut full, m, true, Mat::rows(&padded, block, k, k), w);
            out.copy_from_slice(&full[..out.len()]);
        }
    });
    out
}

/// `a^T b` over all rows: `[i, j]` from `a [rows, i]` and `b [rows, j]`.
fn outer<F: Float>(a: &[F], i: usize, b: &[F], j: usize) -> Vec<F> {
    let rows = a.len() / i;
    let mut out = vec![F::ZERO; i * j];
    out.par_chunks_mut(STRIP * j).enumerate().for_each(|(s, out)| {
        let a = Mat::rows(&a[s * STRIP..], rows, out.len() / j, i).transposed();
        gemm(out, j, false, a, Mat::rows(b, rows, j, j));
    });
    out
}

/// Rows of the product that belong to one row of the batch.
fn rest(dims: &[usize]) -> usize {
    dims.get(1..dims.len() - 1).map_or(1, |d| d.iter().product())
}

pub(super) fn forward<F: Float>(
    x: &Array<F>,
    weight: &Array<F>,
    bias: Option<&Array<F>>,
    dims: Vec<usize>,
) -> Array<F> {
    let (o, i) = (weight.dims[0], weight.dims[1]);
    let w = Mat::rows(weight.data(), o, i, i).transposed();
    let out = product(x.data(), i, w, o, rest(&dims), bias.map(Array::data));
    Array::new(dims, out)
}

pub(super) fn pull<F: Float>(
    (weight, bias): (ParamId, Option<ParamId>),
    site: &Site<'_, F>,
    grad: Array<F>,
) -> Result<Pulled<F>> {
    let w = site.param(weight);
    let (o, i) = (w.dims[0], w.dims[1]);
    let mut pulled = Pulled { inputs: vec![None], params: vec![] };
    if site.wants[0] {
        let dims = site.input_dims[0].clone();
        let dx = product(grad.data(), o, Mat::rows(w.data(), o, i, i), i, rest(&dims), None);
        pulled.inputs[0] = Some(Array::new(dims, dx));
    }
    if site.wants_param(weight) {
        let dw = outer(grad.data(), o, site.input(0)?.data(), i);
        pulled.params.push((weight, Array::new(vec![o, i], dw)));
    }
    if let Some(bias) = bias.filter(|b| site.wants_param(*b)) {
        pulled.params.push((bias, grad.sum_to(&[o])?));
    }
    Ok(pulled)
}

/// Sizes of a product of two values: leading axes of the result, then rows, inner, columns.
struct Sizes {
    lead: Vec<usize>,
    m: usize,
    k: usize,
    p: usize,
}

impl Sizes {
    fn new(a: &[usize], b: &[usize], out: &[usize]) -> Result<Self> {
        match (a, b, out) {
            ([.., m, k], [.., _, p], [lead @ .., _, _]) => Ok(Self { lead: lead.to_vec(), m: *m, k: *k, p: *p }),
            _ => Err(Error::internal("a matrix product needs two axes on both sides")),
        }
    }

    /// For each leading index, which matrix of an operand with leading axes `dims` it reads.
    fn matrices(&self, dims: &[usize]) -> Result<Vec<usize>> {
        let strides = broadcast_strides(&dims[..dims.len() - 2], &self.lead)?;
        let mut at = super::array::Odometer::new(&self.lead, &strides);
        let count: usize = self.lead.iter().product();
        Ok((0..count).map(|_| (at.offset, at.step()).0).collect())
    }
}

/// `out[l] = a[l] b[l]` for every leading index, one task each.
fn each<'a, F: Float>(
    count: usize,
    size: usize,
    cols: usize,
    operands: impl Fn(usize) -> (Mat<'a, F>, Mat<'a, F>) + Sync,
) -> Vec<F> {
    let mut out = vec![F::ZERO; count * size];
    out.par_chunks_mut(size).enumerate().for_each(|(l, out)| {
        let (a, b) = operands(l);
        gemm(out, cols, false, a, b);
    });
    out
}

pub(super) fn matmul<F: Float>(a: &Array<F>, b: &Array<F>, dims: Vec<usize>) -> Result<Array<F>> {
    let s = Sizes::new(&a.dims, &b.dims, &dims)?;
    let (m, k, p) = (s.m, s.k, s.p);
    if s.lead.is_empty() {
        return Ok(Array::new(dims, product(a.data(), k, Mat::rows(b.data(), k, p, p), p, 1, None)));
    }
    let (of_a, of_b) = (s.matrices(&a.dims)?, s.matrices(&b.dims)?);
    let out = each(of_a.len(), m * p, p, |l| {
        (Mat::rows(&a.data()[of_a[l] * m * k..], m, k, k), Mat::rows(&b.data()[of_b[l] * k * p..], k, p, p))
    });
    Ok(Array::new(dims, out))
}

pub(super) fn pull_matmul<F: Float>(site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let (a, b) = (&site.input_dims[0], &site.input_dims[1]);
    let s = Sizes::new(a, b, &grad.dims)?;
    let (m, k, p) = (s.m, s.k, s.p);
    let (of_a, of_b) = (s.matrices(a)?, s.matrices(b)?);
    let of_g = |l: usize| Mat::rows(&grad.data()[l * m * p..], m, p, p);
    let full = |rows, cols| s.lead.iter().copied().chain([rows, cols]).collect::<Vec<_>>();
    let mut pulled = Pulled { inputs: vec![None, None], params: vec![] };
    if site.wants[0] {
        let right = site.input(1)?.data();
        let da = if s.lead.is_empty() {
            product(grad.data(), p, Mat::rows(right, k, p, p).transposed(), k, 1, None)
        } else {
            each(of_b.len(), m * k, k, |l| (of_g(l), Mat::rows(&right[of_b[l] * k * p..], k, p, p).transposed()))
        };
        pulled.inputs[0] = Some(Array::new(full(m, k), da).sum_to(a)?);
    }
    if site.wants[1] {
        let left = site.input(0)?;
        pulled.inputs[1] = Some(if b.len() == 2 && left.data().len() / k == grad.data().len() / p {
            Array::new(vec![k, p], outer(left.data(), k, grad.data(), p))
        } else {
            let left = left.data();
            let db =
                each(of_a.len(), k * p, p, |l| (Mat::rows(&left[of_a[l] * m * k..], m, k, k).transposed(), of_g(l)));
            Array::new(full(k, p), db).sum_to(b)?
        });
    }
    Ok(pulled)
}

/// The weights of a linear op.
pub(super) fn ids(op: &Op) -> Result<(ParamId, Option<ParamId>)> {
    match op {
        Op::Linear { weight, bias } => Ok((*weight, *bias)),
        _ => Err(Error::internal("not a linear layer")),
    }
}
