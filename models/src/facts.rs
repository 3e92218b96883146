//! What is known of a loaded model, for `robust inspect`.

use crate::LoadedModel;
use crate::compose::MADE;
use candle_core::DType;
use robust_core::{Input, Output, Preprocess};
use robust_engine::{Network, Node, Op, Param, ParamId, Plan, Reference, Shape};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A model's account of itself. Counts are of one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    pub name: String,
    /// `onnx`, `safetensors`, `pth`, `huggingface`, `builtin` or `ensemble`.
    pub format: String,
    /// Name of the architecture; absent where the file brings its own graph.
    pub family: Option<String>,
    pub digest: String,
    pub input: Input,
    /// Applied to the pixels inside the network, if anything is.
    pub normalisation: Option<Normalisation>,
    /// How images of other sizes become the input, where it was said.
    pub preprocess: Option<Preprocess>,
    /// `classes` or `embedding`.
    pub output: &'static str,
    /// Entries of the output: classes, or the width of the embedding.
    pub classes: usize,
    /// Entries of all weights that training changes: no running statistics, no normalisation.
    pub parameters: u64,
    /// Products in convolutions, linear layers and matrix products.
    pub multiply_adds: u64,
    /// By kind, in order of first use.
    pub ops: Vec<OpFacts>,
    pub notes: Vec<String>,
    /// Tensors of the file that are no part of the function.
    pub ignored: Vec<String>,
}

/// `(x - mean) / std`, one value per channel or one for all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Normalisation {
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

/// All ops of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpFacts {
    pub op: String,
    pub count: usize,
    pub multiply_adds: u64,
    /// Which interpreter runs them: `cpu plan`, `reference`, or how many are left to the latter.
    pub interpreter: String,
}

/// Collects what is known of a model.
pub fn inspect(model: &LoadedModel) -> Facts {
    let network = &model.network;
    let mut ops: Vec<OpFacts> = vec![];
    // Where the plan cannot be made, everything would be left to the reference.
    let left = Reference::new(Arc::clone(network), DType::F32).and_then(|r| Plan::left(&r));
    let left: Option<BTreeSet<usize>> = left.ok().map(|l| l.into_iter().map(|n| n.0).collect());
    let mut by_reference = BTreeMap::<&str, usize>::new();
    for (i, (node, shape)) in network.nodes().iter().zip(network.shapes()).enumerate() {
        if matches!(node.op, Op::Input | Op::Param(_)) {
            continue;
        }
        if left.as_ref().is_none_or(|l| l.contains(&i)) {
            *by_reference.entry(node.op.name()).or_default() += 1;
        }
        let cost = multiply_adds(network, node, shape);
        match ops.iter_mut().find(|o| o.op == node.op.name()) {
            Some(same) => {
                same.count += 1;
                same.multiply_adds = same.multiply_adds.saturating_add(cost);
            }
            None => ops.push(OpFacts {
                op: node.op.name().to_string(),
                count: 1,
                multiply_adds: cost,
                interpreter: String::new(),
            }),
        }
    }
    for op in &mut ops {
        op.interpreter = match by_reference.get(op.op.as_str()).copied().unwrap_or(0) {
            0 => "cpu plan".into(),
            n if n == op.count => "reference".into(),
            n => format!("cpu plan; {n} by the reference"),
        };
    }
    Facts {
        name: model.name.clone(),
        format: model.format.to_string(),
        family: model.family.clone(),
        digest: model.card.digest.clone(),
        input: model.card.input.clone(),
        preprocess: model.card.preprocess,
        normalisation: normalisation(network),
        output: if matches!(model.card.output, Output::Embedding { .. }) { "embedding" } else { "classes" },
        classes: model.card.output.width(),
        parameters: parameters(network),
        multiply_adds: ops.iter().fold(0, |n, o| n.saturating_add(o.multiply_adds)),
        ops,
        notes: model.notes.clone(),
        ignored: model.ignored.clone(),
    }
}

const NORMALISATION: &str = "normalise.";

/// A weight's name without that of the member of an ensemble it is part of, and the member.
fn apart(name: &str) -> (&str, &str) {
    let inner = name.strip_prefix("members.").and_then(|rest| rest.split_once('.'));
    inner.map_or(("", name), |(member, name)| (member, name))
}

fn parameters(network: &Network) -> u64 {
    let trained = |op: &Op| match op {
        Op::BatchNorm { gamma, beta, .. } => gamma.iter().chain(beta).copied().collect(),
        Op::MeanSparse { .. } => vec![],
        other => other.params(),
    };
    let ids: BTreeSet<ParamId> = network.nodes().iter().flat_map(|n| trained(&n.op)).collect();
    let params = ids.iter().map(|id| &network.params()[id.0]);
    let made = |name: &str| [NORMALISATION, MADE].iter().any(|start| name.starts_with(start));
    let params = params.filter(|p| !made(apart(&p.name).1) && !p.name.starts_with("ensemble."));
    params.map(|p| p.value.elem_count() as u64).sum()
}

fn multiply_adds(network: &Network, node: &Node, shape: &Shape) -> u64 {
    let weight = |id: ParamId| network.params()[id.0].value.dims();
    // Products behind each entry of the result.
    let depth: usize = match &node.op {
        Op::Conv2d { weight: w, .. } | Op::Linear { weight: w, .. } => weight(*w)[1..].iter().product(),
        // Scores, and the mixing of values.
        Op::Attention { .. } => {
            2 * node.inputs.get(1).and_then(|i| network.shapes()[i.0].row.iter().nth_back(1)).copied().unwrap_or(0)
        }
        Op::MatMul => node.inputs.first().and_then(|i| network.shapes()[i.0].row.last()).copied().unwrap_or(0),
        Op::Input
        | Op::Param(_)
        | Op::BatchNorm { .. }
        | Op::MeanSparse { .. }
        | Op::LayerNorm { .. }
        | Op::Act(_)
        | Op::Binary(_)
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::MaxPool(_)
        | Op::AvgPool { .. }
        | Op::KeepTop { .. }
        | Op::Reduce { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Dropout { .. } => 0,
    };
    (shape.len() as u64).saturating_mul(depth as u64)
}

/// What is applied to the pixels; of an ensemble what all members apply.
pub(crate) fn normalisation(network: &Network) -> Option<Normalisation> {
    let members: BTreeSet<&str> = network.params().iter().map(|p| apart(&p.name).0).filter(|m| !m.is_empty()).collect();
    let values = |name: &str| {
        let wanted = format!("{NORMALISATION}{name}");
        let found: Vec<&Param> = network.params().iter().filter(|p| apart(&p.name).1 == wanted).collect();
        let read = |p: &Param| p.value.flatten_all().ok()?.to_dtype(DType::F64).ok()?.to_vec1::<f64>().ok();
        let first = read(found.first()?)?;
        let all = found.len() == members.len().max(1) && found.iter().all(|p| read(p).as_ref() == Some(&first));
        all.then_some(first)
    };
    Some(Normalisation { mean: values("mean")?, std: values("std")? })
}
