//! Which output of a graph is the function: said by the user, told by names, by shapes, or by how outputs depend on each other.

use super::array::is_float;
use super::proto::{GraphProto, NodeProto, ValueInfoProto};
use robust_core::{Error, Result, nearest};
use std::collections::{HashMap, HashSet};

/// The output to build.
#[derive(Debug, PartialEq)]
pub struct Chosen<'a> {
    pub name: &'a str,
    /// Whether it was said, or is told by its name, to be an embedding and not scores of classes.
    pub embeds: bool,
    /// Whether `?output=` is answered by it, so that nothing is left to be cut.
    pub settled: bool,
}

/// Ops that choose among scores, and what may follow them.
const CHOICES: &[&str] = &["ArgMax", "TopK"];
const AFTER: &[&str] = &["Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten", "Reshape"];
/// Words in the name of an output of scores, the most telling first.
const SCORES: [&[&str]; 4] =
    [&["logits"], &["logit"], &["score", "prediction"], &["prob", "softmax", "sigmoid", "class"]];
/// Words in the name of an embedding.
const EMBEDDINGS: &[&str] = &["embed", "feature", "pooler", "pooled", "hidden", "represent", "descriptor"];
/// What declares the graph's output an embedding; with `:NAME` the output of that name.
const EMBEDDING: &str = "embedding";
/// What is cut before the last linear layer, unless an output has that name.
const FEATURES: &str = "features";
const SHOWN: usize = 12;

/// Chooses among the outputs of `graph`; `asked` is what `?output=` says.
///
/// # Errors
/// Kind `Load` for graphs without outputs and for several that nothing tells apart, kind `Usage` for names that are not there.
/// Both list the outputs with their shapes.
pub fn choose<'a>(graph: &'a GraphProto, asked: Option<&str>, notes: &mut Vec<String>) -> Result<Chosen<'a>> {
    let mut chosen = named(graph, asked, notes)?;
    if let Some((scores, op)) = scores_behind(graph, chosen.name) {
        notes.push(format!(
            "the output `{}` is what {op} chooses: the scores before it, `{scores}`, are used",
            chosen.name
        ));
        chosen.name = scores;
    }
    Ok(chosen)
}

/// What an output of chosen classes chooses among, and the op that chooses.
fn scores_behind<'a>(graph: &'a GraphProto, output: &str) -> Option<(&'a str, &'a str)> {
    let mut at = output;
    // As many steps as there are nodes; a cycle ends here and is reported where nodes are sorted.
    for _ in 0..graph.node.len().min(SHOWN) {
        let maker = graph.node.iter().find(|n| n.output.iter().any(|o| o == at))?;
        let before = maker.input.first()?;
        match maker.op_type.as_str() {
            op if CHOICES.contains(&op) => return Some((before, op)),
            op if AFTER.contains(&op) => at = before,
            _ => return None,
        }
    }
    None
}

fn named<'a>(graph: &'a GraphProto, asked: Option<&str>, notes: &mut Vec<String>) -> Result<Chosen<'a>> {
    if graph.output.is_empty() {
        return Err(Error::load("graph", "it has no output"));
    }
    let named = |name: &str| graph.output.iter().map(|o| o.name.as_str()).find(|n| *n == name);
    match asked {
        None => told(graph, false, notes).map(|name| Chosen { name, embeds: false, settled: false }),
        Some(name) if let Some(found) = named(name) => {
            let embeds = name == EMBEDDING || is_embedding(name);
            if embeds {
                notes.push(format!("the output `{name}` counts as an embedding by its name, not as scores of classes"));
            }
            Ok(Chosen { name: found, embeds, settled: true })
        }
        Some(EMBEDDING) => told(graph, true, notes).map(|name| Chosen { name, embeds: true, settled: true }),
        Some(FEATURES) => told(graph, false, notes).map(|name| Chosen { name, embeds: false, settled: false }),
        Some(other) => {
            let (wanted, embeds) = match other.split_once(':') {
                Some((EMBEDDING, name)) => (name, true),
                _ => (other, false),
            };
            match named(wanted) {
                Some(name) => Ok(Chosen { name, embeds, settled: true }),
                None => Err(unknown(graph, wanted)),
            }
        }
    }
}

fn unknown(graph: &GraphProto, wanted: &str) -> Error {
    let close = nearest(wanted, graph.output.iter().map(|o| o.name.as_str()));
    let close = close.map_or(String::new(), |c| format!("did you mean `?output={c}`? "));
    Error::usage(format!("the file has no output `{wanted}`")).hint(format!(
        "{close}it has {}; `?output=embedding` declares its output an embedding, `?output=features` cuts it before the last \
         linear layer",
        listed(graph)
    ))
}

fn is_embedding(name: &str) -> bool {
    let name = name.to_lowercase();
    EMBEDDINGS.iter().any(|word| name.contains(word))
}

/// The one output that can be meant.
fn told<'a>(graph: &'a GraphProto, embedding: bool, notes: &mut Vec<String>) -> Result<&'a str> {
    if let [one] = &graph.output[..] {
        if !embedding && is_embedding(&one.name) {
            notes.push(format!(
                "the output is called `{}` and counts as scores of classes; `?output=embedding` if it is an embedding",
                one.name
            ));
        }
        return Ok(&one.name);
    }
    let (name, why) = pick(graph, embedding).ok_or_else(|| {
        let how = if embedding { "?output=embedding:NAME" } else { "?output=NAME" };
        Error::load("graph", format!("it has {} outputs and nothing tells which is meant", graph.output.len()))
            .hint(format!("say which with `{how}`: {}", listed(graph)))
    })?;
    notes.push(format!("the file has {} outputs: {}; `{name}` is used ({why})", graph.output.len(), listed(graph)));
    Ok(name)
}

fn pick(graph: &GraphProto, embedding: bool) -> Option<(&str, &'static str)> {
    let fits: Vec<&ValueInfoProto> = graph.output.iter().filter(|o| row_of_numbers(o)).collect();
    let one = |of: Vec<&ValueInfoProto>, why| {
        let [one] = of[..] else { return None };
        fits.iter().find(|o| o.name == one.name).map(|o| (o.name.as_str(), why))
    };
    let those = |test: &dyn Fn(&str) -> bool| fits.iter().filter(|o| test(&o.name)).copied().collect::<Vec<_>>();
    if embedding {
        return one(those(&is_embedding), "by its name").or_else(|| one(fits.clone(), "by its shape"));
    }
    let exactly = |word: &str| those(&|name| name.eq_ignore_ascii_case(word));
    let holding = |words: &[&str]| {
        let holds = |name: &str| words.iter().any(|w| name.to_lowercase().contains(w)) && !is_embedding(name);
        those(&holds)
    };
    let by_name = one(exactly("logits"), "by its name")
        .or_else(|| {
            SCORES
                .iter()
                .map(|words| holding(words))
                .find(|found| !found.is_empty())
                .and_then(|f| one(f, "by its name"))
        })
        .or_else(|| one(exactly("output"), "by its name"));
    let others = || those(&|name| !is_embedding(name));
    by_name
        .or_else(|| one(others(), "the only one of shape [n, classes]"))
        .or_else(|| last(graph, &others()).map(|name| (name, "it is made of the others")))
}

/// Whether an output can be `[n, k]`: floating point, of two axes but for trailing ones, as far as its shape is stated.
fn row_of_numbers(output: &ValueInfoProto) -> bool {
    let Some(tensor) = output.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return true };
    let shape = tensor.shape.as_ref().map(|s| &s.dim[..]).unwrap_or_default();
    let long = shape.len() > 2 && shape[2..].iter().any(|d| d.dim_value.is_none_or(|v| v != 1));
    (tensor.elem_type == 0 || is_float(i64::from(tensor.elem_type))) && !long
}

/// The output that all the other ones flow into; of logits and what a softmax makes of them the logits.
fn last<'a>(graph: &'a GraphProto, among: &[&'a ValueInfoProto]) -> Option<&'a str> {
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    graph.node.iter().for_each(|n| makers.extend(n.output.iter().map(|o| (o.as_str(), n))));
    let before = |name: &'a str| {
        let (mut seen, mut open) = (HashSet::new(), vec![name]);
        while let Some(at) = open.pop() {
            let inputs = makers.get(at).map(|n| &n.input[..]).unwrap_or_default();
            open.extend(inputs.iter().map(String::as_str).filter(|i| seen.insert(*i)));
        }
        seen
    };
    // Quadratic in the outputs: a graph of thousands is no classifier.
    if among.len() > SHOWN {
        return None;
    }
    let end = among.iter().find(|o| {
        let seen = before(&o.name);
        among.iter().all(|other| other.name == o.name || seen.contains(other.name.as_str()))
    })?;
    let made = makers.get(end.name.as_str())?;
    let soft = ["Softmax", "LogSoftmax", "Sigmoid"].contains(&made.op_type.as_str());
    let logits = made.input.first().filter(|_| soft).and_then(|i| among.iter().find(|o| o.name == *i));
    Some(&logits.unwrap_or(end).name)
}

/// The outputs with what the file says of their shapes.
fn listed(graph: &GraphProto) -> String {
    let shape = |output: &ValueInfoProto| {
        let tensor = output.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| &s.dim[..]).unwrap_or_default();
        if dims.is_empty() {
            return String::from(" (shape not stated)");
        }
        let size =
            |d: &super::proto::Dimension| d.dim_value.filter(|&v| v > 0).map_or("n".to_string(), |v| v.to_string());
        format!(" [{}]", dims.iter().take(SHOWN).map(size).collect::<Vec<_>>().join(", "))
    };
    let mut all: Vec<String> = graph.output.iter().take(SHOWN).map(|o| format!("`{}`{}", o.name, shape(o))).collect();
    if graph.output.len() > SHOWN {
        all.push("...".into());
    }
    all.join(", ")
}
