//! `robust` measures how much of an image model's accuracy survives an adversary, and keeps the evidence.
//!
//! The tour, in the order of a run: [`models::load`] lowers a file to a network and wraps it as a
//! [`core::Model`]; [`benchmarks::data::open`] reads a data set by sample id; [`attacks::resolve`] turns
//! `pgd-linf:eps=8/255` into a checked attack with its threat model; [`evaluate`] judges the clean samples, lets the
//! attack ask a [`core::Oracle`] and writes down an [`core::Outcome`] per sample; [`run`] does that for a whole
//! [`plan`], unit by unit, into a [`folder`] that can be resumed; [`verify`] re-judges what was written; [`report`] makes
//! tables of it. Your own candle `Module` becomes a model through [`engine::ModuleModel`]: see
//! `examples/custom_model.rs`.

pub mod bounds;
pub mod calibration;
pub mod classes;
pub mod clock;
pub mod compare;
pub mod corrupt;
pub mod corrupted;
pub mod doctor;
pub mod escape;
pub mod evaluate;
pub mod evidence;
pub mod export;
pub mod folder;
pub mod gate;
pub mod given;
pub mod heads;
pub mod known;
pub mod label_free;
pub mod leaderboard;
pub mod measure;
pub mod memory;
pub mod merge;
pub mod plan;
pub mod progress;
pub mod published;
pub mod report;
pub mod rows;
pub mod run;
pub mod runs;
pub mod selftest;
pub mod sequences;
#[cfg(feature = "serve")]
pub mod serve;
pub mod shard;
pub mod stages;
pub mod stats;
pub mod verify;

pub use robust_attacks as attacks;
pub use robust_benchmarks as benchmarks;
pub use robust_core as core;
pub use robust_engine as engine;
pub use robust_models as models;

/// A line for the user, on stderr: stdout is for data. Names of strangers in it cannot steer a terminal or a CI runner
/// ([`escape::terminal`]). Whoever does not listen stops nothing: a closed or full stderr is no error.
pub fn say(line: &str) {
    say_raw(&escape::terminal(line));
}

/// A line that is meant for the runner of a CI job; what strangers wrote in it must be escaped already.
pub fn say_raw(line: &str) {
    use std::io::Write;
    // One write for the whole line, so that lines of several processes do not mix.
    std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()).ok();
}
