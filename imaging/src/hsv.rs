//! RGB to hue, saturation, value and back, in doubles, operation by operation as scikit-image: outputs that are cut to
//! bytes sit on whole numbers, where one rounding makes a level.

/// Hue in [0,1), saturation, value of red, green, blue in `[0,1]`.
#[inline(always)]
pub fn from_rgb([r, g, b]: [f64; 3]) -> [f64; 3] {
    let v = r.max(g).max(b);
    let d = v - r.min(g).min(b);
    let grey = d == 0.;
    let (by_d, by_v) = (if grey { 1. } else { d }, if v == 0. { 1. } else { v });
    // Later channels win ties, as assignments one after the other do.
    let (gap, turn) = match () {
        _ if b == v => (r - g, 4.),
        _ if g == v => (b - r, 2.),
        _ => (g - b, 0.),
    };
    let h = (turn + gap / by_d) / 6.;
    // In [-1/6, 5/6]: a remainder by one is the addition of one.
    let h = if h < 0. { h + 1. } else { h };
    if grey { [0., 0., v] } else { [h, d / by_v, v] }
}

/// The inverse of [`from_rgb`].
#[inline(always)]
pub fn to_rgb([h, s, v]: [f64; 3]) -> [f64; 3] {
    let k = (h * 6.).floor();
    let f = h * 6. - k;
    let (p, q, t) = (v * (1. - s), v * (1. - f * s), v * (1. - (1. - f) * s));
    match k as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_have_their_hues_and_every_colour_comes_back() {
        assert_eq!(from_rgb([1., 0., 0.]), [0., 1., 1.]);
        assert_eq!(from_rgb([0., 1., 0.]), [2. / 6., 1., 1.]);
        assert_eq!(from_rgb([0., 0., 1.]), [4. / 6., 1., 1.]);
        assert_eq!(from_rgb([0.5; 3]), [0., 0., 0.5]);
        for c in 0..1000u32 {
            let rgb = [c % 10, c / 10 % 10, c / 100].map(|v| f64::from(v) / 9.);
            let back = to_rgb(from_rgb(rgb));
            assert!(rgb.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-15), "{rgb:?} {back:?}");
        }
    }
}
