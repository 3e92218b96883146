//! The binomial distribution by sums that start at the term next to the edge, and the normal quantile.

use libm::{erfc, exp, lgamma, log, log1p};

fn ln_choose(n: u64, k: u64) -> f64 {
    let of = |v: u64| lgamma(v as f64 + 1.);
    of(n) - of(k) - of(n - k)
}

/// P(X = k) for X binomial with `n` trials of probability `p`; 0 for `k > n`.
pub fn pmf(k: u64, n: u64, p: f64) -> f64 {
    if k > n {
        return 0.;
    }
    let power = |count: u64, ln: f64| if count == 0 { 0. } else { count as f64 * ln };
    exp(ln_choose(n, k) + power(k, log(p)) + power(n - k, log1p(-p)))
}

/// P(X <= k). Sums whichever tail begins beyond the mean, so that terms fall and small values keep their digits.
pub fn cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n {
        return 1.;
    }
    let odds = p / (1. - p);
    if (k as f64) < n as f64 * p {
        let below = |i: u64| i as f64 / ((n - i + 1) as f64 * odds);
        falling(pmf(k, n, p), (1..=k).rev().map(below))
    } else {
        let above = |i: u64| (n - i + 1) as f64 * odds / i as f64;
        1. - falling(pmf(k + 1, n, p), (k + 2..=n).map(above))
    }
}

/// The sum of a term and of those that follow it by these ratios.
fn falling(first: f64, ratios: impl Iterator<Item = f64>) -> f64 {
    let (mut term, mut sum) = (first, first);
    for ratio in ratios {
        term *= ratio;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    sum.min(1.)
}

/// The `z` that a standard normal exceeds with probability `tail`, for `tail` in (0, 0.5].
pub fn normal_quantile(tail: f64) -> f64 {
    bisect(0., 40., |z| 0.5 * erfc(z / std::f64::consts::SQRT_2) > tail)
}

/// Where `below` turns false between `low` and `high`.
pub fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    // Each turn halves the gap: after 120 nothing is left of it in double precision.
    for _ in 0..120 {
        let middle = f64::midpoint(low, high);
        if below(middle) { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}
