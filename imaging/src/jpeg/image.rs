//! What a JPEG is, before and after it is decoded.

use crate::limits::{MAX_PIXELS, MAX_SIDE, bad};
use robust_core::Result;

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

/// Refuses sizes before anything is allocated for them: a block takes at least a bit, so bytes bound pixels.
pub(super) fn check_size(width: usize, height: usize, bytes: usize) -> Result<()> {
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
