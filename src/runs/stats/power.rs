//! What a paired test can see, before it is run.

use super::binomial::{cdf, pmf};
use super::{Paired, Side};

/// The chance that the one-sided mid-p test on `n` pairs says `p < alpha`, when a share `discordant` of samples changes
/// and the rate truly falls by `drop` (`0 <= drop <= discordant <= 1`). Exact: summed over the number of changed
/// samples and how many of them broke.
pub fn power(n: u64, discordant: f64, drop: f64, alpha: f64) -> f64 {
    if !(discordant > 0. && drop.abs() <= discordant && discordant <= 1.) {
        return 0.;
    }
    let (mean, spread) = (n as f64 * discordant, (n as f64 * discordant * (1. - discordant)).sqrt());
    // Ten standard deviations and a few for the Poisson end hold everything but 1e-20.
    let (from, to) = ((mean - 10. * spread).max(0.) as u64, ((mean + 10. * spread) as u64 + 40).min(n));
    let fixed_share = (discordant - drop) / (2. * discordant);
    let (mut total, mut most) = (0., None);
    for m in from..=to {
        most = most_fixed(m, most, alpha);
        if let Some(fixed) = most {
            total += pmf(m, n, discordant) * cdf(fixed, m, fixed_share);
        }
    }
    total.min(1.)
}

/// The largest number of fixed samples among `m` changed ones at which the test still rejects; it never falls as `m`
/// grows, so the search starts at the one before.
fn most_fixed(m: u64, before: Option<u64>, alpha: f64) -> Option<u64> {
    let rejects = |fixed: u64| {
        fixed <= m && Paired { broken: m - fixed, fixed, ..Paired::default() }.mcnemar_mid_p(Side::Drop) < alpha
    };
    let mut most = before.filter(|f| rejects(*f)).or_else(|| rejects(0).then_some(0))?;
    while rejects(most + 1) {
        most += 1;
    }
    Some(most)
}

/// The smallest fall of the rate over `n` pairs, in samples, that the one-sided mid-p test at `alpha` sees with a chance
/// of at least `target`, when `churn` further samples change as often one way as the other: [`Paired::churn`]. `None`
/// when no fall would be seen.
pub fn detectable_drop(n: u64, churn: u64, alpha: f64, target: f64) -> Option<u64> {
    let share = |samples: u64| samples as f64 / n.max(1) as f64;
    let seen = |fall: u64| power(n, share(churn + fall), share(fall), alpha) >= target;
    let most = n.saturating_sub(churn);
    if most == 0 || !seen(most) {
        return None;
    }
    let (mut low, mut high) = (0, most);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if seen(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
