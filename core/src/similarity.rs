//! How alike two embeddings are.

use serde::{Deserialize, Serialize};

/// How alike two embeddings are; larger is more alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// The cosine of their angle, -1 to 1. An embedding of length 0 has no direction: its cosine with any other is 0.
    Cosine,
    /// Minus their Euclidean distance, at most 0.
    L2,
}

/// Shorter embeddings have no direction.
const TINY: f64 = 1e-30;

impl Similarity {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Similarity::Cosine => "cosine",
            Similarity::L2 => "l2",
        }
    }

    /// The similarity of `z` to `anchor`, and its slope in `z`: zero where there is none (at the anchor itself, and for
    /// embeddings of length 0). `None` for entries that are not finite or lists of different lengths, and for an anchor
    /// that has no direction.
    pub fn with_slope(self, z: &[f32], anchor: &[f32]) -> Option<(f64, Vec<f64>)> {
        let value = self.of(z, anchor)?;
        let (own, other) = (length(z), length(anchor));
        let pairs = z.iter().zip(anchor).map(|(z, a)| (f64::from(*z), f64::from(*a)));
        let slope = match self {
            Similarity::Cosine if own <= TINY => vec![0.; z.len()],
            Similarity::Cosine => pairs.map(|(z, a)| (a / other - value * z / own) / own).collect(),
            Similarity::L2 if value == 0. => vec![0.; z.len()],
            Similarity::L2 => pairs.map(|(z, a)| (z - a) / value).collect(),
        };
        Some((value, slope))
    }

    /// The similarity alone: see [`Similarity::with_slope`].
    pub fn of(self, z: &[f32], anchor: &[f32]) -> Option<f64> {
        if z.len() != anchor.len() || z.iter().chain(anchor).any(|v| !v.is_finite()) {
            return None;
        }
        let pairs = z.iter().zip(anchor).map(|(z, a)| (f64::from(*z), f64::from(*a)));
        match self {
            Similarity::Cosine => {
                let (own, other) = (length(z), length(anchor));
                if other <= TINY {
                    return None;
                }
                // Each divided by its own length first: the product of two lengths may underflow.
                Some(if own <= TINY { 0. } else { pairs.map(|(z, a)| (z / own) * (a / other)).sum() })
            }
            Similarity::L2 => Some(-pairs.map(|(z, a)| (z - a).powi(2)).sum::<f64>().sqrt()),
        }
    }

    /// What rounding in `z` and `anchor` is measured against: 1 for cosines, the longer of the two for distances.
    pub(crate) fn size(self, z: &[f32], anchor: &[f32]) -> f64 {
        match self {
            Similarity::Cosine => 0.,
            Similarity::L2 => length(z).max(length(anchor)),
        }
    }
}

/// The Euclidean length of a row, in f64.
fn length(z: &[f32]) -> f64 {
    z.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_agree_with_finite_differences() {
        let (z, a) = ([0.3f32, -1.2, 2.0, 0.9], [1.1f32, 0.2, 0.4, -0.7]);
        for by in [Similarity::Cosine, Similarity::L2] {
            let (_, slope) = by.with_slope(&z, &a).unwrap();
            for i in 0..z.len() {
                let shifted = |h: f32| {
                    let mut z = z;
                    z[i] += h;
                    (by.of(&z, &a).unwrap(), f64::from(z[i]))
                };
                let ((up, x), (down, y)) = (shifted(1e-3), shifted(-1e-3));
                assert!(((up - down) / (x - y) - slope[i]).abs() < 1e-6, "{by:?} {i}");
            }
        }
    }

    #[test]
    fn known_values_and_the_places_without_a_slope() {
        let (cosine, l2) = (Similarity::Cosine, Similarity::L2);
        assert!((cosine.of(&[1., 1.], &[0., 5.]).unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(l2.of(&[4., 0.], &[1., 4.]), Some(-5.));
        // At the anchor: the largest similarity there is, and flat.
        let z = [0.3f32, -0.7, 0.1];
        let (value, slope) = cosine.with_slope(&z, &z).unwrap();
        assert!((value - 1.).abs() < 1e-12 && slope.iter().all(|s| s.abs() < 1e-12), "{value} {slope:?}");
        assert_eq!(l2.with_slope(&z, &z).unwrap(), (0., vec![0.; 3]));
        // Length 0, and lengths whose product underflows.
        assert_eq!(cosine.with_slope(&[0., 0.], &[1., 2.]).unwrap(), (0., vec![0., 0.]));
        assert_eq!(cosine.of(&[1., 2.], &[0., 0.]), None);
        let tiny = cosine.of(&[1e-25, 0.], &[2e-25, 0.]).unwrap();
        assert!((tiny - 1.).abs() < 1e-9, "{tiny}");
        assert_eq!((cosine.of(&[f32::NAN], &[1.]), l2.of(&[1., 2.], &[1.])), (None, None));
    }
}
