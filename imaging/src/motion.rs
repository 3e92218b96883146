//! One-sided motion blur along a line of pixels, as ImageMagick's `-motion-blur` (6.9, Q16) does it.

use crate::vector::{exp, numpy_sum, taps, truncated, wide};

/// How sums become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To 16 bits, then `floor(q / 257)`, as ImageMagick's Q16 builds.
    Quantum,
    /// Cut off toward zero, and the line ends where it leaves an image of its size, as the `imagecorruptions` package.
    Truncate,
}

/// The line's length and place.
#[derive(Debug, Clone, Copy)]
pub struct Motion {
    /// `2 ceil(radius) + 1` pixels.
    pub radius: f64,
    /// Of the half Gaussian of weights.
    pub sigma: f64,
    pub degrees: f64,
}

/// Bytes `[height, width, channels]` averaged along a line that starts at each pixel; the border repeats.
pub fn motion_blur(x: &[u8], [height, width, channels]: [usize; 3], motion: Motion, rounding: Rounding) -> Vec<u8> {
    let line = line(motion, [height, width], rounding);
    let scale = if rounding == Rounding::Quantum { 257. } else { 1. };
    let source: Vec<f64> = x.iter().map(|&v| scale * f64::from(v)).collect();
    let mut out = vec![0; x.len()];
    along(&source, [height, width, channels], &line, |y, sums| {
        let out = &mut out[y * width * channels..][..width * channels];
        wide(
            #[inline(always)]
            || match rounding {
                // Half of a 257th more makes the division of whole numbers by 257 exact in doubles.
                Rounding::Quantum => out.iter_mut().zip(sums).for_each(|(o, s)| {
                    *o = truncated((s.clamp(0., 65535.) + 0.5).floor() * (1. / 257.) + 1. / 514.);
                }),
                Rounding::Truncate => out.iter_mut().zip(sums).for_each(|(o, s)| *o = truncated(*s)),
            },
        );
    });
    out
}

/// [`motion_blur`] of doubles, as the `imagecorruptions` package.
pub fn motion_blur_real(x: &[f64], [height, width, channels]: [usize; 3], motion: Motion) -> Vec<f64> {
    let line = line(motion, [height, width], Rounding::Truncate);
    let mut out = vec![0.; x.len()];
    along(x, [height, width, channels], &line, |y, sums| {
        out[y * width * channels..][..width * channels].copy_from_slice(sums);
    });
    out
}

/// Calls `each(y, sums)` with every row of weighted sums.
fn along(
    x: &[f64],
    [height, width, channels]: [usize; 3],
    line: &[((isize, isize), f64)],
    mut each: impl FnMut(usize, &[f64]),
) {
    let reach = |part: fn(&((isize, isize), f64)) -> isize| line.iter().map(part).fold(0, isize::max) as usize;
    let (left, right) = (reach(|t| -t.0.0), reach(|t| t.0.0));
    let (above, below) = (reach(|t| -t.0.1), reach(|t| t.0.1));
    let stride = (left + width + right) * channels;
    let mut padded = vec![0.; (above + height + below) * stride];
    for (y, to) in padded.chunks_exact_mut(stride).enumerate() {
        let from = &x[y.saturating_sub(above).min(height - 1) * width * channels..][..width * channels];
        let (ahead, to) = to.split_at_mut(left * channels);
        let (own, behind) = to.split_at_mut(width * channels);
        own.copy_from_slice(from);
        ahead.chunks_exact_mut(channels).for_each(|p| p.copy_from_slice(&own[..channels]));
        behind.chunks_exact_mut(channels).for_each(|p| p.copy_from_slice(&own[own.len() - channels..]));
    }
    let place = |(dx, dy): (isize, isize)| {
        ((above as isize + dy) * stride as isize + (left as isize + dx) * channels as isize) as usize
    };
    let offsets: Vec<(usize, f64)> = line.iter().map(|(at, w)| (place(*at), *w)).collect();
    let mut sums = vec![0.; width * channels];
    for y in 0..height {
        taps(&padded[y * stride..], &offsets, &mut sums);
        each(y, &sums);
    }
}

/// Places (across, down) along the line with their weights.
fn line(motion: Motion, [height, columns]: [usize; 2], rounding: Rounding) -> Vec<((isize, isize), f64)> {
    let Motion { radius, sigma, degrees } = motion;
    let width = 2 * radius.ceil() as usize + 1;
    let scale = if rounding == Rounding::Truncate { std::f64::consts::TAU.sqrt() * sigma } else { 1. };
    let values: Vec<f64> = (0..width).map(|i| exp(-((i * i) as f64) / (2. * (sigma * sigma))) / scale).collect();
    let total = numpy_sum(&values);
    let angle = degrees.to_radians();
    let (px, py) = (width as f64 * libm::sin(angle), width as f64 * libm::cos(angle));
    let length = libm::hypot(px, py);
    let place = |i: usize| {
        let along = |p: f64| (i as f64 * p / length - 0.5).ceil() as isize;
        (along(py), along(px))
    };
    let stays = |(dx, dy): (isize, isize)| {
        rounding == Rounding::Quantum || (dy.unsigned_abs() < height && dx.unsigned_abs() < columns)
    };
    values.iter().enumerate().map(|(i, v)| (place(i), v / total)).take_while(|(at, _)| stays(*at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_flat_at_any_angle() {
        for v in 0..=255u8 {
            for degrees in [-135., -45., 0., 30., 90.] {
                let x = vec![v; 9 * 7 * 3];
                let y = motion_blur(&x, [9, 7, 3], Motion { radius: 5., sigma: 2., degrees }, Rounding::Quantum);
                assert!(y.iter().all(|&y| y == v), "{v} at {degrees}");
            }
        }
    }

    #[test]
    fn the_line_starts_at_the_pixel_and_runs_right_at_zero_degrees() {
        let mut x = vec![0; 9];
        x[8] = 255;
        let y = motion_blur(&x, [1, 9, 1], Motion { radius: 1., sigma: 1., degrees: 0. }, Rounding::Quantum);
        // Three weights of exp(0), exp(-1/2), exp(-2): only pixels left of the bright one see it.
        assert_eq!(y, [0, 0, 0, 0, 0, 0, 19, 108, 255]);
    }
}
