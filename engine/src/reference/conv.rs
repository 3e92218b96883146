//! Convolution: each image's windows become columns, a tile of positions at a time, for one matrix product per group
//! and tile. Tiles depend on the layer's shape alone, so an image's bits do not depend on its batch.

use super::array::Array;
use super::site::{Pulled, Site};
use crate::cpu::Float;
use crate::cpu::kernels::gemm::{Mat, gemm};
use crate::graph::{MAX_ROW, Op, ParamId};
use rayon::prelude::*;
use robust_core::{Error, Result};

/// Entries of one tile of columns: about half a second-level cache in f32.
const TILE: usize = 1 << 17;
/// Weights of a group below which the products are done directly: depthwise layers.
const DIRECT: usize = 4;
/// Partial sums of a weight gradient; fixed, so that the sum does not depend on the number of threads.
const SLOTS: usize = 8;

/// One convolution's sizes, derived from checked shapes.
struct Conv {
    size: [usize; 2],
    out: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    lead: [usize; 2],
    groups: usize,
    /// Channels a group reads and writes.
    cg: usize,
    og: usize,
    /// No two windows overlap or skip an entry: the image is its own column matrix.
    pointwise: bool,
}

/// A run of output positions and the input entry the first of them reads.
struct Tap {
    to: usize,
    len: usize,
    from: usize,
}

impl Conv {
    fn new(op: &Op, x: &[usize], weight: &[usize], y: &[usize]) -> Result<(Self, ParamId, Option<ParamId>)> {
        let (
            Op::Conv2d { weight: w, bias, stride, dilation, pads, groups },
            &[_, _, h, wi],
            &[o, cg, kh, kw],
            &[_, _, oh, ow],
        ) = (op, x, weight, y)
        else {
            return Err(Error::internal("a convolution needs four axes"));
        };
        // A stride beyond the image is never taken: bounding it keeps the arithmetic below in range.
        let stride = stride.map(|s| s.min(MAX_ROW));
        let dilation = dilation.map(|d| d.min(MAX_ROW));
        let pointwise = [kh, kw] == [1, 1] && stride == [1, 1] && *pads == [0; 4];
        let lead = [pads[0], pads[1]];
        let og = o / groups;
        let conv = Self {
            size: [h, wi],
            out: [oh, ow],
            kernel: [kh, kw],
            stride,
            dilation,
            lead,
            groups: *groups,
            cg,
            og,
            pointwise,
        };
        Ok((conv, *w, *bias))
    }

    fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }
    fn positions(&self) -> usize {
        self.out[0] * self.out[1]
    }
    /// Rows of the column matrix of a group.
    fn depth(&self) -> usize {
        self.cg * self.kernel[0] * self.kernel[1]
    }
    fn direct(&self) -> bool {
        self.cg * self.og <= DIRECT
    }

    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        let all = self.positions();
        let step = if self.pointwise { all } else { (TILE / self.depth()).max(64) };
        (0..all).step_by(step.max(1)).map(move |p| (p, (p + step).min(all)))
    }

    /// Output positions along `axis` whose tap `k` falls inside the input.
    fn inside(&self, axis: usize, k: usize) -> (usize, usize) {
        let (at, lead, stride) = (k * self.dilation[axis], self.lead[axis], self.stride[axis]);
        let low = lead.saturating_sub(at).div_ceil(stride);
        let end = (self.size[axis] + lead).saturating_sub(at).div_ceil(stride);
        (low, end.min(self.out[axis]).max(low))
    }

    /// The runs of positions `from..to` that read the plane at kernel position (`i`, `j`).
    fn taps(&self, (from, to): (usize, usize), [i, j]: [usize; 2], taps: &mut Vec<Tap>) {
        taps.clear();
        let ow = self.out[1];
        let (rows, (low, high)) = (self.inside(0, i), self.inside(1, j));
        for oh in (from / ow).max(rows.0)..to.div_ceil(ow).min(rows.1) {
            let (a, b) = ((oh * ow + low).max(from), (oh * ow + high).min(to));
            if a < b {
                let ih = oh * self.stride[0] + i * self.dilation[0] - self.lead[0];
                let iw = (a - oh * ow) * self.stride[1] + j * self.dilation[1] - self.lead[1];
                taps.push(Tap { to: a - from, len: b - a, from: ih * self.size[1] + iw });
            }
        }
    }

    /// Calls `visit` with every row of the column matrix of a group: its number, its plane and its runs.
    fn each_row(&self, tile: (usize, usize), mut visit: impl FnMut(usize, usize, &[Tap])) {
        let mut taps = vec![];
        let [kh, kw] = self.kernel;
        for (i, j) in (0..kh).flat_map(|i| (0..kw).map(move |j| (i, j))) {
            self.taps(tile, [i, j], &mut taps);
            (0..self.cg).for_each(|c| visit((c * kh + i) * kw + j, c, &taps));
        }
    }

    /// Fills the columns `[depth, positions]` of a tile from a group's planes.
    fn columns<F: Float>(&self, planes: &[F], tile: (usize, usize), cols: &mut Vec<F>) {
        let (width, stride, pixels) = (tile.1 - tile.0, self.stride[1], self.pixels());
        cols.clear();
        cols.resize(self.depth() * width, F::ZERO);
        self.each_row(tile, |row, c, taps| {
            let (row, plane) = (&mut cols[row * width..][..width], &planes[c * pixels..][..pixels]);
            for t in taps {
                let (to, from) = (&mut row[t.to..][..t.len], &plane[t.from..]);
                match stride {
                    1 => to.copy_from_slice(&from[..t.len]),
                    s => to.iter_mut().zip(from.iter().step_by(s)).for_each(|(a, &b)| *a = b),
                }
            }
        });
    }

    /// Adds the columns of a tile back to a group's planes: the transpose of [`Conv::columns`].
    fn scatter<F: Float>(&self, cols: &[F], tile: (usize, usize), planes: &mut [F]) {
        let (width, stride, pixels) = (tile.1 - tile.0, self.stride[1], self.pixels());
        self.each_row(tile, |row, c, taps| {
            let (row, plane) = (&cols[row * width..][..width], &mut planes[c * pixels..][..pixels]);
            for t in taps {
                let (from, to) = (&row[t.to..][..t.len], &mut plane[t.from..]);
                match stride {
                    1 => to.iter_mut().zip(from).for_each(|(a, &b)| *a += b),
                    s => to.iter_mut().step_by(s).zip(from).for_each(|(a, &b)| *a += b),
                }
            }
        });
    }

    /// `out += weight * planes` for one group of few weights.
    fn direct_forward<F: Float>(&self, planes: &[F], weight: &[F], out: &mut [F]) {
        let (depth, all, pixels, stride) = (self.depth(), self.positions(), self.pixels(), self.stride[1]);
        self.each_row((0, all), |row, c, taps| {
            for (o, out) in out.chunks_mut(all).enumerate() {
                let w = weight[o * depth + row];
                for t in taps {
                    let (to, from) = (&mut out[t.to..][..t.len], &planes[c * pixels + t.from..]);
                    match stride {
                        1 => to.iter_mut().zip(from).for_each(|(a, &b)| *a += w * b),
                        s => to.iter_mut().zip(from.iter().step_by(s)).for_each(|(a, &b)| *a += w * b),
                    }
                }
            }
        });
    }

    fn direct_back<F: Float>(&self, grad: &[F], weight: &[F], planes: &mut [F]) {
        let (depth, all, pixels, stride) = (self.depth(), self.positions(), self.pixels(), self.stride[1]);
        self.each_row((0, all), |row, c, taps| {
            for (o, grad) in grad.chunks(all).enumerate() {
                let w = weight[o * depth + row];
                for t in taps {
                    let (from, to) = (&grad[t.to..][..t.len], &mut planes[c * pixels + t.from..]);
                    match stride {
                        1 => to.iter_mut().zip(from).for_each(|(a, &b)| *a += w * b),
                        s => to.iter_mut().step_by(s).zip(from).for_each(|(a, &b)| *a += w * b),
                    }
                }
            }
        });
    }

    /// One image: `out` holds the bias.
    fn forward<F: Float>(&self, x: &[F], weight: &[F], out: &mut [F], cols: &mut Vec<F>) {
        let (depth, all) = (self.depth(), self.positions());
        let groups = x.chunks(self.cg * self.pixels()).zip(out.chunks_mut(self.og * all));
        for ((x, out), weight) in groups.zip(weight.chunks(self.og * depth)) {
            if self.direct() {
                self.direct_forward(x, weight, out);
                continue;
            }
            let weight = Mat::rows(weight, self.og, depth, depth);
            for (from, to) in self.tiles() {
                let columns = if self.pointwise {
                    x
                } else {
                    self.columns(x, (from, to), cols);
                    cols.as_slice()
                };
                gemm(&mut out[from..], all, true, weight, Mat::rows(columns, depth, to - from, to - from));
            }
        }
    }

    /// One image's input gradient, into zeros.
    fn back<F: Float>(&self, grad: &[F], weight: &[F], dx: &mut [F], cols: &mut Vec<F>) {
        let (depth, all) = (self.depth(), self.positions());
        let groups = dx.chunks_mut(self.cg * self.pixels()).zip(grad.chunks(self.og * all));
        for ((dx, grad), weight) in groups.zip(weight.chunks(self.og * depth)) {
            if self.direct() {
                self.direct_back(grad, weight, dx);
                continue;
            }
            let weight = Mat::rows(weight, self.og, depth, depth).transposed();
            for (from, to) in self.tiles() {
                let grad = Mat::rows(&grad[from..], self.og, to - from, all);
                if self.pointwise {
                    gemm(dx, all, false, weight, grad);
                } else {
                    cols.resize(depth * (to - from), F::ZERO);
                    gemm(cols, to - from, false, weight, grad);
                    self.scatter(cols, (from, to), dx);
                }
            }
        }
    }

    /// Adds one image's weight gradient to `dw`.
    fn weigh<F: Float>(&self, x: &[F], grad: &[F], dw: &mut [F], cols: &mut Vec<F>) {
        let (depth, all) = (self.depth(), self.positions());
        let groups = x.chunks(self.cg * self.pixels()).zip(grad.chunks(self.og * all));
        for ((x, grad), dw) in groups.zip(dw.chunks_mut(self.og * depth)) {
            for (from, to) in self.tiles() {
                self.columns(x, (from, to), cols);
                let grad = Mat::rows(&grad[from..], self.og, to - from, all);
                gemm(dw, depth, true, grad, Mat::rows(cols, depth, to - from, to - from).transposed());
            }
        }
    }
}

pub(super) fn forward<F: Float>(op: &Op, x: &Array<F>, dims: Vec<usize>, params: &[Array<F>]) -> Result<Array<F>> {
    let Op::Conv2d { weight, .. } = op else { return Err(Error::internal("not a convolution")) };
    let (conv, weight, bias) = Conv::new(op, &x.dims, &params[weight.0].dims, &dims)?;
    let weight = params[weight.0].data();
    let bias = bias.map(|b| params[b.0].data());
    let all = conv.positions();
    let mut out = vec![F::ZERO; dims.iter().product()];
    let rows = out.par_chunks_mut(conv.groups * conv.og * all).zip(x.data().par_chunks(x.row_len()));
    rows.for_each_init(Vec::new, |cols, (out, x)| {
        if let Some(bias) = bias {
            out.chunks_mut(all).zip(bias).for_each(|(plane, &b)| plane.fill(b));
        }
        conv.forward(x, weight, out, cols);
    });
    Ok(Array::new(dims, out))
}

pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let Op::Conv2d { weight, .. } = op else { return Err(Error::internal("not a convolution")) };
    let dims = &site.input_dims[0];
    let (conv, weight, bias) = Conv::new(op, dims, &site.param(*weight).dims, &grad.dims)?;
    let mut pulled = Pulled { inputs: vec![None], params: vec![] };
    if site.wants[0] {
        let w = site.param(weight).data();
        let mut dx = vec![F::ZERO; dims.iter().product()];
        let rows = dx.par_chunks_mut(conv.groups * conv.cg * conv.pixels()).zip(grad.data().par_chunks(grad.row_len()));
        rows.for_each_init(Vec::new, |cols, (dx, grad)| conv.back(grad, w, dx, cols));
        pulled.inputs[0] = Some(Array::new(dims.clone(), dx));
    }
    if site.wants_param(weight) {
        let dw = weight_grad(&conv, site.input(0)?, &grad, site.param(weight).data().len());
        pulled.params.push((weight, Array::new(site.param(weight).dims.clone(), dw)));
    }
    if let Some(bias) = bias.filter(|b| site.wants_param(*b)) {
        let o = grad.dims[1];
        pulled.params.push((bias, grad.sum_to(&[1, o, 1, 1])?.with_dims(vec![o])));
    }
    Ok(pulled)
}

fn weight_grad<F: Float>(conv: &Conv, x: &Array<F>, grad: &Array<F>, len: usize) -> Vec<F> {
    let n = x.dims[0];
    let each = n.div_ceil(SLOTS);
    let slots = x.data().par_chunks(each * x.row_len()).zip(grad.data().par_chunks(each * grad.row_len()));
    let partial: Vec<Vec<F>> = slots
        .map(|(x_slot, g_slot)| {
            let (mut dw, mut cols) = (vec![F::ZERO; len], vec![]);
            let images = x_slot.chunks(x.row_len()).zip(g_slot.chunks(grad.row_len()));
            images.for_each(|(x, g)| conv.weigh(x, g, &mut dw, &mut cols));
            dw
        })
        .collect();
    let mut sum = vec![F::ZERO; len];
    partial.iter().for_each(|p| sum.iter_mut().zip(p).for_each(|(a, &b)| *a += b));
    sum
}
