//! What the corruptions share: bytes to doubles and back.

use robust_imaging::Bytes;
use robust_imaging::vector::wide;
use std::sync::LazyLock;

/// `v / 255` of every byte, in doubles.
pub(super) fn units() -> &'static [f64; 256] {
    static UNITS: LazyLock<[f64; 256]> = LazyLock::new(|| std::array::from_fn(|v| v as f64 / 255.));
    &UNITS
}

/// An image as doubles in [0,1].
pub(super) fn doubles(x: &Bytes) -> Vec<f64> {
    let units = units();
    x.samples.iter().map(|&v| units[usize::from(v)]).collect()
}

/// The same image with other samples.
pub(super) fn image(like: &Bytes, samples: Vec<u8>) -> Bytes {
    Bytes { samples, ..*like }
}

/// Doubles clipped to [0,1], times 255, cut off toward zero: never rounded, as the published sets were made.
pub(super) fn finish(like: &Bytes, y: &[f64]) -> Bytes {
    let mut samples = vec![0; y.len()];
    wide(
        #[inline(always)]
        || samples.iter_mut().zip(y).for_each(|(to, v)| *to = (v.clamp(0., 1.) * 255.) as i32 as u8),
    );
    image(like, samples)
}

/// [`finish`] in single precision.
pub(super) fn finish_f32(like: &Bytes, y: &[f32]) -> Bytes {
    let mut samples = vec![0; y.len()];
    wide(
        #[inline(always)]
        || samples.iter_mut().zip(y).for_each(|(to, v)| *to = (v.clamp(0., 1.) * 255.) as i32 as u8),
    );
    image(like, samples)
}
