//! Batch normalisation (Ioffe and Szegedy 2015): in evaluation with running statistics, one multiply and one add per entry;
//! in training with those of the batch.

use super::array::Array;
use super::site::{Moments, Pulled, Remembered, Site};
use crate::cpu::Float;
use crate::graph::{Op, ParamId};
use rayon::prelude::*;
use robust_core::{Error, Kind, Result};

/// The statistics of a layer, in f64, one entry per channel.
struct Stats {
    mean: Vec<f64>,
    /// `1 / sqrt(var + eps)`.
    inv: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
}

struct Ids {
    mean: ParamId,
    var: ParamId,
    gamma: Option<ParamId>,
    beta: Option<ParamId>,
}

fn read<F: Float>(op: &Op, params: &[Array<F>]) -> Result<(Ids, Stats)> {
    let &Op::BatchNorm { mean, var, gamma, beta, eps } = op else {
        return Err(Error::internal("not a batch norm"));
    };
    let wide = |p: ParamId| params[p.0].data().iter().map(|v| v.wide()).collect::<Vec<f64>>();
    let channels = params[mean.0].data().len();
    let stats = Stats {
        mean: wide(mean),
        inv: wide(var).iter().map(|v| 1. / (v + eps).sqrt()).collect(),
        gamma: gamma.map_or_else(|| vec![1.; channels], wide),
        beta: beta.map_or_else(|| vec![0.; channels], wide),
    };
    Ok((Ids { mean, var, gamma, beta }, stats))
}

/// `entry * scale + shift` in place, plane by plane, rounded once: a batch norm often subtracts what it has just scaled
/// to about the same size, and an error there can switch a ReLU.
fn per_channel<F: Float>(x: Array<F>, scale: &[f64], shift: &[f64]) -> Array<F> {
    let (dims, plane) = (x.dims.clone(), x.row_len() / scale.len());
    let mut data = x.into_vec();
    data.par_chunks_mut(scale.len() * plane).for_each(|row| {
        for ((plane, &a), &b) in row.chunks_mut(plane).zip(scale).zip(shift) {
            plane.iter_mut().for_each(|v| *v = F::of(v.wide() * a + b));
        }
    });
    Array::new(dims, data)
}

pub(super) fn forward<F: Float>(op: &Op, x: Array<F>, params: &[Array<F>]) -> Result<Array<F>> {
    let (_, s) = read(op, params)?;
    let scale: Vec<f64> = s.gamma.iter().zip(&s.inv).map(|(g, i)| g * i).collect();
    let shift: Vec<f64> = scale.iter().zip(&s.mean).zip(&s.beta).map(|((a, m), b)| b - m * a).collect();
    Ok(per_channel(x, &scale, &shift))
}

/// With the batch's own mean and (biased) variance, which come back: they are summed over rows in order.
pub(super) fn forward_batch<F: Float>(op: &Op, x: Array<F>, params: &[Array<F>]) -> Result<(Array<F>, Moments)> {
    let (_, s) = read(op, params)?;
    let moments = of_batch(&x, s.mean.len());
    if moments.count < 2 {
        return Err(Error::new(Kind::Usage, "a batch norm in training needs more than one value per channel")
            .hint("give it a batch of at least 2 samples"));
    }
    let (scale, shift) = normalise(op, &s, &moments)?;
    Ok((per_channel(x, &scale, &shift), moments))
}

/// `(x - mean) / sqrt(var + eps) * gamma + beta` as a scale and a shift.
fn normalise(op: &Op, s: &Stats, moments: &Moments) -> Result<(Vec<f64>, Vec<f64>)> {
    let inv = inverses(op, moments)?;
    let scale: Vec<f64> = s.gamma.iter().zip(&inv).map(|(g, i)| g * i).collect();
    let shift = scale.iter().zip(&moments.mean).zip(&s.beta).map(|((a, m), b)| b - m * a).collect();
    Ok((scale, shift))
}

fn inverses(op: &Op, moments: &Moments) -> Result<Vec<f64>> {
    let &Op::BatchNorm { eps, .. } = op else { return Err(Error::internal("not a batch norm")) };
    Ok(moments.var.iter().map(|v| 1. / (v + eps).sqrt()).collect())
}

/// Two passes: the mean, then squared differences from it, so that a large mean costs no digits.
fn of_batch<F: Float>(x: &Array<F>, channels: usize) -> Moments {
    let plane = x.row_len() / channels;
    let count = x.dims[0] * plane;
    let sum = |c: usize, f: &dyn Fn(f64) -> f64| {
        let rows = x.data().chunks(x.row_len());
        rows.flat_map(|row| &row[c * plane..][..plane]).fold(0., |sum, v| sum + f(v.wide())) / count as f64
    };
    let one = |c: usize| {
        let mean = sum(c, &|v| v);
        (mean, sum(c, &|v| (v - mean) * (v - mean)))
    };
    let (mean, var) = (0..channels).into_par_iter().map(one).unzip();
    Moments { mean, var, count }
}

/// In training the batch's statistics depend on the input too: `dx = gamma inv (g - mean(g) - xhat mean(g xhat))`.
fn pull_batch<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>, moments: &Moments) -> Result<Pulled<F>> {
    let (ids, s) = read(op, site.params)?;
    let (x, inv) = (site.input(0)?, inverses(op, moments)?);
    let (sum, dot) = products(x, &grad, &moments.mean);
    let mut pulled = Pulled { inputs: vec![None], params: vec![] };
    let mut give = |p: Option<ParamId>, values: Vec<f64>| {
        if let Some(p) = p.filter(|p| site.wants_param(*p)) {
            pulled.params.push((p, Array::new(vec![values.len()], values.into_iter().map(F::of).collect())));
        }
    };
    give(ids.gamma, dot.iter().zip(&inv).map(|(d, i)| d * i).collect());
    give(ids.beta, sum.clone());
    if site.wants[0] {
        let (dims, plane, n) = (grad.dims.clone(), x.row_len() / inv.len(), moments.count as f64);
        let mut data = grad.into_vec();
        data.par_chunks_mut(x.row_len()).zip(x.data().par_chunks(x.row_len())).for_each(|(g, x)| {
            for (c, (g, x)) in g.chunks_mut(plane).zip(x.chunks(plane)).enumerate() {
                let (scale, mean, base, along) =
                    (s.gamma[c] * inv[c], moments.mean[c], sum[c] / n, dot[c] * inv[c] * inv[c] / n);
                g.iter_mut().zip(x).for_each(|(g, x)| {
                    *g = F::of(scale * (g.wide() - base - (x.wide() - mean) * along));
                });
            }
        });
        pulled.inputs[0] = Some(Array::new(dims, data));
    }
    Ok(pulled)
}

pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    if let Some(Remembered::Moments(moments)) = site.memory.map(|m| m.as_ref()) {
        return pull_batch(op, site, grad, moments);
    }
    let (ids, s) = read(op, site.params)?;
    let mut pulled = Pulled { inputs: vec![None], params: vec![] };
    let all = [Some(ids.mean), Some(ids.var), ids.gamma, ids.beta];
    if all.iter().flatten().any(|p| site.wants_param(*p)) {
        let (sum, dot) = products(site.input(0)?, &grad, &s.mean);
        let channels = 0..s.mean.len();
        let mut give = |p: Option<ParamId>, f: &dyn Fn(usize) -> f64| {
            if let Some(p) = p.filter(|p| site.wants_param(*p)) {
                pulled
                    .params
                    .push((p, Array::new(vec![s.mean.len()], channels.clone().map(|c| F::of(f(c))).collect())));
            }
        };
        give(Some(ids.mean), &|c| -sum[c] * s.gamma[c] * s.inv[c]);
        give(Some(ids.var), &|c| -0.5 * dot[c] * s.gamma[c] * s.inv[c].powi(3));
        give(ids.gamma, &|c| dot[c] * s.inv[c]);
        give(ids.beta, &|c| sum[c]);
    }
    if site.wants[0] {
        let scale: Vec<f64> = s.gamma.iter().zip(&s.inv).map(|(g, i)| g * i).collect();
        pulled.inputs[0] = Some(per_channel(grad, &scale, &vec![0.; s.mean.len()]));
    }
    Ok(pulled)
}

/// Per channel: the sum of `grad` and of `grad (x - mean)`, over rows in order.
fn products<F: Float>(x: &Array<F>, grad: &Array<F>, mean: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let plane = x.row_len() / mean.len();
    let one = |c: usize| {
        let rows = x.data().chunks(x.row_len()).zip(grad.data().chunks(x.row_len()));
        rows.fold((0., 0.), |acc, (x, g)| {
            let (x, g) = (&x[c * plane..][..plane], &g[c * plane..][..plane]);
            x.iter().zip(g).fold(acc, |(s, d), (x, g)| (s + g.wide(), d + g.wide() * (x.wide() - mean[c])))
        })
    };
    (0..mean.len()).into_par_iter().map(one).unzip()
}
