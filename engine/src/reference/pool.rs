//! Max and average pooling, plane by plane. A max pool remembers the first maximum of each window.

use super::array::Array;
use crate::cpu::Float;
use crate::graph::Window;
use rayon::prelude::*;

/// The input rows (or columns) window `i` covers, and how many of its entries lie inside the padded input.
fn span(i: usize, size: usize, kernel: usize, stride: usize, (before, after): (usize, usize)) -> (usize, usize, usize) {
    let start = i * stride;
    let end = (start + kernel).min(size + before + after);
    (start.saturating_sub(before).min(size), end.saturating_sub(before).min(size), end - start)
}

/// One window of a plane: rows `h.0..h.1`, columns `w.0..w.1`, and its entries with pads.
struct Place {
    h: (usize, usize),
    w: (usize, usize),
    padded: usize,
}

/// Calls `visit` for each window of a plane in row-major order.
fn windows(win: &Window, size: [usize; 2], out: [usize; 2], mut visit: impl FnMut(usize, Place)) {
    let [top, left, bottom, right] = win.pads;
    for i in 0..out[0] {
        let (h0, h1, tall) = span(i, size[0], win.kernel[0], win.stride[0], (top, bottom));
        for j in 0..out[1] {
            let (w0, w1, wide) = span(j, size[1], win.kernel[1], win.stride[1], (left, right));
            visit(i * out[1] + j, Place { h: (h0, h1), w: (w0, w1), padded: tall * wide });
        }
    }
}

fn last_two(dims: &[usize]) -> [usize; 2] {
    match dims {
        [.., h, w] => [*h, *w],
        _ => [1, 1],
    }
}

/// Windows whose entry `k` lies inside a line of `size` entries.
fn inside(k: usize, size: usize, stride: usize, before: usize, count: usize) -> std::ops::Range<usize> {
    let low = before.saturating_sub(k).div_ceil(stride);
    let high = (size + before).saturating_sub(k).div_ceil(stride).min(count);
    low..high.max(low)
}

/// The maxima of one row of windows over one plane, and their positions in it.
fn max_row<F: Float>(win: &Window, x: &[F], size: [usize; 2], i: usize, y: &mut [F], at: &mut [u32]) {
    let [_, left, _, right] = win.pads;
    let stride = win.stride[1];
    let (h0, h1, _) = span(i, size[0], win.kernel[0], win.stride[0], (win.pads[0], win.pads[2]));
    for (j, (y, at)) in y.iter_mut().zip(at.iter_mut()).enumerate() {
        let (w0, ..) = span(j, size[1], win.kernel[1], stride, (left, right));
        (*y, *at) = (F::of(f64::NEG_INFINITY), (h0 * size[1] + w0) as u32);
    }
    for (h, k) in (h0..h1).flat_map(|h| (0..win.kernel[1]).map(move |k| (h, k))) {
        let range = inside(k, size[1], stride, left, y.len());
        if range.is_empty() {
            continue;
        }
        let first = h * size[1] + range.start * stride + k - left;
        let row = x[first..].iter().step_by(stride);
        let targets = y[range.clone()].iter_mut().zip(&mut at[range]);
        for (n, ((y, at), &v)) in targets.zip(row).enumerate() {
            // The first maximum stays; a NaN wins and stays.
            let wins = v > *y || (v.nan() && !y.nan());
            *at = if wins { (first + n * stride) as u32 } else { *at };
            *y = if wins { v } else { *y };
        }
    }
}

/// The maxima and, if asked, the position of each in its plane.
pub(super) fn max<F: Float>(
    x: &Array<F>,
    win: &Window,
    dims: Vec<usize>,
    record: bool,
) -> (Array<F>, Option<Vec<u32>>) {
    let (size, out) = (last_two(&x.dims), last_two(&dims));
    let (pixels, area) = (size[0] * size[1], out[0] * out[1]);
    let mut y = vec![F::ZERO; dims.iter().product()];
    let mut index = vec![0u32; if record { y.len() } else { 0 }];
    let plane = |y: &mut [F], at: &mut [u32], x: &[F]| {
        let rows = y.chunks_mut(out[1]).zip(at.chunks_mut(out[1]));
        rows.enumerate().for_each(|(i, (y, at))| max_row(win, x, size, i, y, at));
    };
    let planes = y.par_chunks_mut(area).zip(x.data().par_chunks(pixels));
    if record {
        planes.zip(index.par_chunks_mut(area)).for_each(|((y, x), at)| plane(y, at, x));
    } else {
        planes.for_each_init(|| vec![0u32; area], |at, (y, x)| plane(y, at, x));
    }
    (Array::new(dims, y), record.then_some(index))
}

pub(super) fn pull_max<F: Float>(grad: &Array<F>, index: &[u32], dims: &[usize]) -> Array<F> {
    let (size, out) = (last_two(dims), last_two(&grad.dims));
    let (pixels, area) = (size[0] * size[1], out[0] * out[1]);
    let mut dx = vec![F::ZERO; dims.iter().product()];
    let planes = dx.par_chunks_mut(pixels).zip(grad.data().par_chunks(area).zip(index.par_chunks(area)));
    planes.for_each(|(dx, (g, at))| g.iter().zip(at).for_each(|(&g, &at)| dx[at as usize] += g));
    Array::new(dims.to_vec(), dx)
}

/// What a window's sum is divided by.
fn divisor(p: &Place, count_pads: bool) -> f64 {
    (if count_pads { p.padded } else { (p.h.1 - p.h.0) * (p.w.1 - p.w.0) }) as f64
}

pub(super) fn average<F: Float>(x: &Array<F>, win: &Window, count_pads: bool, dims: Vec<usize>) -> Array<F> {
    let (size, out) = (last_two(&x.dims), last_two(&dims));
    let mut y = vec![F::ZERO; dims.iter().product()];
    let planes = y.par_chunks_mut(out[0] * out[1]).zip(x.data().par_chunks(size[0] * size[1]));
    planes.for_each(|(y, x)| {
        windows(win, size, out, |o, p| {
            let rows = (p.h.0..p.h.1).map(|h| x[h * size[1]..][p.w.0..p.w.1].iter().map(|v| v.wide()).sum::<f64>());
            y[o] = F::of(rows.sum::<f64>() / divisor(&p, count_pads));
        });
    });
    Array::new(dims, y)
}

pub(super) fn pull_average<F: Float>(grad: &Array<F>, win: &Window, count_pads: bool, dims: &[usize]) -> Array<F> {
    let (size, out) = (last_two(dims), last_two(&grad.dims));
    let mut dx = vec![F::ZERO; dims.iter().product()];
    let planes = dx.par_chunks_mut(size[0] * size[1]).zip(grad.data().par_chunks(out[0] * out[1]));
    planes.for_each(|(dx, g)| {
        windows(win, size, out, |o, p| {
            let share = F::of(g[o].wide() / divisor(&p, count_pads));
            for h in p.h.0..p.h.1 {
                dx[h * size[1]..][p.w.0..p.w.1].iter_mut().for_each(|v| *v += share);
            }
        });
    });
    Array::new(dims.to_vec(), dx)
}
