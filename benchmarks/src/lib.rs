//! What a model is measured on: data readers, corruptions, metrics and the fixed choice of samples.

pub mod corruptions;
pub mod data;
pub mod metrics;
pub mod subset;
