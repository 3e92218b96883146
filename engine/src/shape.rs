//! Shape inference.
use crate::network::{Op, Param, Shape};
use robust_core::{Error, Result};
pub(crate) fn infer(op: &Op, _inputs: &[&Shape], _params: &[Param]) -> Result<Shape> {
    Err(Error::internal(format!("no shape rule for {}", op.name())))
}
