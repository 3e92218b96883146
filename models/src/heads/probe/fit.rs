//! Fitting heads on embeddings: linear probes, prototypes, naive Bayes, neighbours. Arithmetic is in f64, nothing is drawn
//! but the order of SGD's batches, so the same embeddings give the same head.

use super::features::{Features, Standard, single};
use super::logistic;
use crate::heads::head::Head;
use robust_core::{Error, Result};

/// Share of the largest variance that naive Bayes adds to each: f32 scores of near-constant entries would be noise. scikit-learn adds
/// 1e-9 by default (`var_smoothing`), so predictions near a boundary may differ from its.
const SMOOTHING: f64 = 1e-3;
/// Inverse temperature of prototypes' cosines.
const SHARPNESS: f64 = 1. / 0.07;

/// How a head is fitted.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Logistic regression by L-BFGS (Liu and Nocedal 1989) on standardised entries; without `l2` the weight of the squared
    /// norm is the one of seven that does best on a held-out fifth.
    Linear { l2: Option<f64> },
    /// The same by stochastic gradient descent with momentum and a cosine schedule.
    Sgd { epochs: usize, rate: f64, l2: f64, seed: u64 },
    /// The mean direction of each class (Snell et al. 2017, with cosines).
    Prototypes,
    /// Gaussian naive Bayes with a variance for each class and entry.
    Bayes,
    /// The `k` nearest by cosine, each voting with `exp(cos / temperature)` (Wu et al. 2018).
    Knn { k: usize, temperature: f64 },
}

/// A fitted head, and what was found on the way.
#[derive(Debug)]
pub struct Fit {
    pub head: Head,
    /// Weight of the squared norm.
    pub l2: Option<f64>,
    /// Share of held-out samples that were right under it, where something was chosen.
    pub held_out: Option<f64>,
    /// What was not as asked.
    pub notes: Vec<String>,
}

/// Fits a head.
///
/// # Errors
/// Kind `Usage` for classes without samples and settings that make no sense.
pub fn fit(features: &Features, method: &Method) -> Result<Fit> {
    // Neighbours vote for what they are: a class without any is never answered, and the others stay what they were.
    let votes = matches!(method, Method::Knn { .. }) && features.classes() > 1;
    let gap = features.absent(0).filter(|_| votes);
    if gap.is_none() {
        features.check()?;
    }
    let plain = |head| Ok(Fit { head, l2: None, held_out: None, notes: vec![] });
    match *method {
        Method::Linear { l2 } => linear(features, l2),
        Method::Sgd { epochs, rate, l2, seed } => {
            if epochs == 0 || !(rate > 0. && rate.is_finite() && l2 >= 0.) {
                return Err(Error::usage(format!("epochs and rate must be positive, got {epochs} and {rate}")));
            }
            let head = logistic::sgd(&Standard::of(features)?, epochs, rate, l2, seed)?;
            Ok(Fit { head, l2: Some(l2), held_out: None, notes: vec![] })
        }
        Method::Prototypes => {
            let sums = features.members()?.matmul(&features.directions()?)?;
            let weight = Features { x: sums, labels: vec![] }.directions()?;
            plain(Head::Cosine { weight, scale: SHARPNESS, bias: 0. })
        }
        Method::Bayes => plain(bayes(features)?),
        Method::Knn { k, temperature } => {
            if k == 0 || !(temperature > 0. && temperature.is_finite()) {
                return Err(Error::usage(format!("k and temperature must be positive, got {k} and {temperature}")));
            }
            let (bank, labels) = (features.directions()?, features.labels.clone());
            let n = labels.len();
            let clamped = (k > n).then(|| format!("only {n} neighbours are there to vote, {k} were asked for"));
            let never = gap.map(|gap| format!("{gap}: the head never answers so"));
            let zero = n - features.pointed()?.len();
            let zero = (zero > 0).then(|| {
                format!("{zero} of {n} training embeddings are zero: they have no direction, and are equally near to everything")
            });
            let notes = clamped.into_iter().chain(never).chain(zero).collect();
            let head = Head::Neighbours { bank, labels, k: k.min(n), temperature };
            Ok(Fit { head, l2: None, held_out: None, notes })
        }
    }
}

/// Weights of the squared norm that are tried, largest first: each fit starts from the one before.
const GRID: [f64; 7] = [1., 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

fn linear(features: &Features, l2: Option<f64>) -> Result<Fit> {
    if let Some(l2) = l2 {
        if !(l2 >= 0. && l2.is_finite()) {
            return Err(Error::usage(format!("l2 = {l2} is not a weight of 0 or more")));
        }
        let head = logistic::lbfgs(&Standard::of(features)?, &[l2])?.remove(0);
        return Ok(Fit { head, l2: Some(l2), held_out: None, notes: vec![] });
    }
    let (fitted, held) = features.split();
    let (train, held) = (features.rows(&fitted)?, held);
    if held.is_empty() || train.check().is_err() || train.classes() < features.classes() {
        return Err(Error::usage(format!("{} samples are too few to hold some out", features.labels.len()))
            .hint("say the weight yourself: --l2 0.01"));
    }
    let held = features.rows(&held)?;
    let heads = logistic::lbfgs(&Standard::of(&train)?, &GRID)?;
    let mut best = (f64::NEG_INFINITY, 0);
    for (i, head) in heads.iter().enumerate() {
        let right = accuracy(head, &held)?;
        // Of equals the most regularised one.
        if right > best.0 {
            best = (right, i);
        }
    }
    let head = logistic::lbfgs(&Standard::of(features)?, &GRID[..=best.1])?.remove(best.1);
    Ok(Fit { head, l2: Some(GRID[best.1]), held_out: Some(best.0), notes: vec![] })
}

/// Share of samples whose largest score is their class's; a tie is wrong.
pub fn accuracy(head: &Head, features: &Features) -> Result<f64> {
    let scores = head.scores(&features.x)?.to_vec2::<f64>()?;
    let right = |(row, &label): (&Vec<f64>, &u32)| {
        let own = row.get(label as usize).copied().unwrap_or(f64::NEG_INFINITY);
        row.iter().enumerate().all(|(k, z)| k == label as usize || *z < own)
    };
    Ok(scores.iter().zip(&features.labels).filter(|p| right(*p)).count() as f64 / scores.len() as f64)
}

/// `log p(class) - 1/2 sum(log var + (y - mean)² / var)`, multiplied out, of `y` the embedding less the mean of all.
fn bayes(f: &Features) -> Result<Head> {
    let members = f.members()?;
    let counts = members.sum_keepdim(1)?;
    let (mean, all) = f.moments()?;
    let centre = single(&mean)?;
    let x = f.x.broadcast_sub(&centre)?;
    let mean = members.matmul(&x)?.broadcast_div(&counts)?;
    let square = members.matmul(&x.sqr()?)?.broadcast_div(&counts)?;
    let floor = SMOOTHING * all.sqr()?.max(1)?.squeeze(0)?.to_scalar::<f64>()?;
    let var = ((square - mean.sqr()?)?.maximum(0.)? + floor.max(f64::MIN_POSITIVE))?;
    let prior = (counts.squeeze(1)? / f.labels.len() as f64)?.log()?;
    let spread = (var.log()? + (mean.sqr()? / &var)?)?.sum(1)?;
    let (square, weight, bias) = ((var.recip()? * -0.5)?, (mean / &var)?, (prior - (spread * 0.5)?)?);
    Ok(Head::Quadratic { square, weight, bias, centre: Some(centre.squeeze(0)?) })
}

#[cfg(test)]
mod tests;
