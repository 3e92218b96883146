//! A forward pass of a plan, to be read and pulled back.

use super::layout::Layout;
use super::pool::Pool;
use super::run::{Core, Run};
use crate::graph::NodeId;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use robust_core::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// One forward pass of a plan.
pub struct Traced {
    pub(super) core: Arc<Core>,
    pub(super) pools: Arc<Mutex<Vec<Pool>>>,
    /// `None` only while dropped.
    pub(super) run: Option<Run>,
    pub(super) output: Tensor,
    pub(super) kept: Vec<(NodeId, Tensor)>,
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

    pub(super) fn read(&self, node: NodeId) -> Result<Tensor> {
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

pub(super) fn locked(pools: &Mutex<Vec<Pool>>) -> std::sync::MutexGuard<'_, Vec<Pool>> {
    // A pool left by a panic elsewhere holds nothing but free memory.
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` with the entries of a tensor, copied only if they are not contiguous f32 on the CPU.
pub(super) fn with_floats<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = if x.dtype() == DType::F32 { x.clone() } else { x.to_dtype(DType::F32)? };
    let x = x.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(data)), Some((from, to))) => Ok(f(&data[from..to])),
        _ => Err(Error::internal("a contiguous tensor of floats is not one")),
    }
}
