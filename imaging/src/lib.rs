//! Pixel code that data readers, corruptions and defences share. Everything here takes and gives `[c, h, w]` f32 pixels
//! in [0,1], row-major, with plain slices: no tensors, no devices.

mod decode;

pub use decode::{MAX_PIXELS, MAX_SIDE, Picture, decode, size};
