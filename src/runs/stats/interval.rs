//! Intervals of one rate and of the difference of two independent ones.

use super::binomial::{bisect, cdf, normal_quantile};
use super::rate;
use serde::{Deserialize, Serialize};

/// Two-sided 95 % quantile of the standard normal: written out, so that tables of old runs keep their last bit.
const Z95: f64 = 1.959_963_984_540_054;

/// Which interval of a rate is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interval {
    /// Wilson's score interval: right on average.
    #[default]
    Wilson,
    /// Clopper and Pearson's: never below its confidence, wider.
    ClopperPearson,
}

impl Interval {
    /// The interval for `hits` of `n` at a two-sided `confidence` in (0, 1).
    pub fn of(self, hits: u64, n: u64, confidence: f64) -> (f64, f64) {
        match self {
            Interval::Wilson => wilson_at(hits, n, confidence),
            Interval::ClopperPearson => clopper_pearson(hits, n, confidence),
        }
    }
}

/// Wilson's 95 % score interval for `hits` of `n` (Wilson 1927, J. Am. Stat. Assoc. 22:209); `(0, 1)` when nothing was
/// judged.
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    score(hits, n, Z95)
}

/// [`wilson`] at a two-sided `confidence` in (0, 1).
pub fn wilson_at(hits: u64, n: u64, confidence: f64) -> (f64, f64) {
    score(hits, n, quantile(confidence))
}

pub(super) fn quantile(confidence: f64) -> f64 {
    if confidence == 0.95 { Z95 } else { normal_quantile((1. - confidence) / 2.) }
}

pub(super) fn score(hits: u64, n: u64, z: f64) -> (f64, f64) {
    if n == 0 {
        return (0., 1.);
    }
    let (p, n, z2) = (hits as f64 / n as f64, n as f64, z * z);
    let middle = (p + z2 / (2. * n)) / (1. + z2 / n);
    let half = z / (1. + z2 / n) * (p * (1. - p) / n + z2 / (4. * n * n)).sqrt();
    // At the ends the formula is exact but rounding is not.
    let low = if hits == 0 { 0. } else { middle - half };
    let high = if hits as f64 == n { 1. } else { middle + half };
    (low.max(0.), high.min(1.))
}

/// The interval that inverts the two one-sided binomial tests (Clopper and Pearson 1934, Biometrika 26:404), at a
/// two-sided `confidence` in (0, 1); `(0, 1)` when nothing was judged.
pub fn clopper_pearson(hits: u64, n: u64, confidence: f64) -> (f64, f64) {
    let tail = (1. - confidence) / 2.;
    let low = if hits == 0 { 0. } else { bisect(0., 1., |p| 1. - cdf(hits - 1, n, p) < tail) };
    let high = if hits == n { 1. } else { bisect(0., 1., |p| cdf(hits, n, p) > tail) };
    (low, high)
}

/// The interval of `p1 - p2` for independent samples, `hits` of `n` each: method 10 of Newcombe 1998 (Statistics in
/// Medicine 17:873), two score intervals squared and added.
pub fn newcombe(first: (u64, u64), second: (u64, u64), confidence: f64) -> (f64, f64) {
    let z = quantile(confidence);
    let ((l1, u1), (l2, u2)) = (score(first.0, first.1, z), score(second.0, second.1, z));
    square_and_add((rate(first.0, first.1), l1, u1), (rate(second.0, second.1), l2, u2), 0.)
}

/// Two estimates with their limits and correlation to the limits of their difference.
pub(super) fn square_and_add(first: (f64, f64, f64), second: (f64, f64, f64), phi: f64) -> (f64, f64) {
    let ((p1, l1, u1), (p2, l2, u2)) = (first, second);
    let join = |a: f64, b: f64| (a * a - 2. * phi * a * b + b * b).max(0.).sqrt();
    (((p1 - p2) - join(p1 - l1, u2 - p2)).max(-1.), ((p1 - p2) + join(u1 - p1, p2 - l2)).min(1.))
}
