//! Attention pooling (Zhai et al. 2022), in which SigLIP's image towers end: a learned query attends to all tokens, then an MLP
//! with a residual.

use super::stack::Stack;
use super::tokens::{Act, attend, last, mlp, slice, token};
use robust_core::Result;
use robust_engine::{NodeId, Op};

/// Where a package keeps the parts of a pool.
pub(crate) struct Names {
    pub query: &'static str,
    pub layers: Layers,
    pub out: &'static str,
    pub norm: &'static str,
    pub mlp: [&'static str; 2],
}

/// The linear layers that queries, keys and values are from.
pub(crate) enum Layers {
    /// Their weights and biases as one, and what the layers are called.
    AsOne { weight: &'static str, bias: &'static str, called: &'static str },
    /// Of queries, and of keys and values as one.
    Apart([&'static str; 2]),
}

pub(crate) const TRANSFORMERS: Names = Names {
    query: "probe",
    layers: Layers::AsOne {
        weight: "attention.in_proj_weight",
        bias: "attention.in_proj_bias",
        called: "attention.in_proj",
    },
    out: "attention.out_proj",
    norm: "layernorm",
    mlp: ["mlp.fc1", "mlp.fc2"],
};

pub(crate) const TIMM: Names = Names {
    query: "latent",
    layers: Layers::Apart(["q", "kv"]),
    out: "proj",
    norm: "norm",
    mlp: ["mlp.fc1", "mlp.fc2"],
};

/// One pool.
pub(crate) struct AttentionPool {
    pub names: &'static Names,
    pub heads: usize,
    /// Entries between the MLP's layers.
    pub hidden: usize,
    pub eps: f64,
    pub act: Act,
}

impl AttentionPool {
    /// Tokens `[n, tokens, width]` become `[n, width]`.
    pub fn lay(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let Self { names, heads, hidden, eps, act } = self;
        let width = last(s, x);
        let query = s.constant(&at(names.query), &[1, 1, width])?;
        // Repeated for every row: a constant cannot ask for itself.
        let both = s.net.node(at("query_and_tokens"), Op::Concat { axis: 1 }, &[query, x])?;
        let query = slice(s, both, &at("query"), 1, 0, 1)?;
        let parts = match names.layers {
            Layers::AsOne { weight, bias, called } => {
                let bias = s.dict.take(&at(bias), &[3 * width])?;
                s.thirds_of([query, x, x], &at(called), &at(weight), Some(bias), width)?
            }
            Layers::Apart([queries, others]) => {
                let query = s.linear(query, &at(queries), width)?;
                let [keys, values] = s.halves(x, &at(others), width, true)?;
                [query, keys, values]
            }
        };
        let x = attend(s, parts, *heads, None, &at("attend"))?;
        let x = s.linear(x, &at(names.out), width)?;
        let y = s.layer_norm(x, &at(names.norm), *eps)?;
        let [wide, narrow] = names.mlp.map(at);
        let y = mlp(s, y, [&wide, &narrow], *hidden, *act)?;
        let x = s.add(x, y, &format!("{name}.add"))?;
        token(s, x, &format!("{name}.pooled"), 0)
    }
}
