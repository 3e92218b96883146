//! What the ten share.

use crate::corruptions::Random;
use robust_imaging::Bytes;

/// From 0 to 10.
#[derive(Clone, Copy)]
pub(super) struct Severity(pub f64);

impl Severity {
    /// Its share of `most`.
    pub fn of(self, most: f64) -> f64 {
        self.0 * most / 10.
    }
}

/// Draws of their own, begun by one number of the outer stream.
pub(super) fn branch(random: &mut Random) -> Random {
    match random {
        Random::Numpy(m) => Random::numpy(m.word()),
        Random::Native(_) => Random::native(u64::from(random.word()) << 32 | u64::from(random.word()), "c-bar", 0),
    }
}

/// Values clipped to bytes and cut off.
pub(super) fn bytes(like: &Bytes, values: impl IntoIterator<Item = f64>) -> Bytes {
    Bytes { samples: values.into_iter().map(|v| v.clamp(0., 255.) as u8).collect(), ..*like }
}

/// A side's coordinates as doubles.
pub(super) fn places(n: usize) -> Vec<f64> {
    (0..n).map(|v| v as f64).collect()
}
