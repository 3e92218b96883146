//! Vision transformers, a file for each home of weights.

pub(crate) mod timm;
pub(crate) mod torchvision;
pub(crate) mod transformers;
