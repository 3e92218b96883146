//! ConvNeXt, a file for each home of weights.

pub(crate) mod timm;
pub(crate) mod transformers;
