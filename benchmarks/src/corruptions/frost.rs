//! Frost: a crop of a photo of ice laid over the image. The photos are other people's and not in this program: a folder
//! given by the user holds them, and without it `frost_procedural` draws ice of its own under its own name.

use super::common::image;
use super::photos::hint;
use super::{Call, Corruption, Profile};
use robust_core::{Error, Result};
use robust_imaging::Bytes;

pub static FROST: Corruption = Corruption {
    name: "frost",
    summary: "photos of ice over the image (needs --frost-dir)",
    apply: |x, call| {
        let Some(photos) = call.frost.cloned() else {
            return Err(Error::usage("frost needs the published photos").hint(hint()));
        };
        let photo = &photos.full[call.random.integer(0, 5) as usize];
        let photo = match call.profile {
            Profile::Hendrycks if call.table.frost_scale == 1. => photo.clone(),
            Profile::Hendrycks => linear_cv(photo, call.table.frost_scale),
            Profile::ImageCorruptions => cubic_cv(photo, x),
        };
        blend(x, &photo, call)
    },
};

pub static PROCEDURAL: Corruption = Corruption {
    name: "frost_procedural",
    summary: "drawn ice over the image: a stand-in, not comparable with frost",
    apply: |x, call| {
        let photo = super::ice::draw(call.random, call.table.frost_scale, x.height)?;
        blend(x, &photo, call)
    },
};

fn blend(x: &Bytes, photo: &Bytes, call: &mut Call) -> Result<Bytes> {
    let (own, ice) = call.table.frost[call.level];
    if photo.height <= x.height || photo.width <= x.width {
        let (h, w) = (photo.height, photo.width);
        return Err(Error::load("frost", format!("a photo of {h}x{w} does not cover {}x{}", x.height, x.width)));
    }
    let top = call.random.integer(0, (photo.height - x.height) as i64) as usize;
    let left = call.random.integer(0, (photo.width - x.width) as i64) as usize;
    let mut samples = Vec::with_capacity(x.samples.len());
    for (y, row) in x.samples.chunks_exact(3 * x.width).enumerate() {
        let ices = &photo.samples[((top + y) * photo.width + left) * 3..][..row.len()];
        let mix = |(v, i): (&u8, &u8)| (own * f64::from(*v) + ice * f64::from(*i)).clamp(0., 255.) as u8;
        samples.extend(row.iter().zip(ices).map(mix));
    }
    Ok(image(x, samples))
}

/// OpenCV's bilinear shrinking of bytes: 11-bit weights, two shifts on the way.
fn linear_cv(photo: &Bytes, factor: f64) -> Bytes {
    let size = |n: usize| (n as f64 * factor).round_ties_even() as usize;
    let (h, w) = (size(photo.height), size(photo.width));
    let place = |at: usize, n: usize| {
        let position = ((at as f64 + 0.5) * (1. / factor) - 0.5) as f32;
        let low = position.floor();
        let (low, share) = match low as isize {
            i if i < 0 => (0, 0.),
            i if i as usize >= n - 1 => (n - 1, 0.),
            i => (i as usize, position - low),
        };
        let weight = |v: f32| (v * 2048.).round_ties_even() as i32;
        (low, (low + 1).min(n - 1), weight(1. - share), weight(share))
    };
    let across: Vec<_> = (0..w).map(|x| place(x, photo.width)).collect();
    let line = |y: usize| -> Vec<i32> {
        let row = &photo.samples[y * photo.width * 3..][..photo.width * 3];
        let sum = |&(a, b, wa, wb): &(usize, usize, i32, i32), k: usize| {
            i32::from(row[3 * a + k]) * wa + i32::from(row[3 * b + k]) * wb
        };
        across.iter().flat_map(|p| [0, 1, 2].map(|k| sum(p, k))).collect()
    };
    let mut samples = Vec::with_capacity(h * w * 3);
    for y in 0..h {
        let (a, b, wa, wb) = place(y, photo.height);
        let (upper, lower) = (line(a), line(b));
        let sum = |(u, l): (&i32, &i32)| ((((wa * (u >> 4)) >> 16) + ((wb * (l >> 4)) >> 16) + 2) >> 2) as u8;
        samples.extend(upper.iter().zip(&lower).map(sum));
    }
    Bytes { height: h, width: w, channels: 3, samples }
}

/// OpenCV's bicubic enlarging by 1.1 more than covers the image (a = -0.75, 11-bit weights).
fn cubic_cv(photo: &Bytes, x: &Bytes) -> Bytes {
    let cover = |have: usize, want: usize| if have < want { want as f64 / have as f64 } else { 1. };
    let scale = cover(photo.height, x.height).max(cover(photo.width, x.width)) * 1.1;
    let size = |n: usize| (n as f64 * scale).ceil() as usize;
    let (h, w) = (size(photo.height), size(photo.width));
    let place = |at: usize, from: usize, to: usize| {
        let position = ((at as f64 + 0.5) * (from as f64 / to as f64) - 0.5) as f32;
        let low = position.floor();
        let t = position - low;
        const A: f32 = -0.75;
        let far = |t: f32| ((A * (t + 1.) - 5. * A) * (t + 1.) + 8. * A) * (t + 1.) - 4. * A;
        let near = |t: f32| ((A + 2.) * t - (A + 3.)) * t * t + 1.;
        let mut weights = [far(t), near(t), near(1. - t), 0.];
        weights[3] = 1. - weights[0] - weights[1] - weights[2];
        let taps = [-1, 0, 1, 2].map(|d| (low as isize + d).clamp(0, from as isize - 1) as usize);
        (taps, weights.map(|v| (v * 2048.).round_ties_even() as i32))
    };
    let across: Vec<_> = (0..w).map(|x| place(x, photo.width, w)).collect();
    let line = |y: usize| -> Vec<i32> {
        let row = &photo.samples[y * photo.width * 3..][..photo.width * 3];
        let sum = |(taps, weights): &([usize; 4], [i32; 4]), k: usize| {
            taps.iter().zip(weights).map(|(t, w)| i32::from(row[3 * t + k]) * w).sum::<i32>()
        };
        across.iter().flat_map(|p| [0, 1, 2].map(|k| sum(p, k))).collect()
    };
    let lines: Vec<Vec<i32>> = (0..photo.height).map(line).collect();
    let mut samples = Vec::with_capacity(h * w * 3);
    for y in 0..h {
        let (taps, weights) = place(y, photo.height, h);
        // As its vector code: single precision, the last weight first.
        let weights = weights.map(|w| w as f32 * (1. / (2048. * 2048.)));
        let [p, q, r, t] = taps.map(|t| lines[t].iter().map(|v| *v as f32));
        let sums = p
            .zip(q)
            .zip(r)
            .zip(t)
            .map(|(((p, q), r), t)| ((t * weights[3] + r * weights[2]) + q * weights[1]) + p * weights[0]);
        samples.extend(sums.map(|sum| sum.round_ties_even().clamp(0., 255.) as u8));
    }
    Bytes { height: h, width: w, channels: 3, samples }
}
