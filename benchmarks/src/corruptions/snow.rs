//! Snow: random flakes, blurred as they fall, over a whitened image.

use super::common::{cut, finish, finish_into};
use super::random::Random;
use super::zoom::clipped;
use super::{Corruption, Profile};
use robust_imaging::Bytes;
use robust_imaging::motion::{Motion, Rounding, motion_blur, motion_blur_real};
use robust_imaging::vector::wide;

pub static SNOW: Corruption = Corruption {
    name: "snow",
    summary: "flakes falling in one direction over a whitened image",
    apply: |x, call| {
        let n = x.height;
        let (mean, sd, zoom, threshold, radius, sigma, mix) = call.table.snow[call.level];
        let field = call.random.normals(mean, sd, n * n);
        let mut flakes = vec![0.; n * n];
        clipped(&field, n, 1, zoom, call.profile, |y, row| {
            flakes[y * n..][..n].copy_from_slice(row);
        });
        flakes.iter_mut().for_each(|v| *v = if *v < threshold { 0. } else { v.clamp(0., 1.) });
        let motion = Motion { radius, sigma, degrees: call.random.uniform(-135., -45.) };
        let layer: Vec<f64> = match call.profile {
            Profile::Hendrycks => {
                let mut bytes = vec![0; n * n];
                finish_into(&flakes, &mut bytes);
                let fallen = motion_blur(&bytes, [n, n, 1], motion, Rounding::Quantum);
                fallen.into_iter().map(|v| f64::from(v) / 255.).collect()
            }
            // Rounded to bytes after the fall, not before.
            Profile::ImageCorruptions => motion_blur_real(&flakes, [n, n, 1], motion)
                .into_iter()
                .map(|v| (v * 255.).round_ties_even().clamp(0., 255.) / 255.)
                .collect(),
        };
        Ok(finish(x, &over(x, &layer, mix)))
    },
};

/// The layer and its own half turn over the image, mixed with a bleached grey copy.
fn over(x: &Bytes, layer: &[f64], mix: f64) -> Vec<f64> {
    let (mix32, rest) = (mix as f32, (1. - mix) as f32);
    let mut y = vec![0.; x.samples.len()];
    let units: [f32; 256] = std::array::from_fn(|v| v as f32 / 255.);
    wide(
        #[inline(always)]
        || {
            let pixels = x.samples.as_chunks::<3>().0.iter().zip(y.as_chunks_mut::<3>().0);
            for (((p, to), down), up) in pixels.zip(layer).zip(layer.iter().rev()) {
                let [r, g, b] = p.map(|v| units[usize::from(v)]);
                let grey = (r * 0.299 + g * 0.587 + b * 0.114) * 1.5 + 0.5;
                *to = [r, g, b].map(|u| f64::from(mix32 * u + rest * u.max(grey)) + down + up);
            }
        },
    );
    y
}

/// One field of flakes whose fall turns, 4 degrees a frame.
pub(super) fn sequence(x: &Bytes, small: bool, frames: usize, random: &mut Random) -> Vec<Bytes> {
    let n = x.height;
    let field = random.normals(0.05, 0.3, n * n);
    let (zoom, radius, sigma) = if small { (2., 10., 2.) } else { (3., 14., 4.) };
    let mut flakes = vec![0; n * n];
    clipped(&field, n, 1, zoom, Profile::Hendrycks, |y, row| {
        let byte = |v: &f64| if *v < 0.5 { 0 } else { cut(*v) };
        flakes[y * n..][..n].iter_mut().zip(row).for_each(|(f, v)| *f = byte(v));
    });
    let frame = |i: usize| {
        let motion = Motion { radius, sigma, degrees: 4. * i as f64 - 150. };
        let fallen = motion_blur(&flakes, [n, n, 1], motion, Rounding::Quantum);
        let layer: Vec<f64> = fallen.into_iter().map(|v| f64::from(v) / 255.).collect();
        finish(x, &over(x, &layer, 0.85))
    };
    (0..frames).map(frame).collect()
}
