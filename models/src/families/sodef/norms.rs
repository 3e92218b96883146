//! Norms of matrices, bounded from above.

/// A bound on the spectral norm of a matrix with rows of `k` entries, at most a few percent above it: for a symmetric `G` the norm
/// is at most `|G^n|^(1/n)` with the Frobenius norm, here of `W^T W` and `n = 64`.
pub(crate) fn spectral(w: &[f64], k: usize) -> f64 {
    let most = w.iter().fold(0., |m: f64, v| m.max(v.abs()));
    if most == 0. {
        return 0.;
    }
    let small: Vec<f64> = w.iter().map(|v| v / most).collect();
    let mut power = product(&small, &small, k);
    let (mut log, mut part) = (0., 1.);
    for doubling in 0..7 {
        let size = length(&power);
        log += part * libm::log(size);
        part /= 2.;
        power.iter_mut().for_each(|v| *v /= size);
        if doubling < 6 {
            power = product(&power, &power, k);
        }
    }
    // A hair for rounding.
    most * libm::exp(log / 2.) * (1. + 1e-9)
}

/// The root of the sum of squares.
pub(crate) fn length(all: &[f64]) -> f64 {
    all.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// `a^T b` of matrices with rows of `k` entries.
fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let mut out = vec![0.; k * k];
    for (a, b) in a.chunks(k.max(1)).zip(b.chunks(k.max(1))) {
        for (row, a) in out.chunks_mut(k.max(1)).zip(a) {
            row.iter_mut().zip(b).for_each(|(o, b)| *o += a * b);
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Numbers in [-1, 1) without a pattern.
    pub fn numbers(count: usize) -> Vec<f64> {
        (1..=count).map(|i| (i as f64 * 12.9898).sin() * 43_758.545_3).map(|v| 2. * (v - v.floor()) - 1.).collect()
    }

    #[test]
    fn norms_are_bounded_from_above_and_nearly_met() {
        let exact: [(&[f64], usize, f64); 4] = [
            (&[-3.], 1, 3.),
            (&[3., 0., 0., 1.], 2, 3.),
            (&[0., -2., 2., 0.], 2, 2.),
            (&[1., 2., 2., 2., 4., 4., 0., 0., 0.], 3, 45f64.sqrt()),
        ];
        for (w, k, norm) in exact {
            let bound = spectral(w, k);
            assert!(bound >= norm && bound <= 1.02 * norm, "{w:?}: {bound} {norm}");
        }
        for size in [1e-150, 1., 1e150] {
            let w: Vec<f64> = numbers(400).iter().map(|v| v * size).collect();
            let mut x = numbers(20);
            for _ in 0..200 {
                let y: Vec<f64> = w.chunks(20).map(|r| r.iter().zip(&x).map(|(a, b)| a * b / size).sum()).collect();
                let mut back = vec![0.; 20];
                w.chunks(20).zip(&y).for_each(|(r, y)| r.iter().zip(&mut back).for_each(|(a, b)| *b += a * y / size));
                let length = back.iter().map(|v| v * v).sum::<f64>().sqrt();
                x = back.iter().map(|v| v / length).collect();
            }
            let y: Vec<f64> = w.chunks(20).map(|r| r.iter().zip(&x).map(|(a, b)| a * b).sum()).collect();
            let norm = y.iter().map(|v| (v / size).powi(2)).sum::<f64>().sqrt();
            let bound = spectral(&w, 20) / size;
            assert!(bound >= norm && bound <= 1.05 * norm, "{bound} {norm}");
        }
        assert_eq!(spectral(&[0.; 9], 3), 0.);
    }
}
