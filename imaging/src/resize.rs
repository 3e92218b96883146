//! Resizing and cropping of 8-bit images, value for value as Pillow and torchvision do: filters widened when an image
//! shrinks, weights in fixed point with 22 bits, first along rows and then along columns, rounded to bytes after each.
//! (Pillow 13 goes along columns first where the height shrinks much more than the width, which changes some values by
//! one; the order here is that of every version before it, with which published results were made.)

use crate::limits::{MAX_PIXELS, MAX_SIDE, bad};
use robust_core::{Interpolation, Preprocess, Resize, Result};

const PRECISION: u32 = 32 - 8 - 2;

/// An image of interleaved bytes: `samples` is `[height, width, channels]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub samples: Vec<u8>,
}

/// A resampling kernel and its reach in pixels of the smaller image.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    support: f64,
    weight: fn(f64) -> f64,
}

impl From<Interpolation> for Filter {
    fn from(interpolation: Interpolation) -> Self {
        match interpolation {
            Interpolation::Box => Self { support: 0.5, weight: |x| if x > -0.5 && x <= 0.5 { 1. } else { 0. } },
            Interpolation::Bilinear => Self { support: 1., weight: |x| (1. - x.abs()).max(0.) },
            Interpolation::Bicubic => Self { support: 2., weight: cubic },
            Interpolation::Lanczos => Self { support: 3., weight: lanczos },
        }
    }
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match x {
        _ if x < 1. => ((A + 2.) * x - (A + 3.)) * x * x + 1.,
        _ if x < 2. => (((x - 5.) * x + 8.) * x - 4.) * A,
        _ => 0.,
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0. { 1. } else { libm::sin(x * std::f64::consts::PI) / (x * std::f64::consts::PI) };
    if (-3. ..3.).contains(&x) { sinc(x) * sinc(x / 3.) } else { 0. }
}

/// For each output position the first input and the weights from there.
struct Weights(Vec<(usize, Vec<i32>)>);

impl Weights {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        let widened = scale.max(1.);
        let (support, inverse) = (filter.support * widened, 1. / widened);
        let one = |at: usize| {
            let centre = (at as f64 + 0.5) * scale;
            // Truncated towards zero, as a C cast does.
            let first = (centre - support + 0.5).max(0.) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..end).map(|x| (filter.weight)((x as f64 - centre + 0.5) * inverse)).collect();
            let total: f64 = raw.iter().sum();
            let fixed = raw.iter().map(|w| {
                let w = if total == 0. { *w } else { w / total } * f64::from(1 << PRECISION);
                (w + if w < 0. { -0.5 } else { 0.5 }) as i32
            });
            (first, fixed.collect())
        };
        Self((0..to).map(one).collect())
    }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

impl Bytes {
    /// Errors: a number of samples other than the sizes say.
    pub fn new(height: usize, width: usize, channels: usize, samples: Vec<u8>) -> Result<Self> {
        if height * width * channels != samples.len() || samples.is_empty() {
            return Err(bad(format!("{} samples are not an image of {height}x{width}x{channels}", samples.len())));
        }
        Ok(Self { height, width, channels, samples })
    }

    /// Errors: a size of zero or beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
    pub fn resize(self, height: usize, width: usize, filter: Filter) -> Result<Self> {
        let (limit, pixels) = (MAX_SIDE as usize, (height as u64).saturating_mul(width as u64));
        if height == 0 || width == 0 || height > limit || width > limit || pixels > MAX_PIXELS {
            return Err(bad(format!("an image cannot be resized to {height}x{width}")));
        }
        let mut image = self;
        if width != image.width {
            image = image.across(width, filter);
        }
        if height != image.height {
            image = image.down(height, filter);
        }
        Ok(image)
    }

    fn across(&self, width: usize, filter: Filter) -> Self {
        let (weights, c) = (Weights::new(self.width, width, filter), self.channels);
        let mut samples = Vec::with_capacity(self.height * width * c);
        for row in self.samples.chunks_exact(self.width * c) {
            for (first, weights) in &weights.0 {
                for channel in 0..c {
                    let inputs = row[first * c + channel..].iter().step_by(c);
                    samples.push(round(
                        inputs.zip(weights).fold(1 << (PRECISION - 1), |sum, (&v, w)| sum + i32::from(v) * w),
                    ));
                }
            }
        }
        Self { width, samples, ..*self }
    }

    fn down(&self, height: usize, filter: Filter) -> Self {
        let line = self.width * self.channels;
        let mut samples = Vec::with_capacity(height * line);
        let mut sums = vec![0; line];
        for (first, weights) in Weights::new(self.height, height, filter).0 {
            sums.fill(1 << (PRECISION - 1));
            for (row, w) in self.samples.chunks_exact(line).skip(first).zip(weights) {
                sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += i32::from(v) * w);
            }
            samples.extend(sums.iter().map(|&sum| round(sum)));
        }
        Self { height, samples, ..*self }
    }

    /// The middle `height` x `width`; where it cannot be exact, torchvision's choice: halves round to even.
    ///
    /// Errors: an image smaller than that.
    pub fn crop(&self, height: usize, width: usize) -> Result<Self> {
        if height > self.height || width > self.width || height * width == 0 {
            let (h, w) = (self.height, self.width);
            return Err(bad(format!("is {h}x{w}, smaller than the crop of {height}x{width}")));
        }
        let middle = |spare: usize| (spare / 2) + usize::from(spare % 4 == 3);
        let (top, left) = (middle(self.height - height), middle(self.width - width));
        let c = self.channels;
        let rows = self.samples.chunks_exact(self.width * c).skip(top).take(height);
        let samples = rows.flat_map(|row| &row[left * c..(left + width) * c]).copied().collect();
        Self::new(height, width, c, samples)
    }

    /// Errors: those of [`Bytes::resize`] and [`Bytes::crop`].
    pub fn prepare(self, how: &Preprocess) -> Result<Self> {
        let (h, w) = (self.height, self.width);
        let image = match how.resize {
            None => self,
            Some(resize) => {
                let (h, w) = resized(h, w, resize);
                self.resize(h, w, how.interpolation.into())?
            }
        };
        match how.crop {
            Some((h, w)) if (h, w) != (image.height, image.width) => image.crop(h, w),
            _ => Ok(image),
        }
    }

    /// `[c, h, w]` in `[0,1]`.
    pub fn planes(&self) -> Vec<f32> {
        let c = self.channels;
        (0..c).flat_map(|k| self.samples.iter().skip(k).step_by(c).map(|&v| f32::from(v) / 255.)).collect()
    }
}

/// Height and width after resizing; the longer side of [`Resize::Shortest`] is rounded down from a double, as Python's.
pub fn resized(height: usize, width: usize, resize: Resize) -> (usize, usize) {
    let long = |short: usize, long: usize, n: usize| ((n as f64 * long as f64) / short.max(1) as f64) as usize;
    match resize {
        Resize::Exact(h, w) => (h, w),
        Resize::Shortest(n) if width <= height => (long(width, height, n), n),
        Resize::Shortest(n) => (n, long(height, width, n)),
    }
}
