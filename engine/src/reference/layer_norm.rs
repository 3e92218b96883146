//! Layer normalisation over the last axis (Ba, Kiros and Hinton 2016); sums in f64.

use super::array::Array;
use super::site::{Pulled, Site};
use crate::cpu::Float;
use crate::graph::{Op, ParamId};
use rayon::prelude::*;
use robust_core::{Error, Result};

/// Rows of one partial sum of the weights' gradients.
const STRIP: usize = 64;

fn ids(op: &Op) -> Result<(Option<ParamId>, Option<ParamId>, f64)> {
    match *op {
        Op::LayerNorm { gamma, beta, eps } => Ok((gamma, beta, eps)),
        _ => Err(Error::internal("not a layer norm")),
    }
}

/// Mean and `1 / sqrt(variance + eps)` of a line.
fn moments<F: Float>(line: &[F], eps: f64) -> (f64, f64) {
    let n = line.len() as f64;
    let mean = line.iter().map(|v| v.wide()).sum::<f64>() / n;
    let var = line.iter().map(|v| (v.wide() - mean).powi(2)).sum::<f64>() / n;
    (mean, 1. / (var + eps).sqrt())
}

fn last<F: Float>(x: &Array<F>) -> usize {
    x.dims.last().copied().unwrap_or(1)
}

pub(super) fn forward<F: Float>(op: &Op, x: Array<F>, params: &[Array<F>]) -> Result<Array<F>> {
    let (gamma, beta, eps) = ids(op)?;
    let values = |p: Option<ParamId>| p.map(|p| params[p.0].data());
    let (gamma, beta, dims, size) = (values(gamma), values(beta), x.dims.clone(), last(&x));
    let mut data = x.into_vec();
    data.par_chunks_mut(size).for_each(|line| {
        let (mean, inv) = moments(line, eps);
        for (i, v) in line.iter_mut().enumerate() {
            let scaled = (v.wide() - mean) * inv * gamma.map_or(1., |g| g[i].wide());
            *v = F::of(scaled + beta.map_or(0., |b| b[i].wide()));
        }
    });
    Ok(Array::new(dims, data))
}

pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let (gamma, beta, eps) = ids(op)?;
    let (x, size) = (site.input(0)?, last(&grad));
    let mut pulled = Pulled { inputs: vec![None], params: vec![] };
    let wanted = |p: Option<ParamId>| p.filter(|p| site.wants_param(*p));
    if let Some(p) = wanted(gamma) {
        pulled.params.push((p, weigh(x, &grad, |v, mean, inv, g| g * (v - mean) * inv, eps)));
    }
    if let Some(p) = wanted(beta) {
        pulled.params.push((p, weigh(x, &grad, |_, _, _, g| g, eps)));
    }
    if site.wants[0] {
        let gamma = gamma.map(|p| site.param(p).data());
        let dims = grad.dims.clone();
        let mut data = grad.into_vec();
        data.par_chunks_mut(size).zip(x.data().par_chunks(size)).for_each(|(g, x)| {
            let (mean, inv) = moments(x, eps);
            let n = size as f64;
            let scaled = |g: &[F], i: usize| g[i].wide() * gamma.map_or(1., |w| w[i].wide());
            let normal = |i: usize| (x[i].wide() - mean) * inv;
            let first = (0..size).map(|i| scaled(g, i)).sum::<f64>() / n;
            let second = (0..size).map(|i| scaled(g, i) * normal(i)).sum::<f64>() / n;
            for i in 0..size {
                g[i] = F::of((scaled(g, i) - first - normal(i) * second) * inv);
            }
        });
        pulled.inputs[0] = Some(Array::new(dims, data));
    }
    Ok(pulled)
}

/// The sum over lines of `f(x, mean, inv, grad)` per entry of a line, strips of lines in order.
fn weigh<F: Float>(x: &Array<F>, grad: &Array<F>, f: fn(f64, f64, f64, f64) -> f64, eps: f64) -> Array<F> {
    let size = last(x);
    let strips = x.data().par_chunks(STRIP * size).zip(grad.data().par_chunks(STRIP * size));
    let partial: Vec<Vec<f64>> = strips
        .map(|(x, grad)| {
            let mut sum = vec![0.; size];
            for (x, g) in x.chunks(size).zip(grad.chunks(size)) {
                let (mean, inv) = moments(x, eps);
                sum.iter_mut().zip(x.iter().zip(g)).for_each(|(s, (x, g))| *s += f(x.wide(), mean, inv, g.wide()));
            }
            sum
        })
        .collect();
    let mut sum = vec![0.; size];
    partial.iter().for_each(|p| sum.iter_mut().zip(p).for_each(|(a, b)| *a += b));
    Array::new(vec![size], sum.into_iter().map(F::of).collect())
}
