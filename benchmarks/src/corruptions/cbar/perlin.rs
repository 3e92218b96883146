//! Perlin's classic noise (1985), its absolute octaves added.

use super::common::{Severity, branch, bytes};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::vector::wide;

const B: usize = 256;
const ENTRIES: usize = 2 * B + 2;

struct Lattice {
    order: Vec<usize>,
    gradients: Vec<(f64, f64)>,
}

impl Lattice {
    fn new(random: &mut Random) -> Self {
        let wide = 2 * B as i64;
        let mut part = || (random.integer(0, 1 << 31) % wide - B as i64) as f64 / B as f64;
        let mut gradients: Vec<(f64, f64)> = (0..ENTRIES)
            .map(|_| {
                let (x, y) = (part(), part());
                let length = (x * x + y * y).sqrt();
                // Two zeros have no direction: one in 262,144 gradients.
                if length == 0. { (0., 0.) } else { (x / length, y / length) }
            })
            .collect();
        let mut order: Vec<usize> = (0..ENTRIES).collect();
        for i in (0..B).rev() {
            order.swap(i, (random.integer(0, 1 << 31) % B as i64) as usize);
        }
        order.copy_within(0..B + 2, B);
        gradients.copy_within(0..B + 2, B);
        Self { order, gradients }
    }

    #[inline(always)]
    fn noise(&self, x: f64, y: f64) -> f64 {
        let (bx, by) = (x as usize % B, y as usize % B);
        let (rx, ry) = (x - x.floor(), y - y.floor());
        let (i, j) = (self.order[bx], self.order[(bx + 1) % B]);
        let lower = (by + 1) % B;
        let dot = |at: usize, dx: f64, dy: f64| {
            let (gx, gy) = self.gradients[self.order[at]];
            dx * gx + dy * gy
        };
        let curve = |t: f64| t * t * (3. - 2. * t);
        let (sx, sy) = (curve(rx), curve(ry));
        let (u, v) = (dot(i + by, rx, ry), dot(j + by, rx - 1., ry));
        let a = u + sx * (v - u);
        let (u, v) = (dot(i + lower, rx, ry - 1.), dot(j + lower, rx - 1., ry - 1.));
        let b = u + sx * (v - u);
        1.5 * (a + sy * (b - a))
    }
}

pub(super) fn perlin(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let lattice = Lattice::new(&mut branch(random));
    let alpha = severity.of(0.5);
    let unit = 1. / (32. * n as f64 / 224.);
    let turbulence = |i: usize| {
        let (row, column) = ((i / n) as f64 * unit, (i % n) as f64 * unit);
        let far = (16 * B) as f64;
        let octave = |f: f64| lattice.noise(f * row + far, f * column + far).abs() / f;
        [1., 2., 4., 8., 16.].into_iter().map(octave).sum::<f64>()
    };
    let field: Vec<f64> = wide(
        #[inline(always)]
        || (0..n * n).map(|i| (0.5 * turbulence(i) + 0.5).clamp(0., 1.)).collect(),
    );
    let value = |(i, v): (usize, &u8)| (1. - alpha) * f64::from(*v) + 255. * alpha * field[i / 3];
    Ok(bytes(x, x.samples.iter().enumerate().map(value)))
}
