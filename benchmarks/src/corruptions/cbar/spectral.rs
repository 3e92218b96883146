//! Noise with a chosen spectrum.

use super::common::{Severity, branch, bytes};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::fourier::{Complex, Fourier};
use robust_imaging::vector::sin_cos;

/// Real part of the inverse transform of `amplitude(squared distance from zero frequency)` with random phases, divided by
/// its standard deviation. Phases are mirrored but not conjugated, as published.
fn noise(n: usize, random: &mut Random, amplitude: impl Fn(f64) -> f64) -> Vec<f64> {
    let half = n / 2;
    let middle = n as f64 / 2.;
    let phases = random.uniforms(0., 2. * std::f64::consts::PI, n * half);
    // Odd sides have a column of their own in the middle.
    let own = random.uniforms(0., 2. * std::f64::consts::PI, if n % 2 == 1 { half } else { 0 });
    let mut spectrum = Complex::zeros(n * n);
    for y in 0..n {
        for x in 0..n {
            let phase = match () {
                _ if x < half => phases[y * half + x],
                _ if n % 2 == 1 && x == half => own.get(y.min(n - 1 - y)).copied().unwrap_or(0.),
                _ => phases[(n - 1 - y) * half + (n - 1 - x)],
            };
            let (dx, dy) = (x as f64 - middle, y as f64 - middle);
            let (sin, cos) = sin_cos(phase);
            let size = amplitude(dx * dx + dy * dy);
            let to = (y + half) % n * n + (x + half) % n;
            (spectrum.re[to], spectrum.im[to]) = (size * cos, size * sin);
        }
    }
    let fourier = Fourier::new(n);
    fourier.inverse(&mut spectrum, n);
    let mut turned = spectrum.transposed(n);
    fourier.inverse(&mut turned, n);
    let field = turned.transposed(n).re;
    let count = field.len() as f64;
    let mean = field.iter().sum::<f64>() / count;
    let sd = (field.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    field.iter().map(|v| v / sd).collect()
}

pub(super) fn sample(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let mask = noise(x.height, &mut branch(random), |d2| d2.sqrt());
    let threshold = severity.of(3.) - 2.5;
    let pixels = x.samples.as_chunks::<3>().0.iter().zip(mask);
    let samples = pixels.flat_map(|(p, m)| if m > threshold { *p } else { [0; 3] }).collect();
    Ok(Bytes { samples, ..*x })
}

pub(super) fn brownish(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let mut inner = branch(random);
    let most = severity.of(64.);
    let fields: [Vec<f64>; 3] = std::array::from_fn(|_| noise(x.height, &mut inner, |d2| 1. / (d2 + 1.)));
    let value = |(i, v): (usize, &u8)| f64::from(*v) + most * fields[i % 3][i / 3];
    Ok(bytes(x, x.samples.iter().enumerate().map(value)))
}
