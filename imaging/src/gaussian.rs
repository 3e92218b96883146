//! Gaussian blur as scipy's `gaussian_filter` does it: separable, rows first, doubles, the kernel cut off.

use crate::vector::{exp, numpy_sum, symmetric};

/// What lies beyond the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The last sample again.
    Nearest,
    /// The image mirrored, its last sample twice.
    Symmetric,
    /// Zeros.
    Zero,
}

impl Edge {
    /// The position inside `0..n` that stands for `at`, if any does.
    fn place(self, at: isize, n: usize) -> Option<usize> {
        let n = n as isize;
        let inside = match self {
            Edge::Nearest => at.clamp(0, n - 1),
            Edge::Symmetric => {
                let at = at.rem_euclid(2 * n);
                if at < n { at } else { 2 * n - 1 - at }
            }
            Edge::Zero if at < 0 || at >= n => return None,
            Edge::Zero => at,
        };
        Some(inside as usize)
    }
}

/// The centre and right half of the kernel: `int(truncate * sigma + 0.5) + 1` weights; one below 1e-15.
pub fn kernel(sigma: f64, truncate: f64) -> Vec<f64> {
    if sigma < 1e-15 {
        return vec![1.];
    }
    let radius = (truncate * sigma + 0.5) as usize;
    let scale = -0.5 / (sigma * sigma);
    let value = |i: usize| exp(scale * (i * i) as f64);
    let half: Vec<f64> = (0..=radius).map(value).collect();
    let both: Vec<f64> = half[1..].iter().rev().chain(&half).copied().collect();
    let total = numpy_sum(&both);
    half.iter().map(|v| v / total).collect()
}

/// An image of doubles `[height, width, channels]`, blurred in place along both axes, channels apart.
pub fn blur(x: &mut [f64], height: usize, width: usize, channels: usize, w: &[f64], edge: Edge) {
    blur_axis(x, height, width * channels, 1, w, edge);
    blur_axis(x, width, channels, height, w, edge);
}

/// [`blur`] with the result of each axis rounded to f32, as scipy stores it for f32 images.
pub fn blur_f32(x: &mut [f64], height: usize, width: usize, channels: usize, w: &[f64], edge: Edge) {
    let round = |x: &mut [f64]| x.iter_mut().for_each(|v| *v = f64::from(*v as f32));
    blur_axis(x, height, width * channels, 1, w, edge);
    round(x);
    blur_axis(x, width, channels, height, w, edge);
    round(x);
}

/// `groups` runs of `n` positions, each of `step` samples, filtered along the positions.
pub fn blur_axis(x: &mut [f64], n: usize, step: usize, groups: usize, w: &[f64], edge: Edge) {
    let radius = w.len().saturating_sub(1);
    if radius == 0 || n * step * groups != x.len() || x.is_empty() {
        return;
    }
    let mut padded = vec![0.; (n + 2 * radius) * step];
    for run in x.chunks_exact_mut(n * step) {
        padded[radius * step..][..n * step].copy_from_slice(run);
        let outside = (0..radius).chain(n + radius..n + 2 * radius);
        for at in outside {
            let to = &mut padded[at * step..][..step];
            match edge.place(at as isize - radius as isize, n) {
                Some(from) => to.copy_from_slice(&run[from * step..][..step]),
                None => to.fill(0.),
            }
        }
        symmetric(&padded, step, w, run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_scipys() {
        let line = [1., 2., 4.];
        let run = |edge| {
            let mut x = line;
            blur_axis(&mut x, 3, 1, 1, &[0.5, 0.125, 0.125], edge);
            x
        };
        // Sums of halves and eighths are exact: by hand, mode 'nearest', 'reflect' and 'constant'.
        assert_eq!(run(Edge::Nearest), [1.5, 2.25, 3.375]);
        assert_eq!(run(Edge::Symmetric), [1.625, 2.25, 3.125]);
        assert_eq!(run(Edge::Zero), [1.25, 1.625, 2.375]);
    }

    #[test]
    fn a_mirror_may_repeat_many_times() {
        let places: Vec<usize> = (-7..7).filter_map(|at| Edge::Symmetric.place(at, 2)).collect();
        assert_eq!(places, [1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn a_kernel_sums_to_one_and_a_narrow_one_is_a_point() {
        let w = kernel(1.5, 4.);
        assert_eq!(w.len(), 7);
        assert!((w[0] + 2. * w[1..].iter().sum::<f64>() - 1.).abs() < 1e-15);
        assert_eq!(kernel(0., 4.), [1.]);
        assert_eq!(kernel(0.05, 4.), [1.]);
    }
}
