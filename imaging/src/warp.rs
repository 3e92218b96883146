//! Geometric maps of images, each with the rounding of the library whose published results it reproduces.

use crate::Bytes;

/// `[xx, xy, x0, yx, yy, y0]`: the output pixel (x, y) shows the input at (xx x + xy y + x0, yx x + yy y + y0).
pub type Affine = [f64; 6];

/// The place in `0..n` of a border mirrored without its last sample (d c b | a b c d | c b a).
pub fn reflect101(at: isize, n: usize) -> usize {
    let period = (2 * n as isize - 2).max(1);
    let at = at.rem_euclid(period);
    (if at >= n as isize { period - at } else { at }) as usize
}

/// The place in `0..n` of a border mirrored with its last sample.
fn mirror(at: isize, n: usize) -> usize {
    let at = at.rem_euclid(2 * n as isize);
    (if at >= n as isize { 2 * n as isize - 1 - at } else { at }) as usize
}

/// A pixel of up to four channels: all of it is one vector, whatever is unused.
pub type Quad = [f32; 4];

/// An image `[n, n]` under `map` with OpenCV's bilinear rule: positions on a grid of 1/32, f32 weights, mirrored border
/// (`warpAffine` with `BORDER_REFLECT_101`).
pub fn affine_cv(pixels: &[Quad], n: usize, map: Affine) -> Vec<Quad> {
    const UNIT: f64 = 1024.;
    let whole = |v: f64| v.round_ties_even() as i64;
    let across: Vec<(i64, i64)> =
        (0..n).map(|x| (whole(map[0] * x as f64 * UNIT), whole(map[3] * x as f64 * UNIT))).collect();
    let mut out = vec![[0.; 4]; pixels.len()];
    for (y, row) in out.chunks_exact_mut(n.max(1)).enumerate() {
        let x0 = whole((map[1] * y as f64 + map[2]) * UNIT) + 16;
        let y0 = whole((map[4] * y as f64 + map[5]) * UNIT) + 16;
        for (to, (dx, dy)) in row.iter_mut().zip(&across) {
            let (px, py) = ((x0 + dx) >> 5, (y0 + dy) >> 5);
            let (ix, iy) = ((px >> 5) as isize, (py >> 5) as isize);
            let (fx, fy) = ((px & 31) as f32 / 32., (py & 31) as f32 / 32.);
            let [a, b, c, d] = corners(pixels, n, ix, iy, reflect101);
            let w = [(1. - fx) * (1. - fy), fx * (1. - fy), (1. - fx) * fy, fx * fy];
            *to = std::array::from_fn(|k| a[k] * w[0] + b[k] * w[1] + c[k] * w[2] + d[k] * w[3]);
        }
    }
    out
}

/// The pixels at (x, y), (x + 1, y), (x, y + 1) and (x + 1, y + 1), by `border` beyond the image.
#[inline(always)]
fn corners(pixels: &[Quad], n: usize, x: isize, y: isize, border: impl Fn(isize, usize) -> usize) -> [Quad; 4] {
    if x >= 0 && y >= 0 && x + 1 < n as isize && y + 1 < n as isize {
        let at = y as usize * n + x as usize;
        return [pixels[at], pixels[at + 1], pixels[at + n], pixels[at + n + 1]];
    }
    let (xa, xb, ya, yb) = (border(x, n), border(x + 1, n), border(y, n), border(y + 1, n));
    [pixels[ya * n + xa], pixels[ya * n + xb], pixels[yb * n + xa], pixels[yb * n + xb]]
}

/// One row's places along one axis: whole parts as bits of 2^52 more, and what is left of them.
struct Places {
    whole: Vec<u64>,
    part: Vec<f64>,
}

impl Places {
    /// Of `from(x) + by[x]`, folded back into `0..side`: scipy's `mode='reflect'`, which turns whole rounds back first.
    #[inline(always)]
    fn set(&mut self, side: f64, by: &[f32], from: impl Fn(usize) -> f64) {
        let mut outside = false;
        for (x, (place, by)) in self.part.iter_mut().zip(by).enumerate() {
            *place = from(x) + f64::from(*by);
            outside |= !(*place >= 0. && *place <= side - 1.);
        }
        if outside {
            let beyond = self.part.iter_mut().filter(|v| !(**v >= 0. && **v <= side - 1.));
            beyond.for_each(|v| *v = fold(*v, side));
        }
        for (whole, part) in self.whole.iter_mut().zip(&mut self.part) {
            let down = part.floor();
            (*whole, *part) = ((down + (1u64 << 52) as f64).to_bits(), *part - down);
        }
    }

    fn at(&self, x: usize) -> (isize, f64) {
        (self.whole[x] as u32 as isize, self.part[x])
    }
}

fn fold(v: f64, side: f64) -> f64 {
    if v < 0. {
        let v = if v < -side { v + 2. * side * (-v / (2. * side)).floor() } else { v };
        (if v < -side { v + 2. * side } else { -v - 1. }).max(0.)
    } else {
        let v = v - 2. * side * (v / (2. * side)).floor();
        if v >= side { 2. * side - v - 1. } else { v }.max(0.)
    }
}

/// An image `[n, n]` sampled at (x + dx, y + dy) with scipy's linear rule: double weights, mirrored border, results stored as
/// f32 (`map_coordinates` of order 1 with `mode='reflect'`). `row` gets each row and its number.
pub fn displaced(pixels: &[Quad], n: usize, dx: &[f32], dy: &[f32], mut row: impl FnMut(usize, &[Quad])) {
    let side = n as f64;
    let empty = || Places { whole: vec![0; n], part: vec![0.; n] };
    let (mut across, mut down, mut out) = (empty(), empty(), vec![[0.; 4]; n]);
    // Rounding down is an instruction only on the machines that `wide` looks for.
    crate::vector::wide(
        #[inline(always)]
        || {
            for y in 0..n {
                across.set(side, &dx[y * n..][..n], |x| x as f64);
                down.set(side, &dy[y * n..][..n], |_| y as f64);
                for (x, out) in out.iter_mut().enumerate() {
                    let ((ix, fx), (iy, fy)) = (across.at(x), down.at(x));
                    let [a, b, c, d] = corners(pixels, n, ix, iy, mirror);
                    let (gx, gy) = (1. - fx, 1. - fy);
                    *out = std::array::from_fn(|k| {
                        let v = [a, b, c, d].map(|p: Quad| f64::from(p[k]));
                        (v[0] * gy * gx + v[1] * gy * fx + v[2] * fy * gx + v[3] * fy * fx) as f32
                    });
                }
                row(y, &out);
            }
        },
    );
}

/// How Pillow finds the value at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    Nearest,
    /// Doubles, cut off toward zero.
    Bilinear,
}

/// An image of the same size under `map`, as Pillow's `Image.transform(AFFINE)`: pixel centres are at halves, outside is 0.
pub fn affine_pil(image: &Bytes, map: Affine, sampling: Sampling) -> Bytes {
    let (h, w, c) = (image.height, image.width, image.channels);
    let mut samples = vec![0; image.samples.len()];
    for (y, row) in samples.chunks_exact_mut(w * c).enumerate() {
        for (x, to) in row.chunks_exact_mut(c).enumerate() {
            let (px, py) = (x as f64 + 0.5, y as f64 + 0.5);
            let at = (map[0] * px + map[1] * py + map[2], map[3] * px + map[4] * py + map[5]);
            if at.0 < 0. || at.0 >= w as f64 || at.1 < 0. || at.1 >= h as f64 {
                continue;
            }
            for (k, to) in to.iter_mut().enumerate() {
                *to = match sampling {
                    Sampling::Nearest => image.samples[(at.1 as usize * w + at.0 as usize) * c + k],
                    Sampling::Bilinear => bilinear(image, at.0 - 0.5, at.1 - 0.5, k) as u8,
                };
            }
        }
    }
    Bytes { samples, ..*image }
}

/// Between four neighbours, the border's last sample again beyond it; a row beyond the border is the row itself.
fn bilinear(image: &Bytes, x: f64, y: f64, channel: usize) -> f64 {
    let (h, w, c) = (image.height as isize, image.width as isize, image.channels);
    let (lx, ly) = (x.floor(), y.floor());
    let (fx, fy) = (x - lx, y - ly);
    let (ix, iy) = (lx as isize, ly as isize);
    let at = |y: isize, x: isize| {
        let (y, x) = (y.clamp(0, h - 1) as usize, x.clamp(0, w - 1) as usize);
        f64::from(image.samples[(y * image.width + x) * c + channel])
    };
    let along = |y: isize| at(y, ix) + (at(y, ix + 1) - at(y, ix)) * fx;
    let upper = along(iy);
    let lower = if (0..h).contains(&(iy + 1)) { along(iy + 1) } else { upper };
    upper + (lower - upper) * fy
}

/// An image under the projective map `m` (row by row, output homogeneous coordinates to input ones) with OpenCV's rule
/// for bytes: positions on a grid of 1/32, weights of 15 bits, outside is 0 (`warpPerspective`).
pub fn perspective_cv(image: &Bytes, m: [f64; 9]) -> Bytes {
    const BITS: u32 = 15;
    let (h, w, c) = (image.height, image.width, image.channels);
    let mut samples = vec![0; image.samples.len()];
    let at = |y: i64, x: i64, k: usize| match (0..h as i64).contains(&y) && (0..w as i64).contains(&x) {
        true => i64::from(image.samples[(y as usize * w + x as usize) * c + k]),
        false => 0,
    };
    let whole = |v: f64| v.clamp(f64::from(i32::MIN), f64::from(i32::MAX)).round_ties_even() as i64;
    for (y, row) in samples.chunks_exact_mut(w * c).enumerate() {
        for (x, to) in row.chunks_exact_mut(c).enumerate() {
            let (px, py) = (x as f64, y as f64);
            let depth = m[6] * px + m[7] * py + m[8];
            let scale = if depth == 0. { 0. } else { 32. / depth };
            let sx = whole((m[0] * px + m[1] * py + m[2]) * scale);
            let sy = whole((m[3] * px + m[4] * py + m[5]) * scale);
            let (ix, iy, fx, fy) = (sx >> 5, sy >> 5, (sx & 31) as f32 / 32., (sy & 31) as f32 / 32.);
            let weights = [(1. - fx) * (1. - fy), fx * (1. - fy), (1. - fx) * fy, fx * fy]
                .map(|w| (w * (1 << BITS) as f32).round_ties_even() as i64);
            for (k, to) in to.iter_mut().enumerate() {
                let v = [at(iy, ix, k), at(iy, ix + 1, k), at(iy + 1, ix, k), at(iy + 1, ix + 1, k)];
                let sum: i64 = v.iter().zip(weights).map(|(v, w)| v * w).sum();
                *to = ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8;
            }
        }
    }
    Bytes { samples, ..*image }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_turn_back() {
        assert_eq!([-3, -1, 0, 3, 4, 6].map(|at| reflect101(at, 4)), [3, 1, 0, 3, 2, 0]);
        assert_eq!([-3, -1, 0, 3, 4, 6].map(|at| mirror(at, 4)), [2, 0, 0, 3, 3, 1]);
        assert_eq!(reflect101(-5, 1), 0);
    }

    #[test]
    fn maps_that_move_nothing_change_nothing() {
        let samples: Vec<u8> = (0..6 * 6 * 3).map(|v| (v * 7 % 256) as u8).collect();
        let image = Bytes::new(6, 6, 3, samples.clone()).unwrap();
        for sampling in [Sampling::Nearest, Sampling::Bilinear] {
            assert_eq!(affine_pil(&image, [1., 0., 0., 0., 1., 0.], sampling), image);
        }
        assert_eq!(perspective_cv(&image, [1., 0., 0., 0., 1., 0., 0., 0., 1.]), image);
        let quads: Vec<Quad> = samples.as_chunks().0.iter().map(|&[r, g, b]| [r, g, b, 0].map(f32::from)).collect();
        assert_eq!(affine_cv(&quads, 6, [1., 0., 0., 0., 1., 0.]), quads);
        let moved = |dx: f32, dy: f32| {
            let mut all = vec![];
            displaced(&quads, 6, &[dx; 36], &[dy; 36], |_, row| all.extend_from_slice(row));
            all
        };
        assert_eq!(moved(0., 0.), quads);
        // A shift by one to the left: the border's pixel comes again.
        let left: Vec<Quad> = (0..36).map(|at| quads[if at % 6 == 0 { at } else { at - 1 }]).collect();
        assert_eq!(moved(-1., 0.), left);
        // By whole rounds of the mirror, and beyond them.
        assert_eq!(moved(12., -24.), quads);
    }

    #[test]
    fn a_shift_by_half_a_pixel_averages_neighbours() {
        let image = Bytes::new(1, 4, 1, vec![10, 20, 41, 80]).unwrap();
        let moved = affine_pil(&image, [1., 0., 0.5, 0., 1., 0.], Sampling::Bilinear);
        assert_eq!(moved.samples, [15, 30, 60, 0]); // the last place lies on the border, which is outside
    }
}
