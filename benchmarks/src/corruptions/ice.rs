//! Drawn ice: a stand-in for the frost photos. Ridged noise (Musgrave 1994) bent by a second noise, crossed by crystal
//! needles, given the mean and spread of colour of one of the published photos.

use super::random::Random;
use robust_core::Result;
use robust_imaging::Bytes;

/// Mean and standard deviation of red, green and blue measured on the published photos; two of these are one picture.
const COLOURS: [([f64; 3], [f64; 3]); 5] = [
    ([78., 149., 166.], [27., 17., 15.]),
    ([201., 205., 215.], [21., 22., 23.]),
    ([201., 205., 215.], [21., 22., 23.]),
    ([138., 153., 165.], [29., 29., 30.]),
    ([112., 123., 135.], [44., 43., 42.]),
];

/// Gradients on a lattice of this many points a side, which repeats.
const LATTICE: usize = 256;

struct Noise {
    gradients: Vec<(f64, f64)>,
}

impl Noise {
    fn new(random: &mut Random) -> Self {
        let angles = random.uniforms(0., std::f64::consts::TAU, LATTICE * LATTICE);
        Self { gradients: angles.into_iter().map(|a| (libm::cos(a), libm::sin(a))).collect() }
    }

    /// Gradient noise (Perlin 2002), about -0.7 to 0.7.
    fn at(&self, x: f64, y: f64) -> f64 {
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let corner = |dx: f64, dy: f64| {
            let place = |v: f64| (v as i64).rem_euclid(LATTICE as i64) as usize;
            let (gx, gy) = self.gradients[place(y0 + dy) * LATTICE + place(x0 + dx)];
            gx * (fx - dx) + gy * (fy - dy)
        };
        let fade = |t: f64| t * t * t * (t * (t * 6. - 15.) + 10.);
        let mix = |a: f64, b: f64, t: f64| a + t * (b - a);
        let (u, v) = (fade(fx), fade(fy));
        mix(mix(corner(0., 0.), corner(1., 0.), u), mix(corner(0., 1.), corner(1., 1.), u), v)
    }
}

/// A picture a little larger than `side`, at `scale` of a 600x900 canvas.
pub(super) fn draw(random: &mut Random, scale: f64, side: usize) -> Result<Bytes> {
    let (h, w) = ((600. * scale) as usize, (900. * scale) as usize);
    let (h, w) = (h.max(side + 1), w.max(side + 1));
    let (mean, sd) = COLOURS[random.integer(0, 5) as usize];
    let (ridges, bend) = (Noise::new(random), Noise::new(random));
    let tilt = random.uniform(0., std::f64::consts::PI);
    let needles = needles(random);
    let unit = 7. / h as f64;
    let height = |i: usize| {
        let (x, y) = ((i % w) as f64 * unit, (i / w) as f64 * unit);
        let (bx, by) = (bend.at(x * 0.7, y * 0.7), bend.at(x * 0.7 + 31., y * 0.7 + 57.));
        let (x, y) = (x + 0.6 * bx, y + 0.6 * by);
        let (mut sum, mut gain, mut frequency) = (0., 1., 1.);
        for _ in 0..5 {
            sum += gain * (1. - 2. * ridges.at(x * frequency, y * frequency).abs());
            gain *= 0.55;
            frequency *= 2.1;
        }
        sum + 0.8 * crystal(&needles, x, y, tilt)
    };
    let heights: Vec<f64> = (0..h * w).map(height).collect();
    let count = heights.len() as f64;
    let average = heights.iter().sum::<f64>() / count;
    let spread = (heights.iter().map(|v| (v - average).powi(2)).sum::<f64>() / count).sqrt().max(1e-9);
    let colour = |v: &f64| {
        let z = (v - average) / spread;
        std::array::from_fn::<u8, 3, _>(|k| (mean[k] + sd[k] * z).round().clamp(0., 255.) as u8)
    };
    Bytes::new(h, w, 3, heights.iter().flat_map(colour).collect())
}

/// Centres of crystals on a jittered grid of unit cells.
const CELLS: usize = 16;

fn needles(random: &mut Random) -> Vec<(f64, f64)> {
    let jitter = random.uniforms(0., 1., 2 * CELLS * CELLS);
    jitter.chunks_exact(2).map(|p| (p[0], p[1])).collect()
}

/// High on the edges between crystals and along six arms from their centres.
fn crystal(needles: &[(f64, f64)], x: f64, y: f64, tilt: f64) -> f64 {
    let (cx, cy) = (x.floor(), y.floor());
    let (mut first, mut second, mut arm) = (f64::INFINITY, f64::INFINITY, (0., 0.));
    for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (f64::from(dx), f64::from(dy)))) {
        let place = |v: f64| (v as i64).rem_euclid(CELLS as i64) as usize;
        let (jx, jy) = needles[place(cy + dy) * CELLS + place(cx + dx)];
        let (px, py) = (cx + dx + jx - x, cy + dy + jy - y);
        let d = (px * px + py * py).sqrt();
        if d < first {
            (second, first, arm) = (first, d, (px, py));
        } else if d < second {
            second = d;
        }
    }
    let edge = (1. - 6. * (second - first)).max(0.);
    let six = libm::cos(6. * (libm::atan2(arm.1, arm.0) + tilt));
    edge + (six - 0.6).max(0.) * (1. - first).max(0.)
}
