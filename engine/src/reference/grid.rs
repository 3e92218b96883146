//! Values of an image at given places (spatial transformers, Jaderberg et al. 2015), with gradients in the image and in the places.
//! Arithmetic of coordinates is in the interpreter's own precision, as other runtimes have it.

use super::array::Array;
use super::site::{Pulled, Site};
use crate::cpu::Float;
use crate::graph::Edge;
use rayon::prelude::*;
use robust_core::Result;

pub(super) struct Rule {
    pub(super) nearest: bool,
    pub(super) edge: Edge,
    pub(super) corners: bool,
}

/// A coordinate in pixels, and what a change of the coordinate in [-1, 1] changes it by.
struct At<F> {
    at: F,
    slope: F,
}

impl Rule {
    /// The pixel coordinate along an axis of `size` pixels.
    fn place<F: Float>(&self, v: F, size: usize) -> At<F> {
        let (one, two, n) = (F::ONE, F::of(2.), F::of(size as f64));
        let (at, slope) = match self.corners {
            true => ((v + one) / two * (n - one), (n - one) / two),
            false => (((v + one) * n - one) / two, n / two),
        };
        match self.edge {
            Edge::Zeros => At { at, slope },
            Edge::Border => clipped(At { at, slope }, size),
            Edge::Reflection => {
                // Between the centres of the corner pixels, or between their outer edges.
                let (low, high) = if self.corners { (0., size as f64 - 1.) } else { (-0.5, size as f64 - 0.5) };
                clipped(mirrored(At { at, slope }, low, high), size)
            }
        }
    }
}

fn clipped<F: Float>(p: At<F>, size: usize) -> At<F> {
    let last = F::of(size as f64 - 1.);
    match () {
        () if p.at <= F::ZERO => At { at: F::ZERO, slope: F::ZERO },
        () if p.at >= last => At { at: last, slope: F::ZERO },
        () => p,
    }
}

fn mirrored<F: Float>(p: At<F>, low: f64, high: f64) -> At<F> {
    let span = high - low;
    if span <= 0. {
        return At { at: F::ZERO, slope: F::ZERO };
    }
    let off = p.at.wide() - low;
    let (size, sign) = if off < 0. { (-off, -1.) } else { (off, 1.) };
    let turns = (size / span).floor();
    let rest = size - turns * span;
    match turns % 2. == 0. {
        true => At { at: F::of(low + rest), slope: p.slope * F::of(sign) },
        false => At { at: F::of(high - rest), slope: p.slope * F::of(-sign) },
    }
}

/// The pixels around a place: their position in a plane (`None` outside of it), their weight, and its slopes in x and y.
fn taps<F: Float>(rule: &Rule, [gx, gy]: [F; 2], [h, w]: [usize; 2]) -> [(Option<usize>, F, F, F); 4] {
    let (x, y) = (rule.place(gx, w), rule.place(gy, h));
    let pixel = |i: f64, j: f64| {
        let inside = i >= 0. && j >= 0. && i < h as f64 && j < w as f64;
        inside.then(|| i as usize * w + j as usize)
    };
    let nothing = (None, F::ZERO, F::ZERO, F::ZERO);
    if rule.nearest {
        let (i, j) = (y.at.wide().round_ties_even(), x.at.wide().round_ties_even());
        return [(pixel(i, j), F::ONE, F::ZERO, F::ZERO), nothing, nothing, nothing];
    }
    let (j, i) = (x.at.wide().floor(), y.at.wide().floor());
    let (right, low) = (x.at - F::of(j), y.at - F::of(i));
    let (left, top) = (F::ONE - right, F::ONE - low);
    [
        (pixel(i, j), left * top, -top * x.slope, -left * y.slope),
        (pixel(i, j + 1.), right * top, top * x.slope, -right * y.slope),
        (pixel(i + 1., j), left * low, -low * x.slope, left * y.slope),
        (pixel(i + 1., j + 1.), right * low, low * x.slope, right * y.slope),
    ]
}

/// Row `i` of a value that may have one row for all.
fn row<F: Float>(x: &Array<F>, i: usize) -> &[F] {
    let size = x.row_len();
    let i = if x.dims.first() == Some(&1) { 0 } else { i };
    &x.data()[i * size..(i + 1) * size]
}

fn image(dims: &[usize]) -> [usize; 2] {
    match dims {
        [.., h, w] => [*h, *w],
        _ => [1, 1],
    }
}

pub(super) fn forward<F: Float>(rule: &Rule, x: &Array<F>, grid: &Array<F>, dims: Vec<usize>) -> Array<F> {
    let size = image(&x.dims);
    let (area, places) = (size[0] * size[1], dims[2..].iter().product::<usize>());
    let mut out = vec![F::ZERO; dims.iter().product()];
    out.par_chunks_mut((dims[1] * places).max(1)).enumerate().for_each(|(n, out)| {
        let (x, grid) = (row(x, n), row(grid, n));
        for (p, at) in grid.chunks_exact(2).enumerate() {
            let taps = taps(rule, [at[0], at[1]], size);
            for (out, plane) in out.chunks_mut(places).zip(x.chunks(area)) {
                let sum = taps.iter().filter_map(|(at, weight, ..)| Some(plane[(*at)?].wide() * weight.wide()));
                out[p] = F::of(sum.sum::<f64>());
            }
        }
    });
    Array::new(dims, out)
}

pub(super) fn pull<F: Float>(rule: &Rule, site: &Site<'_, F>, grad: &Array<F>) -> Result<Pulled<F>> {
    let (x, grid) = (site.input(0)?, site.input(1)?);
    let size = image(&x.dims);
    let (area, n, channels) = (size[0] * size[1], grad.dims[0], grad.dims[1]);
    let places = grad.dims[2..].iter().product::<usize>();
    let (mut dx, mut dgrid) = (vec![F::ZERO; n * channels * area], vec![F::ZERO; n * places * 2]);
    let rows = dx.par_chunks_mut((channels * area).max(1)).zip(dgrid.par_chunks_mut((places * 2).max(1)));
    rows.enumerate().for_each(|(n, (dx, dgrid))| {
        let (x, grid, grad) = (row(x, n), row(grid, n), row(grad, n));
        let mut sums = vec![0f64; dx.len()];
        for (p, at) in grid.chunks_exact(2).enumerate() {
            let mut slopes = [0f64; 2];
            for (at, weight, wx, wy) in taps(rule, [at[0], at[1]], size) {
                let Some(at) = at else { continue };
                for c in 0..channels {
                    let g = grad[c * places + p].wide();
                    sums[c * area + at] += g * weight.wide();
                    let value = x[c * area + at].wide() * g;
                    slopes[0] += value * wx.wide();
                    slopes[1] += value * wy.wide();
                }
            }
            (dgrid[2 * p], dgrid[2 * p + 1]) = (F::of(slopes[0]), F::of(slopes[1]));
        }
        dx.iter_mut().zip(sums).for_each(|(d, sum)| *d = F::of(sum));
    });
    let dx = Array::new([&[n], &x.dims[1..]].concat(), dx);
    let dgrid = Array::new([&[n], &grid.dims[1..]].concat(), dgrid);
    let wanted = |i: usize, d: Array<F>, dims: &[usize]| match site.wants.get(i) {
        Some(true) => d.sum_to(dims).map(Some),
        _ => Ok(None),
    };
    Ok(Pulled { inputs: vec![wanted(0, dx, &x.dims)?, wanted(1, dgrid, &grid.dims)?], params: vec![] })
}
