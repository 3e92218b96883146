//! From coefficients to pixels: enlarging of subsampled planes as libjpeg's "fancy" triangle filters do it, and colour.

use super::frame::{Component, Frame, Space};
use super::image::Jpeg;
use super::transform::inverse;
use crate::limits::bad;
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

/// A row of half the width and height, with the neighbour above or below. `out` has room for twice the row.
pub fn enlarge_h2v2(row: &[u8], beside: &[u8], out: &mut [u8]) {
    let sums: Vec<u16> = row.iter().zip(beside).map(|(&a, &b)| 3 * u16::from(a) + u16::from(b)).collect();
    // At the ends a sample is its own neighbour: 3s + s as libjpeg's 4s.
    let left = sums.first().into_iter().chain(&sums);
    let right = sums.iter().skip(1).chain(sums.last());
    for (((own, left), right), out) in sums.iter().zip(left).zip(right).zip(out.as_chunks_mut::<2>().0) {
        *out = [((3 * own + left + 8) >> 4) as u8, ((3 * own + right + 7) >> 4) as u8];
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
    let mut pixels = vec![0; width * height * channels];
    let mut rows = vec![vec![0; width + 4]; planes.len()];
    for y in 0..height {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.enlarge(y, row);
        }
        let line = &mut pixels[y * width * channels..][..width * channels];
        colour(frame.space, &rows, line)?;
    }
    Ok(Jpeg { width, height, channels, pixels })
}

/// One row of planes to pixels.
fn colour(space: Space, rows: &[Vec<u8>], line: &mut [u8]) -> Result<()> {
    let pixels = line.as_chunks_mut::<3>().0.iter_mut();
    match (space, rows) {
        (Space::Grey, [grey]) => line.copy_from_slice(&grey[..line.len()]),
        (Space::Ycc, [y, cb, cr]) => {
            pixels.zip(y).zip(cb).zip(cr).for_each(|(((to, y), cb), cr)| *to = ycc_to_rgb(*y, *cb, *cr));
        }
        (Space::Rgb, [r, g, b]) => pixels.zip(r).zip(g).zip(b).for_each(|(((to, r), g), b)| *to = [*r, *g, *b]),
        // Stored inverted, whoever wrote it: Pillow turns both round.
        (Space::Cmyk, [c, m, y, k]) => {
            let inks = c.iter().zip(m).zip(y).zip(k);
            pixels.zip(inks).for_each(|(to, (((c, m), y), k))| *to = cmyk_to_rgb([c, m, y, k].map(|v| 255 - v)));
        }
        (Space::Ycck, [y, cb, cr, k]) => {
            let planes = y.iter().zip(cb).zip(cr).zip(k);
            pixels.zip(planes).for_each(|(to, (((y, cb), cr), k))| {
                let [r, g, b] = ycc_to_rgb(*y, *cb, *cr);
                *to = cmyk_to_rgb([r, g, b, 255 - k]);
            });
        }
        _ => return Err(bad("colours and planes disagree".to_string())),
    }
    Ok(())
}
