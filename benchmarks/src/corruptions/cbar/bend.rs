//! Images bent, turned and enlarged.

use super::common::{Severity, bytes};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::gaussian::{Edge, blur, kernel};
use robust_imaging::vector::{exp, sin_cos, wide};
use std::f64::consts::PI;

type Pixel = [f64; 3];

/// Between four neighbours at (row, column), black outside.
#[inline(always)]
fn between(x: &[Pixel], n: usize, row: f64, column: f64) -> Pixel {
    let (l, u) = (row.floor(), column.floor());
    let at = |r: f64, c: f64| {
        let inside = r >= 0. && c >= 0. && r < n as f64 && c < n as f64;
        if inside { x[r as usize * n + c as usize] } else { [0.; 3] }
    };
    let (fr, fc) = (row - l, column - u);
    let (lu, ld, ru, rd) = (at(l, u), at(l, u + 1.), at(l + 1., u), at(l + 1., u + 1.));
    std::array::from_fn(|k| {
        let (a, b) = (lu[k] * (1. - fc) + ld[k] * fc, ru[k] * (1. - fc) + rd[k] * fc);
        a * (1. - fr) + b * fr
    })
}

fn pixels(x: &Bytes, scale: f64) -> Vec<Pixel> {
    x.samples.as_chunks::<3>().0.iter().map(|p| p.map(|v| f64::from(v) * scale)).collect()
}

pub(super) fn caustics(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    const ETA: f64 = 4.;
    let n = x.height;
    let time = random.uniform(0.5, 2.);
    let size = random.uniform(0.75, 1.25) * n as f64;
    let (lens, light) = (severity.of(0.5 * n as f64), severity.of(2.));
    let mut bright = water(n, time, size);
    blur(&mut bright, n, n, 1, &kernel(1., 4.), Edge::Symmetric);
    let at = |y: isize, x: isize| {
        let inside = (0..n as isize).contains(&y) && (0..n as isize).contains(&x);
        if inside { bright[y as usize * n + x as usize] } else { 0. }
    };
    let source: Vec<Pixel> =
        x.samples.as_chunks::<3>().0.iter().map(|p| p.map(|v| f64::from(f32::from(v) / 255.))).collect();
    let mut y = Vec::with_capacity(3 * n * n);
    wide(
        #[inline(always)]
        || {
            for i in 0..n * n {
                let (row, column) = ((i / n) as isize, (i % n) as isize);
                let (north, south) = (at(row, column - 1), at(row, column + 1));
                let (west, east) = (at(row - 1, column), at(row + 1, column));
                let (a, b) = (east - west, south - north);
                let length = (a * a + b * b + 1.).sqrt();
                let (a, b, c) = (a / length, b / length, 1. / length);
                let bend = if c >= 1. - 1e-3 { 0. } else { (1. - (1. - c * c) / (ETA * ETA)).sqrt() - c / ETA };
                let move_by = |v: f64| (v * bend * lens * 1000.).round_ties_even() / 1000.;
                let pixel = between(&source, n, row as f64 + move_by(a), column as f64 + move_by(b));
                let glow = (north - south) * light + (east - west) * light;
                y.extend(pixel.map(|v| (v + glow).clamp(0., 1.) * 255.));
            }
        },
    );
    Ok(bytes(x, y))
}

/// Light on the ground of shallow water: five rounds of interfering waves, tiled.
fn water(n: usize, time: f64, size: f64) -> Vec<f64> {
    const INTENSITY: f64 = 0.005;
    #[expect(clippy::approx_constant, reason = "twelve digits, as published")]
    const TURN: f64 = 6.28318530718;
    let wave = |v: usize| {
        let v = v as f64 / size;
        (v - v.floor()) * TURN - 250.
    };
    let places: Vec<f64> = (0..n).map(wave).collect();
    let mut sums = vec![1.; n * n];
    wide(
        #[inline(always)]
        || {
            for (row, sums) in sums.chunks_exact_mut(n).enumerate() {
                let p0 = places[row];
                for (sum, &p1) in sums.iter_mut().zip(&places) {
                    let (mut i0, mut i1) = (p0, p1);
                    for round in 1..=5 {
                        let t = time * (1. - 3.5 / f64::from(round));
                        let (a, b, c, d) = (sin_cos(t - i0).1, sin_cos(t + i1).0, sin_cos(t - i1).0, sin_cos(t + i0).1);
                        (i0, i1) = (p0 + a + b, p1 + c + d);
                        let (u, v) = (p0 / (sin_cos(i0 + t).0 / INTENSITY), p1 / (sin_cos(i1 + t).1 / INTENSITY));
                        *sum += 1. / (u * u + v * v).sqrt();
                    }
                }
            }
        },
    );
    let shine = |v: f64| (1.17 - libm::pow(v / 5., 1.4)).abs().powi(8).clamp(0., 1.);
    sums.into_iter().map(shine).collect()
}

pub(super) fn ripple(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let amplitude = severity.of(0.025) * n as f64;
    let waves = [0, 1].map(|_| random.uniform(0.1, 0.3) * n as f64);
    let phases = [0, 1].map(|_| random.uniform(0., 2. * PI));
    let source = pixels(x, 1.);
    let moved = |v: usize, k: usize| v as f64 + amplitude * libm::sin(2. * PI * v as f64 / waves[k] + phases[k]);
    Ok(bytes(x, (0..n * n).flat_map(|i| between(&source, n, moved(i / n, 0), moved(i % n, 1)))))
}

pub(super) fn twirl(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let cells = if n == 224 { 5 } else { 3 };
    // The published program draws from [1, -1] in this order.
    let angles: Vec<f64> = (0..cells * cells).map(|_| -random.sign() * severity.of(PI / 2.)).collect();
    let amount = severity.of(0.4) + 0.1;
    let mut image = pixels(x, 1.);
    let side = n / cells;
    let radius = side as f64 / 2.;
    for (cell, angle) in angles.into_iter().enumerate() {
        let (left, top) = (cell / cells * side, cell % cells * side);
        let (cy, cx) = (top as f64 + radius, left as f64 + radius);
        let part = |i: usize| {
            let (y, x) = ((top + i / side) as f64, (left + i % side) as f64);
            let (dy, dx) = (y - cy, x - cx);
            let distance = (dy * dy + dx * dx).sqrt();
            if distance > radius || (distance * 1000.).round_ties_even() == 0. {
                return between(&image, n, y, x);
            }
            let d = distance / radius;
            let pinch = libm::pow(libm::sin(PI * 0.5 * d), -amount);
            let (sin, cos) = libm::sincos(angle * (1. - d).powi(2));
            let (dy, dx) = (dy * pinch, dx * pinch);
            between(&image, n, cy + dy * cos - dx * sin, cx + dy * sin + dx * cos)
        };
        let turned: Vec<Pixel> = (0..side * side).map(part).collect();
        for (i, pixel) in turned.into_iter().enumerate() {
            image[(top + i / side) * n + left + i % side] = pixel.map(|v| f64::from(v as f32));
        }
    }
    Ok(bytes(x, image.into_iter().flatten()))
}

/// Weights of the cubic B-spline at four neighbours, `t` beyond the second.
fn spline(t: f64) -> [f64; 4] {
    let u = 1. - t;
    let (near, far) = ((t * t * (t - 2.) * 3. + 4.) / 6., (u * u * (u - 2.) * 3. + 4.) / 6.);
    let first = u * u * u / 6.;
    [first, near, far, 1. - first - near - far]
}

/// The coefficients whose spline goes through the samples, each line by itself, mirrored without the last sample.
fn prefilter(line: &mut [f64]) {
    let (n, pole) = (line.len(), 3f64.sqrt() - 2.);
    if n < 2 {
        return;
    }
    line.iter_mut().for_each(|v| *v *= (1. - pole) * (1. - 1. / pole));
    let last = n - 1;
    let end = pole.powi(last as i32);
    let mut sum = line[0] + end * line[last];
    let (mut forward, mut backward) = (pole, end * end / pole);
    for v in &line[1..last] {
        sum += (forward + backward) * v;
        forward *= pole;
        backward /= pole;
    }
    line[0] = sum / (1. - end * end);
    for i in 1..n {
        line[i] += pole * line[i - 1];
    }
    line[last] = pole / (pole * pole - 1.) * (line[last] + pole * line[last - 1]);
    for i in (0..last).rev() {
        line[i] = pole * (line[i + 1] - line[i]);
    }
}

/// A plane's spline coefficients.
fn coefficients(plane: &mut [f64], n: usize) {
    let mut column = vec![0.; n];
    for x in 0..n {
        column.iter_mut().zip(plane[x..].iter().step_by(n)).for_each(|(c, v)| *c = *v);
        prefilter(&mut column);
        plane[x..].iter_mut().step_by(n).zip(&column).for_each(|(v, c)| *v = *c);
    }
    plane.chunks_exact_mut(n).for_each(prefilter);
}

/// The spline at (row, column), neighbours mirrored.
fn cubic(c: &[f64], n: usize, row: f64, column: f64) -> f64 {
    use robust_imaging::warp::reflect101;
    let (y, x) = (row.floor(), column.floor());
    let (wy, wx) = (spline(row - y), spline(column - x));
    let place = |v: f64, k: isize| reflect101(v as isize - 1 + k, n);
    let mut sum = 0.;
    for (i, wy) in wy.iter().enumerate() {
        for (j, wx) in wx.iter().enumerate() {
            sum += c[place(y, i as isize) * n + place(x, j as isize)] * wy * wx;
        }
    }
    sum
}

pub(super) fn circular(x: &Bytes, severity: Severity, _: &mut Random) -> Result<Bytes> {
    const TURNS: usize = 21;
    let n = x.height;
    let amount = severity.of(15.);
    let mut planes = [0, 1, 2].map(|k| {
        let plane: Vec<f64> = x.samples.iter().skip(k).step_by(3).map(|&v| f64::from(f32::from(v) / 255.)).collect();
        plane
    });
    planes.iter_mut().for_each(|p| coefficients(p, n));
    let middle = (n as f64 - 1.) / 2.;
    let mut sums = vec![0f32; 3 * n * n];
    let mut weights = 0.;
    for turn in 0..TURNS {
        let share = 2. * turn as f64 / (TURNS as f64 - 1.) - 1.;
        let weight = exp(-2. * share * share);
        weights += weight;
        let (sin, cos) = libm::sincos((share * amount).to_radians());
        for i in 0..n * n {
            let (dy, dx) = ((i / n) as f64 - middle, (i % n) as f64 - middle);
            let (row, column) = (cos * dy + sin * dx + middle, -sin * dy + cos * dx + middle);
            let inside = |v: f64| (0. ..=n as f64 - 1.).contains(&v);
            if inside(row) && inside(column) {
                for (k, plane) in planes.iter().enumerate() {
                    sums[3 * i + k] += (weight * cubic(plane, n, row, column)) as f32;
                }
            }
        }
    }
    Ok(bytes(x, sums.into_iter().map(|v| f64::from(v / weights as f32 * 255.))))
}

pub(super) fn chromatic(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let most = severity.of(0.5);
    let scales = [1., 1. + most / 2., 1. + most];
    let order = random.permutation(3);
    let mut samples = vec![0; x.samples.len()];
    for (k, scale) in order.into_iter().map(|i| scales[i]).enumerate() {
        let plane: Vec<f64> = x.samples.iter().skip(k).step_by(3).map(|&v| f64::from(v)).collect();
        let size = robust_imaging::zoom::zoomed(n, scale);
        let step = (n as f64 - 1.) / (size as f64 - 1.);
        let edge = (size - n) / 2;
        for i in 0..n * n {
            let place = |v: usize| ((v + edge) as f64 * step).min(n as f64 - 1.);
            let value = cubic(&plane, n, place(i / n), place(i % n));
            // The library rounds the sums of byte images.
            samples[3 * i + k] = (value + 0.5).clamp(0., 255.) as u8;
        }
    }
    Ok(Bytes { samples, ..*x })
}
