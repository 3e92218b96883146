//! The pixels that are left when an image is stored as a baseline JPEG and read again, value for value as libjpeg with
//! Pillow's defaults (4:2:0, Annex K tables). Huffman coding loses nothing, so none is done.

use super::colour::{enlarge_h2v2, ycc_to_rgb};
use super::transform::{forward, inverse};
use crate::Bytes;
use crate::limits::bad;
use robust_core::{Error, Result};

/// ITU-T T.81, table K.1.
#[rustfmt::skip]
const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
/// ITU-T T.81, table K.2.
#[rustfmt::skip]
const CHROMINANCE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// A table of Annex K scaled to a quality of 1..=100, as libjpeg's `jpeg_set_quality` for baseline files.
fn scaled(table: &[u16; 64], quality: u8) -> [u16; 64] {
    let quality = u32::from(quality);
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    table.map(|v| ((u32::from(v) * scale + 50) / 100).clamp(1, 255) as u16)
}

/// A grey or RGB image through JPEG at `quality` 1..=100.
///
/// # Errors
/// Kind `Usage` for other qualities, kind `Load` for other numbers of channels.
pub fn compress(image: &Bytes, quality: u8) -> Result<Bytes> {
    if !(1..=100).contains(&quality) {
        return Err(Error::usage(format!("JPEG quality {quality} is not between 1 and 100")));
    }
    let (luminance, chrominance) = (scaled(&LUMINANCE, quality), scaled(&CHROMINANCE, quality));
    match image.channels {
        1 => {
            let mut plane = Plane::new(image.height.next_multiple_of(8), image.width.next_multiple_of(8));
            plane.fill(image, |row, at| row[at]);
            plane.requantise(&luminance);
            let samples = (0..image.height).flat_map(|y| plane.row(y)[..image.width].iter().copied()).collect();
            Bytes::new(image.height, image.width, 1, samples)
        }
        3 => Ok(colour(image, &luminance, &chrominance)),
        n => Err(bad(format!("an image of {n} channels has no JPEG"))),
    }
}

/// Samples of one component, whole blocks.
struct Plane {
    height: usize,
    width: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn new(height: usize, width: usize) -> Self {
        Self { height, width, samples: vec![0; height * width] }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.width..][..self.width]
    }

    /// `pick(row, x)` for each pixel; the last row and column go on to the border.
    fn fill(&mut self, image: &Bytes, pick: impl Fn(&[u8], usize) -> u8) {
        let line = image.width * image.channels;
        for (y, to) in self.samples.chunks_exact_mut(self.width).enumerate() {
            let row = &image.samples[y.min(image.height - 1) * line..][..line];
            to.iter_mut().enumerate().for_each(|(x, to)| *to = pick(row, x.min(image.width - 1)));
        }
    }

    /// Every block through its transform, the table and back.
    fn requantise(&mut self, quant: &[u16; 64]) {
        let table = quant.map(|q| {
            let step = i32::from(q) << 3;
            // An exact division of anything below 2^17 by multiplication.
            (step, ((1u64 << 40) / step as u64 + 1) as i64)
        });
        for y in (0..self.height).step_by(8) {
            for x in (0..self.width).step_by(8) {
                let mut block = [0u8; 64];
                for (i, to) in block.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    to.copy_from_slice(&self.samples[(y + i) * self.width + x..][..8]);
                }
                let coefficients = forward(&block);
                let mut kept = [0i16; 64];
                for ((kept, c), (step, inverse)) in kept.iter_mut().zip(coefficients).zip(table) {
                    let size = ((i64::from(c.abs() + (step >> 1)) * inverse) >> 40) as i32;
                    *kept = if c < 0 { -size } else { size } as i16;
                }
                let block = inverse(&kept, quant);
                for (i, from) in block.as_chunks::<8>().0.iter().enumerate() {
                    self.samples[(y + i) * self.width + x..][..8].copy_from_slice(from);
                }
            }
        }
    }

    /// Halved along both axes: four samples and a bias of 1, 2, 1, 2... along the row.
    fn halved(&self) -> Self {
        let mut half = Self::new(self.height / 2, self.width / 2);
        let rows = self.samples.chunks_exact(2 * self.width);
        for (to, pair) in half.samples.chunks_exact_mut(self.width / 2).zip(rows) {
            let (a, b) = pair.split_at(self.width);
            let quads = a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0);
            for (x, (to, (a, b))) in to.iter_mut().zip(quads).enumerate() {
                let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
                *to = ((sum + 1 + (x as u16 & 1)) >> 2) as u8;
            }
        }
        half
    }
}

/// `int(v * 65536 + 0.5)`.
const fn fix(v: f64) -> i32 {
    (v * 65536. + 0.5) as i32
}

/// Luminance and the two colour differences of one pixel, in 16-bit fixed point of the standard's five digits.
fn ycc([r, g, b]: [u8; 3]) -> [u8; 3] {
    const MIDDLE: i32 = (128 << 16) + 32767;
    let [r, g, b] = [r, g, b].map(i32::from);
    let y = (fix(0.299) * r + fix(0.587) * g + fix(0.114) * b + 32768) >> 16;
    let cb = (-fix(0.16874) * r - fix(0.33126) * g + fix(0.5) * b + MIDDLE) >> 16;
    let cr = (fix(0.5) * r - fix(0.41869) * g - fix(0.08131) * b + MIDDLE) >> 16;
    [y as u8, cb as u8, cr as u8]
}

fn colour(image: &Bytes, luminance: &[u16; 64], chrominance: &[u16; 64]) -> Bytes {
    let (height, width) = (image.height, image.width);
    let (tall, broad) = (height.next_multiple_of(16), width.next_multiple_of(16));
    let mut planes = [0, 1, 2].map(|_| Plane::new(tall, broad));
    let line = 3 * width;
    for y in 0..tall {
        let row = image.samples[y.min(height - 1) * line..][..line].as_chunks::<3>().0;
        for x in 0..broad {
            let pixel = ycc(row[x.min(width - 1)]);
            planes.iter_mut().zip(pixel).for_each(|(p, v)| p.samples[y * broad + x] = v);
        }
    }
    let [mut luma, blue, red] = planes;
    let (mut blue, mut red) = (blue.halved(), red.halved());
    luma.requantise(luminance);
    blue.requantise(chrominance);
    red.requantise(chrominance);
    let (low, narrow) = (height.div_ceil(2), width.div_ceil(2));
    let (mut cb, mut cr) = (vec![0; 2 * narrow], vec![0; 2 * narrow]);
    let mut samples = vec![0; height * line];
    for (y, out) in samples.chunks_exact_mut(line).enumerate() {
        let own = y / 2;
        let beside = if y % 2 == 1 { (own + 1).min(low - 1) } else { own.saturating_sub(1) };
        enlarge_h2v2(&blue.row(own)[..narrow], &blue.row(beside)[..narrow], &mut cb);
        enlarge_h2v2(&red.row(own)[..narrow], &red.row(beside)[..narrow], &mut cr);
        let pixels = out.as_chunks_mut::<3>().0.iter_mut();
        pixels.zip(luma.row(y)).zip(&cb).zip(&cr).for_each(|(((to, y), cb), cr)| *to = ycc_to_rgb(*y, *cb, *cr));
    }
    Bytes { height, width, channels: 3, samples }
}
