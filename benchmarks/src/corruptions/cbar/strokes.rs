//! Random grey lines, smooth at their edges (Zingl 2012).

use super::common::{Severity, branch};
use crate::corruptions::Random;
use robust_core::Result;
use robust_imaging::Bytes;
use std::f64::consts::PI;

pub(super) fn lines(x: &Bytes, severity: Severity, random: &mut Random) -> Result<Bytes> {
    let n = x.height as i64;
    let side = n as f64;
    let count = severity.of(1.) * side;
    let angle = random.uniform(0., 2. * PI);
    let spread = random.uniform(0.1, 1.);
    let mut inner = branch(random);
    let mut samples = x.samples.clone();
    let pixels = samples.as_chunks_mut::<3>().0;
    for _ in 0..count as usize {
        let (px, py) = (side * inner.unit(), side * inner.unit());
        let (sin, cos) = libm::sincos(angle + 2. * PI * spread * (inner.unit() - 0.5));
        let (s, c) = (sin * side, cos * side);
        let line = stroke(((px - c) as i64, (py - s) as i64), ((px + c) as i64, (py + s) as i64));
        let inside = line.into_iter().filter(|(r, c, _)| (0..n).contains(r) && (0..n).contains(c));
        // All values are read before any is written: a pixel named twice keeps the last.
        let drawn: Vec<(usize, [u8; 3])> = inside
            .map(|(r, c, v)| {
                let at = (r * n + c) as usize;
                (at, pixels[at].map(|p| ((1. - v) * f64::from(p) + v * 128.) as u8))
            })
            .collect();
        drawn.into_iter().for_each(|(at, p)| pixels[at] = p);
    }
    Ok(Bytes { samples, ..*x })
}

/// Rows, columns and weights of a line between two (row, column) ends.
fn stroke((r0, c0): (i64, i64), (r1, c1): (i64, i64)) -> Vec<(i64, i64, f64)> {
    let (dc, dr) = ((c0 - c1).abs(), (r0 - r1).abs());
    let (right, down) = (if c0 < c1 { 1 } else { -1 }, if r0 < r1 { 1 } else { -1 });
    let length = if dc + dr == 0 { 1. } else { ((dc * dc + dr * dr) as f64).sqrt() };
    let share = |v: i64| 1. - v.abs() as f64 / length;
    let (mut c, mut r, mut error) = (c0, r0, dc - dr);
    let mut line = vec![];
    loop {
        line.push((r, c, share(error - dc + dr)));
        let (before, column) = (error, c);
        if 2 * before >= -dc {
            if c == c1 {
                return line;
            }
            if ((before + dr) as f64) < length {
                line.push((r + down, c, share(before + dr)));
            }
            error -= dr;
            c += right;
        }
        if 2 * before <= dr {
            if r == r1 {
                return line;
            }
            if ((dc - before) as f64) < length {
                line.push((r, column + right, share(dc - before)));
            }
            error += dc;
            r += down;
        }
    }
}
