//! Pixelation and JPEG compression.

use super::{Corruption, Profile};
use robust_core::Interpolation;
use robust_imaging::{Bytes, jpeg};

pub static PIXELATE: Corruption = Corruption {
    name: "pixelate",
    summary: "shrunk and enlarged again",
    apply: |x, call| {
        let small = |n: usize| (n as f64 * call.table.pixelate[call.level]) as usize;
        let little = x.clone().resize(small(x.height), small(x.width), Interpolation::Box.into())?;
        match call.profile {
            Profile::Hendrycks => little.resize(x.height, x.width, Interpolation::Box.into()),
            Profile::ImageCorruptions => Ok(nearest(&little, x)),
        }
    },
};

/// Pillow's nearest neighbour: the sample under the centre of each output pixel.
fn nearest(from: &Bytes, like: &Bytes) -> Bytes {
    let c = from.channels;
    let place = |at: usize, n: usize, m: usize| (((at as f64 + 0.5) * n as f64 / m as f64) as usize).min(n - 1);
    let across: Vec<usize> = (0..like.width).map(|x| place(x, from.width, like.width) * c).collect();
    let row = |y: usize| &from.samples[place(y, from.height, like.height) * from.width * c..][..from.width * c];
    let samples = (0..like.height).flat_map(|y| across.iter().flat_map(move |&x| &row(y)[x..x + c])).copied().collect();
    Bytes { samples, ..*like }
}

pub static JPEG: Corruption = Corruption {
    name: "jpeg_compression",
    summary: "stored as a JPEG of low quality",
    apply: |x, call| jpeg::compress(x, call.table.jpeg[call.level]),
};
