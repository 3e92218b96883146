//! Points that somebody else made, in other arithmetic: which lie in the region up to rounding, and where they then go.
//! [`ThreatModel::admits`] gives no tolerance; what is moved here is moved until it holds.

use super::{Norm, Region, ThreatModel};

/// No entry may be moved further than this share of the domain's width (of 1 where there is no domain): some ten times
/// what f32 arithmetic loses on pixels in `[0,1]`, 1/3900 of an 8-bit level, and 1/240 of what float16 loses.
pub const ROUNDING: f64 = 1e-6;

/// Steps of an 8-bit pixel over the domain.
const LEVELS: f64 = 255.;

/// How a point made elsewhere lies to the region.
#[derive(Debug, Clone, PartialEq)]
pub enum Near {
    /// Legal as it is.
    Inside,
    /// Outside by rounding only. `x` is the legal point beside it, `by` the largest change of an entry, in input units.
    Rounded { x: Vec<f32>, by: f64 },
    /// Further outside than rounding explains, by so much: see [`ThreatModel::beyond`].
    Outside(f64),
}

impl ThreatModel {
    /// Where a row made elsewhere belongs. It is outside by rounding only when the nearest legal point differs by at most
    /// [`ROUNDING`] in every entry, or when both rows are 8-bit pixels whose levels, as integers, lie within the region.
    pub fn near(&self, clean: &[f32], x: &[f32]) -> Near {
        if self.admits(clean, x) {
            return Near::Inside;
        }
        if x.len() != clean.len() || x.iter().any(|v| !v.is_finite()) {
            return Near::Outside(f64::MAX);
        }
        let mut moved = x.to_vec();
        self.project_exact_row(&mut moved, clean);
        let by = largest_gap(x, &moved);
        let legal = self.admits(clean, &moved);
        if legal && (by <= self.rounding() || self.admits_levels(clean, x)) {
            return Near::Rounded { x: moved, by };
        }
        Near::Outside(self.beyond(clean, x))
    }

    /// The largest change of an entry that counts as rounding, in input units.
    pub fn rounding(&self) -> f64 {
        ROUNDING * self.width()
    }

    /// By how much a finite row lies outside: its distance beyond epsilon in the norm's unit, or an entry's beyond the domain,
    /// whichever is more; 0 for a legal one.
    pub fn beyond(&self, clean: &[f32], x: &[f32]) -> f64 {
        let (low, high) = self.domain();
        let over = |v: &f32| (f64::from(*v) - f64::from(high)).max(f64::from(low) - f64::from(*v));
        let off = x.iter().map(over).fold(0., f64::max);
        match self.region {
            Region::Ball { norm, eps } => off.max(self.distance(norm, clean, x) - eps),
            _ => off,
        }
    }

    /// Whether both rows are 8-bit pixels (within [`ROUNDING`]) whose distance in whole levels is within the ball: pixels that
    /// are eight levels apart are 8/255 apart, whatever f32 makes of the two.
    fn admits_levels(&self, clean: &[f32], x: &[f32]) -> bool {
        let Region::Ball { norm, eps } = self.region else { return false };
        let Some((low, high)) = self.input.domain else { return false };
        let unit = (f64::from(high) - f64::from(low)) / LEVELS;
        let level = |v: &f32| {
            let at = (f64::from(*v) - f64::from(low)) / unit;
            let whole = at.round();
            let near = (at - whole).abs() <= ROUNDING * LEVELS && (0. ..=LEVELS).contains(&whole);
            near.then_some(whole)
        };
        let levels = |row: &[f32]| row.iter().map(level).collect::<Option<Vec<f64>>>();
        let (Some(clean), Some(x)) = (levels(clean), levels(x)) else { return false };
        let gaps = || clean.iter().zip(&x).map(|(c, v)| (v - c).abs());
        // Whole numbers below 2^53: these sums are exact, and epsilon is within rounding of the fraction that was meant.
        let most = eps / unit * (1. + 1e-12);
        match norm {
            Norm::Linf => gaps().fold(0., f64::max) <= most,
            Norm::L2 => gaps().map(|g| g * g).sum::<f64>() <= most * most,
            Norm::L1 => gaps().sum::<f64>() <= most,
            Norm::L0 => {
                let channels = self.input.channels().max(1);
                let sites = clean.len() / channels;
                let differs = |s: &usize| (0..channels).any(|c| clean[c * sites + s] != x[c * sites + s]);
                (0..sites).filter(differs).count() as f64 <= eps
            }
        }
    }

    fn width(&self) -> f64 {
        self.input.domain.map_or(1., |(low, high)| f64::from(high) - f64::from(low))
    }
}

/// The largest difference of two rows' entries.
pub fn largest_gap(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0., f64::max)
}
