//! A whole file.

use super::colour::assemble;
use super::decoder::Decoder;
use super::image::Jpeg;
use robust_core::Result;

/// `(height, width)` from the frame header.
pub fn size(bytes: &[u8]) -> Result<(usize, usize)> {
    let frame = Decoder::new(bytes)?.header()?;
    Ok((frame.height, frame.width))
}

/// The whole image. CMYK becomes RGB as Pillow's `convert("RGB")` makes it.
///
/// Errors ([`Kind::Load`](robust_core::Kind::Load)): truncated, corrupt or unsupported data, or more pixels than
/// [`MAX_PIXELS`](crate::MAX_PIXELS) or than so few bytes could describe.
pub fn decode(bytes: &[u8]) -> Result<Jpeg> {
    let mut decoder = Decoder::new(bytes)?;
    let mut frame = decoder.header()?;
    decoder.scans(&mut frame)?;
    assemble(&frame)
}
