//! One network, several interpreters.

mod network;
mod shape;

pub use network::{
    Activation, Binary, Builder, MAX_ROW, Network, Node, NodeId, Op, Pads, Pair, Param, ParamId, Reduction, Shape,
    Window,
};
