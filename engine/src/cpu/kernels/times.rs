//! Products of two values, entry by entry or with one factor a channel for each image.

use super::finish::{Finish, Sink, store};
use super::isa::{Isa, Kernel};
use super::memory::{Shared, from};
use super::product::parallel;
use super::simd::Simd;

/// Entries one task handles.
const CHUNK: usize = 1 << 14;

struct Times<'a> {
    x: &'a [f32],
    z: &'a [f32],
    /// Pixels that share one pixel of `z`.
    share: usize,
    pixels: std::ops::Range<usize>,
    finish: &'a Finish<'a>,
    sink: &'a Sink<'a>,
}

impl Kernel for Times<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.sink.channels;
        for pixel in self.pixels {
            let other = pixel / self.share;
            for channel in (0..channels).step_by(S::LANES) {
                let width = (channels - channel).min(S::LANES);
                // SAFETY: `times` checked all slices for all pixels; tasks have pixels of their own.
                unsafe {
                    let x = S::load_up_to(from(self.x, pixel * channels + channel, width), width);
                    let z = S::load_up_to(from(self.z, other * channels + channel, width), width);
                    store::<S>(self.finish, self.sink, S::mul(x, z), pixel, channel, width);
                }
            }
        }
    }
}

/// `x` (`[pixels, channels]`) times `z`, of which one pixel serves `share` neighbours of `x`.
pub(crate) fn times(
    isa: Isa,
    (pixels, channels): (usize, usize),
    (x, z): (&[f32], &[f32]),
    share: usize,
    finish: &Finish<'_>,
    out: &mut [f32],
) {
    let sink = Sink::new(finish, pixels, channels, out, None, None);
    let fits = x.len() >= pixels * channels && z.len() >= pixels.div_ceil(share.max(1)) * channels;
    assert!(share > 0 && fits, "a value is too short");
    let each = (CHUNK / channels.max(1)).max(1);
    parallel(pixels.div_ceil(each), |task| {
        let pixels = task * each..((task + 1) * each).min(pixels);
        // SAFETY: all lengths are asserted; tasks have pixels of their own.
        unsafe { isa.run(Times { x, z, share, pixels, finish, sink: &sink }) }
    });
}

struct Dots<'a> {
    x: &'a [f32],
    z: &'a [f32],
    share: usize,
    channels: usize,
    image: usize,
    out: Shared<'a, f32>,
}

impl Kernel for Dots<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for channel in (0..self.channels).step_by(S::LANES) {
            let width = (self.channels - channel).min(S::LANES);
            // SAFETY: `channel_dots` checked all slices for all images; a task writes its own.
            unsafe {
                let mut sum = S::splat(0.);
                for pixel in self.image * self.share..(self.image + 1) * self.share {
                    let at = pixel * self.channels + channel;
                    let x = S::load_up_to(from(self.x, at, width), width);
                    sum = S::fma(x, S::load_up_to(from(self.z, at, width), width), sum);
                }
                S::store_up_to(self.out.at(self.image * self.channels + channel, width), sum, width);
            }
        }
    }
}

/// For every image of `share` pixels, the sum of `x z` over them: `[images, channels]`.
pub(crate) fn channel_dots(
    isa: Isa,
    (images, share, channels): (usize, usize, usize),
    (x, z): (&[f32], &[f32]),
    out: &mut [f32],
) {
    let len = images * share * channels;
    assert!(x.len() >= len && z.len() >= len && out.len() >= images * channels, "a value is too short");
    let out = Shared::new(out);
    parallel(images, |image| {
        // SAFETY: all lengths are asserted; a task writes its own image.
        unsafe { isa.run(Dots { x, z, share, channels, image, out }) }
    });
}
