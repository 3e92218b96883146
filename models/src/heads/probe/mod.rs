//! Fitting heads on embeddings: linear probes, prototypes, naive Bayes, neighbours.

mod features;
mod fit;
mod logistic;
pub mod measures;

pub use features::Features;
pub use fit::{Fit, Method, accuracy, fit};
