//! Waves: one frequency, rings, plasma.

use super::common::{Severity, places};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::vector::{sin_cos, truncated, wide};
use std::f64::consts::PI;

/// Adds the same value to every channel of a pixel.
fn add(x: &Bytes, wave: &[f64], most: f64) -> Bytes {
    let mut samples = vec![0; x.samples.len()];
    wide(
        #[inline(always)]
        || {
            let pixels = samples.as_chunks_mut::<3>().0.iter_mut().zip(x.samples.as_chunks::<3>().0);
            for ((to, from), w) in pixels.zip(wave) {
                *to = from.map(|v| truncated(f64::from(v) + most * w));
            }
        },
    );
    Bytes { samples, ..*x }
}

pub(super) fn single(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let first = random.uniform(-PI, PI);
    let second = random.uniform(-first.abs(), first.abs());
    let order = random.permutation(2);
    let both = [first, second];
    let (fx, fy) = (both[order[0]], both[order[1]]);
    let phase = random.uniform(0., 2. * PI);
    let n = x.width;
    let mut wave = vec![0.; n * x.height];
    let across = places(n);
    wide(
        #[inline(always)]
        || {
            for (y, row) in wave.chunks_exact_mut(n).enumerate() {
                row.iter_mut().zip(&across).for_each(|(w, x)| *w = sin_cos(x * fx + y as f64 * fy + phase).0);
            }
        },
    );
    Ok(add(x, &wave, severity.of(196.)))
}

pub(super) fn rings(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.width;
    let side = n as f64;
    let (ox, oy) = (random.uniform(0., side), random.uniform(0., side));
    let frequency = random.uniform(0., 10.);
    let amplitude = random.uniform(0., side / 10.);
    let ring = random.uniform(0., 1.) * side / 10.;
    let mut wave = vec![0.; n * n];
    for (i, w) in wave.iter_mut().enumerate() {
        let (dx, dy) = ((i % n) as f64 - ox, (i / n) as f64 - oy);
        let angle = libm::atan2(dx, dy) * frequency;
        let reach = ((dx * dx + dy * dy).sqrt() + sin_cos(angle).0 * amplitude) / ring;
        *w = reach - reach.floor() - 0.5;
    }
    Ok(add(x, &wave, severity.of(128.)))
}

pub(super) fn plasma(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.width;
    let t = random.uniform(0., 6. * PI);
    let rounds = random.integer(4, 7);
    let sharp = random.uniform(0.5, 1.);
    let scale = random.uniform(0.075, 0.2) * n as f64;
    let most = severity.of(64.);
    let mut samples = vec![0; x.samples.len()];
    let (mut across, mut down) = (vec![0.; n], vec![0.; n]);
    let (sine, share) = (libm::sin(t), 1. - most / 255.);
    wide(
        #[inline(always)]
        || {
            for (y, (to, from)) in samples.chunks_exact_mut(3 * n).zip(x.samples.chunks_exact(3 * n)).enumerate() {
                across.iter_mut().enumerate().for_each(|(x, v)| *v = x as f64 / scale);
                down.fill(y as f64 / scale);
                let (mut i0, mut i1, mut i2) = (1., 1., 1.);
                for _ in 0..rounds {
                    for (x, y) in across.iter_mut().zip(&mut down) {
                        let a = sin_cos(*y * i0 + t / i1).1 / i2;
                        let b = sin_cos(*x * i0 + t / i1).0 / i2;
                        *x += a - 0.3 * b;
                        *y += b + 0.3 * a;
                    }
                    (i0, i1, i2) = (i0 * 1.93, i1 * 1.15, i2 * (2.25 - sharp));
                }
                let pixels = to.as_chunks_mut::<3>().0.iter_mut().zip(from.as_chunks::<3>().0);
                for ((to, from), (x, y)) in pixels.zip(across.iter().zip(&down)) {
                    let colour = [sin_cos(x - t).0, sin_cos((x + y + sine) / 2.).0, sin_cos(y + t).0];
                    *to = std::array::from_fn(|k| truncated(share * f64::from(from[k]) + most * colour[k]));
                }
            }
        },
    );
    Ok(Bytes { samples, ..*x })
}
