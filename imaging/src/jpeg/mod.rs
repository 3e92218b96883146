//! JPEG bytes -> the pixels libjpeg gives, value for value: baseline and progressive Huffman coding (ITU-T T.81) with
//! libjpeg's accurate integer inverse transform ("islow"), its triangle-filter enlarging of subsampled colour and its
//! fixed-point colour tables. Measured equal to Pillow 13 (libjpeg-turbo 3.2) on every image tried: see the tests.
//!
//! Stricter than libjpeg where a file is damaged: data that ends early, runs past a block or lacks a marker is an error,
//! not grey. Arithmetic coding, 12 bits, lossless and hierarchical files are refused by name. Block smoothing, which
//! libjpeg applies to progressive files whose refinement scans are missing, is not done.

mod colour;
mod compress;
mod decode;
mod decoder;
mod frame;
mod huffman;
mod image;
mod scan;
mod transform;

pub use colour::{cmyk_to_rgb, enlarge_h1v2, enlarge_h2v1, enlarge_h2v2, ycc_to_rgb};
pub use compress::compress;
pub use decode::{decode, size};
pub use image::{Jpeg, is_jpeg};
pub use transform::{NATURAL_ORDER, forward, inverse};
