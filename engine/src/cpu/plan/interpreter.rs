//! Plans as an interpreter.

use super::cpu_plan::CpuPlan;
use super::precision::Precision;
use super::traced::Traced;
use crate::cpu::kernels::Isa;
use crate::graph::{Network, NodeId, Params};
use crate::interpreter::{Compiled, Interpreter, Pass, Purpose, Resident};
use crate::reference::Reference;
use candle_core::{DType, Tensor};
use robust_core::{Error, Result};
use std::sync::Arc;

/// Fused steps in f32 on this processor: for searching and for exact passes.
#[derive(Debug, Clone, Copy)]
pub struct Cpu(Isa);

impl Cpu {
    /// With the kernels that `ROBUST_KERNELS` names, or the fastest that this processor can run.
    ///
    /// # Errors
    /// Kind `Usage` when the variable names kernels this processor cannot run.
    pub fn chosen() -> Result<Self> {
        Ok(Self(Isa::chosen()?))
    }
}

impl Interpreter for Cpu {
    fn name(&self) -> String {
        format!("plan/f32/{}", self.0.name())
    }

    fn device(&self) -> &'static str {
        "cpu"
    }

    fn unknown(&self, network: &Arc<Network>) -> Result<Vec<NodeId>> {
        CpuPlan::left(&Reference::new(Arc::clone(network), DType::F32)?)
    }

    fn load(&self, network: Arc<Network>) -> Result<Arc<dyn Resident>> {
        Ok(Arc::new(OnCpu { reference: Reference::new(network, DType::F32)?, isa: self.0 }))
    }
}

/// Weights converted once, for the plans and for what they leave to the reference.
struct OnCpu {
    reference: Reference,
    isa: Isa,
}

impl Resident for OnCpu {
    fn network(&self) -> &Arc<Network> {
        self.reference.network()
    }

    fn compile(&self, purpose: Purpose, taps: &[NodeId]) -> Result<Arc<dyn Compiled>> {
        let precision = match purpose {
            Purpose::Search => Precision::Fast,
            Purpose::Exact => Precision::Exact,
            Purpose::Double | Purpose::Train => {
                return Err(Error::internal(format!("plans do not serve {purpose:?}: use the reference")));
            }
        };
        Ok(Arc::new(CpuPlan::with_kernels(&self.reference, precision, taps, self.isa)?))
    }

    fn with_params(&self, params: Params) -> Result<Arc<dyn Resident>> {
        Ok(Arc::new(Self { reference: self.reference.with_params(params)?, isa: self.isa }))
    }
}

impl Compiled for CpuPlan {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        CpuPlan::forward(self, x)
    }

    fn trace(&self, x: &Tensor) -> Result<Box<dyn Pass>> {
        Ok(Box::new(CpuPlan::trace(self, x)?))
    }
}

impl Pass for Traced {
    fn output(&self) -> &Tensor {
        Traced::output(self)
    }

    fn value(&self, node: NodeId) -> Result<&Tensor> {
        Traced::value(self, node)
    }

    fn pull(&mut self, seeds: &[(NodeId, Tensor)]) -> Result<Tensor> {
        Traced::pull(self, seeds)
    }
}
