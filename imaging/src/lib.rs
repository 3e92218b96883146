//! Pixel code that data readers, corruptions and defences share: plain slices, no tensors, no devices. Float pixels are
//! `[c, h, w]` f32 in `[0,1]`, row-major; byte pixels are interleaved `[h, w, c]`, as Pillow computes with them.

mod decode;
mod encode;
pub mod fourier;
pub mod gaussian;
pub mod hsv;
pub mod jpeg;
mod limits;
pub mod motion;
mod resize;
pub mod vector;
pub mod warp;
pub mod zoom;

pub use decode::{Flat, Picture, Samples, Stored, decode, decode_bytes, flat, size, stored};
pub use encode::{interleaved, level, png};
pub use limits::{MAX_PIXELS, MAX_SIDE};
pub use resize::{Bytes, Filter, resized};
