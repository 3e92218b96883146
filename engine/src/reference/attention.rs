//! Softmax attention of several heads (Vaswani et al. 2017), one head of one row at a time.

use super::array::Array;
use super::site::{Pulled, Site};
use super::softmax;
use crate::cpu::Float;
use crate::cpu::kernels::gemm::{Mat, gemm};
use crate::network::Op;
use rayon::prelude::*;
use robust_core::{Error, Result};

/// Sizes of one call.
struct Heads {
    heads: usize,
    /// Entries of a token, and of a head of it.
    width: usize,
    depth: usize,
    asking: usize,
    asked: usize,
    scale: f64,
}

impl Heads {
    fn new(op: &Op, q: &[usize], k: &[usize]) -> Result<Self> {
        match (op, q, k) {
            (&Op::Attention { heads, scale }, &[_, asking, width], &[_, asked, _]) => {
                Ok(Self { heads, width, depth: width / heads, asking, asked, scale })
            }
            _ => Err(Error::internal("not an attention")),
        }
    }

    /// One head's `[tokens, depth]` of a row.
    fn head<'a, F: Float>(&self, row: &'a [F], head: usize, tokens: usize) -> Mat<'a, F> {
        Mat::rows(&row[head * self.depth..], tokens, self.depth, self.width)
    }

    /// The weights `[asking, asked]` of one head.
    fn weights<F: Float>(&self, q: &[F], k: &[F], head: usize) -> Array<F> {
        let mut scores = vec![F::ZERO; self.asking * self.asked];
        let keys = self.head(k, head, self.asked).transposed();
        gemm(&mut scores, self.asked, false, self.head(q, head, self.asking), keys);
        scores.iter_mut().for_each(|s| *s *= F::of(self.scale));
        softmax::forward(Array::new(vec![self.asking, self.asked], scores), 1, false)
    }
}

pub(super) fn forward<F: Float>(op: &Op, inputs: &[Array<F>], dims: Vec<usize>) -> Result<Array<F>> {
    let [q, k, v] = inputs else { return Err(Error::internal("attention needs three inputs")) };
    let h = Heads::new(op, &q.dims, &k.dims)?;
    let mut out = vec![F::ZERO; dims.iter().product()];
    let asked = k.data().par_chunks(k.row_len()).zip(v.data().par_chunks(v.row_len()));
    let rows = out.par_chunks_mut(q.row_len()).zip(q.data().par_chunks(q.row_len()));
    rows.zip(asked).for_each(|((out, q), (k, v))| {
        for head in 0..h.heads {
            let weights = h.weights(q, k, head);
            let weights = Mat::rows(weights.data(), h.asking, h.asked, h.asked);
            gemm(&mut out[head * h.depth..], h.width, false, weights, h.head(v, head, h.asked));
        }
    });
    Ok(Array::new(dims, out))
}

pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let (q, k, v) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let h = Heads::new(op, &q.dims, &k.dims)?;
    let mut grads = [q, k, v].map(|x| vec![F::ZERO; x.data().len()]);
    let [dq, dk, dv] = &mut grads;
    let gives = dq.par_chunks_mut(q.row_len()).zip(dk.par_chunks_mut(k.row_len()));
    let gives = gives.zip(dv.par_chunks_mut(v.row_len()));
    let reads = q.data().par_chunks(q.row_len()).zip(k.data().par_chunks(k.row_len()));
    let reads = reads.zip(v.data().par_chunks(v.row_len())).zip(grad.data().par_chunks(grad.row_len()));
    gives.zip(reads).for_each(|(((dq, dk), dv), (((q, k), v), g))| {
        for head in 0..h.heads {
            let from = head * h.depth;
            let weights = h.weights(q, k, head);
            let g = h.head(g, head, h.asking);
            gemm(
                &mut dv[from..],
                h.width,
                false,
                Mat::rows(weights.data(), h.asking, h.asked, h.asked).transposed(),
                g,
            );
            let mut slopes = vec![F::ZERO; h.asking * h.asked];
            gemm(&mut slopes, h.asked, false, g, h.head(v, head, h.asked).transposed());
            let slopes = softmax::pull(&weights, 1, false, Array::new(weights.dims.clone(), slopes));
            let slopes = slopes.map(|s| s * F::of(h.scale));
            let slopes = Mat::rows(slopes.data(), h.asking, h.asked, h.asked);
            gemm(&mut dq[from..], h.width, false, slopes, h.head(k, head, h.asked));
            gemm(&mut dk[from..], h.width, false, slopes.transposed(), h.head(q, head, h.asking));
        }
    });
    let inputs = grads.into_iter().zip([q, k, v]).map(|(d, x)| Some(Array::new(x.dims.clone(), d))).collect();
    Ok(Pulled { inputs, params: vec![] })
}
