//! Gaussian and defocus blur.

use super::Corruption;
use super::common::{cut, doubles, finish, finish_into, image};
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::gaussian::{Edge, blur, kernel};
use robust_imaging::vector::taps;
use robust_imaging::warp::reflect101;

pub static GAUSSIAN: Corruption = Corruption {
    name: "gaussian_blur",
    summary: "a Gaussian filter",
    apply: |x, call| {
        let mut y = doubles(x);
        blur(&mut y, x.height, x.width, x.channels, &kernel(call.table.gaussian_blur[call.level], 4.), Edge::Nearest);
        Ok(finish(x, &y))
    },
};

pub static DEFOCUS: Corruption = Corruption {
    name: "defocus_blur",
    summary: "a disc with a softened edge, as an open lens out of focus",
    apply: |x, call| {
        let (radius, alias) = call.table.defocus_blur[call.level];
        defocus(x, radius, alias)
    },
};

/// The filter's weights `[side, side]` in single precision.
fn disc(radius: f64, alias: f64) -> (usize, Vec<f32>) {
    let (reach, ks) = if radius <= 8. { (8, 3) } else { (radius as isize, 5) };
    let side = 2 * reach as usize + 1;
    let inside = |x: isize, y: isize| if (x * x + y * y) as f64 <= radius * radius { 1f32 } else { 0. };
    let mut mask: Vec<f32> = (-reach..=reach).flat_map(|y| (-reach..=reach).map(move |x| inside(x, y))).collect();
    let total: f32 = mask.iter().sum();
    mask.iter_mut().for_each(|v| *v /= total);
    let centre = (ks as f64 - 1.) / 2.;
    let raw: Vec<f64> = (0..ks).map(|i| libm::exp(-(i as f64 - centre).powi(2) / (2. * alias * alias))).collect();
    let sum: f64 = raw.iter().sum();
    let q: Vec<f32> = raw.iter().map(|v| (v / sum) as f32).collect();
    let half = ks as isize / 2;
    let along = |mask: &[f32], at: &dyn Fn(usize, usize) -> usize| -> Vec<f32> {
        let one = |i: usize| {
            let (line, place) = (i / side, i % side);
            let term = |j: usize| q[j] * mask[at(line, reflect101(place as isize + j as isize - half, side))];
            (0..ks).map(term).fold(0., |a, v| a + v)
        };
        (0..side * side).map(one).collect()
    };
    let rows = along(&mask, &|line, place| line * side + place);
    let turned = along(&rows, &|line, place| place * side + line);
    let smooth = (0..side * side).map(|i| turned[i % side * side + i / side]).collect();
    (side, smooth)
}

/// Above this many weights, equal ones are gathered and bytes summed as whole numbers.
const FEW: usize = 32;

fn defocus(x: &Bytes, radius: f64, alias: f64) -> Result<Bytes> {
    let (side, weights) = disc(radius, alias);
    let (h, w, c) = (x.height, x.width, x.channels);
    let reach = side / 2;
    let used: Vec<(usize, f64)> =
        weights.iter().enumerate().filter(|(_, w)| **w != 0.).map(|(i, w)| (i, f64::from(*w))).collect();
    let stride = (w + 2 * reach) * c;
    let mut padded = vec![0u8; (h + 2 * reach) * stride];
    let outside: Vec<(usize, usize)> = (0..reach)
        .chain(w + reach..w + 2 * reach)
        .map(|to| (to * c, reflect101(to as isize - reach as isize, w) * c))
        .collect();
    for (y, row) in padded.chunks_exact_mut(stride).enumerate() {
        let from = &x.samples[reflect101(y as isize - reach as isize, h) * w * c..][..w * c];
        row[reach * c..][..w * c].copy_from_slice(from);
        outside.iter().for_each(|&(to, at)| row[to..to + c].copy_from_slice(&from[at..at + c]));
    }
    let offset = |i: usize| i / side * stride + i % side * c;
    let mut samples = vec![0; x.samples.len()];
    if used.len() <= FEW {
        let units = super::common::units();
        let doubles: Vec<f64> = padded.iter().map(|&v| units[usize::from(v)]).collect();
        let places: Vec<(usize, f64)> = used.iter().map(|&(i, w)| (offset(i), w)).collect();
        let mut sums = vec![0.; w * c];
        for (y, out) in samples.chunks_exact_mut(w * c).enumerate() {
            taps(&doubles[y * stride..], &places, &mut sums);
            finish_into(&sums, out);
        }
        return Ok(image(x, samples));
    }
    let classes = Classes::new(&used, side, stride, c);
    let mut work = Work::new(w * c, &padded, stride, reach);
    for (y, out) in samples.chunks_exact_mut(w * c).enumerate() {
        classes.row(&mut work, y, out);
    }
    Ok(image(x, samples))
}

/// The kernel as its most frequent weight on runs of neighbours, and the others by value.
struct Classes {
    most: f64,
    /// Row, first and end column of each run of the most frequent weight.
    runs: Vec<(usize, usize, usize)>,
    /// Other weights and where they stand.
    others: Vec<(f64, Vec<usize>)>,
    channels: usize,
}

impl Classes {
    fn new(used: &[(usize, f64)], side: usize, stride: usize, channels: usize) -> Self {
        let mut groups: Vec<(f64, Vec<usize>)> = vec![];
        for &(i, w) in used {
            match groups.iter_mut().find(|g| g.0 == w) {
                Some(group) => group.1.push(i),
                None => groups.push((w, vec![i])),
            }
        }
        groups.sort_by_key(|g| g.1.len());
        let (most, inner) = groups.pop().unwrap_or_default();
        let neighbours = inner.chunk_by(|a, b| a + 1 == *b && a / side == b / side);
        let runs = neighbours.map(|run| (run[0] / side, run[0] % side, run[0] % side + run.len())).collect();
        let place = |i: usize| i / side * stride + i % side * channels;
        let others = groups.into_iter().map(|(w, at)| (w, at.into_iter().map(place).collect())).collect();
        Self { most, runs, others, channels }
    }
}

/// Samples handled at once.
const BLOCK: usize = 32;

/// Sums of one output row.
struct Work<'a> {
    padded: &'a [u8],
    stride: usize,
    /// Running sums along each padded row.
    prefix: Vec<u32>,
    whole: Vec<u32>,
    sums: Vec<f64>,
}

impl<'a> Work<'a> {
    fn new(width: usize, padded: &'a [u8], stride: usize, reach: usize) -> Self {
        let channels_ahead = stride - width;
        let channels = channels_ahead / (2 * reach);
        let wide = stride + channels;
        let mut prefix = vec![0; padded.len() / stride * wide];
        for (row, to) in padded.chunks_exact(stride).zip(prefix.chunks_exact_mut(wide)) {
            for (i, &v) in row.iter().enumerate() {
                to[i + channels] = to[i] + u32::from(v);
            }
        }
        Self { padded, stride, prefix, whole: vec![0; width], sums: vec![0.; width] }
    }
}

impl Classes {
    fn row(&self, work: &mut Work, y: usize, out: &mut [u8]) {
        robust_imaging::vector::wide(
            #[inline(always)]
            || self.row_loop(work, y, out),
        );
    }

    #[inline(always)]
    fn row_loop(&self, work: &mut Work, y: usize, out: &mut [u8]) {
        let n = out.len();
        let wide = work.stride + self.channels;
        work.whole.fill(0);
        for &(row, from, end) in &self.runs {
            let line = &work.prefix[(y + row) * wide..][..wide];
            let (low, high) = (&line[from * self.channels..][..n], &line[end * self.channels..][..n]);
            work.whole.iter_mut().zip(low).zip(high).for_each(|((s, a), b)| *s = s.wrapping_add(b.wrapping_sub(*a)));
        }
        work.sums.iter_mut().zip(&work.whole).for_each(|(s, v)| *s = self.most * f64::from(*v));
        let row = &work.padded[y * work.stride..];
        let (blocks, rest) = work.sums.as_chunks_mut::<BLOCK>();
        for (at, sums) in blocks.iter_mut().enumerate().map(|(i, sums)| (i * BLOCK, sums)) {
            for (weight, places) in &self.others {
                // 257 bytes fit 16 bits.
                for part in places.chunks(257) {
                    let mut count = [0u16; BLOCK];
                    for place in part {
                        let from = &row[at + place..][..BLOCK];
                        count.iter_mut().zip(from).for_each(|(s, v)| *s = s.wrapping_add(u16::from(*v)));
                    }
                    sums.iter_mut().zip(&count).for_each(|(s, v)| *s += weight * f64::from(*v));
                }
            }
        }
        let done = n - rest.len();
        for (i, sum) in rest.iter_mut().enumerate() {
            for (weight, places) in &self.others {
                let count: u32 = places.iter().map(|place| u32::from(row[done + i + place])).sum();
                *sum += weight * f64::from(count);
            }
        }
        // Sums of whole numbers up to here: divided once where the published code divided each sample.
        out.iter_mut().zip(&work.sums).for_each(|(o, s)| *o = cut(s / 255.));
    }
}
