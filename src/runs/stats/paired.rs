//! Two verdicts on the same samples: the four counts, McNemar's tests, Newcombe's interval of the difference.

use super::binomial::{cdf, pmf};
use super::interval::{quantile, score, square_and_add};
use super::rate;
use serde::{Deserialize, Serialize};

/// Samples by what they were before and what they are after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Right before and after.
    pub both: u64,
    /// Right before only.
    pub broken: u64,
    /// Right after only.
    pub fixed: u64,
    /// Right neither before nor after.
    pub neither: u64,
}

/// What speaks against the hypothesis that nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A change either way.
    Two,
    /// More samples broken than fixed.
    Drop,
}

impl Paired {
    pub fn add(&mut self, before: bool, after: bool) {
        *match (before, after) {
            (true, true) => &mut self.both,
            (true, false) => &mut self.broken,
            (false, true) => &mut self.fixed,
            (false, false) => &mut self.neither,
        } += 1;
    }

    pub fn n(&self) -> u64 {
        self.both + self.discordant() + self.neither
    }

    /// Samples whose verdict changed.
    pub fn discordant(&self) -> u64 {
        self.broken + self.fixed
    }

    /// Samples that changed without moving the rate: as many one way as the other.
    pub fn churn(&self) -> u64 {
        2 * self.broken.min(self.fixed)
    }

    /// How far the rate fell from before to after, in [-1, 1]; negative when it rose.
    pub fn drop(&self) -> f64 {
        (self.broken as f64 - self.fixed as f64) / self.n().max(1) as f64
    }

    /// McNemar's test with the exact binomial distribution of the changed samples (McNemar 1947, Psychometrika 12:153):
    /// the p-value, in (0, 1].
    pub fn mcnemar_exact(&self, side: Side) -> f64 {
        let m = self.discordant();
        match side {
            Side::Drop => cdf(self.fixed, m, 0.5),
            Side::Two => (2. * cdf(self.fixed.min(self.broken), m, 0.5)).min(1.),
        }
    }

    /// The same with half the probability of what was observed (Lancaster 1961; recommended for pairs by Fagerland,
    /// Lydersen and Laake 2013, BMC Med. Res. Methodol. 13:91): nearer to its level than the exact test, seldom above.
    pub fn mcnemar_mid_p(&self, side: Side) -> f64 {
        let m = self.discordant();
        let one = |least: u64| cdf(least, m, 0.5) - 0.5 * pmf(least, m, 0.5);
        match side {
            Side::Drop => one(self.fixed),
            Side::Two => (2. * one(self.fixed.min(self.broken))).min(1.),
        }
    }

    /// The interval of [`Paired::drop`] at a two-sided `confidence` in (0, 1): method 10 of Newcombe 1998 (Statistics in
    /// Medicine 17:2635), score intervals squared and added with a corrected correlation. `(-1, 1)` when there are no
    /// samples.
    pub fn newcombe(&self, confidence: f64) -> (f64, f64) {
        let (n, z) = (self.n(), quantile(confidence));
        if n == 0 {
            return (-1., 1.);
        }
        let (before, after) = (self.both + self.broken, self.both + self.fixed);
        let ((l1, u1), (l2, u2)) = (score(before, n, z), score(after, n, z));
        square_and_add((rate(before, n), l1, u1), (rate(after, n), l2, u2), self.correlation())
    }

    fn correlation(&self) -> f64 {
        let [a, b, c, d] = [self.both, self.broken, self.fixed, self.neither].map(|v| v as f64);
        let margins = (a + b) * (c + d) * (a + c) * (b + d);
        let excess = a * d - b * c;
        let corrected = if excess > 0. { (excess - self.n() as f64 / 2.).max(0.) } else { excess };
        if margins == 0. { 0. } else { corrected / margins.sqrt() }
    }
}

/// Holm's adjusted p-values (Holm 1979, Scand. J. Statist. 6:65), in the order given: those below alpha may be called
/// significant together with a chance of at most alpha that any of them is not.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut adjusted, mut largest) = (vec![1.; p.len()], 0f64);
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[i]).min(1.);
        adjusted[i] = largest;
    }
    adjusted
}
