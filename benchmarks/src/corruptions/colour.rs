//! Brightness, saturation and contrast.

use super::Corruption;
use super::common::{cut, doubles, finish, units};
use robust_imaging::Bytes;
use robust_imaging::hsv::{from_rgb, to_rgb};
use robust_imaging::vector::{numpy_sum, wide};

pub static BRIGHTNESS: Corruption = Corruption {
    name: "brightness",
    summary: "the value of HSV raised",
    apply: |x, call| {
        let more = call.table.brightness[call.level];
        Ok(in_hsv(x, |[h, s, v]| [h, s, (v + more).clamp(0., 1.)]))
    },
};

pub static SATURATE: Corruption = Corruption {
    name: "saturate",
    summary: "the saturation of HSV scaled and shifted",
    apply: |x, call| {
        let (factor, more) = call.table.saturate[call.level];
        Ok(in_hsv(x, |[h, s, v]| [h, (s * factor + more).clamp(0., 1.), v]))
    },
};

pub(super) fn in_hsv(x: &Bytes, change: impl Fn([f64; 3]) -> [f64; 3]) -> Bytes {
    let mut samples = vec![0; x.samples.len()];
    let units = units();
    wide(
        #[inline(always)]
        || {
            for (p, to) in x.samples.as_chunks::<3>().0.iter().zip(samples.as_chunks_mut::<3>().0) {
                let rgb = to_rgb(change(from_rgb(p.map(|v| units[usize::from(v)]))));
                *to = rgb.map(cut);
            }
        },
    );
    Bytes { samples, ..*x }
}

pub static CONTRAST: Corruption = Corruption {
    name: "contrast",
    summary: "every sample pulled toward its channel's mean",
    apply: |x, call| {
        let share = call.table.contrast[call.level];
        let mut y = doubles(x);
        let c = x.channels;
        let means = means(&y, x);
        wide(
            #[inline(always)]
            || {
                for pixel in y.chunks_exact_mut(c) {
                    pixel.iter_mut().zip(&means).for_each(|(v, m)| *v = (*v - m) * share + m);
                }
            },
        );
        Ok(finish(x, &y))
    },
};

/// Of each channel: columns are summed first, as numpy's mean over both axes.
fn means(y: &[f64], x: &Bytes) -> Vec<f64> {
    let line = x.width * x.channels;
    let mut columns = vec![0.; line];
    for row in y.chunks_exact(line) {
        columns.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    let count = (x.height * x.width) as f64;
    let channel = |k: usize| columns.iter().skip(k).step_by(x.channels).copied().collect::<Vec<f64>>();
    (0..x.channels).map(|k| numpy_sum(&channel(k)) / count).collect()
}
