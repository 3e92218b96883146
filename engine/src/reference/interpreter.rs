//! The reference as an interpreter.

use super::{BatchStatistics, Mode, Reference, Tape};
use crate::graph::{Network, NodeId, ParamId, Params};
use crate::interpreter::{Compiled, Interpreter, Pass, Purpose, Resident};
use candle_core::{DType, Tensor};
use robust_core::{Error, Result};
use std::sync::Arc;

/// Op by op, in f32 or f64: it knows every op and serves every purpose of its number type.
#[derive(Debug, Clone, Copy)]
pub struct OpByOp(pub DType);

impl Interpreter for OpByOp {
    fn name(&self) -> String {
        format!("reference/{}", self.0.as_str())
    }

    fn device(&self) -> &'static str {
        "cpu"
    }

    fn unknown(&self, _: &Arc<Network>) -> Result<Vec<NodeId>> {
        Ok(vec![])
    }

    fn load(&self, network: Arc<Network>) -> Result<Arc<dyn Resident>> {
        Ok(Arc::new(Reference::new(network, self.0)?))
    }
}

impl Resident for Reference {
    fn network(&self) -> &Arc<Network> {
        Reference::network(self)
    }

    fn compile(&self, purpose: Purpose, taps: &[NodeId]) -> Result<Arc<dyn Compiled>> {
        if (purpose == Purpose::Double) != (self.dtype() == DType::F64) {
            return Err(Error::internal(format!("{purpose:?} does not run in {}", self.dtype().as_str())));
        }
        Ok(Arc::new(Tapped { reference: self.clone(), taps: taps.into() }))
    }

    fn with_params(&self, params: Params) -> Result<Arc<dyn Resident>> {
        Ok(Arc::new(Reference::with_params(self, params)?))
    }
}

struct Tapped {
    reference: Reference,
    taps: Arc<[NodeId]>,
}

impl Compiled for Tapped {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.reference.forward(x)
    }

    fn trace(&self, x: &Tensor) -> Result<Box<dyn Pass>> {
        Ok(Box::new(self.reference.trace(x, &self.taps)?))
    }

    fn trace_in(&self, mode: Mode<'_>, x: &Tensor) -> Result<Box<dyn Pass>> {
        Ok(Box::new(self.reference.trace_in(mode, x, &self.taps)?))
    }
}

impl Pass for Tape {
    fn output(&self) -> &Tensor {
        Tape::output(self)
    }

    fn value(&self, node: NodeId) -> Result<&Tensor> {
        Tape::value(self, node)
    }

    fn pull(&mut self, seeds: &[(NodeId, Tensor)]) -> Result<Tensor> {
        Tape::pull(self, seeds)
    }

    fn pull_params(&mut self, seeds: &[(NodeId, Tensor)], wanted: &[ParamId]) -> Result<Vec<Tensor>> {
        Tape::pull_params(self, seeds, wanted)
    }

    fn statistics(&self) -> Vec<BatchStatistics> {
        Tape::statistics(self)
    }
}
