//! Noise and shift: corruptions, sequences, calibration and out-of-distribution detection.

pub mod applied;
pub mod calibration;
pub mod facts;
pub mod generated;
pub mod published;
pub mod remade;
pub mod sequences;
pub mod suites;
pub mod write;
