//! The weights of a network, apart from its graph: training replaces them at every step.

use candle_core::Tensor;
use std::ops::Deref;
use std::sync::Arc;

/// A weight under its name in the file it came from; a CPU tensor of f32 or f64.
#[derive(Debug, Clone)]
pub struct Param {
    pub name: String,
    pub value: Tensor,
}

/// All weights of a network, by [`super::ParamId`]. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Params(Arc<[Param]>);

impl Params {
    /// The same weights with other values, one per weight and in their order. Whether they fit a graph is said by
    /// [`super::Network::with_params`].
    pub fn replaced(&self, values: impl IntoIterator<Item = Tensor>) -> Self {
        self.iter().zip(values).map(|(p, value)| Param { name: p.name.clone(), value }).collect()
    }
}

impl FromIterator<Param> for Params {
    fn from_iter<I: IntoIterator<Item = Param>>(params: I) -> Self {
        Self(params.into_iter().collect())
    }
}

impl Deref for Params {
    type Target = [Param];
    fn deref(&self) -> &[Param] {
        &self.0
    }
}
