//! Encoders: heads on them, goals without labels, what their embeddings are like.

pub mod heads;
pub mod label_free;
pub mod measure;
pub mod measured;
