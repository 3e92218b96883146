//! Swin transformers, a file for each home of weights.

pub(crate) mod timm;
pub(crate) mod transformers;
