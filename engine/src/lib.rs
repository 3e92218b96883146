//! One network, several interpreters.

mod adapter;
mod cpu;
mod digest;
mod model;
mod network;
mod reference;
mod shape;
mod weights;

pub use adapter::ModuleModel;
pub use cpu::plan::{Plan, Precision, Traced};
pub use digest::digest;
pub use model::NetworkModel;
pub use network::{
    Activation, Binary, Builder, MAX_ROW, Network, Node, NodeId, Op, Pads, Pair, Param, ParamId, Reduction, Shape,
    Window,
};
pub use reference::{Reference, Tape};
