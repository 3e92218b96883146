//! `robust` measures how much of an image model's accuracy survives an adversary, and keeps the evidence.
//!
//! The tour, in the order of a run: [`models::load`] lowers a file to a network and wraps it as a
//! [`core::Model`]; [`benchmarks::data::open`] reads a data set by sample id; [`attacks::resolve`] turns
//! `pgd-linf:eps=8/255` into a checked attack with its threat model; [`evaluate`] judges the clean samples, lets the
//! attack ask a [`core::Oracle`] and writes down an [`core::Outcome`] per sample; [`run`] does that for a whole
//! [`plan`], unit by unit, into a [`folder`] that can be resumed; [`verify`] re-judges what was written; [`report`] makes
//! tables of it. Your own candle `Module` becomes a model through [`engine::ModuleModel`]: see
//! `examples/custom_model.rs`.

pub mod corruption;
pub mod doctor;
pub mod encoder;
pub mod eval;
pub mod gate;
pub mod report;
pub mod runs;
pub mod selftest;

#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod disk;
#[doc(hidden)]
pub mod escape;
mod say;

#[doc(hidden)]
pub use say::{say, say_raw};

pub use robust_attacks as attacks;
pub use robust_benchmarks as benchmarks;
pub use robust_core as core;
pub use robust_engine as engine;
pub use robust_models as models;
