//! Softmax attention of several heads (Vaswani et al. 2017), one head of one window of one row at a time.

use super::array::Array;
use super::site::{Pulled, Site};
use super::softmax;
use crate::cpu::Float;
use crate::cpu::kernels::gemm::{Mat, gemm};
use crate::graph::Op;
use rayon::prelude::*;
use robust_core::{Error, Result};

/// Sizes of one call; a window is `[tokens, width]`.
struct Heads<'a, F> {
    heads: usize,
    /// Entries of a token, and of a head of it.
    width: usize,
    depth: usize,
    asking: usize,
    asked: usize,
    scale: f64,
    /// `[1, windows, heads, asking, asked]`, repeated where it has one of them, and for all rows.
    bias: Option<&'a Array<F>>,
    windows: usize,
}

impl<'a, F: Float> Heads<'a, F> {
    fn new(op: &Op, q: &Array<F>, k: &Array<F>, bias: Option<&'a Array<F>>) -> Result<Self> {
        match (op, &q.dims[..], &k.dims[..]) {
            (&Op::Attention { heads, scale }, &[_, ref lead @ .., asking, width], &[.., asked, _]) => {
                let windows = lead.iter().product();
                Ok(Self { heads, width, depth: width / heads, asking, asked, scale, bias, windows })
            }
            _ => Err(Error::internal("not an attention")),
        }
    }

    /// Entries of a window that asks, and of one that is asked.
    fn sizes(&self) -> [usize; 2] {
        [self.asking * self.width, self.asked * self.width]
    }

    /// One head's `[tokens, depth]` of a window.
    fn head<'b>(&self, window: &'b [F], head: usize, tokens: usize) -> Mat<'b, F> {
        Mat::rows(&window[head * self.depth..], tokens, self.depth, self.width)
    }

    /// Where the bias of a head in window `at` begins.
    fn biased(&self, bias: &Array<F>, at: usize, head: usize) -> usize {
        let (area, all) = (self.asking * self.asked, bias.data().len());
        let heads = bias.dims.iter().rev().nth(2).copied().unwrap_or(1);
        let windows = all / (heads * area);
        (at % self.windows % windows * heads + head % heads) * area
    }

    /// The weights `[asking, asked]` of one head in window `at`, counted over all rows.
    fn weights(&self, q: &[F], k: &[F], at: usize, head: usize) -> Array<F> {
        let area = self.asking * self.asked;
        let mut scores = vec![F::ZERO; area];
        let keys = self.head(k, head, self.asked).transposed();
        gemm(&mut scores, self.asked, false, self.head(q, head, self.asking), keys);
        scores.iter_mut().for_each(|s| *s *= F::of(self.scale));
        if let Some(bias) = self.bias {
            let bias = &bias.data()[self.biased(bias, at, head)..][..area];
            scores.iter_mut().zip(bias).for_each(|(s, b)| *s += *b);
        }
        softmax::forward(Array::new(vec![self.asking, self.asked], scores), 1, false)
    }
}

pub(super) fn forward<F: Float>(op: &Op, inputs: &[Array<F>], dims: Vec<usize>) -> Result<Array<F>> {
    let [q, k, v, bias @ ..] = inputs else { return Err(Error::internal("attention needs three inputs")) };
    let h = Heads::new(op, q, k, bias.first())?;
    let [asking, asked] = h.sizes();
    let mut out = vec![F::ZERO; dims.iter().product()];
    let reads = k.data().par_chunks(asked).zip(v.data().par_chunks(asked));
    let windows = out.par_chunks_mut(asking).zip(q.data().par_chunks(asking)).zip(reads).enumerate();
    windows.for_each(|(at, ((out, q), (k, v)))| {
        for head in 0..h.heads {
            let weights = h.weights(q, k, at, head);
            let weights = Mat::rows(weights.data(), h.asking, h.asked, h.asked);
            gemm(&mut out[head * h.depth..], h.width, false, weights, h.head(v, head, h.asked));
        }
    });
    Ok(Array::new(dims, out))
}

pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let (q, k, v) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let bias = (site.inputs.len() > 3).then(|| site.input(3)).transpose()?;
    let h = Heads::new(op, q, k, bias)?;
    let [asking, asked] = h.sizes();
    let mut grads = [q, k, v].map(|x| vec![F::ZERO; x.data().len()]);
    let [dq, dk, dv] = &mut grads;
    // Slopes of the scores are kept only where the bias wants them.
    let area = h.asking * h.asked;
    let wanted = bias.filter(|_| site.wants.get(3) == Some(&true));
    let mut slopes = vec![F::ZERO; if wanted.is_some() { dq.len() / asking * h.heads * area } else { 0 }];
    let mut kept: Vec<&mut [F]> = slopes.chunks_mut(h.heads * area).collect();
    kept.resize_with(dq.len() / asking, Default::default);
    let gives = dq.par_chunks_mut(asking).zip(dk.par_chunks_mut(asked));
    let gives = gives.zip(dv.par_chunks_mut(asked)).zip(kept);
    let reads = q.data().par_chunks(asking).zip(k.data().par_chunks(asked));
    let reads = reads.zip(v.data().par_chunks(asked)).zip(grad.data().par_chunks(asking));
    gives.zip(reads).enumerate().for_each(|(at, ((((dq, dk), dv), kept), (((q, k), v), g)))| {
        for head in 0..h.heads {
            let from = head * h.depth;
            let weights = h.weights(q, k, at, head);
            let g = h.head(g, head, h.asking);
            let turned = Mat::rows(weights.data(), h.asking, h.asked, h.asked).transposed();
            gemm(&mut dv[from..], h.width, false, turned, g);
            let mut slopes = vec![F::ZERO; area];
            gemm(&mut slopes, h.asked, false, g, h.head(v, head, h.asked).transposed());
            let slopes = softmax::pull(&weights, 1, false, Array::new(weights.dims.clone(), slopes));
            if !kept.is_empty() {
                kept[head * area..][..area].copy_from_slice(slopes.data());
            }
            let slopes = slopes.map(|s| s * F::of(h.scale));
            let slopes = Mat::rows(slopes.data(), h.asking, h.asked, h.asked);
            gemm(&mut dq[from..], h.width, false, slopes, h.head(k, head, h.asked));
            gemm(&mut dk[from..], h.width, false, slopes.transposed(), h.head(q, head, h.asking));
        }
    });
    let mut inputs: Vec<_> =
        grads.into_iter().zip([q, k, v]).map(|(d, x)| Some(Array::new(x.dims.clone(), d))).collect();
    if let Some(bias) = bias {
        inputs.push(wanted.map(|_| {
            let mut sum = vec![F::ZERO; bias.data().len()];
            for (i, one) in slopes.chunks(area).enumerate() {
                let from = h.biased(bias, i / h.heads, i % h.heads);
                sum[from..][..area].iter_mut().zip(one).for_each(|(s, d)| *s += *d);
            }
            Array::new(bias.dims.clone(), sum)
        }));
    }
    Ok(Pulled { inputs, params: vec![] })
}
