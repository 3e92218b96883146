//! Threat models: which points around a clean one the adversary may use. Geometry lives here, once: projections
//! round inward, [`ThreatModel::admits`] measures in f64 and gives the attacker no tolerance.

mod geometry;
mod hyperplane;
mod near;
mod norm;
mod region;
mod row;
#[cfg(test)]
mod tests;

pub use hyperplane::Hyperplane;
pub use near::{Near, ROUNDING, largest_gap};
pub use norm::Norm;
pub use region::{Region, ThreatModel, check_epsilon};
