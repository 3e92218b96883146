//! The `cpu` plan: a network compiled to fused steps on channels-last memory, forwards and back to the input.
//!
//! A row's output and gradient have the same bits for any batch, position and number of threads; between instruction sets
//! they differ in rounding.

mod back;
mod compile;
mod compiler;
mod conv;
mod foresight;
mod fuse;
mod interpreter;
mod layout;
mod moves;
mod pieces;
mod plan;
mod pool;
mod precision;
mod run;
mod single;
mod sparse;
mod step;
mod traced;

pub use interpreter::Cpu;
pub use plan::CpuPlan;
pub use precision::Precision;
pub use traced::Traced;
