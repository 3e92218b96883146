//! The two number types of the interpreters. Transcendental functions are `libm`'s: the same bits on every platform.

use candle_core::WithDType;
use std::ops::Neg;

/// f32 or f64.
pub(crate) trait Float: WithDType + Default + Neg<Output = Self> {
    const ZERO: Self;
    const ONE: Self;
    /// Rounds to this type.
    fn of(v: f64) -> Self;
    fn wide(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn expm1(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn sqrt(self) -> Self;
    fn pow(self, e: Self) -> Self;
    fn abs(self) -> Self;
    fn nan(self) -> bool;
}

macro_rules! float {
    ($t:ty, $exp:ident, $ln:ident, $ln_1p:ident, $expm1:ident, $tanh:ident, $erf:ident, $sin:ident, $cos:ident,
     $pow:ident) => {
        impl Float for $t {
            const ZERO: Self = 0.;
            const ONE: Self = 1.;
            #[inline]
            fn of(v: f64) -> Self {
                v as $t
            }
            #[inline]
            fn wide(self) -> f64 {
                self as f64
            }
            #[inline]
            fn exp(self) -> Self {
                libm::$exp(self)
            }
            #[inline]
            fn ln(self) -> Self {
                libm::$ln(self)
            }
            #[inline]
            fn ln_1p(self) -> Self {
                libm::$ln_1p(self)
            }
            #[inline]
            fn expm1(self) -> Self {
                libm::$expm1(self)
            }
            #[inline]
            fn tanh(self) -> Self {
                libm::$tanh(self)
            }
            #[inline]
            fn erf(self) -> Self {
                libm::$erf(self)
            }
            #[inline]
            fn sin(self) -> Self {
                libm::$sin(self)
            }
            #[inline]
            fn cos(self) -> Self {
                libm::$cos(self)
            }
            #[inline]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline]
            fn pow(self, e: Self) -> Self {
                libm::$pow(self, e)
            }
            #[inline]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline]
            fn nan(self) -> bool {
                self.is_nan()
            }
        }
    };
}

float!(f32, expf, logf, log1pf, expm1f, tanhf, erff, sinf, cosf, powf);
float!(f64, exp, log, log1p, expm1, tanh, erf, sin, cos, pow);
