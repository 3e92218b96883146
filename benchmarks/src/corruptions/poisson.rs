//! Exact Poisson values by inversion: one table of cumulative probabilities per mean, entered through a guide (Chen and
//! Asau 1974), so that a value costs one 32-bit word and a look or two.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

/// Values of the guide: one per leading byte of the word.
const GUIDE: usize = 256;

pub struct Poisson {
    first: u32,
    /// `P(k <= first + i)` in units of 2^-64.
    below: Vec<u64>,
    guide: [u16; GUIDE],
}

impl Poisson {
    /// A mean of 0 up to some thousands.
    pub fn new(mean: f64) -> Self {
        if mean <= 0. {
            return Self { first: 0, below: vec![u64::MAX], guide: [0; GUIDE] };
        }
        let mode = mean.floor();
        let top = libm::exp(mode * libm::log(mean) - mean - libm::lgamma(mode + 1.));
        let mut down = vec![];
        let (mut k, mut p) = (mode, top);
        while k > 0. && p > 1e-24 {
            p *= k / mean;
            k -= 1.;
            down.push(p);
        }
        let first = mode as u32 - down.len() as u32;
        let mut shares: Vec<f64> = down.into_iter().rev().collect();
        let (mut k, mut p) = (mode, top);
        while p > 1e-24 {
            shares.push(p);
            k += 1.;
            p *= mean / k;
        }
        let mut sum = 0.;
        let mut below: Vec<u64> = shares
            .iter()
            .map(|p| {
                sum += p;
                (sum * 18_446_744_073_709_551_616.) as u64 // saturates
            })
            .collect();
        if let Some(last) = below.last_mut() {
            *last = u64::MAX;
        }
        let guide = std::array::from_fn(|g| below.partition_point(|b| *b <= (g as u64) << 56) as u16);
        Self { first, below, guide }
    }

    /// One value from 32-bit words; a second word only where the first does not decide.
    #[inline]
    pub fn draw(&self, mut word: impl FnMut() -> u32) -> u32 {
        let high = word();
        let mut i = usize::from(self.guide[(high >> 24) as usize]);
        while ((self.below[i] >> 32) as u32) < high {
            i += 1;
        }
        if (self.below[i] >> 32) as u32 == high {
            let whole = u64::from(high) << 32 | u64::from(word());
            while self.below[i] <= whole && i + 1 < self.below.len() {
                i += 1;
            }
        }
        self.first + i as u32
    }
}

/// Tables of the means `scale * v / 255` of byte values, built as they are asked for and kept.
pub struct Shots {
    scale: f64,
    tables: Vec<OnceLock<Poisson>>,
}

impl Shots {
    pub fn of(scale: f64) -> Arc<Self> {
        static ALL: LazyLock<Mutex<HashMap<u64, Arc<Shots>>>> = LazyLock::new(Mutex::default);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Self { scale, tables: (0..256).map(|_| OnceLock::new()).collect() });
        all.entry(scale.to_bits()).or_insert_with(fresh).clone()
    }

    #[inline]
    pub fn value(&self, v: u8) -> &Poisson {
        self.tables[usize::from(v)].get_or_init(|| Poisson::new(self.scale * (f64::from(v) / 255.)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corruptions::random::Random;

    #[test]
    fn frequencies_are_the_probabilities() {
        for mean in [0.02, 1., 3., 9.9, 60., 499.] {
            let Random::Native(mut words) = Random::native(1, "poisson", (mean * 100.) as u64) else { unreachable!() };
            let table = Poisson::new(mean);
            let n = 200_000;
            let values: Vec<f64> = (0..n).map(|_| f64::from(table.draw(|| words.word()))).collect();
            let average = values.iter().sum::<f64>() / f64::from(n);
            let spread = values.iter().map(|v| (v - average).powi(2)).sum::<f64>() / f64::from(n);
            let error = (mean / f64::from(n)).sqrt();
            assert!((average - mean).abs() < 4.5 * error, "{mean}: {average}");
            let variance_error = ((mean + 2. * mean * mean) / f64::from(n)).sqrt();
            assert!((spread - mean).abs() < 4.5 * variance_error, "{mean}: {spread}");
            let none = values.iter().filter(|v| **v == 0.).count() as f64 / f64::from(n);
            let p = (-mean).exp();
            assert!((none - p).abs() <= 4.5 * (p * (1. - p) / f64::from(n)).sqrt() + 1e-9, "{mean}: {none} zeros");
        }
        assert_eq!(Poisson::new(0.).draw(|| 77), 0);
    }
}
