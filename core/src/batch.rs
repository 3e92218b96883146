//! Samples by name: a batch never loses which sample a row belongs to.

use crate::{Error, Result};
use candle_core::Tensor;

/// `n` samples: `x` is `[n, ...]` f32, `ids[i]` the sample of row `i`.
#[derive(Debug, Clone)]
pub struct Batch {
    pub ids: Vec<u64>,
    pub x: Tensor,
    pub labels: Option<Vec<u32>>,
}

impl Batch {
    /// Checks that ids, labels and rows agree in number and that the batch is not empty.
    pub fn new(ids: Vec<u64>, x: Tensor, labels: Option<Vec<u32>>) -> Result<Self> {
        let rows = x.dims().first().copied().unwrap_or(0);
        if rows == 0 || ids.len() != rows || labels.as_ref().is_some_and(|l| l.len() != rows) {
            let labels = labels.map_or(0, |l| l.len());
            return Err(Error::internal(format!(
                "a batch needs as many ids ({}) and labels ({labels}) as rows ({rows}), and at least one",
                ids.len()
            )));
        }
        Ok(Self { ids, x, labels })
    }

    /// Samples; at least one.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Never, for batches made by [`Batch::new`].
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Anything with one entry per live row. `keep` re-packs it to `rows` (ascending positions).
pub trait Rows {
    fn keep(&mut self, rows: &[u32]) -> Result<()>;
}

impl Rows for Tensor {
    fn keep(&mut self, rows: &[u32]) -> Result<()> {
        *self = take(self, rows)?;
        Ok(())
    }
}

impl<T: Clone> Rows for Vec<T> {
    fn keep(&mut self, rows: &[u32]) -> Result<()> {
        *self = rows.iter().filter_map(|&r| self.get(r as usize).cloned()).collect();
        Ok(())
    }
}

/// Rows `rows` of `x`, in that order.
pub fn take(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let index = Tensor::new(rows, x.device())?;
    Ok(x.contiguous()?.index_select(&index, 0)?)
}

/// The rows of `x` as one flat host vector and the length of a row.
pub fn to_host(x: &Tensor) -> Result<(Vec<f32>, usize)> {
    let rows = x.dims().first().copied().unwrap_or(0).max(1);
    let flat = x.flatten_all()?.to_vec1::<f32>()?;
    let width = flat.len() / rows;
    Ok((flat, width))
}

/// Declares a struct of per-row state and derives [`Rows`] for it: `rows! { struct State { x: Tensor, step: Vec<f64> } }`.
#[macro_export]
macro_rules! rows {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($field_vis:vis $field:ident : $kind:ty),* $(,)? }) => {
        $(#[$meta])* $vis struct $name { $($field_vis $field: $kind),* }
        impl $crate::Rows for $name {
            fn keep(&mut self, rows: &[u32]) -> $crate::Result<()> {
                $($crate::Rows::keep(&mut self.$field, rows)?;)*
                Ok(())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    rows! { struct State { x: Tensor, step: Vec<f64> } }

    #[test]
    fn keep_repacks_every_field() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
        let mut state = State { x, step: vec![0.1, 0.2, 0.3] };
        state.keep(&[0, 2])?;
        assert_eq!(state.x.to_vec2::<f32>()?, [[1., 2.], [5., 6.]]);
        assert_eq!(state.step, [0.1, 0.3]);
        Ok(())
    }

    #[test]
    fn a_batch_with_too_few_labels_is_refused() -> Result<()> {
        let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?;
        assert!(Batch::new(vec![1, 2], x, Some(vec![0])).is_err());
        Ok(())
    }
}
