//! Weights that must be numbers.

use crate::layers::tokens::values;
use candle_core::Tensor;
use robust_core::{Error, Result};

/// The entries of a tensor that numbers are made of before the network looks at it.
///
/// # Errors
/// Kind `Load` where it has another shape (what was missing or wrong is then told in its place), or NaN or infinite entries.
pub(crate) fn finite(value: &Tensor, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
    if value.dims() != shape {
        return Err(Error::load(format!("`{name}`"), format!("its shape is not {shape:?}")));
    }
    let all = values(value)?;
    match all.iter().all(|v| v.is_finite()) {
        true => Ok(all),
        false => Err(Error::load(format!("weight `{name}`"), "it holds NaN or infinite values")),
    }
}
