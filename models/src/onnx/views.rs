//! Walks over arrays that are known, and what else folding and lowering share.

use super::array::{Array, Data, Num};
use super::call::{Call, Graph};
use candle_core::{Device, Tensor};
use robust_core::Result;

/// Pads and slices beyond any real image stop here, before sizes are added up.
pub const MAX_EXTENT: i64 = 1 << 20;

/// A strided walk over a row-major array.
pub(super) struct View {
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<i64>,
    pub(super) offset: i64,
}

impl View {
    pub(super) fn of(dims: &[usize]) -> Self {
        let mut strides = vec![1i64; dims.len()];
        for i in (1..dims.len()).rev() {
            strides[i - 1] = strides[i] * dims[i] as i64;
        }
        Self { dims: dims.to_vec(), strides, offset: 0 }
    }

    /// The same entries repeated to `dims` by numpy's rules.
    pub(super) fn expand(mut self, dims: &[usize]) -> Self {
        let missing = dims.len() - self.dims.len();
        self.dims.splice(0..0, std::iter::repeat_n(1, missing));
        self.strides.splice(0..0, std::iter::repeat_n(0, missing));
        for (i, &d) in dims.iter().enumerate() {
            if self.dims[i] == 1 {
                self.strides[i] = 0;
            }
            self.dims[i] = d;
        }
        self
    }

    pub(super) fn indices(&self) -> Vec<u32> {
        let n = self.dims.iter().product();
        let mut at = vec![0usize; self.dims.len()];
        let mut place = self.offset;
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            out.push(place as u32);
            for i in (0..at.len()).rev() {
                at[i] += 1;
                place += self.strides[i];
                if at[i] < self.dims[i] {
                    break;
                }
                place -= self.strides[i] * self.dims[i] as i64;
                at[i] = 0;
            }
        }
        out
    }
}

/// `dims` as numpy broadcasts two shapes, if they fit.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |j| d[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// The entries of `from` at `indices`, as a new array.
pub(super) fn pick(call: &Call, from: &Array, dims: Vec<usize>, indices: Vec<u32>) -> Result<Array> {
    let data = match &from.data {
        Data::Int(v) => Data::Int(indices.iter().map(|&i| v[i as usize]).collect()),
        Data::Float(_) if indices.is_empty() => return Err(call.fail("its result is empty")),
        Data::Float(t) => {
            let n = indices.len();
            let index = Tensor::from_vec(indices, n, &Device::Cpu)?;
            Data::Float(t.flatten_all()?.index_select(&index, 0)?.reshape(dims.as_slice())?)
        }
    };
    Ok(Array::new(call.out(), dims, data))
}

pub(super) fn viewed(graph: &mut Graph, call: &Call, view: View) -> Result<Array> {
    graph.spend(call, &view.dims)?;
    let indices = view.indices();
    pick(call, call.known(0)?, view.dims, indices)
}

/// The dimensions `all`, or the part of them that `start` and `end` (opset 15) ask for.
pub fn shape(call: &Call, all: Vec<Num>) -> Result<Array> {
    let rank = all.len() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(call.int("start", 0)?), clamp(call.int("end", rank)?));
    let part = all[start.min(end)..end].to_vec();
    Ok(Array::ints(call.out(), vec![part.len()], part))
}

/// The attribute `perm`, or the reversal, checked to be a permutation.
pub fn permutation(call: &Call, rank: usize) -> Result<Vec<usize>> {
    let perm = match call.ints("perm")? {
        Some(p) => p.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(call.fail(format!("{perm:?} is not a permutation of {rank} axes")));
    }
    Ok(perm)
}
