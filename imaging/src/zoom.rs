//! Enlarging by linear interpolation between corner-aligned samples, as scipy's `zoom` of order 1.

/// Where the samples of one axis lie: first neighbour, second neighbour, share of the second.
#[derive(Debug, Clone)]
pub struct Axis(Vec<(usize, usize, f64)>);

/// Length of `n` samples zoomed by `factor`: halves round to even, as Python's.
pub fn zoomed(n: usize, factor: f64) -> usize {
    (n as f64 * factor).round_ties_even() as usize
}

impl Axis {
    /// Positions `from..from + count` of `n` samples stretched to `zoomed(n, factor)`, whose ends meet.
    pub fn new(n: usize, factor: f64, from: usize, count: usize) -> Self {
        let step = (n as f64 - 1.) / (zoomed(n, factor) as f64 - 1.).max(1.);
        let place = |at: usize| {
            // Without the cut, rounding may put the last position beyond the last sample.
            let at = (at as f64 * step).min(n as f64 - 1.);
            let low = at.floor();
            (low as usize, (low as usize + 1).min(n - 1), at - low)
        };
        Self((from..from + count).map(place).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a square part of an image lies.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Samples from row to row of the whole.
    pub stride: usize,
    /// Row and column of its first pixel.
    pub at: usize,
    pub channels: usize,
}

/// Calls `row(y, samples)` with each row of the part enlarged along both axes.
pub fn rows(x: &[f64], part: Part, axis: &Axis, mut row: impl FnMut(usize, &[f64])) {
    let c = part.channels;
    let last = axis.0.iter().map(|p| p.1).max().unwrap_or(0);
    let width = (last + 1) * c;
    let (mut line, mut out) = (vec![0.; width], vec![0.; axis.len() * c]);
    let source = |y: usize| &x[(part.at + y) * part.stride + part.at * c..][..width];
    for (y, &(low, high, share)) in axis.0.iter().enumerate() {
        crate::vector::wide(
            #[inline(always)]
            || {
                for ((to, a), b) in line.iter_mut().zip(source(low)).zip(source(high)) {
                    *to = a * (1. - share) + b * share;
                }
            },
        );
        if c == 3 {
            let (pixels, _) = line.as_chunks::<3>();
            for (to, &(low, high, share)) in out.as_chunks_mut::<3>().0.iter_mut().zip(&axis.0) {
                let (a, b) = (pixels[low], pixels[high]);
                *to = std::array::from_fn(|k| a[k] * (1. - share) + b[k] * share);
            }
        } else {
            for (to, &(low, high, share)) in out.chunks_exact_mut(c).zip(&axis.0) {
                for (k, to) in to.iter_mut().enumerate() {
                    *to = line[low * c + k] * (1. - share) + line[high * c + k] * share;
                }
            }
        }
        row(y, &out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_stays_a_ramp() {
        let x: Vec<f64> = (0..25).map(|i| f64::from(i % 5) + 10. * f64::from(i / 5)).collect();
        let axis = Axis::new(5, 1.8, 0, 9);
        rows(&x, Part { stride: 5, at: 0, channels: 1 }, &axis, |y, row| {
            for (x, v) in row.iter().enumerate() {
                assert!((v - (x as f64 / 2. + 10. * y as f64 / 2.)).abs() < 1e-12);
            }
        });
        assert_eq!((zoomed(5, 1.5), zoomed(7, 1.5)), (8, 10));
    }
}
