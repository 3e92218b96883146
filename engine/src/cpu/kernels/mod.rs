//! Kernels below the level of ops: safe functions over slices whose lengths they check, and the only unsafe code of the
//! house inside.
#![allow(unsafe_code, reason = "vector instructions and disjoint writes from several threads")]
#![allow(clippy::needless_range_loop, reason = "tiles are indexed by row and vector together")]

mod attention;
mod finish;
pub(crate) mod gemm;
mod isa;
mod math;
mod maximum;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pass;
mod product;
mod rowwise;
mod simd;
mod stem;
mod taps;
mod times;
mod window;
mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use attention::Heads;
pub(crate) use finish::{Finish, Second, mask_stride};
pub(crate) use isa::Isa;
pub(crate) use maximum::{MAX_AREA, Pooled, Won, maxima, winner_bytes};
pub(crate) use memory::Buffer;
pub(crate) use pass::pass;
pub(crate) use product::{Packed, product};
pub(crate) use rowwise::{Curve, Rows, Slope, bend, each_row};
pub(crate) use stem::{Dots, Stem, Windows};
pub(crate) use taps::{Sizes, Spread, Tap, Taps};
pub(crate) use times::{channel_dots, times};
pub(crate) use window::{Grid, Links, Slide, Weigh, pad_channels, sums};
pub(crate) use winograd::{Frame, Winograd};
