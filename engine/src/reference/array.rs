//! A dense value on the host and the parallel loops over it.

use crate::cpu::Float;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use robust_core::{Error, Result};
use std::sync::Arc;

/// Entries one parallel task handles in elementwise loops.
const CHUNK: usize = 1 << 14;

/// Row-major entries; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Array<F> {
    pub(super) dims: Vec<usize>,
    data: Arc<Vec<F>>,
}

impl<F: Float> Array<F> {
    pub(super) fn new(dims: Vec<usize>, data: Vec<F>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        Self { dims, data: Arc::new(data) }
    }

    pub(super) fn zeros(dims: Vec<usize>) -> Self {
        let len = dims.iter().product();
        Self::new(dims, vec![F::ZERO; len])
    }

    pub(super) fn of_tensor(t: &Tensor) -> Result<Self> {
        let data = t.to_device(&Device::Cpu)?.to_dtype(F::DTYPE)?.flatten_all()?.to_vec1::<F>()?;
        Ok(Self::new(t.dims().to_vec(), data))
    }

    pub(super) fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.data, self.dims.as_slice(), &Device::Cpu)?)
    }

    pub(super) fn into_tensor(self) -> Result<Tensor> {
        let dims = self.dims.clone();
        Ok(Tensor::from_vec(self.into_vec(), dims, &Device::Cpu)?)
    }

    pub(super) fn data(&self) -> &[F] {
        &self.data
    }

    /// The entries, copied only if another array shares them.
    pub(super) fn into_vec(self) -> Vec<F> {
        Arc::try_unwrap(self.data).unwrap_or_else(|shared| shared.as_ref().clone())
    }

    /// The same entries under other dimensions.
    pub(super) fn with_dims(self, dims: Vec<usize>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), self.data.len());
        Self { dims, ..self }
    }

    /// Entries of one index of axis 0.
    pub(super) fn row_len(&self) -> usize {
        self.dims.get(1..).map_or(1, |d| d.iter().product())
    }

    /// `f` of every entry, in place when nothing else holds them.
    pub(super) fn map(mut self, f: impl Fn(F) -> F + Sync) -> Self {
        match Arc::get_mut(&mut self.data) {
            Some(data) => {
                data.par_chunks_mut(CHUNK).for_each(|c| c.iter_mut().for_each(|v| *v = f(*v)));
                self
            }
            None => {
                let mut out = vec![F::ZERO; self.data.len()];
                let pairs = out.par_chunks_mut(CHUNK).zip(self.data.par_chunks(CHUNK));
                pairs.for_each(|(o, x)| o.iter_mut().zip(x).for_each(|(o, &x)| *o = f(x)));
                Self::new(self.dims, out)
            }
        }
    }

    /// `f(self, other)` of every pair of entries, in place when nothing else holds them.
    pub(super) fn zip(mut self, other: &Self, f: impl Fn(F, F) -> F + Sync) -> Self {
        debug_assert_eq!(self.data.len(), other.data.len());
        match Arc::get_mut(&mut self.data) {
            Some(data) => {
                let pairs = data.par_chunks_mut(CHUNK).zip(other.data.par_chunks(CHUNK));
                pairs.for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, &b)| *a = f(*a, b)));
                self
            }
            None => {
                let mut out = vec![F::ZERO; self.data.len()];
                let triples =
                    out.par_chunks_mut(CHUNK).zip(self.data.par_chunks(CHUNK).zip(other.data.par_chunks(CHUNK)));
                triples
                    .for_each(|(o, (a, b))| o.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&a, &b))| *o = f(a, b)));
                Self::new(self.dims, out)
            }
        }
    }

    /// As [`Array::zip`], where `other` may also hold one row that meets every row of `self`.
    pub(super) fn zip_cyclic(self, other: &Self, f: impl Fn(F, F) -> F + Sync) -> Self {
        let row = other.data.len();
        if row == self.data.len() {
            return self.zip(other, f);
        }
        let dims = self.dims.clone();
        let mut data = self.into_vec();
        let several = row.max(1) * (CHUNK / row.max(1)).max(1);
        data.par_chunks_mut(several).for_each(|rows| {
            for a in rows.chunks_mut(row.max(1)) {
                a.iter_mut().zip(other.data.iter()).for_each(|(a, &b)| *a = f(*a, b));
            }
        });
        Self::new(dims, data)
    }

    pub(super) fn plus(self, other: &Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    /// The sum over the axes on which `dims`, aligned at the end, is shorter or has 1: the pullback of a broadcast.
    /// Entries are added in row-major order, in f64.
    pub(super) fn sum_to(self, dims: &[usize]) -> Result<Self> {
        if self.dims == dims {
            return Ok(self);
        }
        let strides = broadcast_strides(dims, &self.dims)?;
        let len: usize = dims.iter().product();
        // With a batch axis in both, rows are independent; otherwise the sum runs over the batch, in order.
        let per_row = self.dims.len() == dims.len() && self.dims.first() == dims.first() && !dims.is_empty();
        let (rows, inner) = if per_row { (dims[0], 1) } else { (1, 0) };
        let (src, dst) = (self.data.len() / rows.max(1), len / rows.max(1));
        let mut out = vec![F::ZERO; len];
        out.par_chunks_mut(dst.max(1)).zip(self.data.par_chunks(src.max(1))).for_each(|(out, src)| {
            let mut wide = vec![0f64; out.len()];
            let mut at = Odometer::new(&self.dims[inner..], &strides[inner..]);
            for v in src {
                wide[at.offset] += v.wide();
                at.step();
            }
            out.iter_mut().zip(wide).for_each(|(o, w)| *o = F::of(w));
        });
        Ok(Self::new(dims.to_vec(), out))
    }
}

/// Strides that read an array of shape `from` as if it had shape `to`: 0 along broadcast axes.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Result<Vec<usize>> {
    let Some(lead) = to.len().checked_sub(from.len()) else {
        return Err(Error::internal(format!("cannot broadcast {from:?} to {to:?}")));
    };
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for i in (0..from.len()).rev() {
        strides[lead + i] = if from[i] == 1 { 0 } else { stride };
        stride *= from[i];
    }
    Ok(strides)
}

/// Walks the entries of a shape in row-major order and keeps the strided offset of the current one.
pub(super) struct Odometer<'a> {
    dims: &'a [usize],
    strides: &'a [usize],
    index: Vec<usize>,
    pub(super) offset: usize,
}

impl<'a> Odometer<'a> {
    pub(super) fn new(dims: &'a [usize], strides: &'a [usize]) -> Self {
        Self { dims, strides, index: vec![0; dims.len()], offset: 0 }
    }

    pub(super) fn step(&mut self) {
        for axis in (0..self.dims.len()).rev() {
            self.index[axis] += 1;
            self.offset += self.strides[axis];
            if self.index[axis] < self.dims[axis] {
                return;
            }
            self.offset -= self.strides[axis] * self.dims[axis];
            self.index[axis] = 0;
        }
    }
}
