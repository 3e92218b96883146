//! The `cpu` plan: a network compiled to fused steps on channels-last memory, forwards and back to the input.
//!
//! A row's output and gradient have the same bits for any batch, position and number of threads; between instruction sets
//! they differ in rounding.

mod back;
mod compile;
mod compiler;
mod conv;
mod cpu_plan;
mod fuse;
mod interpreter;
mod layout;
mod memory_estimate;
mod moves;
mod pieces;
mod pool;
mod precision;
mod run;
mod single;
mod sparse;
mod step;
mod traced;

pub use cpu_plan::CpuPlan;
pub use interpreter::Cpu;
pub use precision::Precision;
pub use traced::Traced;
