//! Softmax regression: mean cross-entropy plus `l2 / 2` times the squared norm of the weights (biases are free).

use super::features::Standard;
use crate::heads::head::Head;
use candle_core::{DType, Device, Tensor};
use robust_core::{Draw, Result, RowKey, stream};
use std::collections::VecDeque;

/// Pairs L-BFGS remembers, its steps, and the slope that counts as none.
const MEMORY: usize = 10;
const STEPS: usize = 300;
const FLAT: f64 = 1e-6;
const MOMENTUM: f64 = 0.9;
const BATCH: usize = 256;

/// `[classes, d + 1]`: weights and, last, biases, as one vector.
struct Problem<'a> {
    data: &'a Standard,
    l2: f64,
    dims: (usize, usize),
}

impl Problem<'_> {
    /// Loss and gradient.
    fn at(&self, w: &[f64]) -> Result<(f64, Vec<f64>)> {
        let (k, d) = self.dims;
        let n = self.data.labels.len();
        let (weight, bias) = taken_apart(w, k, d)?;
        let scores = self.data.x.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let top = scores.max_keepdim(1)?;
        let shifted = scores.broadcast_sub(&top)?;
        let sums = shifted.exp()?.sum_keepdim(1)?;
        let log = shifted.broadcast_sub(&sums.log()?)?;
        let loss = -(&log * &self.data.members)?.sum_all()?.to_scalar::<f64>()? / n as f64;
        let slope = ((log.exp()? - &self.data.members)? / n as f64)?;
        let dw = (slope.t()?.matmul(&self.data.x)? + (&weight * self.l2)?)?;
        let squares = weight.sqr()?.sum_all()?.to_scalar::<f64>()?;
        let mut grad = dw.flatten_all()?.to_vec1::<f64>()?;
        grad.extend(slope.sum(0)?.to_vec1::<f64>()?);
        Ok((loss + 0.5 * self.l2 * squares, grad))
    }
}

fn taken_apart(w: &[f64], k: usize, d: usize) -> Result<(Tensor, Tensor)> {
    let weight = Tensor::from_slice(&w[..k * d], (k, d), &Device::Cpu)?;
    Ok((weight, Tensor::from_slice(&w[k * d..], k, &Device::Cpu)?))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The fitted heads, one for each weight, each started from the one before.
pub fn lbfgs(data: &Standard, weights: &[f64]) -> Result<Vec<Head>> {
    let (k, d) = (data.members.dims()[1], data.x.dims()[1]);
    let mut w = vec![0.; k * d + k];
    let mut heads = vec![];
    for &l2 in weights {
        w = descend(&Problem { data, l2, dims: (k, d) }, w)?;
        let (weight, bias) = taken_apart(&w, k, d)?;
        heads.push(data.head(&weight, &bias)?);
    }
    Ok(heads)
}

fn descend(problem: &Problem, mut w: Vec<f64>) -> Result<Vec<f64>> {
    let (mut loss, mut grad) = problem.at(&w)?;
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for _ in 0..STEPS {
        if grad.iter().fold(0., |a: f64, g| a.max(g.abs())) <= FLAT {
            break;
        }
        let mut way = direction(&grad, &pairs);
        let mut slope = dot(&way, &grad);
        if slope >= 0. {
            pairs.clear();
            way = grad.iter().map(|g| -g).collect();
            slope = -dot(&grad, &grad);
        }
        let length = if pairs.is_empty() { (1. / dot(&grad, &grad).sqrt()).min(1.) } else { 1. };
        let Some((next, low, new)) = step(problem, (&w, loss), &way, slope, length)? else { break };
        let s: Vec<f64> = next.iter().zip(&w).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = new.iter().zip(&grad).map(|(a, b)| a - b).collect();
        if dot(&s, &y) > 1e-12 * dot(&y, &y) {
            pairs.push_back((s, y));
            if pairs.len() > MEMORY {
                pairs.pop_front();
            }
        }
        (w, loss, grad) = (next, low, new);
    }
    Ok(w)
}

/// The two-loop recursion.
fn direction(grad: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = grad.iter().map(|g| -g).collect();
    let mut parts = vec![];
    for (s, y) in pairs.iter().rev() {
        let part = dot(s, &q) / dot(s, y);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= part * y);
        parts.push(part);
    }
    if let Some((s, y)) = pairs.back() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y), part) in pairs.iter().zip(parts.into_iter().rev()) {
        let other = dot(y, &q) / dot(s, y);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (part - other) * s);
    }
    q
}

/// Weights, loss and gradient.
type Step = Option<(Vec<f64>, f64, Vec<f64>)>;

/// Halves the step until the loss falls as the slope promises; none if it never does.
fn step(problem: &Problem, (w, loss): (&[f64], f64), way: &[f64], slope: f64, mut length: f64) -> Result<Step> {
    for _ in 0..40 {
        let next: Vec<f64> = w.iter().zip(way).map(|(w, d)| w + length * d).collect();
        let (low, grad) = problem.at(&next)?;
        if low <= loss + 1e-4 * length * slope {
            return Ok(Some((next, low, grad)));
        }
        length *= 0.5;
    }
    Ok(None)
}

/// Batches in an order drawn anew each epoch, momentum 0.9, the rate falling as a cosine to 0.
pub fn sgd(data: &Standard, epochs: usize, rate: f64, l2: f64, seed: u64) -> Result<Head> {
    let (n, k, d) = (data.labels.len(), data.members.dims()[1], data.x.dims()[1]);
    let mut w = vec![0.; k * d + k];
    let mut speed = vec![0.; w.len()];
    let steps = epochs * n.div_ceil(BATCH);
    let mut done = 0;
    for epoch in 0..epochs {
        let draw = Draw { seed, stream: stream("probe/sgd"), turn: epoch as u64, rows: &[] };
        let mut noise = draw.noise(&RowKey::of(0));
        let mut order: Vec<u32> = (0..n as u32).collect();
        (1..n).rev().for_each(|i| order.swap(i, noise.index(i as u32 + 1) as usize));
        for batch in order.chunks(BATCH) {
            let ids = Tensor::from_slice(batch, batch.len(), &Device::Cpu)?;
            let part = Standard {
                x: data.x.index_select(&ids, 0)?,
                members: data.members.index_select(&ids, 0)?,
                labels: batch.iter().map(|&i| data.labels[i as usize]).collect(),
                mean: data.mean.clone(),
                scale: data.scale.clone(),
            };
            let (_, grad) = Problem { data: &part, l2, dims: (k, d) }.at(&w)?;
            let now = rate * 0.5 * (1. + (std::f64::consts::PI * done as f64 / steps as f64).cos());
            for ((w, v), g) in w.iter_mut().zip(&mut speed).zip(grad) {
                *v = MOMENTUM * *v + g;
                *w -= now * *v;
            }
            done += 1;
        }
    }
    let (weight, bias) = taken_apart(&w, k, d)?;
    data.head(&weight.to_dtype(DType::F64)?, &bias)
}
