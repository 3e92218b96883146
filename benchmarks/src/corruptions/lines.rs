//! MNIST-C's soft lines.

use super::random::Random;

/// Side of every image of MNIST.
pub(super) const SIDE: usize = 28;

/// Brightness of a line from (c0, r0) to (c1, r1) at every pixel, soft across.
fn line(c0: f64, r0: f64, c1: f64, r1: f64) -> Vec<f64> {
    const WIDTH: f64 = 2.3;
    if c0 == c1 {
        return vec![0.; SIDE * SIDE];
    }
    let slope = (r1 - r0) / (c1 - c0);
    let one = |i: usize| {
        let (c, r) = ((i % SIDE) as f64, (i / SIDE) as f64);
        let off = (r - (slope * (c - c0) + r0)).abs().min(WIDTH - 1e-10);
        let inside = c >= c0.floor() && c < c1.ceil();
        if inside { (libm::log(1. - off / WIDTH) + 1.).clamp(0., 1.) } else { 0. }
    };
    (0..SIDE * SIDE).map(one).collect()
}

pub(super) fn dotted(own: &[f64], random: &mut Random) -> Vec<f64> {
    let (r0, r1) = (random.integer(0, 27) as f64, random.integer(0, 27) as f64);
    let line = line(0., r0, 27., r1);
    let dot = |(i, (u, v)): (usize, (&f64, &f64))| if (i % SIDE / 2).is_multiple_of(2) { *u } else { u + v };
    own.iter().zip(&line).enumerate().map(dot).collect()
}

pub(super) fn zigzag(own: &[f64], random: &mut Random) -> Vec<f64> {
    const STEP: f64 = 2.;
    let (c0, c1) = (2., 25.);
    let r0 = random.integer(0, 27) as f64;
    let r1 = r0 + random.integer(-5, 5) as f64;
    let theta = libm::atan((r1 - r0) / (c1 - c0));
    let (sin, cos) = libm::sincos(theta);
    let length = (c1 - c0) / cos;
    let mut points = vec![(0., 0.)];
    let turns = ((length - STEP) / (2. * STEP)).floor() as usize + 1;
    for k in 0..turns {
        points.push(((2 * k + 1) as f64 * STEP, if k % 2 == 0 { STEP } else { -STEP }));
    }
    let whole = 2. * STEP * (length / (2. * STEP)).floor();
    if length != whole {
        let last = points.last().map_or(0., |p| p.1);
        points.push((length, last / (2. * (length - whole))));
    }
    let turned: Vec<(f64, f64)> =
        points.iter().map(|(u, v)| (cos * u - sin * v + c0, sin * u + cos * v + r0)).collect();
    let mut y = own.to_vec();
    for pair in turned.windows(2) {
        let line = line(pair[0].0, pair[0].1, pair[1].0, pair[1].1);
        y.iter_mut().zip(line).for_each(|(y, v)| *y = (*y + v).clamp(0., 1.));
    }
    y
}
