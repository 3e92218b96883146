//! What a family gives, and what is made of it.

use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Builder, Network, NodeId};

/// How to recognise and build one family of networks.
pub struct Architecture {
    pub name: &'static str,
    pub doc: &'static str,
    /// Parameters of its own that a user may give: `activation`, `variant`.
    pub params: &'static [&'static str],
    /// Whether the tensor names are this architecture's, its prefix stripped.
    pub detect: fn(&StateDict) -> bool,
    /// Declares the input and builds up to the logits; returns the output node.
    pub build: fn(&mut StateDict, &mut Builder, &Options) -> Result<NodeId>,
}

/// A network made of a state dict, and what was decided on the way.
#[derive(Debug)]
pub struct Built {
    pub network: Network,
    /// The architecture's name.
    pub family: &'static str,
    pub notes: Vec<String>,
    /// Tensors of the file that are not part of the function.
    pub ignored: Vec<String>,
    /// Whether the output is an embedding: the file has no last layer.
    pub embeds: bool,
}
