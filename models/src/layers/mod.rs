//! Pieces that several families share, laid onto a builder with the weights of a state dict.

pub(crate) mod attention_pool;
pub(crate) mod blocks;
pub(crate) mod mbconv;
pub(crate) mod mean_sparse;
pub(crate) mod normalise;
pub(crate) mod resample;
pub(crate) mod stack;
pub(crate) mod tokens;
pub(crate) mod windows;
