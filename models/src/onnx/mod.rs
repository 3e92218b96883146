//! ONNX files (opset 11 to 21) lowered to a [`Network`]. Nothing in a file is trusted: sizes are checked against the
//! bytes present, graphs may be deep or cyclic, and the batch axis stays a symbol that no op may touch.

mod array;
mod by_row;
mod call;
mod fold;
mod fold_numbers;
mod fold_scatter;
mod front;
mod group_norm;
mod layers;
mod layout;
mod order;
mod pointwise;
mod proto;
mod resample;
#[cfg(test)]
mod tests;
mod windows;

use array::{Array, is_float};
use call::{Call, Graph, Value};
use prost::Message;
use prost::bytes::Bytes;
use proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use robust_core::{Error, Result};
use robust_engine::{Builder, Network, Op};
use std::collections::{HashMap, HashSet};

use crate::Options;

const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

type Lower = fn(&mut Graph, &Call) -> Result<Vec<Value>>;

/// Every op that can be built into a network, by its ONNX name.
const OPS: &[(&str, Lower)] = &[
    ("Abs", pointwise::activation),
    ("Add", pointwise::binary),
    ("AveragePool", layers::pool),
    ("BatchNormalization", layers::batch_norm),
    ("Cast", layout::cast),
    ("Clip", pointwise::activation),
    ("Concat", layout::concat),
    ("Conv", layers::conv),
    ("Cos", pointwise::activation),
    ("Div", pointwise::binary),
    ("Dropout", layout::identity),
    ("Elu", pointwise::activation),
    ("Erf", pointwise::activation),
    ("Exp", pointwise::activation),
    ("Flatten", layout::flatten),
    ("Gather", layout::gather),
    ("Gelu", pointwise::activation),
    ("Gemm", layers::gemm),
    ("GlobalAveragePool", layers::global_pool),
    ("GlobalMaxPool", layers::global_pool),
    ("GroupNormalization", group_norm::group_norm),
    ("HardSigmoid", pointwise::activation),
    ("HardSwish", pointwise::activation),
    ("Identity", layout::identity),
    ("InstanceNormalization", group_norm::instance_norm),
    ("LayerNormalization", layers::layer_norm),
    ("LeakyRelu", pointwise::activation),
    ("Log", pointwise::activation),
    ("LogSoftmax", layers::softmax),
    ("MatMul", layers::matmul),
    ("Max", pointwise::extremum),
    ("MaxPool", layers::pool),
    ("Min", pointwise::extremum),
    ("Mul", pointwise::binary),
    ("Neg", pointwise::activation),
    ("Pad", layout::pad),
    ("Pow", pointwise::binary),
    ("Reciprocal", pointwise::activation),
    ("ReduceL2", layers::reduce),
    ("ReduceMax", layers::reduce),
    ("ReduceMean", layers::reduce),
    ("ReduceSum", layers::reduce),
    ("Relu", pointwise::activation),
    ("Reshape", layout::reshape),
    ("Resize", resample::resize),
    ("Shape", layout::shape),
    ("Sigmoid", pointwise::activation),
    ("Sin", pointwise::activation),
    ("Slice", layout::slice),
    ("Softmax", layers::softmax),
    ("Softplus", pointwise::activation),
    ("Split", layout::split),
    ("Sqrt", pointwise::activation),
    ("Squeeze", layout::squeeze),
    ("Sub", pointwise::binary),
    ("Tanh", pointwise::activation),
    ("Transpose", layout::transpose),
    ("Unsqueeze", layout::unsqueeze),
];

/// A network and what the importer had to choose on the way.
pub struct Imported {
    pub network: Network,
    pub notes: Vec<String>,
}

/// Reads a whole (uncompressed) ONNX file. Errors are of kind `Load` and name the node or tensor at fault.
pub fn import(bytes: Vec<u8>, options: &Options) -> Result<Imported> {
    build(bytes, options).map_err(crate::files::blame)
}

/// What messages call a node: exporters name nodes, hand-written files often do not.
fn node_name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("?", |o| o) } else { &node.name }
}

fn build(bytes: Vec<u8>, options: &Options) -> Result<Imported> {
    let size = bytes.len();
    census(&bytes)?;
    let model = ModelProto::decode(Bytes::from(bytes)).map_err(|e| {
        Error::load("the file", format!("it is damaged or not ONNX ({e})")).hint("copy or export it again")
    })?;
    let opset = opset(&model)?;
    let graph =
        model.graph.ok_or_else(|| Error::load("the file", "it holds no graph, so it is damaged or not ONNX"))?;
    let weights: HashMap<&str, usize> =
        graph.initializer.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let mut notes = vec![];
    let input = input(&graph, &weights)?;
    let output = output(&graph, &mut notes)?;
    let given: HashSet<&str> = weights.keys().copied().chain([input.name.as_str()]).collect();
    let order = order::order(&graph, output, &given)?;

    let (row, fixed_batch) = input_row(input, options)?;
    let mut builder = Builder::new();
    let mut id = builder.input(input.name.clone(), &row)?;
    id = crate::normalise(&mut builder, id, options, None)?;
    let mut graph_state = Graph::new(builder, fixed_batch, size / 2 + FREE_ENTRIES);
    let mut values: HashMap<&str, Value> = HashMap::from([(input.name.as_str(), Value::Node(id))]);
    for i in order {
        let node = &graph.node[i];
        for name in node.input.iter().filter(|n| !n.is_empty()) {
            if let (None, Some(&at)) = (values.get(name.as_str()), weights.get(name.as_str())) {
                values.insert(name, Array::decode(&graph.initializer[at], name)?.into());
            }
        }
        let inputs = node.input.iter().map(|n| values.get(n.as_str()).cloned()).collect();
        let call = Call { node, opset, inputs };
        if let Some(missing) = node.input.iter().find(|n| !n.is_empty() && !values.contains_key(n.as_str())) {
            return Err(
                call.fail(format!("its input `{missing}` is an output we do not compute, such as a pool's indices"))
            );
        }
        for (name, value) in node.output.iter().zip(lower(&mut graph_state, &call)?) {
            values.insert(name, value);
        }
    }
    finish(graph_state, values.get(output), output, notes)
}

fn lower(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let known = ["", "ai.onnx"].contains(&call.node.domain.as_str());
    if let (true, Some(values)) = (known, by_row::lower(graph, call)?) {
        return Ok(values);
    }
    if let (true, Some(value)) = (known, fold::fold(graph, call)?) {
        return Ok(vec![value]);
    }
    if front::is(graph, call) {
        return front::lower(graph, call);
    }
    if let (true, Some(values)) = (known, front::begin(graph, call)?) {
        return Ok(values);
    }
    match OPS.iter().find(|(name, _)| known && *name == call.op()) {
        Some((name, lower)) => match windows::of(graph, call)? {
            Some(count) => windows::lower(graph, call, count, *lower),
            None if *name == "Reshape" => match lower(graph, call) {
                Err(_) => windows::reshape(graph, call),
                done => done,
            },
            None => lower(graph, call),
        },
        None if known && fold::ONLY_FOLDED.contains(&call.op()) => {
            Err(call
                .fail("unsupported on values that depend on the image: it is computed on constants and shapes only"))
        }
        None => {
            let names: Vec<&str> = OPS.iter().map(|(name, _)| *name).chain(fold::ONLY_FOLDED.iter().copied()).collect();
            let domain = if known { String::new() } else { format!(" of domain `{}`", call.node.domain) };
            Err(call
                .fail(format!("unsupported op `{}`{domain}", call.op()))
                .hint(format!("supported: {}", names.join(", "))))
        }
    }
}

fn opset(model: &ModelProto) -> Result<i64> {
    let found = model.opset_import.iter().find(|o| ["", "ai.onnx"].contains(&o.domain.as_str()));
    let version = found.map(|o| o.version);
    match version {
        Some(v) if OPSETS.contains(&v) => Ok(v),
        _ => {
            let shown = version.map_or("none".into(), |v| v.to_string());
            Err(Error::load(
                "the file",
                format!("its ONNX opset is {shown}; {} to {} are supported", OPSETS.start(), OPSETS.end()),
            )
            .hint("export with opset_version=18"))
        }
    }
}

/// The one graph input that is not a weight.
fn input<'a>(graph: &'a GraphProto, weights: &HashMap<&str, usize>) -> Result<&'a ValueInfoProto> {
    let inputs: Vec<_> = graph.input.iter().filter(|i| !weights.contains_key(i.name.as_str())).collect();
    match inputs[..] {
        [one] => Ok(one),
        _ => {
            let names: Vec<&str> = inputs.iter().take(8).map(|i| i.name.as_str()).collect();
            Err(Error::load(
                "graph",
                format!("it has {} inputs {names:?}; models of one image input are supported", inputs.len()),
            ))
        }
    }
}

/// The output to use: the only one, one with a telling name, or the first.
fn output<'a>(graph: &'a GraphProto, notes: &mut Vec<String>) -> Result<&'a str> {
    let names: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let Some(&first) = names.first() else {
        return Err(Error::load("graph", "it has no output"));
    };
    let chosen = ["logits", "output"].into_iter().find(|n| names.contains(n)).unwrap_or(first);
    let chosen = names.iter().find(|n| **n == chosen).copied().unwrap_or(first);
    if names.len() > 1 {
        let shown = &names[..names.len().min(8)];
        notes.push(format!("the file has {} outputs {shown:?}: `{chosen}` is used", names.len()));
    }
    Ok(chosen)
}

/// The input's dimensions without the batch, and the batch size if the file fixes one.
fn input_row(input: &ValueInfoProto, options: &Options) -> Result<(Vec<usize>, Option<usize>)> {
    let fail = |why: String| Error::load(format!("input `{}`", input.name), why);
    let tensor = input
        .r#type
        .as_ref()
        .and_then(|t| t.tensor_type.as_ref())
        .ok_or_else(|| fail("it has no tensor type".into()))?;
    if !is_float(tensor.elem_type as i64) {
        return Err(fail(format!("its element type {} is not floating point", tensor.elem_type))
            .hint("export a model that takes float images in [0,1]"));
    }
    let dims: Vec<Option<i64>> =
        tensor.shape.iter().flat_map(|s| &s.dim).map(|d| d.dim_value.filter(|&v| v != 0)).collect();
    let Some((batch, row)) = dims.split_first().filter(|(_, row)| (1..=5).contains(&row.len())) else {
        return Err(fail(format!("it has {} axes; a batch of images has 4", dims.len())));
    };
    if row.iter().flatten().any(|&d| !(1..=1 << 28).contains(&d)) || batch.is_some_and(|b| b < 1) {
        return Err(fail(format!("its dimensions {dims:?} make no sense")));
    }
    let batch = batch.map(|b| b as usize);
    let Some(wanted) = options.input else {
        let known: Option<Vec<usize>> = row.iter().map(|d| d.map(|d| d as usize)).collect();
        let known = known.ok_or_else(|| {
            fail("it leaves its size open".into())
                .hint("say which with `?input=CxHxW`, for instance `?input=3x224x224`")
        })?;
        return Ok((known, batch));
    };
    if row.len() != 3 || row.iter().zip(wanted).any(|(d, w)| d.is_some_and(|d| d as usize != w)) {
        return Err(Error::usage(format!(
            "input={} does not fit the file's {row:?}",
            wanted.map(|d| d.to_string()).join("x")
        )));
    }
    Ok((wanted.to_vec(), batch))
}

/// Squeezes trailing 1x1 axes and checks that the output is `[n, k]`.
fn finish(mut graph: Graph, value: Option<&Value>, name: &str, notes: Vec<String>) -> Result<Imported> {
    let fail = |why: String| Error::load(format!("output `{name}`"), why);
    let Some(Value::Node(mut id)) = value.cloned() else {
        return Err(fail("it does not depend on the image".into()));
    };
    if graph.fronted(id) {
        return Err(fail("an axis lies in front of the batch".into()).hint(BATCH_HINT));
    }
    if graph.windows(id) > 1 {
        return Err(fail("a reshape before it merges or splits the batch axis".into())
            .hint("export with a dynamic batch axis and keep images apart: rows must not mix"));
    }
    let shape = graph.builder.shape(id).clone();
    match shape.row[..] {
        [_] => {}
        [k, 1, 1] | [k, 1] => id = graph.builder.node(format!("{name}/flat"), Op::Reshape { row: vec![k] }, &[id])?,
        _ => {
            return Err(fail(format!("its shape is [batch, {:?}], not [batch, classes]", shape.row))
                .hint("detection, segmentation and token outputs are not supported"));
        }
    }
    Ok(Imported { network: graph.builder.finish(id)?, notes })
}

/// Entries of constants that the shape arithmetic and the masks of a small file may need; about 24 bytes each.
const FREE_ENTRIES: usize = 1 << 20;

/// What to do about a graph whose batch axis is out of reach.
const BATCH_HINT: &str = "keep the batch axis first and images apart in the export, or load the weights themselves: the folder with its config.json";

/// Messages a real graph may hold. Decoding turns two bytes of an empty message into a hundred, so they are counted first.
const MAX_MESSAGES: usize = 1 << 20;

/// Counts the fields of the model, of its graph and of its nodes, without decoding anything.
fn census(bytes: &[u8]) -> Result<()> {
    let mut open = vec![(bytes, 0)];
    let mut seen = 0usize;
    while let Some((mut rest, depth)) = open.pop() {
        while let Some((field, body, tail)) = next_field(rest) {
            seen += 1;
            if seen > MAX_MESSAGES {
                return Err(Error::load(
                    "the file",
                    format!("it has more than {MAX_MESSAGES} parts, which no model has"),
                ));
            }
            if matches!((depth, field), (0, 7) | (1, 1)) {
                open.push((body, depth + 1)); // the graph, and its nodes
            }
            rest = tail;
        }
    }
    Ok(())
}

/// The next field's number, its body (empty for a varint) and what follows; `None` at the end or where the
/// bytes make no sense, which the decoder then reports.
fn next_field(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (length, rest) = match key & 7 {
        0 => (0, varint(rest)?.1),
        1 => (8, rest),
        2 => varint(rest)?,
        5 => (4, rest),
        _ => return None,
    };
    let (body, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((key >> 3, body, tail))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().take(10).enumerate() {
        value |= u64::from(b & 0x7f).checked_shl(7 * i as u32)?;
        if b < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}
