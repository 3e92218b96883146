//! One network, several interpreters.
//!
//! A [`Network`] is a [`Graph`] of layers with its weights ([`Params`]), built node by node with a [`Builder`] that checks
//! every shape. An [`Interpreter`] compiles it for a [`Purpose`]: [`Cpu`] into fused steps for this processor, [`OpByOp`] op by op
//! in f32 or f64. [`NetworkModel`] is a network as attacks see it; [`ModuleModel`] does the same for a candle `Module` of one's own.

mod adapter;
mod cpu;
mod graph;
mod interpreter;
mod model;
mod reference;

pub use adapter::ModuleModel;
pub use cpu::plan::{Cpu, Plan, Precision, Traced};
pub use graph::{
    Activation, Binary, Builder, Edge, Graph, MAX_ROW, NOWHERE, Network, Node, NodeId, Op, Pads, Pair, Param, ParamId,
    Params, Reduction, Shape, Window, digest,
};
pub use interpreter::{Compiled, Interpreter, Pass, Purpose, Resident};
pub use model::NetworkModel;
pub use reference::{BatchStatistics, Mode, OpByOp, Reference, Tape};
