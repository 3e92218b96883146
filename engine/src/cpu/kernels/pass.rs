//! One pass over a value, entry by entry.

use super::finish::{Finish, Second, Sink, store};
use super::isa::{Isa, Kernel};
use super::memory::from;
use super::product::parallel;
use super::simd::Simd;

/// Entries one task handles.
const CHUNK: usize = 1 << 14;

struct Pass<'a> {
    x: &'a [f32],
    pixels: std::ops::Range<usize>,
    finish: &'a Finish<'a>,
    sink: &'a Sink<'a>,
}

impl Kernel for Pass<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.sink.channels;
        for pixel in self.pixels {
            for channel in (0..channels).step_by(S::LANES) {
                let width = (channels - channel).min(S::LANES);
                // SAFETY: `pass` checked `x` and the sink for all pixels; tasks have pixels of their own.
                unsafe {
                    let v = S::load_up_to(from(self.x, pixel * channels + channel, width), width);
                    store::<S>(self.finish, self.sink, v, pixel, channel, width);
                }
            }
        }
    }
}

/// `x` finished into `out`, both `[pixels, channels]`.
pub(crate) fn pass(
    isa: Isa,
    (pixels, channels): (usize, usize),
    x: &[f32],
    finish: &Finish<'_>,
    (out, mask): (&mut [f32], Option<&mut [u8]>),
    next: Option<Second<'_>>,
) {
    let sink = Sink::new(finish, pixels, channels, out, mask, next);
    assert!(x.len() >= pixels * channels, "a value is too short");
    let each = (CHUNK / channels.max(1)).max(1);
    parallel(pixels.div_ceil(each), |task| {
        let pixels = task * each..((task + 1) * each).min(pixels);
        // SAFETY: every slice holds all pixels (asserted here and by `Sink::new`); tasks have pixels of their own.
        unsafe { isa.run(Pass { x, pixels, finish, sink: &sink }) }
    });
}
