//! Transformer blocks that norm first (Dosovitskiy et al. 2021), in the names of packages that keep the weights of queries, keys
//! and values as one.

use super::stack::Stack;
use super::tokens;
use super::tokens::{Act, attend, last, layer_scale, mlp};
use super::windows::joined_bias;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Activation, NodeId};

/// Heads are this wide in tiny, small, base and large.
const HEAD: usize = 64;
/// SO400M, huge, giant, gigantic and enormous have 16, wider ones.
const WIDE: [usize; 5] = [1152, 1280, 1408, 1664, 1792];

/// How many heads the attention of a width has: what the user says, or what is usual. No tensor tells.
pub(crate) fn heads(dict: &mut StateDict, width: usize, said: Option<&str>) -> Result<usize> {
    let usual = if WIDE.contains(&width) { Some(16) } else { width.is_multiple_of(HEAD).then_some(width / HEAD) };
    heads_or(dict, width, said, usual)
}

/// The same where a family has a usual number of its own, with a note, or has none.
pub(crate) fn heads_or(dict: &mut StateDict, width: usize, said: Option<&str>, usual: Option<usize>) -> Result<usize> {
    let ask = |why: String| Err(Error::load("the attention", why).hint("say how many there are: `?heads=N`"));
    let said =
        said.map(|s| s.parse().map_err(|_| Error::usage(format!("heads = `{s}` is not a number")))).transpose()?;
    let Some(heads) = said.or(usual) else {
        return ask(format!("no tensor tells how many heads {width} channels are divided among"));
    };
    if heads == 0 || !width.is_multiple_of(heads) {
        return ask(format!("{width} channels are not divided among {heads} heads"));
    }
    if said.is_none() {
        dict.note(format!(
            "attention has {heads} heads, as is usual for {width} channels: no tensor tells, say `?heads=N` if it has others"
        ));
    }
    Ok(heads)
}

/// Where a package keeps the parts of a block.
pub(crate) struct Names {
    pub norms: [&'static str; 2],
    /// Weight and bias of queries, keys and values; the bias may also be two, [`joined_bias`].
    pub qkv: [&'static str; 2],
    pub out: &'static str,
    /// Layer scale, where the file has it.
    pub scales: Option<[&'static str; 2]>,
    pub mlp: [&'static str; 2],
}

pub(crate) const TIMM: Names = Names {
    norms: ["norm1", "norm2"],
    qkv: ["attn.qkv.weight", "attn.qkv.bias"],
    out: "attn.proj",
    scales: Some(["ls1.gamma", "ls2.gamma"]),
    mlp: ["mlp.fc1", "mlp.fc2"],
};

/// What the blocks of a network have in common.
pub(crate) struct Blocks<'a> {
    pub names: &'a Names,
    pub heads: usize,
    pub eps: f64,
    pub act: Act,
    /// What the first block has, all have.
    pub biased: bool,
    pub scaled: bool,
}

impl<'a> Blocks<'a> {
    /// `first` is the name of the first block.
    pub fn of(dict: &StateDict, names: &'a Names, first: &str, heads: usize, eps: f64, act: Act) -> Self {
        let has = |part: &str| dict.contains(&format!("{first}.{part}"));
        let biased = ["q_bias", "v_bias"].iter().any(|b| has(&format!("attn.{b}"))) || has(names.qkv[1]);
        Self { names, heads, eps, act, biased, scaled: names.scales.is_some_and(|all| all.into_iter().any(has)) }
    }
}

impl Blocks<'_> {
    /// `bias`, if any, is added to the scores: `[1, heads, tokens, tokens]`.
    pub fn lay(&self, s: &mut Stack, x: NodeId, name: &str, bias: Option<NodeId>) -> Result<NodeId> {
        let at = |part: &str| format!("{name}.{part}");
        let names = self.names;
        let width = last(s, x);
        let y = s.layer_norm(x, &at(names.norms[0]), self.eps)?;
        let parts = self.parts(s, y, name)?;
        let y = attend(s, parts, self.heads, bias, &at("attn"))?;
        let y = s.linear(y, &at(names.out), width)?;
        let y = self.scale(s, y, name, 0)?;
        let x = s.add(x, y, &at("add1"))?;
        let y = s.layer_norm(x, &at(names.norms[1]), self.eps)?;
        let y = self.mlp(s, y, name)?;
        let y = self.scale(s, y, name, 1)?;
        s.add(x, y, &at("add2"))
    }

    fn parts(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<[NodeId; 3]> {
        let [weight, bias] = self.names.qkv.map(|part| format!("{name}.{part}"));
        let width = last(s, x);
        let stem = weight.strip_suffix("weight").unwrap_or(&weight).trim_end_matches(['.', '_']);
        let value = match self.biased {
            true if s.dict.contains(&bias) => Some(s.dict.take(&bias, &[3 * width])?),
            true => Some(joined_bias(s, stem, &format!("{name}.attn."), width, false)?),
            false => None,
        };
        s.thirds_with(x, stem, &weight, value, width)
    }

    /// The wide layer is followed by an activation, or is a gate and what it lets through: twice as wide as what is read then.
    fn mlp(&self, s: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
        let [wide, narrow] = self.names.mlp.map(|part| format!("{name}.{part}"));
        let silu = Act::Plain(Activation::Silu);
        if s.dict.contains(&format!("{name}.mlp.w12.weight")) {
            let [both, narrow] = ["mlp.w12", "mlp.w3"].map(|part| format!("{name}.{part}"));
            let [_, hidden] = s.dict.sizes(&format!("{narrow}.weight"))?;
            return tokens::gated_as_one(s, x, [&both, &narrow], hidden, silu);
        }
        let [hidden, _] = s.dict.sizes(&format!("{wide}.weight"))?;
        match s.dict.sizes(&format!("{narrow}.weight")) {
            Ok([_, read]) if hidden == read.saturating_mul(2) => {
                tokens::gated_as_one(s, x, [&wide, &narrow], read, silu)
            }
            _ => mlp(s, x, [&wide, &narrow], hidden, self.act),
        }
    }

    /// Layer scale.
    fn scale(&self, s: &mut Stack, x: NodeId, name: &str, which: usize) -> Result<NodeId> {
        match self.names.scales.filter(|_| self.scaled) {
            Some(names) => layer_scale(s, x, &format!("{name}.{}", names[which])),
            None => Ok(x),
        }
    }
}
