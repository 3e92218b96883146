//! What is known of a loaded model, for `robust inspect`.

use crate::compose::MADE;
use crate::loaded::LoadedModel;
use candle_core::DType;
use robust_core::{Input, Output, Preprocess};
use robust_engine::{Binary, CpuPlan, Network, Node, Op, Param, ParamId, Reference, Shape};
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
    /// Applied to the pixels in front of the network by the loader, if anything is.
    pub normalisation: Option<Normalisation>,
    /// What the first layers of the network itself do to the pixels, where that is a difference and a factor per channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_normalisation: Option<Normalisation>,
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
    /// Tensors of the file that are not part of the function.
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

/// Collects what is known of a model; of one that shows no network, what its card says.
pub fn inspect(model: &LoadedModel) -> Facts {
    let network = model.network.as_ref();
    let ops = network.map_or(vec![], operators);
    Facts {
        name: model.name.clone(),
        format: model.format.to_string(),
        family: model.family.clone(),
        digest: model.card.digest.clone(),
        input: model.card.input.clone(),
        preprocess: model.card.preprocess,
        normalisation: network.and_then(|n| normalisation(n)),
        own_normalisation: network.and_then(|n| own_normalisation(n)),
        output: if matches!(model.card.output, Output::Embedding { .. }) { "embedding" } else { "classes" },
        classes: model.card.output.classes(),
        parameters: network.map_or(0, |n| parameters(n)),
        multiply_adds: ops.iter().fold(0, |n, o| n.saturating_add(o.multiply_adds)),
        ops,
        notes: model.notes.clone(),
        ignored: model.ignored.clone(),
    }
}

/// Operators by kind, with what they cost and which interpreter runs them.
fn operators(network: &Arc<Network>) -> Vec<OpFacts> {
    let mut ops: Vec<OpFacts> = vec![];
    // Where the plan cannot be made, everything would be left to the reference.
    let left = Reference::new(Arc::clone(network), DType::F32).and_then(|r| CpuPlan::left(&r));
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
    ops
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
        | Op::Choose
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
        | Op::Pick { .. }
        | Op::Sorted { .. }
        | Op::GridSample { .. }
        | Op::Pad { .. }
        | Op::Dropout { .. } => 0,
    };
    (shape.len() as u64).saturating_mul(depth as u64)
}

/// What the graph of a file does to its input by itself: sums, differences, products and quotients with constants, one after the other,
/// up to the first other layer. `None` where it does nothing of the kind.
fn own_normalisation(network: &Network) -> Option<Normalisation> {
    let channels = *network.input_row().first()?;
    let mut at = network.nodes().iter().position(|n| matches!(n.op, Op::Input))?;
    let (mut factor, mut shift, mut any) = (vec![1f64; channels], vec![0f64; channels], false);
    loop {
        let mut readers = network.nodes().iter().enumerate().filter(|(_, n)| n.inputs.iter().any(|i| i.0 == at));
        let (Some((next, node)), None) = (readers.next(), readers.next()) else { break };
        let (Op::Binary(op), [a, b]) = (&node.op, &node.inputs[..]) else { break };
        let first = a.0 == at;
        let Some(value) = constant(network, if first { b.0 } else { a.0 }, channels).filter(|_| a.0 != b.0) else {
            break;
        };
        at = next;
        // The loader's own layers come first, and are told apart.
        if node.name.starts_with(NORMALISATION) {
            continue;
        }
        for ((f, s), v) in factor.iter_mut().zip(&mut shift).zip(value) {
            (*f, *s) = match (op, first) {
                (Binary::Add, _) => (*f, *s + v),
                (Binary::Sub, true) => (*f, *s - v),
                (Binary::Sub, false) => (-*f, v - *s),
                (Binary::Mul, _) => (*f * v, *s * v),
                (Binary::Div, true) => (*f / v, *s / v),
                _ => return None,
            };
        }
        any = true;
    }
    let plain = factor.iter().all(|f| *f == 1.) && shift.iter().all(|s| *s == 0.);
    let defined = factor.iter().zip(&shift).all(|(f, s)| f.is_finite() && s.is_finite() && *f != 0.);
    let once = |values: Vec<f64>| if values.iter().all(|v| *v == values[0]) { values[..1].to_vec() } else { values };
    // Weights are in single precision: what was 0.229 would read 0.22900000214.
    let read = |v: f64| if v == 0. { 0. } else { short(v) };
    (any && !plain && defined).then(|| Normalisation {
        mean: once(factor.iter().zip(&shift).map(|(f, s)| read(-s / f)).collect()),
        std: once(factor.iter().map(|f| read(1. / f)).collect()),
    })
}

/// Six significant digits.
fn short(v: f64) -> f64 {
    format!("{v:.5e}").parse().unwrap_or(v)
}

/// A constant of one number, or of one per channel where it meets images.
fn constant(network: &Network, node: usize, channels: usize) -> Option<Vec<f64>> {
    let Op::Param(id) = network.nodes()[node].op else { return None };
    let value = &network.params()[id.0].value;
    let values = value.flatten_all().ok()?.to_dtype(DType::F64).ok()?.to_vec1::<f64>().ok()?;
    // The axis of channels is the third from the end; a flat row has none.
    let axis = value.rank().checked_sub(3).filter(|_| network.input_row().len() == 3);
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n if n == channels && axis.is_some_and(|a| value.dims()[a] == channels) => Some(values),
        _ => None,
    }
}

/// What to say where the loader normalises and the network does so too.
pub(crate) fn doubled(network: &Network) -> Option<String> {
    normalisation(network)?;
    let own = own_normalisation(network)?;
    Some(format!(
        "the network's first layers normalise its input themselves (mean {:?}, std {:?}), and `?mean=` and `?std=` come before them: leave \
         them out unless it was trained that way",
        own.mean, own.std
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, normalise};
    use candle_core::{Device, Tensor};
    use robust_engine::{Activation, Builder};

    /// A graph that does `ops` to its pixels, behind what the loader adds.
    fn graph(options: &Options, ops: &[(Binary, &[f32], bool)]) -> Network {
        let mut net = Builder::new();
        let input = net.input("x", &[3, 2, 2]).unwrap();
        let mut x = normalise(&mut net, input, options, None).unwrap();
        for (op, values, first) in ops {
            let value = Tensor::new(*values, &Device::Cpu).unwrap().reshape((1, values.len(), 1, 1)).unwrap();
            let param = net.param("v", value);
            let value = net.node("v", Op::Param(param), &[]).unwrap();
            let inputs = if *first { [x, value] } else { [value, x] };
            x = net.node("n", Op::Binary(*op), &inputs).unwrap();
        }
        let x = net.node("relu", Op::Act(Activation::Relu), &[x]).unwrap();
        let flat = net.node("flat", Op::Reshape { row: vec![12] }, &[x]).unwrap();
        net.finish(flat).unwrap()
    }

    #[test]
    fn a_graph_that_normalises_itself_is_seen_and_doubling_is_said() {
        let imagenet: [(Binary, &[f32], bool); 2] =
            [(Binary::Sub, &[0.485, 0.456, 0.406], true), (Binary::Div, &[0.229, 0.224, 0.225], true)];
        let own = Normalisation { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] };
        let bare = graph(&Options::default(), &imagenet);
        assert_eq!((normalisation(&bare), own_normalisation(&bare), doubled(&bare)), (None, Some(own.clone()), None));
        let options = Options { mean: Some(vec![0.5]), std: Some(vec![0.25]), ..Options::default() };
        let twice = graph(&options, &imagenet);
        assert_eq!(normalisation(&twice), Some(Normalisation { mean: vec![0.5], std: vec![0.25] }));
        assert_eq!(own_normalisation(&twice), Some(own));
        assert!(doubled(&twice).unwrap().contains("normalise its input themselves"));
        // 2 x - 1, and 1 - x.
        let scaled = graph(&Options::default(), &[(Binary::Mul, &[2.], true), (Binary::Add, &[-1.], false)]);
        assert_eq!(own_normalisation(&scaled), Some(Normalisation { mean: vec![0.5], std: vec![0.5] }));
        let turned = graph(&Options::default(), &[(Binary::Sub, &[1.], false)]);
        assert_eq!(own_normalisation(&turned), Some(Normalisation { mean: vec![1.], std: vec![-1.] }));
        assert_eq!(own_normalisation(&graph(&options, &[])), None);
        assert_eq!(own_normalisation(&graph(&Options::default(), &[(Binary::Max, &[0.5], true)])), None);
    }
}
