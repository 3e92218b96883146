//! Kernels below the level of ops.

#[allow(unsafe_code, reason = "the one call into the gemm crate, behind bounds checks")]
pub(crate) mod gemm;
