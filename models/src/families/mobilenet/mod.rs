//! MobileNets, a file for each version or home of weights.

pub(crate) mod transformers;
pub(crate) mod v2;
pub(crate) mod v3;
