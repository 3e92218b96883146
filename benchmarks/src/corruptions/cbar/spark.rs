//! Rays around centres.

use super::common::{Severity, branch, bytes};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;
use std::f64::consts::PI;

struct Star {
    /// Row and column.
    centre: (f64, f64),
    rays: Vec<f64>,
    amount: f64,
}

impl Star {
    /// How bright each pixel is, in `[0,1]`.
    fn weights(&self, n: usize) -> Vec<f64> {
        let rays = self.rays.len();
        let power = (100. - self.amount) / 50.;
        let one = |i: usize| {
            let (dy, dx) = ((i / n) as f64 - self.centre.0, (i % n) as f64 - self.centre.1);
            let d = (libm::atan2(dx, dy) + PI) / (2. * PI) * rays as f64;
            let ray = d as usize;
            let f = d - ray as f64;
            let (a, b) = (self.rays[ray % rays], self.rays[(ray + 1) % rays]);
            let length = a + f * (b - a);
            let near = length * length / (dx * dx + dy * dy + 1e-4);
            let glow = if power == 1. { near } else { libm::pow(near, power) };
            ((1. - (f - 0.5).powi(2)) * glow).clamp(0., 1.)
        };
        (0..n * n).map(one).collect()
    }
}

pub(super) fn sparkles(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let side = n as f64;
    let centres: Vec<(f64, f64)> = (0..5).map(|_| (random.uniform(0., side), random.uniform(0., side))).collect();
    let radius = severity.of(0.1) * side;
    let mut inner = branch(random);
    let counts: Vec<usize> = (0..5).map(|_| random.integer(50, 200) as usize).collect();
    let mut y: Vec<f64> = x.samples.iter().map(|&v| f64::from(v)).collect();
    for (centre, count) in centres.into_iter().zip(counts) {
        let rays = inner.normals(0., 1., count).into_iter().map(|v| (radius + 0.25 * radius * v).max(1.)).collect();
        let weights = Star { centre, rays, amount: 50. }.weights(n);
        for (pixel, w) in y.as_chunks_mut::<3>().0.iter_mut().zip(&weights) {
            pixel.iter_mut().for_each(|v| {
                let own = f64::from(*v as f32);
                *v = own + w * (255. - own);
            });
        }
    }
    Ok(bytes(x, y))
}

pub(super) fn inverse(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let side = n as f64;
    let centre = (random.uniform(0.25, 0.75) * side, random.uniform(0.25, 0.75) * side);
    let radius = 0.25 * side;
    let amount = 100. - severity.of(65.);
    let mut inner = branch(random);
    let count = random.integer(50, 200) as usize;
    let rays = inner.normals(0., 1., count).into_iter().map(|v| radius + 0.25 * radius * v).collect();
    let weights = Star { centre, rays, amount }.weights(n);
    let value = |(i, v): (usize, &u8)| 255. + weights[i / 3] * (f64::from(*v) - 255.);
    Ok(bytes(x, x.samples.iter().enumerate().map(value)))
}
