//! safetensors files: their header, checked against their length, and tensors where they lie.

use crate::weights::{StateDict, View};
use ::safetensors::SafeTensors;
use robust_core::{Error, Result};
use std::borrow::Cow;

impl StateDict {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// Kind `Load` for damaged and truncated files, and tensors that are not weights.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = parse(bytes)?;
        Self::from_views(views(&file))
    }
}

/// Every tensor of a file.
pub(crate) fn views<'a>(file: &SafeTensors<'a>) -> impl Iterator<Item = View<'a>> {
    file.iter().map(|(name, v)| (name.to_string(), v.dtype(), v.shape().to_vec(), Cow::Borrowed(v.data())))
}

/// The header of a safetensors file, checked against its length.
pub(crate) fn parse(bytes: &[u8]) -> Result<SafeTensors<'_>> {
    SafeTensors::deserialize(bytes).map_err(|e| {
        Error::load("the file", format!("it is damaged or not safetensors ({e})")).hint("copy or export it again")
    })
}
