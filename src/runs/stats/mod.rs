//! Statistics of rates and of paired verdicts: integers in, intervals and p-values out.
//!
//! One rate: [`wilson`], [`clopper_pearson`]. Two runs of the same samples: [`Paired`], the four counts, with McNemar's
//! tests and Newcombe's interval of the difference. Many checks at once: [`holm`]. Before a run: [`power`] and
//! [`detectable_drop`].

mod binomial;
mod interval;
mod paired;
mod power;

pub use binomial::cdf as binomial_cdf;
pub use interval::{Interval, clopper_pearson, newcombe, wilson, wilson_at};
pub use paired::{Paired, Side, holm};
pub use power::{detectable_drop, power};

/// `hits / n`, 0 when nothing was judged.
pub fn rate(hits: u64, n: u64) -> f64 {
    if n == 0 { 0. } else { hits as f64 / n as f64 }
}

/// `p = 0.0123`, `p < 0.0001`.
pub fn p_text(p: f64) -> String {
    if p < 1e-4 { "p < 0.0001".to_string() } else { format!("p = {p:.4}") }
}

#[cfg(test)]
mod tests;
