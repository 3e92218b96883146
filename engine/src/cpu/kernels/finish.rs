//! What happens to a value before it is stored: gate, scale, bias, residual, ReLU and its mask.
//!
//! Values are `[pixels, channels]`. A mask has one bit per entry, set where a ReLU passed it on; each pixel's bits start at
//! a new pair of bytes.

use super::memory::Shared;
use super::simd::Simd;

/// Bytes of one pixel's bits.
pub(crate) fn mask_stride(channels: usize) -> usize {
    channels.div_ceil(16) * 2
}

/// Entries of a vector with one value a channel: a group's last vector may begin anywhere and is read whole.
pub(super) fn padded_channels(channels: usize) -> usize {
    (channels + 15).next_multiple_of(64)
}

/// The steps in order; what is `None`, empty or false is left out. `v` is the value.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// `v = 0` where the bit is unset: back through a ReLU that follows the scale.
    pub(crate) gate: Option<&'a [u8]>,
    /// `v *= scale[channel]`.
    pub(crate) scale: Option<&'a [f32]>,
    /// `v += bias[channel]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// `v += add[entry]`.
    pub(crate) add: Option<&'a [f32]>,
    /// `v = 0` where the bit is unset: back through the ReLU that made the value whose gradient this is.
    pub(crate) keep: Option<&'a [u8]>,
    pub(crate) relu: bool,
}

/// Where results go.
#[derive(Clone, Copy)]
pub(super) struct Sink<'a> {
    pub(super) out: Shared<'a, f32>,
    /// Bits of what the ReLU passed on.
    pub(super) mask: Option<Shared<'a, u8>>,
    pub(super) channels: usize,
    /// Also the value after a scale, a shift and a ReLU (with its mask): the next block's activation.
    pub(super) next: Option<Next<'a>>,
}

#[derive(Clone, Copy)]
pub(super) struct Next<'a> {
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) out: Shared<'a, f32>,
    pub(super) mask: Option<Shared<'a, u8>>,
}

/// What a caller of a kernel hands over for [`Sink::next`].
pub(crate) struct Second<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) mask: Option<&'a mut [u8]>,
}

impl<'a> Sink<'a> {
    /// # Panics
    /// When a slice is too short for `pixels` pixels of `channels`, or a vector of channels shorter than
    /// [`padded_channels`].
    pub(super) fn new(
        finish: &Finish<'_>,
        pixels: usize,
        channels: usize,
        out: &'a mut [f32],
        mask: Option<&'a mut [u8]>,
        next: Option<Second<'a>>,
    ) -> Self {
        let (len, bytes) = (pixels * channels, pixels * mask_stride(channels));
        let wide = padded_channels(channels);
        assert!(out.len() >= len && finish.add.is_none_or(|a| a.len() >= len), "an output or residual is too short");
        let padded = |v: Option<&[f32]>| v.is_none_or(|v| v.len() >= wide);
        assert!(padded(finish.bias) && padded(finish.scale), "a vector of channels is not padded");
        let long = |m: Option<&[u8]>| m.is_none_or(|m| m.len() >= bytes);
        assert!(long(finish.gate) && long(finish.keep), "a mask is too short");
        assert!(mask.as_ref().is_none_or(|m| m.len() >= bytes), "a mask is too short");
        let next = next.map(|n| {
            assert!(
                n.out.len() >= len && n.scale.len() >= wide && n.shift.len() >= wide,
                "a second output is too short"
            );
            assert!(n.mask.as_ref().is_none_or(|m| m.len() >= bytes), "a mask is too short");
            Next { scale: n.scale, shift: n.shift, out: Shared::new(n.out), mask: n.mask.map(Shared::new) }
        });
        Self { out: Shared::new(out), mask: mask.map(Shared::new), channels, next }
    }
}

#[inline(always)]
pub(super) unsafe fn bits<S: Simd>(mask: &[u8], at: usize) -> u32 {
    debug_assert!(at + S::LANES / 8 <= mask.len());
    // SAFETY: the caller's promise of room for a vector's bits; unaligned reads are allowed here.
    unsafe {
        let p = mask.as_ptr().add(at);
        if S::LANES == 16 { u32::from(p.cast::<u16>().read_unaligned()) } else { u32::from(*p) }
    }
}

#[inline(always)]
pub(super) unsafe fn set_bits<S: Simd>(mask: Shared<'_, u8>, at: usize, bits: u32) {
    // SAFETY: the caller's promise of room for a vector's bits.
    unsafe {
        let p = mask.at(at, S::LANES / 8);
        if S::LANES == 16 { p.cast::<u16>().write_unaligned(bits as u16) } else { *p = bits as u8 }
    }
}

/// Finishes and stores the `width` (1 to `LANES`) entries of `pixel` from `channel`, a multiple of `LANES`, on.
///
/// # Safety
/// The slices hold `pixel` and the channels, and no other thread writes this place.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(
    f: &Finish<'_>,
    sink: &Sink<'_>,
    mut v: S::V,
    pixel: usize,
    channel: usize,
    width: usize,
) {
    let at = pixel * sink.channels + channel;
    let bit = pixel * mask_stride(sink.channels) + channel / 8;
    // SAFETY: `Sink::new` checked every slice against the pixels and channels the caller promised to stay within.
    unsafe {
        let zero = S::splat(0.);
        let load = |s: &[f32]| S::load_up_to(super::memory::from(s, at, width), width);
        if let Some(mask) = f.gate {
            v = S::keep(bits::<S>(mask, bit), v);
        }
        if let Some(scale) = f.scale {
            v = S::mul(v, S::load(super::memory::from(scale, channel, S::LANES)));
        }
        if let Some(bias) = f.bias {
            v = S::add(v, S::load(super::memory::from(bias, channel, S::LANES)));
        }
        if let Some(add) = f.add {
            v = S::add(v, load(add));
        }
        if f.relu {
            // In this order a NaN stays: a broken row must show.
            v = S::max(zero, v);
            if let Some(mask) = sink.mask {
                set_bits::<S>(mask, bit, S::above(v, zero) & tail(width));
            }
        }
        if let Some(mask) = f.keep {
            v = S::keep(bits::<S>(mask, bit), v);
        }
        S::store_up_to(sink.out.at(at, width), v, width);
        if let Some(next) = &sink.next {
            let scale = S::load(super::memory::from(next.scale, channel, S::LANES));
            let shift = S::load(super::memory::from(next.shift, channel, S::LANES));
            let w = S::max(zero, S::fma(v, scale, shift));
            if let Some(mask) = next.mask {
                set_bits::<S>(mask, bit, S::above(w, zero) & tail(width));
            }
            S::store_up_to(next.out.at(at, width), w, width);
        }
    }
}

#[inline(always)]
pub(super) fn tail(width: usize) -> u32 {
    if width >= 16 { 0xffff } else { (1 << width) - 1 }
}
