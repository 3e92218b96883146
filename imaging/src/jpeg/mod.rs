//! JPEG bytes -> the pixels libjpeg gives, value for value: baseline and progressive Huffman coding (ITU-T T.81) with
//! libjpeg's accurate integer inverse transform ("islow"), its triangle-filter enlarging of subsampled colour and its
//! fixed-point colour tables. Measured equal to Pillow 13 (libjpeg-turbo 3.2) on every image tried: see the tests.
//!
//! Stricter than libjpeg where a file is damaged: data that ends early, runs past a block or lacks a marker is an error,
//! not grey. Arithmetic coding, 12 bits, lossless and hierarchical files are refused by name. Block smoothing, which
//! libjpeg applies to progressive files whose refinement scans are missing, is not done.

mod colour;
mod compress;
mod frame;
mod huffman;
mod scan;
mod transform;

use crate::decode::{MAX_PIXELS, MAX_SIDE, bad};
pub use colour::{cmyk_to_rgb, enlarge_h1v2, enlarge_h2v1, enlarge_h2v2, ycc_to_rgb};
pub use compress::compress;
use frame::Decoder;
use robust_core::Result;
pub use transform::{NATURAL_ORDER, forward, inverse};

/// A decoded image: `width * height` pixels of 1 (grey) or 3 (RGB) interleaved bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jpeg {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

/// Whether these are the first bytes of a JPEG.
pub fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8, 0xFF])
}

/// `(height, width)` from the frame header.
pub fn size(bytes: &[u8]) -> Result<(usize, usize)> {
    let frame = Decoder::new(bytes)?.header()?;
    Ok((frame.height, frame.width))
}

/// The whole image. CMYK becomes RGB as Pillow's `convert("RGB")` makes it.
///
/// Errors ([`Kind::Load`](robust_core::Kind::Load)): truncated, corrupt or unsupported data, or more pixels than
/// [`MAX_PIXELS`] or than so few bytes could describe.
pub fn decode(bytes: &[u8]) -> Result<Jpeg> {
    let mut decoder = Decoder::new(bytes)?;
    let mut frame = decoder.header()?;
    decoder.scans(&mut frame)?;
    colour::assemble(&frame)
}

/// Refuses sizes before anything is allocated for them: a block takes at least a bit, so bytes bound pixels.
fn check_size(width: usize, height: usize, bytes: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(bad(format!("a JPEG of {width}x{height} pixels")));
    }
    let (w, h) = (width as u64, height as u64);
    if w > u64::from(MAX_SIDE) || h > u64::from(MAX_SIDE) || w * h > MAX_PIXELS {
        return Err(bad(format!("image is {width}x{height}: at most {MAX_SIDE} per side and {MAX_PIXELS} pixels")));
    }
    if w.div_ceil(8) * h.div_ceil(8) > 8 * bytes as u64 {
        return Err(bad(format!("a JPEG of {bytes} bytes cannot hold {width}x{height} pixels: truncated or corrupt")));
    }
    Ok(())
}
