//! Noise and shift: corruptions, sequences, calibration and out-of-distribution detection.

pub mod calibration;
pub mod generated;
pub mod published;
pub mod sequences;
pub mod suites;
pub mod write;
