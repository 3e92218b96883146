//! What a model is measured on: data readers and the fixed choice of samples.

pub mod data;
pub mod subset;
