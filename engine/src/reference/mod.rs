//! The reference interpreter: op by op, in f32 or f64, each op with its own hand-written pullback.
//!
//! A row's output and gradient have the same bits for any batch size, position and number of threads; gradients of
//! weights are sums over the batch in a fixed order.

mod activation;
mod array;
mod attention;
mod binary;
mod conv;
mod dropout;
mod grid;
mod interpreter;
mod layer_norm;
mod layout;
mod linear;
mod machine;
mod mean_sparse;
mod mode;
mod norm;
mod ops;
mod pick;
mod pool;
mod reduce;
mod single;
mod site;
mod softmax;
mod top;
mod view;

use crate::cpu::Float;
use crate::graph::{Network, NodeId, Op, ParamId, Params};
use array::Array;
use candle_core::{DType, Tensor};
pub use interpreter::OpByOp;
use machine::{Machine, Values};
pub(crate) use mean_sparse::{Bands, within};
pub use mode::Mode;
use robust_core::{Error, Result};
pub(crate) use single::{Saved, Single};
use site::Remembered;
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

    /// The same graph with other weights; what follows from the graph alone is not worked out again.
    ///
    /// # Errors
    /// Kind `Load` for weights that do not fit the graph.
    pub fn with_params(&self, params: Params) -> Result<Self> {
        Ok(Self(match &self.0 {
            Kind::F32(m) => Kind::F32(Arc::new(m.with_params(params)?)),
            Kind::F64(m) => Kind::F64(Arc::new(m.with_params(params)?)),
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
    pub fn trace(&self, x: &Tensor, keep: &[NodeId]) -> Result<Tape> {
        self.tape(x, keep, false, Mode::Eval)
    }

    /// As [`Reference::trace`], but remembers every value, so that [`Tape::pull_params`] need not run forward again.
    pub fn trace_params(&self, x: &Tensor, keep: &[NodeId]) -> Result<Tape> {
        self.tape(x, keep, true, Mode::Eval)
    }

    /// A forward pass in `mode` that remembers every value, so that input and weights can have gradients.
    ///
    /// # Errors
    /// As [`Reference::trace`]; in training, rows without noise of their own for dropout.
    pub fn trace_in(&self, mode: Mode<'_>, x: &Tensor, keep: &[NodeId]) -> Result<Tape> {
        self.tape(x, keep, true, mode)
    }

    fn tape(&self, x: &Tensor, keep: &[NodeId], full: bool, mode: Mode<'_>) -> Result<Tape> {
        let net = self.network();
        if let Some(bad) = keep.iter().find(|k| !net.shapes().get(k.0).is_some_and(|s| s.batched)) {
            return Err(Error::internal(format!("node {} has no value per row to keep", bad.0)));
        }
        let (inner, output, kept) = match &self.0 {
            Kind::F32(m) => Run::new(m, x, keep, full, mode).map(|(run, out, kept)| (Inner::F32(run), out, kept))?,
            Kind::F64(m) => Run::new(m, x, keep, full, mode).map(|(run, out, kept)| (Inner::F64(run), out, kept))?,
        };
        Ok(Tape { inner, output, kept })
    }
}

/// One forward pass that can be pulled back any number of times.
pub struct Tape {
    inner: Inner,
    output: Tensor,
    kept: Vec<(NodeId, Tensor)>,
}

enum Inner {
    F32(Run<f32>),
    F64(Run<f64>),
}

impl Tape {
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

    /// What each batch norm saw, in the graph's order; empty in evaluation.
    pub fn statistics(&self) -> Vec<BatchStatistics> {
        match &self.inner {
            Inner::F32(run) => run.statistics(),
            Inner::F64(run) => run.statistics(),
        }
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

/// What a batch norm saw in training, one entry per channel.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// The weights that hold the running statistics.
    pub mean: ParamId,
    pub var: ParamId,
    pub batch_mean: Vec<f64>,
    /// Unbiased, as PyTorch keeps it: divided by one less than the entries of a channel.
    pub batch_var: Vec<f64>,
}

impl BatchStatistics {
    /// `(1 - momentum) running + momentum batch`, entry by entry; 0.1 is PyTorch's momentum.
    pub fn mix(running: &[f64], batch: &[f64], momentum: f64) -> Vec<f64> {
        running.iter().zip(batch).map(|(r, b)| (1. - momentum) * r + momentum * b).collect()
    }
}

/// A tape in one number type.
struct Run<F> {
    machine: Arc<Machine<F>>,
    values: Values<F>,
    x: Array<F>,
    full: bool,
}

impl<F: Float> Run<F> {
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn new(
        m: &Arc<Machine<F>>,
        x: &Tensor,
        keep: &[NodeId],
        full: bool,
        mode: Mode<'_>,
    ) -> Result<(Self, Tensor, Vec<(NodeId, Tensor)>)> {
        let x = m.input(x)?;
        let values = m.run(x.clone(), |i| full || m.saved(i) || keep.contains(&NodeId(i)), true, mode)?;
        let output = values.get(m.net.output())?.to_tensor()?;
        let kept: Result<Vec<_>> = keep.iter().map(|&k| Ok((k, values.get(k)?.to_tensor()?))).collect();
        Ok((Self { machine: Arc::clone(m), values, x, full }, output, kept?))
    }

    fn statistics(&self) -> Vec<BatchStatistics> {
        let seen = |(i, node): (usize, &crate::graph::Node)| match (&node.op, self.values.memory(i)?.as_ref()) {
            (&Op::BatchNorm { mean, var, .. }, Remembered::Moments(moments)) => {
                let unbiased = moments.count as f64 / (moments.count as f64 - 1.);
                let batch_var = moments.var.iter().map(|v| v * unbiased).collect();
                Some(BatchStatistics { mean, var, batch_mean: moments.mean.clone(), batch_var })
            }
            _ => None,
        };
        self.machine.net.nodes().iter().enumerate().filter_map(seen).collect()
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
            self.values = self.machine.run(self.x.clone(), |_| true, true, Mode::Eval)?;
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
