//! `robust` measures how much of an image model's accuracy survives an adversary, noise and shift, and keeps the evidence.
//!
//! ```
//! use robust::benchmarks::subset::Pick;
//! use robust::eval::{Evaluation, Folder, Quiet};
//!
//! # fn main() -> robust::core::Result<()> {
//! # let place = tempfile::tempdir().map_err(|e| robust::core::Error::write("a temporary folder", e))?;
//! # let out = place.path().join("run");
//! let finished = Evaluation::new()
//!     .model("builtin:mnist-at") // or "net.onnx", a Hugging Face folder, a checkpoint
//!     .attack("pgd-linf:eps=0.3,steps=10")
//!     .pick(Pick::Limit(16))
//!     .folder(Folder::New(out)) // or `Folder::Resume` after a crash
//!     .prepare(&mut Quiet)? // reads and checks everything, attacks nothing
//!     .run(&mut Quiet)?; // a `Watcher` of your own sees progress, and may stop it
//! let row = &finished.run.rows[0];
//! println!("{} of {} samples hold: {:.1} %", row.held, row.n, 100. * row.robust_accuracy);
//! # assert!(row.n == 16 && row.held < row.clean_correct);
//! # Ok(())
//! # }
//! ```
//!
//! The rooms, in the order of a run: [`models::load`] lowers a file to a network and wraps it as a [`core::Model`], a candle
//! `Module` of your own becomes one through [`engine::ModuleModel`] (`examples/custom_model.rs`);
//! [`benchmarks::data::open`] reads a data set by sample id; [`attacks::resolve`] turns `pgd-linf:eps=8/255` into a checked
//! attack with its threat model, which asks a [`core::Oracle`] and never a model; [`eval`] does a whole plan, unit by unit,
//! in a folder that can be resumed, merged and verified. [`runs`] reads finished runs: leaderboards, comparisons,
//! statistics; [`doctor`] says how far a number can be trusted; [`report`] makes tables and pages, [`gate`] a verdict for CI.
//! [`corruption`] and [`encoder`] hold what is special to noise and shift and to encoders without classes.
//!
//! Errors are [`core::Error`]: what is wrong, why, and a hint at the next step.

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
