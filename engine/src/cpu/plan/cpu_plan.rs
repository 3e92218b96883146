//! A network compiled to a plan: what is asked of it, and what it answers.

use super::compile::compile;
use super::memory_estimate;
use super::pool::Pool;
use super::precision::{Precision, Weights};
use super::run::{Core, Run};
use super::step::{self, CellId};
use super::traced::{Traced, locked, with_floats};
use crate::cpu::kernels::Isa;
use crate::graph::{Network, NodeId};
use crate::reference::Reference;
use candle_core::Tensor;
use robust_core::{Error, Kind, Result};
use std::sync::{Arc, Mutex};

/// A network compiled for this processor. Runs on the threads of the current rayon pool.
pub struct CpuPlan {
    core: Arc<Core>,
    precision: Precision,
    exposed: Arc<[NodeId]>,
    /// Buffers of finished runs, for the next ones.
    pools: Arc<Mutex<Vec<Pool>>>,
}

/// Rows that memory is counted for: a whole unit.
const FORESEEN: usize = 64;

impl CpuPlan {
    /// Compiles the network of `reference`, which must be in f32, so that values of `expose` can be read and seeded.
    ///
    /// # Errors
    /// Kind `Usage` when `ROBUST_KERNELS` names kernels this processor cannot run.
    pub fn new(reference: &Reference, precision: Precision, expose: &[NodeId]) -> Result<Self> {
        Self::with_kernels(reference, precision, expose, Isa::chosen()?)
    }

    /// As [`CpuPlan::new`] with kernels by name: one of [`CpuPlan::kernels`].
    ///
    /// # Errors
    /// Kind `Usage` for kernels this processor cannot run.
    pub fn named(reference: &Reference, precision: Precision, expose: &[NodeId], kernels: &str) -> Result<Self> {
        let isa =
            Isa::named(kernels).ok_or_else(|| Error::usage(format!("this processor has no kernels `{kernels}`")))?;
        Self::with_kernels(reference, precision, expose, isa)
    }

    pub(super) fn with_kernels(
        reference: &Reference,
        precision: Precision,
        expose: &[NodeId],
        isa: Isa,
    ) -> Result<Self> {
        let net = Arc::clone(reference.network());
        if let Some(bad) = expose.iter().find(|e| !net.shapes().get(e.0).is_some_and(|s| s.batched)) {
            return Err(Error::internal(format!("node {} has no value per row to keep", bad.0)));
        }
        let single = reference.single().ok_or_else(|| Error::internal("a plan needs a reference in f32"))?;
        let steps = compile(&net, &single, isa, Weights::For(precision), expose)?;
        let core = Arc::new(Core { net, single, steps, isa });
        Ok(Self { core, precision, exposed: expose.into(), pools: Arc::default() })
    }

    /// The kernels this processor can run, the slowest first.
    pub fn kernels() -> Vec<&'static str> {
        Isa::all().into_iter().map(Isa::name).collect()
    }

    /// The kernels plans use: what `ROBUST_KERNELS` names, or the fastest.
    ///
    /// # Errors
    /// Kind `Usage` when the variable names kernels this processor cannot run.
    pub fn chosen_kernels() -> Result<&'static str> {
        Ok(Isa::chosen()?.name())
    }

    pub fn network(&self) -> &Arc<Network> {
        &self.core.net
    }

    /// Nodes of a network that its plan would leave to the reference interpreter.
    ///
    /// # Errors
    /// As [`CpuPlan::new`].
    pub fn left(reference: &Reference) -> Result<Vec<NodeId>> {
        let single = reference.single().ok_or_else(|| Error::internal("a plan needs a reference in f32"))?;
        let steps = compile(reference.network(), &single, Isa::chosen()?, Weights::None, &[])?;
        let node = |s: &step::Step| match s.kind {
            step::StepKind::Reference(node) => Some(node),
            _ => None,
        };
        Ok(steps.list.iter().filter_map(node).collect())
    }

    /// About the bytes that a row holds in a batch of 64 that is attacked and judged: of a forward pass with its gradient
    /// and of an exact pass, counted as they would take them. What the kernels of each thread need for a while is not
    /// counted.
    ///
    /// # Errors
    /// As [`CpuPlan::new`].
    pub fn row_bytes(reference: &Reference) -> Result<usize> {
        let single = reference.single().ok_or_else(|| Error::internal("a plan needs a reference in f32"))?;
        let net = reference.network();
        let steps = compile(net, &single, Isa::chosen()?, Weights::None, &[])?;
        let output = steps.places.get(net.output().0).and_then(Option::as_ref);
        let output = output.ok_or_else(|| Error::internal("a plan has no place for its output"))?.cell;
        Ok(memory_estimate::bytes(&steps, output, FORESEEN).div_ceil(FORESEEN))
    }

    /// Bytes of all values and masks in memory that this plan has made so far.
    pub fn workspace(&self) -> usize {
        locked(&self.pools).iter().map(|p| p.made).sum()
    }

    /// `[n, input row...]` of any float type -> `[n, output row...]` in f32.
    ///
    /// # Errors
    /// Kind `Load` when `x` has another shape or is not of floats.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let traced = self.run(x, false)?;
        Ok(traced.output.clone())
    }

    /// A forward pass that can be pulled back any number of times, with the values of the nodes that were exposed.
    ///
    /// # Errors
    /// As [`CpuPlan::forward`]; an exact plan gives no gradients.
    pub fn trace(&self, x: &Tensor) -> Result<Traced> {
        if self.precision == Precision::Exact {
            return Err(Error::internal("an exact plan gives no gradients"));
        }
        self.run(x, true)
    }

    fn run(&self, x: &Tensor, record: bool) -> Result<Traced> {
        let n = self.rows(x)?;
        let core = Arc::clone(&self.core);
        let read = self.exposed.iter().copied().chain([core.net.output()]);
        let keep = read.map(|e| Ok(core.place(e)?.cell)).collect::<Result<Vec<CellId>>>()?;
        let pool = locked(&self.pools).pop().unwrap_or_default();
        let run = with_floats(x, |x| rayon::scope(|_| Run::forward(core, pool, n, x, &keep, record)))??;
        let (core, pools) = (Arc::clone(&self.core), Arc::clone(&self.pools));
        let mut traced = Traced { core, pools, run: Some(run), output: x.clone(), kept: vec![] };
        traced.output = traced.read(self.core.net.output())?;
        if record {
            for &node in self.exposed.iter() {
                let value = traced.read(node)?;
                traced.kept.push((node, value));
            }
        }
        Ok(traced)
    }

    /// The number of rows of a fitting input.
    fn rows(&self, x: &Tensor) -> Result<usize> {
        let expected = self.core.net.input_row();
        match x.dims().split_first() {
            Some((&n, row)) if n > 0 && row == expected && x.dtype().is_float() => Ok(n),
            _ => Err(Error::new(
                Kind::Load,
                format!(
                    "expected an input of floats [n, {}] with n above 0, got {:?} {:?}",
                    expected.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
                    x.dtype(),
                    x.dims()
                ),
            )),
        }
    }
}
