//! What the corruptions share: bytes to doubles and back.

use robust_imaging::Bytes;
use robust_imaging::vector::{truncated, truncated_f32, wide};
use std::sync::LazyLock;

/// `v / 255` of every byte, in doubles.
pub(super) fn units() -> &'static [f64; 256] {
    static UNITS: LazyLock<[f64; 256]> = LazyLock::new(|| std::array::from_fn(|v| v as f64 / 255.));
    &UNITS
}

/// An image as doubles in `[0,1]`.
pub(super) fn doubles(x: &Bytes) -> Vec<f64> {
    let units = units();
    x.samples.iter().map(|&v| units[usize::from(v)]).collect()
}

/// The same image with other samples.
pub(super) fn image(like: &Bytes, samples: Vec<u8>) -> Bytes {
    Bytes { samples, ..*like }
}

/// Clipped to `[0,1]`, times 255, cut off toward zero: never rounded, as the published sets were made.
#[inline(always)]
pub(super) fn cut(v: f64) -> u8 {
    truncated(v.clamp(0., 1.) * 255.)
}

/// Doubles to bytes by [`cut`].
pub(super) fn finish_into(y: &[f64], samples: &mut [u8]) {
    wide(
        #[inline(always)]
        || samples.iter_mut().zip(y).for_each(|(to, v)| *to = cut(*v)),
    );
}

/// An image of doubles by [`cut`].
pub(super) fn finish(like: &Bytes, y: &[f64]) -> Bytes {
    let mut samples = vec![0; y.len()];
    finish_into(y, &mut samples);
    image(like, samples)
}

/// [`finish`] in single precision.
pub(super) fn finish_f32(like: &Bytes, y: &[f32]) -> Bytes {
    let mut samples = vec![0; y.len()];
    wide(
        #[inline(always)]
        || samples.iter_mut().zip(y).for_each(|(to, v)| *to = truncated_f32(v.clamp(0., 1.) * 255.)),
    );
    image(like, samples)
}
