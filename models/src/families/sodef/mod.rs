//! SODEF: the network, its flow and its orthogonal layer.

mod build;
mod finite;
mod flow;
mod norms;
mod orthogonal;

pub(crate) use build::ARCHITECTURE;
