//! The `cpu` plan: a network compiled to fused steps on channels-last memory, forwards and back to the input.
//!
//! A row's output and gradient have the same bits for any batch, position and number of threads; between instruction sets
//! they differ in rounding.

mod back;
mod compile;
mod conv;
mod foresight;
mod fuse;
mod interpreter;
mod layout;
mod pieces;
mod pool;
mod run;
mod single;
mod sparse;
mod step;

use super::kernels::Isa;
use crate::graph::{Network, NodeId};
use crate::reference::Reference;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use compile::Weights;
pub use interpreter::Cpu;
use layout::Layout;
use pool::Pool;
use robust_core::{Error, Kind, Result};
use run::{Core, Run};
use std::sync::{Arc, Mutex, PoisonError};
use step::{CellId, Place};

/// How exactly a plan computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Winograd where it is faster: agrees with the reference within 1e-4 of the largest entry. Gives gradients.
    Fast,
    /// Direct sums in a fixed order, within 1e-5. Forward only.
    Exact,
}

/// A network compiled for this processor. Runs on the threads of the current rayon pool.
pub struct Plan {
    core: Arc<Core>,
    precision: Precision,
    exposed: Arc<[NodeId]>,
    /// Buffers of finished runs, for the next ones.
    pools: Arc<Mutex<Vec<Pool>>>,
}

/// Rows that memory is counted for: a whole unit.
const FORESEEN: usize = 64;

impl Plan {
    /// Compiles the network of `reference`, which must be in f32, so that values of `expose` can be read and seeded.
    ///
    /// # Errors
    /// Kind `Usage` when `ROBUST_KERNELS` names kernels this processor cannot run.
    pub fn new(reference: &Reference, precision: Precision, expose: &[NodeId]) -> Result<Self> {
        Self::with_kernels(reference, precision, expose, Isa::chosen()?)
    }

    /// As [`Plan::new`] with kernels by name: one of [`Plan::kernels`].
    ///
    /// # Errors
    /// Kind `Usage` for kernels this processor cannot run.
    pub fn named(reference: &Reference, precision: Precision, expose: &[NodeId], kernels: &str) -> Result<Self> {
        let isa =
            Isa::named(kernels).ok_or_else(|| Error::usage(format!("this processor has no kernels `{kernels}`")))?;
        Self::with_kernels(reference, precision, expose, isa)
    }

    fn with_kernels(reference: &Reference, precision: Precision, expose: &[NodeId], isa: Isa) -> Result<Self> {
        let net = Arc::clone(reference.network());
        if let Some(bad) = expose.iter().find(|e| !net.shapes().get(e.0).is_some_and(|s| s.batched)) {
            return Err(Error::internal(format!("node {} has no value per row to keep", bad.0)));
        }
        let single = reference.single().ok_or_else(|| Error::internal("a plan needs a reference in f32"))?;
        let steps = compile::compile(&net, &single, isa, Weights::For(precision), expose)?;
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
    /// As [`Plan::new`].
    pub fn left(reference: &Reference) -> Result<Vec<NodeId>> {
        let single = reference.single().ok_or_else(|| Error::internal("a plan needs a reference in f32"))?;
        let steps = compile::compile(reference.network(), &single, Isa::chosen()?, Weights::None, &[])?;
        let node = |s: &step::Step| match s.kind {
            step::Kind::Reference(node) => Some(node),
            _ => None,
        };
        Ok(steps.list.iter().filter_map(node).collect())
    }

    /// About the bytes that a row holds in a batch of 64 that is attacked and judged: of a forward pass with its gradient
    /// and of an exact pass, counted as they would take them. What the kernels of each thread need for a while is not
    /// counted.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn row_bytes(reference: &Reference) -> Result<usize> {
        let single = reference.single().ok_or_else(|| Error::internal("a plan needs a reference in f32"))?;
        let net = reference.network();
        let steps = compile::compile(net, &single, Isa::chosen()?, Weights::None, &[])?;
        let output = steps.places.get(net.output().0).and_then(Option::as_ref);
        let output = output.ok_or_else(|| Error::internal("a plan has no place for its output"))?.cell;
        Ok(foresight::bytes(&steps, output, FORESEEN).div_ceil(FORESEEN))
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
    /// As [`Plan::forward`]; an exact plan gives no gradients.
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

fn locked(pools: &Mutex<Vec<Pool>>) -> std::sync::MutexGuard<'_, Vec<Pool>> {
    // A pool left by a panic elsewhere holds nothing but free memory.
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    fn place(&self, node: NodeId) -> Result<&Place> {
        let place = self.steps.places.get(node.0).and_then(Option::as_ref);
        place.ok_or_else(|| Error::internal(format!("the value of node {} was not exposed", node.0)))
    }
}

/// Calls `f` with the entries of a tensor, copied only if they are not contiguous f32 on the CPU.
fn with_floats<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = if x.dtype() == DType::F32 { x.clone() } else { x.to_dtype(DType::F32)? };
    let x = x.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(data)), Some((from, to))) => Ok(f(&data[from..to])),
        _ => Err(Error::internal("a contiguous tensor of floats is not one")),
    }
}

/// One forward pass of a plan.
pub struct Traced {
    core: Arc<Core>,
    pools: Arc<Mutex<Vec<Pool>>>,
    /// `None` only while dropped.
    run: Option<Run>,
    output: Tensor,
    kept: Vec<(NodeId, Tensor)>,
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            locked(&self.pools).push(run.finish());
        }
    }
}

impl Traced {
    /// `[n, output row...]`.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// The value of an exposed node, `[n, row...]`.
    ///
    /// # Errors
    /// The node was not exposed.
    pub fn value(&self, node: NodeId) -> Result<&Tensor> {
        let kept = self.kept.iter().find(|(k, _)| *k == node).map(|(_, t)| t);
        kept.ok_or_else(|| Error::internal(format!("the value of node {} was not kept", node.0)))
    }

    fn run(&self) -> Result<&Run> {
        self.run.as_ref().ok_or_else(|| Error::internal("a trace lost its run"))
    }

    fn dims(&self, node: NodeId) -> Result<Vec<usize>> {
        let row = &self.core.net.shapes()[node.0].row;
        Ok(std::iter::once(self.run()?.n).chain(row.iter().copied()).collect())
    }

    fn read(&self, node: NodeId) -> Result<Tensor> {
        let (run, place) = (self.run()?, self.core.place(node)?);
        let memory = run.value(place.cell)?;
        let mut plain = vec![0.; memory.len()];
        match place.layout.is_plain() {
            true => plain.copy_from_slice(memory),
            false => place.layout.read().copy(run.n, memory, &mut plain),
        }
        Ok(Tensor::from_vec(plain, self.dims(node)?, &Device::Cpu)?)
    }

    /// The input's gradient `[n, input row...]`: the sum over `seeds` of (d node / d x)^T seed. The output and exposed
    /// nodes may be seeded.
    ///
    /// # Errors
    /// A seed of another shape, or at another node.
    pub fn pull(&mut self, seeds: &[(NodeId, Tensor)]) -> Result<Tensor> {
        let mut ready = vec![];
        for (node, seed) in seeds {
            let place = self.core.place(*node)?;
            let expected = self.dims(*node)?;
            if seed.dims() != expected {
                return Err(Error::internal(format!("expected a seed of shape {expected:?}, got {:?}", seed.dims())));
            }
            ready.push((place.cell, with_floats(seed, |s| in_memory(&place.layout, expected[0], s))?));
        }
        let input = self.core.net.input_row();
        let run = self.run.as_mut().ok_or_else(|| Error::internal("a trace lost its run"))?;
        let mut dx = vec![0.; run.n * input.iter().product::<usize>()];
        rayon::scope(|_| run.pull(&ready, &mut dx))?;
        let dims: Vec<usize> = std::iter::once(run.n).chain(input.iter().copied()).collect();
        Ok(Tensor::from_vec(dx, dims, &Device::Cpu)?)
    }
}

/// Plain rows in a layout.
fn in_memory(layout: &Layout, n: usize, plain: &[f32]) -> Vec<f32> {
    if layout.is_plain() {
        return plain.to_vec();
    }
    let mut memory = vec![0.; plain.len()];
    layout.write().copy(n, plain, &mut memory);
    memory
}
