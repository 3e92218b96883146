//! Image towers of CLIP, a file for each home of weights.

pub(crate) mod openai;
pub(crate) mod openai_resnet;
pub(crate) mod timm;
pub(crate) mod transformers;
