//! One network, several interpreters.
//!
//! A [`Network`] is a [`Graph`] of layers with its weights ([`Params`]), built node by node with a [`Builder`] that checks
//! every shape. An [`Interpreter`] compiles it for a [`Purpose`]: [`Cpu`] into fused steps for this processor, [`OpByOp`] op by op
//! in f32 or f64. [`NetworkModel`] is a network as attacks see it; [`ModuleModel`] does the same for a candle `Module` of one's own.
//!
//! To read in this order: [`Op`] (what a node computes, and over which axes), [`Builder`] and [`Network`], [`NetworkModel`]; then
//! [`Reference`] and [`CpuPlan`], which compute the same by two ways, and [`Interpreter`] for a third.
//!
//! **Shapes.** Values are `[n, row...]`: axis 0 is the batch, images are `[n, channels, height, width]`, tokens `[n, tokens, width]`. The
//! graph knows the row ([`Shape::row`]) and leaves `n` open; a node that does not depend on the input has no batch axis. A row has at most
//! [`MAX_ROW`] entries.
//!
//! **Bits.** A row's output and gradient have the same bits for any batch, position and number of threads. Between interpreters,
//! precisions and instruction sets they differ in rounding.
//!
//! **Errors.** Kind `Load` for inputs and weights of another shape or type, kind `Usage` for kernels that this processor cannot run;
//! anything else is a fault of the caller and of kind `Internal`.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use robust_engine::{Builder, CpuPlan, Op, Precision, Reference};
//! use std::sync::Arc;
//!
//! # fn main() -> robust_core::Result<()> {
//! let mut net = Builder::new();
//! let x = net.input("x", &[2])?; // rows of two entries
//! let weight = net.param("weight", Tensor::new(&[[1f32, 2.], [0., -1.], [3., 0.]], &Device::Cpu)?);
//! let y = net.node("y", Op::Linear { weight, bias: None }, &[x])?;
//! let net = Arc::new(net.finish(y)?);
//!
//! let reference = Reference::new(net, candle_core::DType::F32)?;
//! let plan = CpuPlan::new(&reference, Precision::Fast, &[])?;
//! let rows = Tensor::new(&[[1f32, 1.]], &Device::Cpu)?;
//! assert_eq!(plan.forward(&rows)?.to_vec2::<f32>()?, [[3., -1., 3.]]);
//! # Ok(())
//! # }
//! ```

mod adapter;
mod cpu;
mod graph;
mod interpreter;
mod model;
mod reference;

pub use adapter::ModuleModel;
pub use cpu::plan::{Cpu, CpuPlan, Precision, Traced};
pub use graph::{
    Activation, Binary, Builder, Edge, Graph, MAX_ROW, NOWHERE, Network, Node, NodeId, Op, Pads, Pair, Param, ParamId,
    Params, Reduction, Shape, Window, digest,
};
pub use interpreter::{Compiled, Interpreter, Pass, Purpose, Resident};
pub use model::NetworkModel;
pub use reference::{BatchStatistics, Mode, OpByOp, Reference, Tape};
