//! The 15 corruptions of MNIST-C (Mu and Gilmer 2019, arXiv 1906.02337): 28x28 grey, one severity each.

use super::fog::{fogged, plasma};
use super::lines::{self, SIDE};
use super::random::Random;
use super::spatter::mud_mask;
use super::{Corruption, noise};
use robust_core::{Error, Result};
use robust_imaging::Bytes;
use robust_imaging::gaussian::{Edge, blur, blur_axis, kernel};
use robust_imaging::motion::{Motion, Rounding, motion_blur};
use robust_imaging::vector::truncated;

const MIDDLE: f64 = 13.5;

macro_rules! corruption {
    ($name:literal, $summary:literal) => {
        Corruption { name: $name, summary: $summary, apply: |x, call| apply($name, x, call.random) }
    };
}

/// In the order of the paper's list.
pub static ALL: [&Corruption; 15] = [
    &corruption!("shot_noise", "photon counts instead of light"),
    &corruption!("impulse_noise", "salt and pepper"),
    &corruption!("glass_blur", "pixels trade places with near ones, smoothed along columns"),
    &corruption!("motion_blur", "a line of pixels at up to 45 degrees, averaged"),
    &corruption!("shear", "rows shifted in proportion to their height"),
    &corruption!("scale", "shrunk to seven tenths"),
    &corruption!("rotate", "turned by 0.4 radians, either way"),
    &corruption!("brightness", "raised by half"),
    &corruption!("translate", "moved by three pixels both ways"),
    &corruption!("stripe", "inverted left and right of the middle"),
    &corruption!("fog", "a plasma fractal of light"),
    &corruption!("spatter", "drops of mud"),
    &corruption!("dotted_line", "a dotted line across"),
    &corruption!("zigzag", "a zigzag line across"),
    &corruption!("canny_edges", "nothing but edges"),
];

fn apply(name: &str, x: &Bytes, random: &mut Random) -> Result<Bytes> {
    let samples = values(name, x, random)?.into_iter().map(truncated).collect();
    Ok(Bytes { samples, ..*x })
}

/// What the published program gives before it is cut to bytes: values in `[0, 255]`.
///
/// # Errors
/// Kind `Load` for images that are not 28x28 grey, kind `Usage` for other names.
pub fn values(name: &str, x: &Bytes, random: &mut Random) -> Result<Vec<f64>> {
    if (x.height, x.width, x.channels) != (SIDE, SIDE, 1) {
        let (h, w, c) = (x.height, x.width, x.channels);
        return Err(Error::load("mnist-c", format!("an image of {h}x{w} with {c} channels, 28x28 grey is wanted")));
    }
    let own: Vec<f64> = x.samples.iter().map(|&v| f64::from(v) / 255.).collect();
    let bytes = |x: Bytes| x.samples.into_iter().map(|v| f64::from(v) / 255.).collect::<Vec<f64>>();
    let size = [SIDE, SIDE, 1];
    let y: Vec<f64> = match name {
        "shot_noise" => noise::counts(x, 3., random),
        "impulse_noise" => bytes(noise::impulse(x, 0.17, random)?),
        "glass_blur" => glass(&own, random),
        "motion_blur" => {
            let motion = Motion { radius: 10., sigma: 3., degrees: random.uniform(-45., 45.) };
            bytes(Bytes { samples: motion_blur(&x.samples, size, motion, Rounding::Quantum), ..*x })
        }
        "shear" => {
            let angle = 0.4 * random.sign();
            warp(&own, [1., -libm::sin(angle), 0., libm::cos(angle)])
        }
        "rotate" => {
            let (sin, cos) = libm::sincos(0.4 * random.sign());
            warp(&own, [cos, -sin, sin, cos])
        }
        "scale" => warp(&own, [1. / 0.7, 0., 0., 1. / 0.7]),
        "translate" => {
            let (dx, dy) = (3. * random.sign(), 3. * random.sign());
            sampled(&own, [1., 0., dx, 0., 1., dy])
        }
        "brightness" => own.iter().map(|u| (u + 0.5).min(1.) * (0.2125 + 0.7154 + 0.0721)).collect(),
        "stripe" => {
            own.iter().enumerate().map(|(i, u)| if (7..21).contains(&(i % SIDE)) { *u } else { 1. - u }).collect()
        }
        "fog" => fogged(x, &plasma(256, 1.4, random), 256, 3.),
        "spatter" => spatter(&own, random),
        "dotted_line" => lines::dotted(&own, random),
        "zigzag" => lines::zigzag(&own, random),
        "canny_edges" => canny(&own),
        other => return Err(Error::usage(format!("mnist-c has no corruption `{other}`"))),
    };
    Ok(y.into_iter().map(|v| v.clamp(0., 1.) * 255.).collect())
}

/// Smoothed along columns only, since the published call takes the image for one with channels; pixels truly trade
/// places, where a coin says so.
fn glass(own: &[f64], random: &mut Random) -> Vec<f64> {
    let w = kernel(0.7, 4.);
    let mut y = own.to_vec();
    blur_axis(&mut y, SIDE, SIDE, 1, &w, Edge::Nearest);
    let mut y: Vec<u8> = y.into_iter().map(|v| truncated(v * 255.)).collect();
    for _ in 0..2 {
        for h in (2..SIDE).rev() {
            for w in (2..SIDE).rev() {
                if random.integer(0, 2) == 0 {
                    let (dx, dy) = (random.integer(-1, 1), random.integer(-1, 1));
                    y.swap(h * SIDE + w, (h as i64 + dy) as usize * SIDE + (w as i64 + dx) as usize);
                }
            }
        }
    }
    let mut y: Vec<f64> = y.into_iter().map(|v| f64::from(v) / 255.).collect();
    blur_axis(&mut y, SIDE, SIDE, 1, &w, Edge::Nearest);
    y
}

/// Under a linear map about the middle.
fn warp(x: &[f64], [xx, xy, yx, yy]: [f64; 4]) -> Vec<f64> {
    let moved = |a: f64, b: f64| MIDDLE * (1. - (a + b));
    sampled(x, [xx, xy, moved(xx, xy), yx, yy, moved(yx, yy)])
}

/// Between four neighbours, zero outside.
fn sampled(x: &[f64], m: [f64; 6]) -> Vec<f64> {
    let at = |r: f64, c: f64| {
        let inside = |v: f64| (0. ..SIDE as f64).contains(&v);
        if inside(r) && inside(c) { x[r as usize * SIDE + c as usize] } else { 0. }
    };
    let one = |i: usize| {
        let (col, row) = ((i % SIDE) as f64, (i / SIDE) as f64);
        let (c, r) = (m[0] * col + m[1] * row + m[2], m[3] * col + m[4] * row + m[5]);
        let (c0, r0, c1, r1) = (c.floor(), r.floor(), c.ceil(), r.ceil());
        let (dc, dr) = (c - c0, r - r0);
        let top = (1. - dc) * at(r0, c0) + dc * at(r0, c1);
        let bottom = (1. - dc) * at(r1, c0) + dc * at(r1, c1);
        (1. - dr) * top + dr * bottom
    };
    (0..SIDE * SIDE).map(one).collect()
}

fn spatter(own: &[f64], random: &mut Random) -> Vec<f64> {
    let mut drops = random.normals(0.65, 0.3, SIDE * SIDE);
    blur(&mut drops, SIDE, SIDE, 1, &kernel(1., 4.), Edge::Nearest);
    drops.iter_mut().filter(|v| **v < 0.65).for_each(|v| *v = 0.);
    let mud = (63. / 255.) as f32;
    let mask = mud_mask(&drops, SIDE, 0.65, 1.5);
    own.iter().zip(mask).map(|(u, m)| f64::from(*u as f32 * (1. - m) + mud * m)).collect()
}

/// Canny's edges as scikit-image finds them: sigma 1, thresholds 0.1 and 0.2.
fn canny(own: &[f64]) -> Vec<f64> {
    let w = kernel(1., 4.);
    let (mut smooth, mut weight) = (own.to_vec(), vec![1.; own.len()]);
    blur(&mut smooth, SIDE, SIDE, 1, &w, Edge::Zero);
    blur(&mut weight, SIDE, SIDE, 1, &w, Edge::Zero);
    smooth.iter_mut().zip(&weight).for_each(|(s, w)| *s /= w + f64::EPSILON);
    let near = |y: usize, x: usize, dy: isize, dx: isize| {
        // Mirrored with the last sample: one step beyond the border is the border.
        let place = |v: usize, d: isize| (v as isize + d).clamp(0, SIDE as isize - 1) as usize;
        smooth[place(y, dy) * SIDE + place(x, dx)]
    };
    let slope = |i: usize| {
        let at = |dy, dx| near(i / SIDE, i % SIDE, dy, dx);
        let across = (at(-1, 1) - at(-1, -1)) + 2. * (at(0, 1) - at(0, -1)) + (at(1, 1) - at(1, -1));
        let down = (at(1, -1) - at(-1, -1)) + 2. * (at(1, 0) - at(-1, 0)) + (at(1, 1) - at(-1, 1));
        (down, across)
    };
    let slopes: Vec<(f64, f64)> = (0..own.len()).map(slope).collect();
    let size: Vec<f64> = slopes.iter().map(|(a, b)| (a * a + b * b).sqrt()).collect();
    let inner = |i: &usize| (1..SIDE - 1).contains(&(i / SIDE)) && (1..SIDE - 1).contains(&(i % SIDE));
    let mut low = vec![false; own.len()];
    (0..own.len()).filter(inner).filter(|i| size[*i] >= 0.1).for_each(|i| low[i] = is_ridge(&size, slopes[i], i));
    let mut kept: Vec<bool> = low.iter().zip(&size).map(|(l, m)| *l && *m >= 0.2).collect();
    let mut stack: Vec<usize> = (0..kept.len()).filter(|i| kept[*i]).collect();
    while let Some(i) = stack.pop() {
        for next in [i - SIDE - 1, i - SIDE, i - SIDE + 1, i - 1, i + 1, i + SIDE - 1, i + SIDE, i + SIDE + 1] {
            if low[next] && !kept[next] {
                kept[next] = true;
                stack.push(next);
            }
        }
    }
    kept.into_iter().map(|k| if k { 1. } else { 0. }).collect()
}

/// Whether no interpolated neighbour along the slope is higher.
fn is_ridge(size: &[f64], (a, b): (f64, f64), i: usize) -> bool {
    let (up, down, left, right) = (i - SIDE, i + SIDE, i - 1, i + 1);
    let same = (a >= 0. && b >= 0.) || (a <= 0. && b <= 0.);
    let (w, near, far) = match (same, a.abs() > b.abs(), a.abs() < b.abs()) {
        (true, true, _) => (b.abs() / a.abs(), [down, up], [down + 1, up - 1]),
        (true, ..) => (if b == 0. { 0. } else { a.abs() / b.abs() }, [right, left], [down + 1, up - 1]),
        (false, _, true) => (a.abs() / b.abs(), [right, left], [up + 1, down - 1]),
        (false, ..) => (b.abs() / a.abs(), [up, down], [up + 1, down - 1]),
    };
    (0..2).all(|k| size[far[k]] * w + size[near[k]] * (1. - w) <= size[i])
}
