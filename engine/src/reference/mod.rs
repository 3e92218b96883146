//! The reference interpreter: op by op, in f32 or f64, each op with its own hand-written pullback.
//!
//! A row's output and gradient have the same bits for any batch size, position and number of threads; gradients of
//! weights are sums over the batch in a fixed order.

mod activation;
mod array;
mod attention;
mod binary;
mod conv;
mod layer_norm;
mod layout;
mod linear;
mod machine;
mod mean_sparse;
mod norm;
mod ops;
mod pool;
mod reduce;
mod single;
mod site;
mod softmax;
mod top;

use crate::cpu::Float;
use crate::network::{Network, NodeId, ParamId};
use array::Array;
use candle_core::{DType, Tensor};
use machine::{Machine, Values};
pub(crate) use mean_sparse::{Bands, within};
use robust_core::{Error, Result};
pub(crate) use single::{Saved, Single};
use std::sync::Arc;

/// A network ready to run, its weights converted once. Cheap to clone, safe to share between threads.
#[derive(Clone)]
pub struct Reference(Kind);

#[derive(Clone)]
enum Kind {
    F32(Arc<Machine<f32>>),
    F64(Arc<Machine<f64>>),
}

impl Reference {
    /// # Errors
    /// `dtype` other than F32 and F64; constants that expand beyond memory.
    pub fn new(net: Arc<Network>, dtype: DType) -> Result<Self> {
        Ok(Self(match dtype {
            DType::F32 => Kind::F32(Arc::new(Machine::new(net)?)),
            DType::F64 => Kind::F64(Arc::new(Machine::new(net)?)),
            other => return Err(Error::usage(format!("the reference interpreter runs in f32 or f64, not {other:?}"))),
        }))
    }

    pub fn network(&self) -> &Arc<Network> {
        match &self.0 {
            Kind::F32(m) => &m.net,
            Kind::F64(m) => &m.net,
        }
    }

    /// Its ops one by one; `None` in f64.
    pub(crate) fn single(&self) -> Option<Single> {
        match &self.0 {
            Kind::F32(m) => Some(Single(Arc::clone(m))),
            Kind::F64(_) => None,
        }
    }

    pub fn dtype(&self) -> DType {
        match &self.0 {
            Kind::F32(_) => DType::F32,
            Kind::F64(_) => DType::F64,
        }
    }

    /// `[n, input row...]` of any float type -> `[n, output row...]` on the CPU; frees values after their last use.
    ///
    /// # Errors
    /// Kind `Load` when `x` has another shape or is not of floats.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Kind::F32(m) => m.forward(x),
            Kind::F64(m) => m.forward(x),
        }
    }

    /// A forward pass that remembers what pullbacks to the input need, and the values of `keep`.
    ///
    /// # Errors
    /// As [`Reference::forward`]; a node of `keep` that is not a value of the batch.
    pub fn trace(&self, x: &Tensor, keep: &[NodeId]) -> Result<Tape<'_>> {
        self.tape(x, keep, false)
    }

    /// As [`Reference::trace`], but remembers every value, so that [`Tape::pull_params`] need not run forward again.
    pub fn trace_params(&self, x: &Tensor, keep: &[NodeId]) -> Result<Tape<'_>> {
        self.tape(x, keep, true)
    }

    fn tape(&self, x: &Tensor, keep: &[NodeId], full: bool) -> Result<Tape<'_>> {
        let net = self.network();
        if let Some(bad) = keep.iter().find(|k| !net.shapes().get(k.0).is_some_and(|s| s.batched)) {
            return Err(Error::internal(format!("node {} has no value per row to keep", bad.0)));
        }
        let (inner, output, kept) = match &self.0 {
            Kind::F32(m) => Run::new(m, x, keep, full).map(|(run, out, kept)| (Inner::F32(run), out, kept))?,
            Kind::F64(m) => Run::new(m, x, keep, full).map(|(run, out, kept)| (Inner::F64(run), out, kept))?,
        };
        Ok(Tape { inner, output, kept })
    }
}

/// One forward pass that can be pulled back any number of times.
pub struct Tape<'a> {
    inner: Inner<'a>,
    output: Tensor,
    kept: Vec<(NodeId, Tensor)>,
}

enum Inner<'a> {
    F32(Run<'a, f32>),
    F64(Run<'a, f64>),
}

impl Tape<'_> {
    /// `[n, output row...]`.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// The value of a node named in `keep`, `[n, row...]`.
    ///
    /// # Errors
    /// The node was not kept.
    pub fn value(&self, node: NodeId) -> Result<&Tensor> {
        let kept = self.kept.iter().find(|(k, _)| *k == node).map(|(_, t)| t);
        kept.ok_or_else(|| Error::internal(format!("the value of node {} was not kept", node.0)))
    }

    /// The input's gradient `[n, input row...]`: the sum over `seeds` of (d node / d x)^T seed. A seed has the shape of
    /// its node's value; any node that depends on the input may be seeded.
    ///
    /// # Errors
    /// A seed of another shape.
    pub fn pull(&mut self, seeds: &[(NodeId, Tensor)]) -> Result<Tensor> {
        match &self.inner {
            Inner::F32(run) => run.pull(seeds),
            Inner::F64(run) => run.pull(seeds),
        }
    }

    /// Gradients of the `wanted` weights, each in its weight's shape, summed over the batch. Batch statistics count as
    /// plain weights. Runs forward once more if the tape came from [`Reference::trace`].
    ///
    /// # Errors
    /// A seed of another shape, a weight that does not exist.
    pub fn pull_params(&mut self, seeds: &[(NodeId, Tensor)], wanted: &[ParamId]) -> Result<Vec<Tensor>> {
        match &mut self.inner {
            Inner::F32(run) => run.pull_params(seeds, wanted),
            Inner::F64(run) => run.pull_params(seeds, wanted),
        }
    }
}

/// A tape in one number type.
struct Run<'a, F> {
    machine: &'a Machine<F>,
    values: Values<F>,
    x: Array<F>,
    full: bool,
}

impl<'a, F: Float> Run<'a, F> {
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn new(
        m: &'a Machine<F>,
        x: &Tensor,
        keep: &[NodeId],
        full: bool,
    ) -> Result<(Self, Tensor, Vec<(NodeId, Tensor)>)> {
        let x = m.input(x)?;
        let values = m.run(x.clone(), |i| full || m.saved(i) || keep.contains(&NodeId(i)), true)?;
        let output = values.get(m.net.output())?.to_tensor()?;
        let kept: Result<Vec<_>> = keep.iter().map(|&k| Ok((k, values.get(k)?.to_tensor()?))).collect();
        Ok((Self { machine: m, values, x, full }, output, kept?))
    }

    fn seeds(&self, seeds: &[(NodeId, Tensor)]) -> Result<Vec<(NodeId, Array<F>)>> {
        seeds.iter().map(|(node, seed)| Ok((*node, self.machine.seed(*node, seed, self.x.dims[0])?))).collect()
    }

    fn pull(&self, seeds: &[(NodeId, Tensor)]) -> Result<Tensor> {
        let none = vec![false; self.machine.net.params().len()];
        let (dx, _) = self.machine.back(&self.values, self.x.dims[0], self.seeds(seeds)?, true, &none)?;
        dx.unwrap_or_else(|| Array::zeros(self.x.dims.clone())).into_tensor()
    }

    fn pull_params(&mut self, seeds: &[(NodeId, Tensor)], wanted: &[ParamId]) -> Result<Vec<Tensor>> {
        let mut mask = vec![false; self.machine.net.params().len()];
        for p in wanted {
            match mask.get_mut(p.0) {
                Some(slot) => *slot = true,
                None => return Err(Error::internal(format!("weight {} does not exist", p.0))),
            }
        }
        if !self.full {
            self.values = self.machine.run(self.x.clone(), |_| true, true)?;
            self.full = true;
        }
        let (_, grads) = self.machine.back(&self.values, self.x.dims[0], self.seeds(seeds)?, false, &mask)?;
        let of = |p: &ParamId| match &grads[p.0] {
            Some(g) => g.to_tensor(),
            None => Array::<F>::zeros(self.machine.param_dims(*p).to_vec()).into_tensor(),
        };
        wanted.iter().map(of).collect()
    }
}
