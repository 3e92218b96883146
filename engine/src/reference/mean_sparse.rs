//! MeanSparse (Amini et al. 2024): entries near their channel's mean become the mean.

use super::array::Array;
use super::site::{Pulled, Site};
use crate::cpu::Float;
use crate::graph::Op;
use rayon::prelude::*;
use robust_core::{Error, Result};

/// What becomes the mean of each channel: entries nearer than `reach`, which is rounded as PyTorch rounds it. No entry is
/// near where `reach` is 0, below, or NaN.
#[derive(Debug)]
pub(crate) struct Bands<F> {
    pub(crate) mean: Vec<F>,
    pub(crate) reach: Vec<F>,
}

impl<F: Float> Bands<F> {
    pub(crate) fn new(mean: Vec<F>, var: &[F], threshold: F) -> Self {
        let reach = var.iter().map(|v| threshold * v.sqrt()).collect();
        Self { mean, reach }
    }

    /// Whether an entry of channel `c` becomes the mean; one at the very edge stays, and so does NaN.
    pub(crate) fn holds(&self, c: usize, v: F) -> bool {
        within(v, self.mean[c], self.reach[c])
    }
}

/// The edge itself is outside.
pub(crate) fn within<F: Float>(v: F, mean: F, reach: F) -> bool {
    (v - mean).abs() < reach
}

/// The bands of an op, and how many entries of a row follow each other in one channel.
fn read<F: Float>(op: &Op, dims: &[usize], params: &[Array<F>]) -> Result<(Bands<F>, usize)> {
    let &Op::MeanSparse { mean, var, threshold, axis } = op else {
        return Err(Error::internal("not a MeanSparse"));
    };
    let threshold = params[threshold.0].data().first().copied().unwrap_or(F::ZERO);
    let bands = Bands::new(params[mean.0].data().to_vec(), params[var.0].data(), threshold);
    Ok((bands, dims.get(axis + 1..).map_or(1, |d| d.iter().product())))
}

pub(super) fn forward<F: Float>(op: &Op, x: Array<F>, params: &[Array<F>]) -> Result<Array<F>> {
    let (bands, run) = read(op, &x.dims, params)?;
    let (dims, channels) = (x.dims.clone(), bands.mean.len());
    let mut data = x.into_vec();
    data.par_chunks_mut(run * channels).for_each(|block| {
        for (c, line) in block.chunks_mut(run).enumerate() {
            line.iter_mut().filter(|v| bands.holds(c, **v)).for_each(|v| *v = bands.mean[c]);
        }
    });
    Ok(Array::new(dims, data))
}

pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let &Op::MeanSparse { mean, var, threshold, .. } = op else {
        return Err(Error::internal("not a MeanSparse"));
    };
    let x = site.input(0)?;
    let (bands, run) = read(op, &x.dims, site.params)?;
    let channels = bands.mean.len();
    let mut pulled = Pulled { inputs: vec![None], params: vec![] };
    if site.wants_param(mean) {
        let mut sum = vec![0.; channels];
        for (i, (v, g)) in x.data().iter().zip(grad.data()).enumerate() {
            let c = i / run % channels;
            sum[c] += if bands.holds(c, *v) { g.wide() } else { 0. };
        }
        pulled.params.push((mean, Array::new(vec![channels], sum.into_iter().map(F::of).collect())));
    }
    // Where the bands end changes no value.
    for (p, dims) in [(var, vec![channels]), (threshold, vec![])] {
        if site.wants_param(p) {
            pulled.params.push((p, Array::zeros(dims)));
        }
    }
    if site.wants[0] {
        let dims = grad.dims.clone();
        let mut data = grad.into_vec();
        data.par_chunks_mut(run * channels).zip(x.data().par_chunks(run * channels)).for_each(|(block, x)| {
            for (c, (line, x)) in block.chunks_mut(run).zip(x.chunks(run)).enumerate() {
                line.iter_mut().zip(x).filter(|(_, x)| bands.holds(c, **x)).for_each(|(g, _)| *g = F::ZERO);
            }
        });
        pulled.inputs[0] = Some(Array::new(dims, data));
    }
    Ok(pulled)
}
