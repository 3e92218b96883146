//! From coefficients to pixels: enlarging of subsampled planes as libjpeg's "fancy" triangle filters do it, and colour.

use super::Jpeg;
use super::frame::{Component, Frame, Space};
use super::transform::inverse;
use crate::decode::bad;
use robust_core::Result;

/// A row of half the width: each sample's two pixels are 3/4 of it and 1/4 of the neighbour on their side.
pub fn enlarge_h2v1(row: &[u8], out: &mut [u8]) {
    let n = row.len();
    for (x, out) in out.iter_mut().take(2 * n).enumerate() {
        let (i, right) = (x / 2, x % 2 == 1);
        let beside = match right {
            false if i > 0 => Some((row[i - 1], 1)),
            true if i + 1 < n => Some((row[i + 1], 2)),
            _ => None,
        };
        let own = u16::from(row[i]);
        *out = beside.map_or(row[i], |(beside, half)| ((3 * own + u16::from(beside) + half) >> 2) as u8);
    }
}

/// A row of half the height, with the neighbour above (for the upper of the two pixels) or below.
pub fn enlarge_h1v2(row: &[u8], beside: &[u8], lower: bool, out: &mut [u8]) {
    let half = if lower { 2 } else { 1 };
    for ((&a, &b), out) in row.iter().zip(beside).zip(out) {
        *out = ((3 * u16::from(a) + u16::from(b) + half) >> 2) as u8;
    }
}

/// A row of half the width and height, with the neighbour above or below.
pub fn enlarge_h2v2(row: &[u8], beside: &[u8], out: &mut [u8]) {
    let n = row.len().min(beside.len());
    let sum = |i: usize| 3 * u16::from(row[i]) + u16::from(beside[i]);
    for (x, out) in out.iter_mut().take(2 * n).enumerate() {
        let (i, right) = (x / 2, x % 2 == 1);
        let own = sum(i);
        *out = match right {
            false if i > 0 => (3 * own + sum(i - 1) + 8) >> 4,
            false => (4 * own + 8) >> 4,
            true if i + 1 < n => (3 * own + sum(i + 1) + 7) >> 4,
            true => (4 * own + 7) >> 4,
        } as u8;
    }
}

/// Fixed point with 16 bits, as libjpeg's tables.
pub fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((91881 * cr + 32768) >> 16);
    let g = y + ((-22554 * cb - 46802 * cr + 32768) >> 16);
    let b = y + ((116130 * cb + 32768) >> 16);
    [r, g, b].map(|v| v.clamp(0, 255) as u8)
}

/// Ink as Pillow stores it (255 is full) to light, as its `convert("RGB")`.
pub fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = 255 - i32::from(k);
    [c, m, y].map(|ink| {
        let product = i32::from(ink) * white + 128;
        (white - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

/// A component's samples, `stride` to a row.
struct Plane {
    samples: Vec<u8>,
    stride: usize,
    width: usize,
    height: usize,
    across: usize,
    down: usize,
}

impl Plane {
    fn new(component: &Component, frame: &Frame) -> Result<Self> {
        let quant = component.quant.ok_or_else(|| bad("a missing quantisation table".to_string()))?;
        if !frame.h.is_multiple_of(component.h) || !frame.v.is_multiple_of(component.v) {
            let (h, v) = (component.h, component.v);
            return Err(bad(format!("colour sampled at {h}/{} by {v}/{} is not read", frame.h, frame.v)));
        }
        let stride = component.across * 8;
        let mut samples = vec![0; stride * component.down * 8];
        for (i, block) in component.coefficients.iter().enumerate() {
            let start = i / component.across * 8 * stride + i % component.across * 8;
            for (y, row) in inverse(block, &quant).as_chunks::<8>().0.iter().enumerate() {
                samples[start + y * stride..][..8].copy_from_slice(row);
            }
        }
        let (across, down) = (frame.h / component.h, frame.v / component.v);
        Ok(Self { samples, stride, width: component.width, height: component.height, across, down })
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.width]
    }

    /// Row `y` of the whole image; `out` may be a little longer than it.
    fn enlarge(&self, y: usize, out: &mut [u8]) {
        let own = self.row(y / self.down);
        let lower = y % 2 == 1;
        // Above the first and below the last row there are themselves again.
        let beside = || {
            let i = y / 2;
            self.row(if lower { (i + 1).min(self.height - 1) } else { i.saturating_sub(1) })
        };
        match (self.across, self.down) {
            (1, 1) => out[..own.len()].copy_from_slice(own),
            // libjpeg's filters need three columns.
            (2, 1) if self.width > 2 => enlarge_h2v1(own, out),
            (2, 2) if self.width > 2 => enlarge_h2v2(own, beside(), out),
            (1, 2) => enlarge_h1v2(own, beside(), lower, out),
            (across, _) => {
                out.iter_mut().zip(own.iter().flat_map(|&v| (0..across).map(move |_| v))).for_each(|(o, v)| *o = v)
            }
        }
    }
}

pub(super) fn assemble(frame: &Frame) -> Result<Jpeg> {
    let planes = frame.components.iter().map(|c| Plane::new(c, frame)).collect::<Result<Vec<_>>>()?;
    let (width, height) = (frame.width, frame.height);
    let channels = if frame.space == Space::Grey { 1 } else { 3 };
    let mut pixels = Vec::with_capacity(width * height * channels);
    let mut rows = vec![vec![0; width + 4]; planes.len()];
    for y in 0..height {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.enlarge(y, row);
        }
        match (frame.space, rows.as_slice()) {
            (Space::Grey, [grey]) => pixels.extend(&grey[..width]),
            (Space::Ycc, [y, cb, cr]) => pixels.extend((0..width).flat_map(|x| ycc_to_rgb(y[x], cb[x], cr[x]))),
            (Space::Rgb, [r, g, b]) => pixels.extend((0..width).flat_map(|x| [r[x], g[x], b[x]])),
            // Stored inverted, whoever wrote it: Pillow turns both round.
            (Space::Cmyk, [c, m, y, k]) => {
                pixels.extend((0..width).flat_map(|x| cmyk_to_rgb([c[x], m[x], y[x], k[x]].map(|v| 255 - v))));
            }
            (Space::Ycck, [y, cb, cr, k]) => {
                let ink = |x: usize| {
                    let [r, g, b] = ycc_to_rgb(y[x], cb[x], cr[x]);
                    [r, g, b, 255 - k[x]]
                };
                pixels.extend((0..width).flat_map(|x| cmyk_to_rgb(ink(x))));
            }
            _ => return Err(bad("colours and planes disagree".to_string())),
        }
    }
    Ok(Jpeg { width, height, channels, pixels })
}
