//! Fog: a plasma fractal (diamond-square on a torus) added as light.

use super::common::{doubles, finish};
use super::random::Random;
use super::{Corruption, Profile};
use robust_imaging::Bytes;
use robust_imaging::vector::wide;

pub static FOG: Corruption = Corruption {
    name: "fog",
    summary: "a plasma fractal of light, the contrast lowered in proportion",
    apply: |x, call| {
        let (strength, decay) = call.table.fog[call.level];
        let least = x.height.next_power_of_two();
        let side = match call.profile {
            Profile::Hendrycks => call.table.fog_side.max(least),
            Profile::ImageCorruptions => least,
        };
        let map = plasma(side, decay, call.random);
        Ok(finish(x, &fogged(x, &map, side, strength)))
    },
};

pub(super) fn fogged(x: &Bytes, map: &[f64], side: usize, strength: f64) -> Vec<f64> {
    let mut y = doubles(x);
    let most = y.iter().fold(0., |a: f64, v| a.max(*v));
    let (c, line) = (x.channels, x.width * x.channels);
    wide(
        #[inline(always)]
        || {
            for (row, fog) in y.chunks_exact_mut(line).zip(map.chunks_exact(side)) {
                for (pixel, fog) in row.chunks_exact_mut(c).zip(fog) {
                    pixel.iter_mut().for_each(|v| *v = (*v + strength * fog) * most / (most + strength));
                }
            }
        },
    );
    y
}

/// A `side` x `side` map in `[0,1]`, `side` a power of two. The roughness counts twice, as published: once as the width of
/// the uniform values and once as their factor.
pub(super) fn plasma(side: usize, decay: f64, random: &mut Random) -> Vec<f64> {
    let mut map = vec![0.; side * side];
    let (mut step, mut rough) = (side, 100.);
    while step >= 2 {
        let half = step / 2;
        let count = side / step;
        let noise = |random: &mut Random| random.uniforms(-rough, rough, count * count);
        let at = |y: usize, x: usize| (y % side) * side + x % side;
        let u = noise(random);
        for (j, u) in u.chunks_exact(count).enumerate() {
            for (i, u) in u.iter().enumerate() {
                let (y, x) = (j * step, i * step);
                let sum = (map[at(y, x)] + map[at(y + step, x)]) + (map[at(y, x + step)] + map[at(y + step, x + step)]);
                map[at(y + half, x + half)] = sum / 4. + rough * u;
            }
        }
        let u = noise(random);
        for (j, u) in u.chunks_exact(count).enumerate() {
            for (i, u) in u.iter().enumerate() {
                let (y, x) = (j * step, i * step);
                let centres = map[at(y + half, x + half)] + map[at(y + side - half, x + half)];
                let corners = map[at(y, x)] + map[at(y, x + step)];
                map[at(y, x + half)] = (centres + corners) / 4. + rough * u;
            }
        }
        let u = noise(random);
        for (j, u) in u.chunks_exact(count).enumerate() {
            for (i, u) in u.iter().enumerate() {
                let (y, x) = (j * step, i * step);
                let centres = map[at(y + half, x + half)] + map[at(y + half, x + side - half)];
                let corners = map[at(y, x)] + map[at(y + step, x)];
                map[at(y + half, x)] = (centres + corners) / 4. + rough * u;
            }
        }
        step = half;
        rough /= decay;
    }
    let (low, high) = map.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let span = high - low;
    map.iter_mut().for_each(|v| *v = (*v - low) / span);
    map
}
