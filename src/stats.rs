//! Statistics of rates: integers in, intervals out.

/// Two-sided 95 % quantile of the standard normal.
const Z95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % score interval for `hits` of `n` (Wilson 1927); `(0, 1)` when nothing was judged.
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    if n == 0 {
        return (0., 1.);
    }
    let (p, n, z2) = (hits as f64 / n as f64, n as f64, Z95 * Z95);
    let middle = (p + z2 / (2. * n)) / (1. + z2 / n);
    let half = Z95 / (1. + z2 / n) * (p * (1. - p) / n + z2 / (4. * n * n)).sqrt();
    // At the ends the formula is exact but rounding is not.
    let low = if hits == 0 { 0. } else { middle - half };
    let high = if hits as f64 == n { 1. } else { middle + half };
    (low.max(0.), high.min(1.))
}

/// `hits / n`, 0 when nothing was judged.
pub fn rate(hits: u64, n: u64) -> f64 {
    if n == 0 { 0. } else { hits as f64 / n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263 and 0/20 and 1/29.
        let near = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 5e-5 && (b - d).abs() < 5e-5;
        assert!(near(wilson(81, 263), (0.2553, 0.3662)));
        assert!(near(wilson(0, 20), (0., 0.1611)));
        assert!(near(wilson(1, 29), (0.0061, 0.1718)));
        assert_eq!(wilson(5, 5).1, 1.);
        assert_eq!(wilson(0, 0), (0., 1.));
    }
}
