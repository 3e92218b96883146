//! Code for the processor that every interpreter on it shares.

mod float;
pub(crate) mod kernels;
pub(crate) mod plan;

pub(crate) use float::Float;
