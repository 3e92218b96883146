//! A turned chequerboard with cells cut out.

use super::common::{Severity, branch};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;

pub(super) fn cutout(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height;
    let (sin, cos) = libm::sincos(random.uniform(0., 2. * std::f64::consts::PI));
    let cell = (random.uniform(0.1, 0.25) * n as f64).max(1.);
    let side = (4. * n as f64 / cell).floor() as usize;
    let share = severity.of(1.);
    let grid: Vec<bool> = branch(random).uniforms(0., 1., side * side).into_iter().map(|u| u < share).collect();
    let place = |v: f64| {
        let v = v as i64; // toward zero
        (if v < 0 { v + side as i64 } else { v }) as usize
    };
    let parity = |v: f64| (v - 2. * (v / 2.).floor()) as i64;
    let mut samples = x.samples.clone();
    for (i, pixel) in samples.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (row, column) = ((i / n) as f64, (i % n) as f64);
        let (a, b) = ((cos * row + sin * column) / cell, (-sin * row + cos * column) / cell);
        if parity(a) == parity(b) && grid.get(place(a) * side + place(b)).copied().unwrap_or(false) {
            *pixel = [128; 3];
        }
    }
    Ok(Bytes { samples, ..*x })
}
