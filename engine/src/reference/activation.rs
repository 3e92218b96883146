//! Elementwise functions of one value. At kinks the derivative is PyTorch's: 0 for relu and abs, the slope below zero
//! for leaky relu and elu.

use super::array::Array;
use super::site::Saves;
use crate::cpu::Float;
use crate::graph::Activation;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, FRAC_2_SQRT_PI};

/// What the pullback reads: the output where that suffices, so that the input can be freed.
pub(super) fn saves(act: &Activation) -> Saves {
    use Activation::*;
    match act {
        Relu | Sigmoid | Tanh | Exp | Sqrt | Reciprocal => Saves::OUTPUT,
        Neg | Floor | Ceil | Round => Saves::NOTHING,
        _ => Saves::INPUTS,
    }
}

pub(super) fn forward<F: Float>(act: &Activation, x: Array<F>) -> Array<F> {
    use Activation::*;
    let c = F::of;
    // Comparisons are written so that NaN passes through: a broken row must show.
    match *act {
        Relu => x.map(|v| if v <= F::ZERO { F::ZERO } else { v }),
        LeakyRelu(a) => x.map(|v| if v < F::ZERO { v * c(a) } else { v }),
        Elu(a) => x.map(|v| if v < F::ZERO { v.expm1() * c(a) } else { v }),
        Clip(low, high) => {
            let (low, high) = (c(low), c(high));
            x.map(|v| clamp(v, low, high))
        }
        Sigmoid => x.map(sigmoid),
        HardSigmoid { alpha, beta } => x.map(|v| clamp(v * c(alpha) + c(beta), F::ZERO, F::ONE)),
        Tanh => x.map(F::tanh),
        Silu => x.map(|v| v * sigmoid(v)),
        HardSwish => x.map(|v| v * clamp(v + c(3.), F::ZERO, c(6.)) / c(6.)),
        Gelu => x.map(|v| v * phi(v)),
        GeluTanh => x.map(|v| v * (F::ONE + gelu_inner(v).tanh()) * c(0.5)),
        Softplus => x.map(|v| if v > F::ZERO { v + (-v).exp().ln_1p() } else { v.exp().ln_1p() }),
        Exp => x.map(F::exp),
        Log => x.map(F::ln),
        Sqrt => x.map(F::sqrt),
        Abs => x.map(F::abs),
        Neg => x.map(|v| -v),
        Reciprocal => x.map(|v| F::ONE / v),
        Erf => x.map(F::erf),
        Sin => x.map(F::sin),
        Cos => x.map(F::cos),
        Tan => x.map(|v| wide(v, libm::tan)),
        Asin => x.map(|v| wide(v, libm::asin)),
        Acos => x.map(|v| wide(v, libm::acos)),
        Atan => x.map(|v| wide(v, libm::atan)),
        Sinh => x.map(|v| wide(v, libm::sinh)),
        Cosh => x.map(|v| wide(v, libm::cosh)),
        Asinh => x.map(|v| wide(v, libm::asinh)),
        Acosh => x.map(|v| wide(v, libm::acosh)),
        Atanh => x.map(|v| wide(v, libm::atanh)),
        Floor => x.map(|v| wide(v, libm::floor)),
        Ceil => x.map(|v| wide(v, libm::ceil)),
        Round => x.map(|v| wide(v, f64::round_ties_even)),
        Quantise(low, high) => x.map(|v| clamp(wide(v, f64::round_ties_even), c(low), c(high))),
    }
}

/// `grad` times the derivative; `saved` is the input or the output, as [`saves`] says.
pub(super) fn pull<F: Float>(act: &Activation, saved: &Array<F>, grad: Array<F>) -> Array<F> {
    use Activation::*;
    let c = F::of;
    let (zero, one) = (F::ZERO, F::ONE);
    match *act {
        Relu => grad.zip(saved, |g, y| if y <= zero { zero } else { g }),
        LeakyRelu(a) => grad.zip(saved, |g, x| if x > zero { g } else { g * c(a) }),
        Elu(a) => grad.zip(saved, |g, x| if x > zero { g } else { g * x.exp() * c(a) }),
        Clip(low, high) => grad.zip(saved, |g, x| if x > c(low) && x < c(high) { g } else { zero }),
        Sigmoid => grad.zip(saved, |g, y| g * y * (one - y)),
        HardSigmoid { alpha, beta } => grad.zip(saved, |g, x| {
            let y = x * c(alpha) + c(beta);
            if y > zero && y < one { g * c(alpha) } else { zero }
        }),
        Tanh => grad.zip(saved, |g, y| g * (one - y * y)),
        Silu => grad.zip(saved, |g, x| {
            let s = sigmoid(x);
            g * s * (one + x * (one - s))
        }),
        HardSwish => grad.zip(saved, |g, x| match () {
            () if x <= c(-3.) => zero,
            () if x < c(3.) => g * (x / c(3.) + c(0.5)),
            () => g,
        }),
        Gelu => {
            grad.zip(saved, |g, x| g * (phi(x) + x * (x * x * c(-0.5)).exp() * c(FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.)))
        }
        GeluTanh => grad.zip(saved, |g, x| {
            let t = gelu_inner(x).tanh();
            let slope = c(FRAC_2_PI.sqrt()) * (one + c(3. * 0.044715) * x * x);
            g * c(0.5) * (one + t + x * (one - t * t) * slope)
        }),
        Softplus => grad.zip(saved, |g, x| g * sigmoid(x)),
        Exp => grad.zip(saved, |g, y| g * y),
        Log => grad.zip(saved, |g, x| g / x),
        Sqrt => grad.zip(saved, |g, y| g / (y + y)),
        Abs => grad.zip(saved, |g, x| match () {
            () if x > zero => g,
            () if x < zero => -g,
            () => zero,
        }),
        Neg | Floor | Ceil | Round => pull_blind(act, grad),
        Reciprocal => grad.zip(saved, |g, y| -g * y * y),
        Erf => grad.zip(saved, |g, x| g * c(FRAC_2_SQRT_PI) * (-x * x).exp()),
        Sin => grad.zip(saved, |g, x| g * x.cos()),
        Cos => grad.zip(saved, |g, x| -g * x.sin()),
        Tan => steep(grad, saved, |x| 1. / libm::cos(x).powi(2)),
        Asin => steep(grad, saved, |x| 1. / (1. - x * x).sqrt()),
        Acos => steep(grad, saved, |x| -1. / (1. - x * x).sqrt()),
        Atan => steep(grad, saved, |x| 1. / (1. + x * x)),
        Sinh => steep(grad, saved, libm::cosh),
        Cosh => steep(grad, saved, libm::sinh),
        Asinh => steep(grad, saved, |x| 1. / (x * x + 1.).sqrt()),
        Acosh => steep(grad, saved, |x| 1. / (x * x - 1.).sqrt()),
        Atanh => steep(grad, saved, |x| 1. / (1. - x * x)),
        Quantise(low, high) => grad.zip(saved, |g, x| {
            let near = x.wide().round_ties_even();
            if near >= low && near <= high { g } else { zero }
        }),
    }
}

/// `grad` times the derivative of functions whose slope is the same everywhere.
pub(super) fn pull_blind<F: Float>(act: &Activation, grad: Array<F>) -> Array<F> {
    match act {
        Activation::Neg => grad.map(|g| -g),
        _ => grad.map(|_| F::ZERO),
    }
}

/// `f` in double precision, rounded once.
fn wide<F: Float>(v: F, f: impl Fn(f64) -> f64) -> F {
    F::of(f(v.wide()))
}

/// `grad` times the derivative at `x`.
fn steep<F: Float>(grad: Array<F>, x: &Array<F>, f: impl Fn(f64) -> f64 + Sync) -> Array<F> {
    grad.zip(x, |g, x| F::of(g.wide() * f(x.wide())))
}

fn clamp<F: Float>(v: F, low: F, high: F) -> F {
    match () {
        () if v < low => low,
        () if v > high => high,
        () => v,
    }
}

fn sigmoid<F: Float>(v: F) -> F {
    // Without this split exp overflows below -88 in f32; the value would still be right, its f64 twin would not match.
    if v < F::ZERO {
        let e = v.exp();
        e / (F::ONE + e)
    } else {
        F::ONE / (F::ONE + (-v).exp())
    }
}

fn phi<F: Float>(v: F) -> F {
    F::of(0.5) * (F::ONE + (v * F::of(FRAC_1_SQRT_2)).erf())
}

fn gelu_inner<F: Float>(v: F) -> F {
    F::of(FRAC_2_PI.sqrt()) * (v + F::of(0.044715) * v * v * v)
}
