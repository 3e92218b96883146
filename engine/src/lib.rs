//! One network, several interpreters.

mod adapter;
mod cpu;
mod model;
mod network;
mod reference;
mod shape;

pub use adapter::ModuleModel;
pub use cpu::plan::{Plan, Precision, Traced};
pub use model::{NetworkModel, digest};
pub use network::{
    Activation, Binary, Builder, MAX_ROW, Network, Node, NodeId, Op, Pads, Pair, Param, ParamId, Reduction, Shape,
    Window,
};
pub use reference::{Reference, Tape};
