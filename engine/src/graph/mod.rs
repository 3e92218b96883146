//! The network as data: a graph of layers, and its weights.

mod builder;
mod digest;
mod infer;
mod network;
mod node;
mod op;
mod params;
mod weights;

pub use builder::Builder;
pub use digest::digest;
pub(crate) use infer::windows;
pub use network::{Graph, MAX_ROW, Network};
pub use node::{Node, Shape};
pub use op::{Activation, Binary, Edge, NOWHERE, NodeId, Op, Pads, Pair, ParamId, Reduction, Window};
pub use params::{Param, Params};
