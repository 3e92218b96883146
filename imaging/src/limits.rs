//! How large an image may be, and the error for what is wrong with one.

use robust_core::{Error, Kind};

/// Longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels accepted in one image.
pub const MAX_PIXELS: u64 = 64 << 20;

pub(crate) fn bad(why: String) -> Error {
    Error::new(Kind::Load, why)
}
