//! Zoom blur: the mean of ever larger copies of the middle.

use super::common::finish_f32;
use super::{Corruption, Profile};
use robust_imaging::vector::wide;
use robust_imaging::zoom::{Axis, Part, rows, zoomed};

pub static ZOOM: Corruption = Corruption {
    name: "zoom_blur",
    summary: "the mean of ever larger copies, as when a lens zooms during exposure",
    apply: |x, call| {
        let (step, count) = call.table.zoom_blur[call.level];
        let (n, c) = (x.height, x.channels);
        let own: Vec<f32> = x.samples.iter().map(|&v| (f64::from(v) / 255.) as f32).collect();
        let source: Vec<f64> = own.iter().map(|&v| f64::from(v)).collect();
        let mut sum = vec![0f32; own.len()];
        // numpy's range adds a step that went through a rounding.
        let step = (1. + step) - 1.;
        for k in 0..count {
            clipped(&source, n, c, 1. + k as f64 * step, call.profile, |y, row| {
                let to = &mut sum[y * n * c..][..n * c];
                wide(
                    #[inline(always)]
                    || to.iter_mut().zip(row).for_each(|(s, v)| *s += *v as f32),
                );
            });
        }
        let share = (count + 1) as f32;
        sum.iter_mut().zip(&own).for_each(|(s, u)| *s = (u + *s) / share);
        Ok(finish_f32(x, &sum))
    },
};

/// The middle of a square image enlarged by `factor` and cut to its size again, row by row. The `imagecorruptions` package
/// keeps the upper left of what is too large, the published sets its middle.
pub(super) fn clipped(
    x: &[f64],
    n: usize,
    channels: usize,
    factor: f64,
    profile: Profile,
    each: impl FnMut(usize, &[f64]),
) {
    let crop = (n as f64 / factor).ceil() as usize;
    let spare = zoomed(crop, factor).saturating_sub(n);
    let from = if profile == Profile::Hendrycks { spare / 2 } else { 0 };
    let axis = Axis::new(crop, factor, from, n);
    rows(x, Part { stride: n * channels, at: (n - crop) / 2, channels }, &axis, each);
}
