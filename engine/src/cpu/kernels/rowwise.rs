//! Activations entry by entry, and norms and softmax row by row.

use super::finish::{Finish, Sink, store};
use super::isa::{Isa, Kernel};
use super::math::{exp, normal, sigmoid, sin_cos};
use super::memory::{Shared, from};
use super::product::parallel;
use super::simd::Simd;

/// Entries one task handles.
const CHUNK: usize = 1 << 14;

/// Activations with a kernel; the others are the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Curve {
    Gelu,
    Silu,
    Sigmoid,
    Tanh,
    /// Slope below zero.
    Leaky(f32),
    /// Bounds.
    Clip(f32, f32),
    /// Scale of `exp(x) - 1` below zero.
    Elu(f32),
    /// `clamp(a x + b, 0, 1)`.
    HardSigmoid(f32, f32),
    HardSwish,
    GeluTanh,
    Sin,
    Cos,
}

impl Curve {
    /// Value and slope.
    #[inline(always)]
    unsafe fn at<S: Simd>(self, x: S::V) -> (S::V, S::V) {
        // SAFETY: arithmetic alone.
        unsafe {
            let (one, zero) = (S::splat(1.), S::splat(0.));
            match self {
                Curve::Gelu => {
                    let (below, density) = normal::<S>(x);
                    (S::mul(x, below), S::fma(x, density, below))
                }
                Curve::Silu => {
                    let s = sigmoid::<S>(x);
                    (S::mul(x, s), S::mul(s, S::fma(x, S::sub(one, s), one)))
                }
                Curve::Sigmoid => {
                    let s = sigmoid::<S>(x);
                    (s, S::mul(s, S::sub(one, s)))
                }
                Curve::Tanh => {
                    let s = sigmoid::<S>(S::add(x, x));
                    let t = S::fma(S::splat(2.), s, S::splat(-1.));
                    (t, S::fnma(t, t, one))
                }
                Curve::Leaky(slope) => {
                    let a = S::pick(S::above(x, zero), one, S::splat(slope));
                    (S::mul(x, a), a)
                }
                Curve::Clip(low, high) => {
                    let (low, high) = (S::splat(low), S::splat(high));
                    let inside = S::above(x, low) & S::above(high, x);
                    (S::min(high, S::max(low, x)), S::keep(inside, one))
                }
                Curve::Elu(scale) => {
                    let (above, scale) = (S::above(x, zero), S::splat(scale));
                    let e = exp::<S>(S::min(zero, x));
                    (S::pick(above, x, S::mul(S::sub(e, one), scale)), S::pick(above, one, S::mul(e, scale)))
                }
                Curve::HardSigmoid(a, b) => {
                    let (a, y) = (S::splat(a), S::fma(x, S::splat(a), S::splat(b)));
                    let inside = S::above(y, zero) & S::above(one, y);
                    (S::min(one, S::max(zero, y)), S::keep(inside, a))
                }
                Curve::HardSwish => {
                    let (three, sixth) = (S::splat(3.), S::splat(1. / 6.));
                    let part = S::mul(S::min(S::splat(6.), S::max(zero, S::add(x, three))), sixth);
                    let slope = S::pick(S::above(three, x), S::fma(x, S::splat(1. / 3.), S::splat(0.5)), one);
                    (S::mul(x, part), S::keep(S::above(x, S::splat(-3.)), slope))
                }
                Curve::GeluTanh => {
                    // x (1 + tanh u) / 2 = x sigmoid(2 u)
                    let (root, cube) = (S::splat(0.797_884_6), S::splat(0.044_715));
                    let square = S::mul(x, x);
                    let u = S::mul(S::mul(root, x), S::fma(cube, square, one));
                    let s = sigmoid::<S>(S::add(u, u));
                    let du = S::mul(root, S::fma(S::splat(3. * 0.044_715), square, one));
                    let inner = S::mul(S::mul(S::splat(2.), x), S::mul(S::sub(one, s), du));
                    (S::mul(x, s), S::mul(s, S::add(one, inner)))
                }
                Curve::Sin => sin_cos::<S>(x),
                Curve::Cos => {
                    let (sin, cos) = sin_cos::<S>(x);
                    (cos, S::sub(zero, sin))
                }
            }
        }
    }
}

/// What the slope of a curve is multiplied with.
#[derive(Clone, Copy)]
pub(crate) enum Slope<'a> {
    /// Nothing: the value is wanted.
    None,
    Of(&'a [f32]),
    /// What stands where the result goes.
    Own,
}

struct Bend<'a> {
    curve: Curve,
    x: &'a [f32],
    grad: Slope<'a>,
    pixels: std::ops::Range<usize>,
    finish: &'a Finish<'a>,
    sink: &'a Sink<'a>,
}

impl Kernel for Bend<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.sink.channels;
        for pixel in self.pixels {
            for channel in (0..channels).step_by(S::LANES) {
                let (width, at) = ((channels - channel).min(S::LANES), pixel * channels + channel);
                // SAFETY: `bend` checked all slices for all pixels; tasks have pixels of their own.
                unsafe {
                    let (value, slope) = self.curve.at::<S>(S::load_up_to(from(self.x, at, width), width));
                    let v = match self.grad {
                        Slope::None => value,
                        Slope::Of(grad) => S::mul(slope, S::load_up_to(from(grad, at, width), width)),
                        Slope::Own => S::mul(slope, S::load_up_to(self.sink.out.at(at, width), width)),
                    };
                    store::<S>(self.finish, self.sink, v, pixel, channel, width);
                }
            }
        }
    }
}

/// `curve(x)`, or a gradient's product with the slope; all are `[pixels, channels]`.
pub(crate) fn bend(
    isa: Isa,
    curve: Curve,
    (pixels, channels): (usize, usize),
    x: &[f32],
    grad: Slope<'_>,
    finish: &Finish<'_>,
    out: &mut [f32],
) {
    let sink = Sink::new(finish, pixels, channels, out, None, None);
    let len = pixels * channels;
    let fits = if let Slope::Of(grad) = grad { grad.len() >= len } else { true };
    assert!(x.len() >= len && fits, "a value is too short");
    let each = (CHUNK / channels.max(1)).max(1);
    parallel(pixels.div_ceil(each), |task| {
        let pixels = task * each..((task + 1) * each).min(pixels);
        // SAFETY: all lengths are asserted; tasks have pixels of their own.
        unsafe { isa.run(Bend { curve, x, grad, pixels, finish, sink: &sink }) }
    });
}

/// What is done with each row.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Mean 0 and variance 1, then `gamma` and `beta` (padded), with `eps` under the root.
    Norm {
        gamma: &'a [f32],
        beta: &'a [f32],
        eps: f32,
    },
    /// Back through it: `other` is its input.
    NormBack {
        gamma: &'a [f32],
        eps: f32,
        other: &'a [f32],
    },
    Softmax,
    /// Back through it: `other` is its output.
    SoftmaxBack {
        other: &'a [f32],
    },
}

struct Each<'a> {
    rows: Rows<'a>,
    x: &'a [f32],
    pixels: std::ops::Range<usize>,
    finish: &'a Finish<'a>,
    sink: &'a Sink<'a>,
}

/// `f` of every vector of a row summed up; lanes beyond the row count as zero when `f` keeps zeros.
macro_rules! sum {
    ($c:expr, $at:ident, $width:ident => $value:expr) => {{
        let mut total = S::splat(0.);
        for $at in (0..$c).step_by(S::LANES) {
            let $width = ($c - $at).min(S::LANES);
            total = S::add(total, $value);
        }
        S::total(total)
    }};
}

impl Each<'_> {
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, slice: &[f32], row: usize, at: usize, width: usize) -> S::V {
        // SAFETY: `each_row` checked the slices for all rows.
        unsafe { S::load_up_to(from(slice, row * self.sink.channels + at, width), width) }
    }

    /// Mean and 1 / deviation of a row.
    #[inline(always)]
    unsafe fn moments<S: Simd>(&self, x: &[f32], row: usize, eps: f32) -> (f32, f32) {
        let c = self.sink.channels;
        // SAFETY: as the caller promised.
        unsafe {
            let mean = sum!(c, at, width => self.load::<S>(x, row, at, width)) / c as f32;
            let var = sum!(c, at, width => {
                let d = S::sub(self.load::<S>(x, row, at, width), S::splat(mean));
                let d = S::keep(super::finish::tail(width), d);
                S::mul(d, d)
            }) / c as f32;
            (mean, 1. / (var + eps).sqrt())
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd>(&self, row: usize) {
        let c = self.sink.channels;
        // SAFETY: `each_row` checked all slices and keeps rows apart.
        unsafe {
            match self.rows {
                Rows::Norm { gamma, beta, eps } => {
                    let (mean, inv) = self.moments::<S>(self.x, row, eps);
                    for at in (0..c).step_by(S::LANES) {
                        let width = (c - at).min(S::LANES);
                        let h = S::mul(S::sub(self.load::<S>(self.x, row, at, width), S::splat(mean)), S::splat(inv));
                        let (gamma, beta) = (S::load(from(gamma, at, S::LANES)), S::load(from(beta, at, S::LANES)));
                        store::<S>(self.finish, self.sink, S::fma(h, gamma, beta), row, at, width);
                    }
                }
                Rows::NormBack { gamma, eps, other } => {
                    let (mean, inv) = self.moments::<S>(other, row, eps);
                    let scaled = |at: usize, width: usize| {
                        S::mul(self.load::<S>(self.x, row, at, width), S::load(from(gamma, at, S::LANES)))
                    };
                    let normal = |at: usize, width: usize| {
                        S::mul(S::sub(self.load::<S>(other, row, at, width), S::splat(mean)), S::splat(inv))
                    };
                    let first = sum!(c, at, width => scaled(at, width)) / c as f32;
                    let second = sum!(c, at, width => S::mul(scaled(at, width), normal(at, width))) / c as f32;
                    for at in (0..c).step_by(S::LANES) {
                        let width = (c - at).min(S::LANES);
                        let v = S::sub(scaled(at, width), S::splat(first));
                        let v = S::fnma(normal(at, width), S::splat(second), v);
                        store::<S>(self.finish, self.sink, S::mul(v, S::splat(inv)), row, at, width);
                    }
                }
                Rows::Softmax => {
                    let mut top = S::splat(f32::NEG_INFINITY);
                    for at in (0..c).step_by(S::LANES) {
                        let width = (c - at).min(S::LANES);
                        let v = self.load::<S>(self.x, row, at, width);
                        top = S::max(top, S::pick(super::finish::tail(width), v, top));
                    }
                    let top = S::splat(S::largest(top));
                    let shifted = |at: usize, width: usize| {
                        let e = exp::<S>(S::sub(self.load::<S>(self.x, row, at, width), top));
                        S::keep(super::finish::tail(width), e)
                    };
                    let scale = S::splat(1. / sum!(c, at, width => shifted(at, width)));
                    for at in (0..c).step_by(S::LANES) {
                        let width = (c - at).min(S::LANES);
                        store::<S>(self.finish, self.sink, S::mul(shifted(at, width), scale), row, at, width);
                    }
                }
                Rows::SoftmaxBack { other } => {
                    let (g, y) = (self.x, other);
                    let dot = sum!(c, at, width => {
                        S::mul(self.load::<S>(g, row, at, width), self.load::<S>(y, row, at, width))
                    });
                    for at in (0..c).step_by(S::LANES) {
                        let width = (c - at).min(S::LANES);
                        let v = S::sub(self.load::<S>(g, row, at, width), S::splat(dot));
                        let v = S::mul(v, self.load::<S>(y, row, at, width));
                        store::<S>(self.finish, self.sink, v, row, at, width);
                    }
                }
            }
        }
    }
}

impl Kernel for Each<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.pixels.clone() {
            // SAFETY: the caller's promise.
            unsafe { self.row::<S>(row) }
        }
    }
}

/// Each of `pixels` rows of `channels` entries by itself; for gradients `x` is that of the result.
pub(crate) fn each_row(
    isa: Isa,
    rows: Rows<'_>,
    (pixels, channels): (usize, usize),
    x: &[f32],
    finish: &Finish<'_>,
    out: &mut [f32],
) {
    let sink = Sink::new(finish, pixels, channels, out, None, None);
    let (len, wide) = (pixels * channels, super::finish::padded_channels(channels));
    assert!(x.len() >= len, "a value is too short");
    let fits = match rows {
        Rows::Norm { gamma, beta, .. } => gamma.len() >= wide && beta.len() >= wide,
        Rows::NormBack { gamma, other, .. } => gamma.len() >= wide && other.len() >= len,
        Rows::Softmax => true,
        Rows::SoftmaxBack { other } => other.len() >= len,
    };
    assert!(fits, "weights or a value are too short");
    let each = (CHUNK / channels.max(1)).max(1);
    parallel(pixels.div_ceil(each), |task| {
        let pixels = task * each..((task + 1) * each).min(pixels);
        // SAFETY: all lengths are asserted; tasks have rows of their own.
        unsafe { isa.run(Each { rows, x, pixels, finish, sink: &sink }) }
    });
}

/// One task's share of softmax inside attention: rows of `width` floats of which `count` are real, scaled first, then
/// biased by rows as wide.
pub(super) struct Scores<'a> {
    pub(super) data: Shared<'a, f32>,
    pub(super) rows: usize,
    pub(super) count: usize,
    pub(super) width: usize,
    pub(super) scale: f32,
    pub(super) bias: Option<&'a [f32]>,
    /// With the gradient of the weights, `data` (weights) is replaced by that of the scores.
    pub(super) grad: Option<&'a [f32]>,
}

impl Kernel for Scores<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.count;
        for row in 0..self.rows {
            let start = row * self.width;
            // SAFETY: rows of `width`, whole vectors, lie within `data` and `grad`, as attention made them.
            unsafe {
                let at = |at: usize| self.data.at(start + at, S::LANES);
                if let Some(grad) = self.grad {
                    let g = |at: usize| S::load(from(grad, start + at, S::LANES));
                    let dot = sum!(c, i, width => {
                        S::keep(super::finish::tail(width), S::mul(S::load(at(i)), g(i)))
                    });
                    for i in (0..c).step_by(S::LANES) {
                        let d = S::mul(S::sub(g(i), S::splat(dot)), S::splat(self.scale));
                        S::store(at(i), S::keep(super::finish::tail((c - i).min(S::LANES)), S::mul(S::load(at(i)), d)));
                    }
                    continue;
                }
                // A bias is added to scaled scores; without one the scale can wait.
                let mut scale = S::splat(self.scale);
                if let Some(bias) = self.bias {
                    for i in (0..c).step_by(S::LANES) {
                        S::store(at(i), S::fma(S::load(at(i)), scale, S::load(from(bias, start + i, S::LANES))));
                    }
                    scale = S::splat(1.);
                }
                let mut top = S::splat(f32::NEG_INFINITY);
                for i in (0..c).step_by(S::LANES) {
                    top = S::max(top, S::pick(super::finish::tail((c - i).min(S::LANES)), S::load(at(i)), top));
                }
                let top = S::splat(S::largest(top));
                let total = sum!(c, i, width => {
                    let e = exp::<S>(S::mul(S::sub(S::load(at(i)), top), scale));
                    let e = S::keep(super::finish::tail(width), e);
                    S::store(at(i), e);
                    e
                });
                for i in (0..c).step_by(S::LANES) {
                    S::store(at(i), S::mul(S::load(at(i)), S::splat(1. / total)));
                }
            }
        }
    }
}
