//! Spatter: drops of water or mud on the lens. Edges, distances and histogram are OpenCV's, in whole numbers and f32.

use super::Corruption;
use super::Random;
use super::common::finish_f32;
use robust_imaging::Bytes;
use robust_imaging::gaussian::{Edge, blur, blur_f32, kernel};
use robust_imaging::warp::reflect101;

pub static SPATTER: Corruption = Corruption {
    name: "spatter",
    summary: "drops of water, or of mud at high severity, on the lens",
    apply: |x, call| {
        let n = x.height;
        let (mean, sd, sigma, threshold, gain, mud) = call.table.spatter[call.level];
        let mut drops = call.random.normals(mean, sd, n * n);
        blur(&mut drops, n, n, 1, &kernel(sigma, 4.), Edge::Nearest);
        drops.iter_mut().filter(|v| **v < threshold).for_each(|v| *v = 0.);
        Ok(match mud {
            true => muddy(x, &drops, threshold, gain),
            false => wet(x, &drops, gain),
        })
    },
};

/// Drops that run down the lens, a share of each row to the next ones at every frame.
pub(super) fn sequence(x: &Bytes, small: bool, frames: usize, random: &mut Random) -> Vec<Bytes> {
    let n = x.height;
    let (mean, sd, sigma, threshold): (f64, f64, f64, f64) =
        if small { (0.6, 0.265, 1.75, 0.7) } else { (0.65, 0.27, 3.7, 0.69) };
    let run: &[f64] = if small { &[0.2, 0.8] } else { &[0.05, 0.1, 0.15, 0.7] };
    let mut drops = random.normals(mean, sd, n * n);
    blur(&mut drops, n, n, 1, &kernel(sigma, 4.), Edge::Nearest);
    drops.iter_mut().filter(|v| **v < threshold).for_each(|v| *v = 0.);
    let mut frame = || {
        let seen = wet(x, &drops, 0.6);
        drops = run_down(&drops, n, run);
        seen
    };
    (0..frames).map(|_| frame()).collect()
}

/// Each column convolved with `run`, as long as before (numpy's `convolve` with `mode='same'`).
fn run_down(drops: &[f64], n: usize, run: &[f64]) -> Vec<f64> {
    let first = run.len() - 1 - run.len() / 2;
    let mut out = vec![0.; n * n];
    for (y, row) in out.chunks_exact_mut(n.max(1)).enumerate() {
        for (j, w) in run.iter().enumerate() {
            let Some(from) = (y + first).checked_sub(j).filter(|from| *from < n) else { continue };
            row.iter_mut().zip(&drops[from * n..]).for_each(|(o, v)| *o += w * v);
        }
    }
    out
}

/// Mud of colour (63, 42, 20) wherever the blurred mask of drops is at least 0.8.
fn muddy(x: &Bytes, drops: &[f64], threshold: f64, sigma: f64) -> Bytes {
    let mud = [63f64, 42., 20.].map(|v| (v / 255.) as f32);
    let mask = mud_mask(drops, x.height, threshold, sigma);
    let y: Vec<f32> = (x.samples.chunks_exact(x.channels).zip(&mask))
        .flat_map(|(p, m)| p.iter().zip(mud).map(move |(v, mud)| (f32::from(*v) / 255.) * (1. - m) + mud * m))
        .collect();
    finish_f32(x, &y)
}

pub(super) fn mud_mask(drops: &[f64], n: usize, threshold: f64, sigma: f64) -> Vec<f32> {
    let mut mask: Vec<f64> = drops.iter().map(|v| if *v > threshold { 1. } else { 0. }).collect();
    blur_f32(&mut mask, n, n, 1, &kernel(sigma, 4.), Edge::Nearest);
    mask.iter().map(|v| if (*v as f32) < 0.8 { 0. } else { *v as f32 }).collect()
}

/// Drops that shine where they are thick and away from their edges. Without any drop the image stays as it is: the
/// published code would divide zero by zero and give a black one.
fn wet(x: &Bytes, drops: &[f64], gain: f64) -> Bytes {
    let n = x.height;
    let level: Vec<u8> = drops.iter().map(|v| (v * 255.) as i64 as u8).collect();
    let distance = distance_to_edges(&canny(&level, n), n);
    let near: Vec<f32> = distance.iter().map(|d| d.min(20.)).collect();
    let soft: Vec<u8> = neighbourhood(&near, n).iter().map(|s| (s * (1. / 9.)) as f32 as u8).collect();
    let even = equalised(&soft);
    let lit = relief(&even, n);
    let calm: Vec<f32> = neighbourhood(&lit, n).iter().map(|s| (s / 9.).round_ties_even() as f32).collect();
    let film: Vec<f32> = level.iter().zip(&calm).map(|(q, d)| f32::from(*q) * d).collect();
    let most = film.iter().fold(0f32, |a, v| a.max(*v));
    if most == 0. {
        return x.clone();
    }
    let colour = [175f64, 238., 238.].map(|v| (v / 255.) as f32);
    let y: Vec<f32> = (x.samples.chunks_exact(x.channels).zip(&film))
        .flat_map(|(p, m)| {
            let m = m / most * gain as f32;
            p.iter().zip(colour).map(move |(v, colour)| f32::from(*v) / 255. + m * colour)
        })
        .collect();
    finish_f32(x, &y)
}

/// Whether a pixel is an edge: Canny's method with a 3x3 Sobel filter, the sum of absolute slopes, thresholds 50 and 150.
fn canny(x: &[u8], n: usize) -> Vec<bool> {
    const TAN: i64 = 13573; // tan(22.5 degrees) in units of 2^-15
    let (side, inner) = (n + 2, n as isize - 1);
    let mut size = vec![0i64; side * side];
    let mut slopes = vec![(0i64, 0i64); n * n];
    for y in 0..n {
        for x_ in 0..n {
            let at = |dy: isize, dx: isize| {
                let (y, x_) = ((y as isize + dy).clamp(0, inner), (x_ as isize + dx).clamp(0, inner));
                i64::from(x[y as usize * n + x_ as usize])
            };
            let gx = (at(-1, 1) - at(-1, -1)) + 2 * (at(0, 1) - at(0, -1)) + (at(1, 1) - at(1, -1));
            let gy = (at(1, -1) - at(-1, -1)) + 2 * (at(1, 0) - at(-1, 0)) + (at(1, 1) - at(-1, 1));
            slopes[y * n + x_] = (gx, gy);
            size[(y + 1) * side + x_ + 1] = gx.abs() + gy.abs();
        }
    }
    let mut edge = vec![false; side * side];
    let mut candidate = vec![false; side * side];
    let mut stack = vec![];
    for y in 0..n {
        for x_ in 0..n {
            let at = (y + 1) * side + x_ + 1;
            let ((gx, gy), m) = (slopes[y * n + x_], size[at]);
            if m <= 50 {
                continue;
            }
            let (flat, steep) = (gx.abs() * TAN, gx.abs() * TAN + (gx.abs() << 16));
            let tall = gy.abs() << 15;
            let kept = match () {
                _ if tall < flat => m > size[at - 1] && m >= size[at + 1],
                _ if tall > steep => m > size[at - side] && m >= size[at + side],
                _ if (gx ^ gy) < 0 => m > size[at - side + 1] && m > size[at + side - 1],
                _ => m > size[at - side - 1] && m > size[at + side + 1],
            };
            candidate[at] = kept;
            if kept && m > 150 {
                edge[at] = true;
                stack.push(at);
            }
        }
    }
    while let Some(at) = stack.pop() {
        for next in [at - side - 1, at - side, at - side + 1, at - 1, at + 1, at + side - 1, at + side, at + side + 1] {
            if candidate[next] && !edge[next] {
                edge[next] = true;
                stack.push(next);
            }
        }
    }
    (0..n * n).map(|i| edge[(i / n + 1) * side + i % n + 1]).collect()
}

/// Chamfer distance with a 5x5 mask (1, 1.4, 2.1969 in 16-bit fixed point).
fn distance_to_edges(edge: &[bool], n: usize) -> Vec<f32> {
    const FAR: i64 = (i32::MAX >> 2) as i64;
    const ONE: i64 = 65536;
    const DIAGONAL: i64 = 91750;
    const KNIGHT: i64 = 143976;
    let side = n + 4;
    let mut d = vec![FAR; side * side];
    let steps = [
        (2 * side + 1, KNIGHT),
        (2 * side - 1, KNIGHT),
        (side + 2, KNIGHT),
        (side + 1, DIAGONAL),
        (side, ONE),
        (side - 1, DIAGONAL),
        (side - 2, KNIGHT),
        (1, ONE),
    ];
    for y in 0..n {
        for x in 0..n {
            let at = (y + 2) * side + x + 2;
            d[at] = if edge[y * n + x] { 0 } else { steps.iter().map(|(s, w)| d[at - s] + w).fold(i64::MAX, i64::min) };
        }
    }
    for y in (0..n).rev() {
        for x in (0..n).rev() {
            let at = (y + 2) * side + x + 2;
            if d[at] > ONE {
                d[at] = steps.iter().map(|(s, w)| d[at + s] + w).fold(d[at], i64::min);
            }
        }
    }
    (0..n * n).map(|i| d[(i / n + 2) * side + i % n + 2] as f32 * (1. / 65536.)).collect()
}

/// Sums over 3x3 neighbourhoods, the border mirrored.
fn neighbourhood(x: &[f32], n: usize) -> Vec<f64> {
    let place = |at: usize| [-1, 0, 1].map(|d| reflect101(at as isize + d, n));
    let one = |i: usize| {
        let (rows, columns) = (place(i / n), place(i % n));
        let terms = rows.iter().flat_map(|y| columns.iter().map(move |x_| f64::from(x[y * n + x_])));
        terms.fold(0., |a, v| a + v)
    };
    (0..n * n).map(one).collect()
}

/// The histogram made even; an image of one level stays.
fn equalised(x: &[u8]) -> Vec<u8> {
    let mut count = [0u32; 256];
    x.iter().for_each(|&v| count[usize::from(v)] += 1);
    let first = count.iter().position(|c| *c > 0).unwrap_or(0);
    let rest = x.len() as u32 - count[first];
    if rest == 0 {
        return x.to_vec();
    }
    let scale = 255. / rest as f32;
    let (mut sum, mut level) = (0, [0u8; 256]);
    for (level, count) in level.iter_mut().zip(&count).skip(first + 1) {
        sum += count;
        *level = (sum as f32 * scale).round_ties_even().clamp(0., 255.) as u8;
    }
    x.iter().map(|&v| level[usize::from(v)]).collect()
}

/// Light from the lower right: a correlation with (-2 -1 0; -1 1 1; 0 1 2), clipped to bytes.
fn relief(x: &[u8], n: usize) -> Vec<f32> {
    let place = |at: usize| [-1, 0, 1].map(|d| reflect101(at as isize + d, n));
    let one = |i: usize| {
        let ([a, b, c], [l, m, r]) = (place(i / n), place(i % n));
        let at = |y: usize, x_: usize| i32::from(x[y * n + x_]);
        let sum = -2 * at(a, l) - at(a, m) - at(b, l) + at(b, m) + at(b, r) + at(c, m) + 2 * at(c, r);
        sum.clamp(0, 255) as f32
    };
    (0..n * n).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_run_down_as_numpy_convolves_a_column() {
        let columns: Vec<f64> = (0..25).map(|i| if i % 5 == 2 { (i / 5 + 1) as f64 } else { 0. }).collect();
        for (run, want) in
            [(&[0.05, 0.1, 0.15, 0.7][..], [0.2, 0.5, 1.5, 2.5, 3.2]), (&[0.2, 0.8], [0.2, 1.2, 2.2, 3.2, 4.2])]
        {
            let got = run_down(&columns, 5, run);
            let column: Vec<f64> = (0..5).map(|y| got[5 * y + 2]).collect();
            assert!(column.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{column:?}");
            assert!(got.iter().enumerate().all(|(i, v)| i % 5 == 2 || *v == 0.));
        }
    }

    #[test]
    fn a_sequence_of_drops_begins_like_spatter_and_moves() {
        let x = Bytes::new(32, 32, 3, vec![100; 3072]).unwrap();
        let frames = sequence(&x, true, 4, &mut Random::native(1, "drops", 0));
        assert!(frames[0] != x && frames.windows(2).all(|f| f[0] != f[1]));
        assert!(frames.iter().flat_map(|f| &f.samples).all(|v| *v >= 100), "water only brightens");
    }
}
