//! Numbers made of predictions: error over corruptions, flips over sequences, calibration, detection. Pure functions.

pub mod calibration;
pub mod corruption;
pub mod detection;
pub mod flips;
