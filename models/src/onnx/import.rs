//! From the bytes of a file to a network.

use super::array::Array;
use super::call::{BATCH_HINT, Call, Graph, Value};
use super::census::census;
use super::external::Beside;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::{
    by_row, external, fold, fold_run, front, input, ops, order, outputs, per_image, quantised, schema, windows,
};
use prost::Message;
use prost::bytes::Bytes;
use robust_core::{Error, Result};
use robust_engine::{Builder, Network, NodeId, Op};
use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::Options;
use crate::bytes as files;
use crate::compose::MADE;

/// A network and what the importer had to choose on the way.
pub struct Imported {
    pub network: Network,
    pub notes: Vec<String>,
    /// Whether the output was said to be an embedding, not scores of classes.
    pub embeds: bool,
    /// Whether `?output=` named an output of the file, so that nothing is left to be cut.
    pub settled: bool,
}

/// Reads an ONNX file, packed with gzip or not, and the files of its folder that hold its weights.
///
/// # Errors
/// As [`import`], and for files that cannot be read.
pub fn open(path: &Path, options: &Options) -> Result<Imported> {
    build(files::read(path)?, options, Beside::Of(path)).map_err(files::blame)
}

/// Reads a whole (uncompressed) ONNX file; no other file is opened. Errors are of kind `Load` and name the node or tensor at
/// fault.
pub fn import(bytes: Vec<u8>, options: &Options) -> Result<Imported> {
    build(bytes, options, Beside::Nothing).map_err(files::blame)
}

fn build(bytes: Vec<u8>, options: &Options, beside: Beside) -> Result<Imported> {
    let size = bytes.len();
    census(&bytes)?;
    let model = ModelProto::decode(Bytes::from(bytes)).map_err(|e| {
        Error::load("the file", format!("it is damaged or not ONNX ({e})")).hint("copy or export it again")
    })?;
    let opset = schema::opset(&model)?;
    let mut graph =
        model.graph.ok_or_else(|| Error::load("the file", "it holds no graph, so it is damaged or not ONNX"))?;
    let size = size.saturating_add(external::fetch(&mut graph, beside)?);
    let weights: HashMap<&str, usize> =
        graph.initializer.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let mut notes = vec![];
    let input = input::read(&graph, &weights, options, &mut notes)?;
    let output = outputs::choose(&graph, options.output.as_deref(), &mut notes)?;
    let given: HashSet<&str> = weights.keys().copied().chain([input.name]).collect();
    let order = order::order(&graph, output.name, &given)?;

    ops::check(order.iter().map(|&i| &graph.node[i]), opset)?;
    let mut state = Graph::new(Builder::new(), input.batch, size / 2 + FREE_ENTRIES);
    let id = begin(&mut state, &input, options)?;
    let mut values: HashMap<&str, Value> = HashMap::from([(input.name, Value::Node(id))]);
    let mut narrow = 0;
    let mut needs = Needs::of(&graph, &order, output.name);
    for i in order {
        let node = &graph.node[i];
        for name in node.input.iter().filter(|n| !n.is_empty()) {
            if let (None, Some(&at)) = (values.get(name.as_str()), weights.get(name.as_str())) {
                let tensor = &graph.initializer[at];
                narrow += usize::from(is_half(tensor));
                // Weights of millions of small integers, which shape arithmetic never has.
                let stored = node.op_type == "DequantizeLinear" && node.input.first() == Some(name);
                let array = if stored { Array::stored(tensor, name)? } else { Array::decode(tensor, name)? };
                values.insert(name, array.into());
            }
        }
        let inputs = node.input.iter().map(|n| values.get(n.as_str()).cloned()).collect();
        let call = Call { node, opset, inputs, hidden: 0 };
        if let Some(missing) = node.input.iter().find(|n| !n.is_empty() && !values.contains_key(n.as_str())) {
            return Err(
                call.fail(format!("its input `{missing}` is an output we do not compute, such as a pool's indices"))
            );
        }
        schema::check(&call)?;
        let free = state.budget;
        let made = lower(&mut state, &call)?;
        needs.count(&mut state, free, node, &made);
        for (name, value) in node.output.iter().zip(made) {
            values.insert(name, value);
        }
        needs.drop(&mut state, node, &mut values);
    }
    if narrow > 0 {
        notes
            .push(format!("{narrow} weights are half precision (16 bit): the network is run in 32 bit, not as stored"));
    }
    if state.rounded > 0 {
        notes.push(format!(
            "{} {} places: gradients pass straight through the rounding and are not those of the steps; the float model is the better target",
            quantised::NOTE,
            state.rounded
        ));
    }
    let network = finish(state, values.get(output.name), output.name)?;
    Ok(Imported { network, notes, embeds: output.embeds, settled: output.settled })
}

/// Which constants are still needed. Weights that a graph computes from others pass through many steps, each as large as they are.
struct Needs<'a> {
    /// Readers left.
    readers: HashMap<&'a str, usize>,
    /// Entries of constants that nodes made, unless they became weights of the network.
    made: HashMap<&'a str, usize>,
}

impl<'a> Needs<'a> {
    fn of(graph: &'a GraphProto, order: &[usize], output: &'a str) -> Self {
        let mut readers = HashMap::from([(output, 1)]);
        for name in order.iter().flat_map(|&i| &graph.node[i].input) {
            *readers.entry(name.as_str()).or_default() += 1;
        }
        Self { readers, made: HashMap::new() }
    }

    /// Books what a node made: of a constant what it holds, not what computing it took.
    fn count(&mut self, state: &mut Graph, free: usize, node: &'a NodeProto, made: &[Value]) {
        if !made.iter().all(|v| matches!(v, Value::Known(_))) {
            // Its constants live on in the network.
            for name in &node.input {
                self.made.remove(name.as_str());
            }
            return;
        }
        // Some share what they are made of, and took nothing.
        let (mut held, taken) = (0, free.saturating_sub(state.budget));
        for (name, value) in node.output.iter().zip(made) {
            if let Value::Known(array) = value {
                let entries = array.len().min(taken - held);
                held += entries;
                self.made.insert(name, entries);
            }
        }
        state.budget = free - held;
    }

    /// Gives back what no node reads any more.
    fn drop(&mut self, state: &mut Graph, node: &'a NodeProto, values: &mut HashMap<&'a str, Value>) {
        for name in node.input.iter().map(String::as_str) {
            let Some(left) = self.readers.get_mut(name) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 && matches!(values.get(name), Some(Value::Known(_))) {
                values.remove(name);
                state.budget += self.made.remove(name).unwrap_or(0);
            }
        }
    }
}

/// Whether all a call reads is known.
fn constant(call: &Call) -> bool {
    let mut inputs = call.inputs.iter().flatten();
    matches!(inputs.next(), Some(Value::Known(_))) && inputs.all(|v| matches!(v, Value::Known(_)))
}

/// The network's input, normalised as the options say, in the order of axes that the file wants.
fn begin(state: &mut Graph, input: &input::Input, options: &Options) -> Result<NodeId> {
    let builder = &mut state.builder;
    let id = builder.input(input.name, &input.row)?;
    let id = crate::normalise(builder, id, options, None)?;
    if !input.channels_last {
        return Ok(id);
    }
    let turned = builder.node(format!("{MADE}channels last"), Op::Transpose { axes: vec![0, 2, 3, 1] }, &[id])?;
    state.turned = Some((turned, id));
    Ok(turned)
}

fn is_half(tensor: &TensorProto) -> bool {
    [10, 16].contains(&tensor.data_type)
}

fn lower(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let known = ops::is_standard(call);
    if let (true, Some(values)) = (known, by_row::lower(graph, call)?) {
        return Ok(values);
    }
    if let (true, Some(values)) = (known, fold::fold(graph, call)?) {
        return Ok(values);
    }
    let plain = ops::OPS.iter().find(|(name, _)| known && *name == call.op());
    if known && front::is(graph, call) {
        return front::lower(graph, call, plain.map(|(_, lower)| *lower));
    }
    if let (true, Some(values)) = (known, front::begin(graph, call)?) {
        return Ok(values);
    }
    match plain {
        Some((name, lower)) => match windows::of(graph, call)? {
            Some(count) => windows::lower(graph, call, count, *lower),
            None if *name == "Reshape" => match lower(graph, call) {
                Err(_) => windows::reshape(graph, call),
                done => done,
            },
            None if *name == "Flatten" => match lower(graph, call) {
                Err(error) => windows::flatten(graph, call).map_err(|_| error),
                done => done,
            },
            // What is known at import is computed once, here.
            None if constant(call) => {
                let per_image = per_image::of(call)?;
                let made = fold_run::run(graph, call, *lower)?;
                Ok(made.into_iter().map(|value| value.once_per_image(per_image)).collect())
            }
            None => lower(graph, call),
        },
        None if known && fold::ONLY_FOLDED.contains(&call.op()) => {
            Err(call
                .fail("unsupported on values that depend on the image: it is computed on constants and shapes only"))
        }
        None => Err(ops::unsupported(call, known)),
    }
}

/// Squeezes trailing 1x1 axes and checks that the output is `[n, k]`; `[n]` is `[n, 1]`.
fn finish(mut graph: Graph, value: Option<&Value>, name: &str) -> Result<Network> {
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
        [] => id = graph.builder.node(format!("{name}/flat"), Op::Reshape { row: vec![1] }, &[id])?,
        [k, 1, 1] | [k, 1] => id = graph.builder.node(format!("{name}/flat"), Op::Reshape { row: vec![k] }, &[id])?,
        _ => {
            return Err(fail(format!("its shape is [batch, {:?}], not [batch, classes]", shape.row))
                .hint("detection, segmentation and token outputs are not supported"));
        }
    }
    graph.builder.finish(id)
}

/// Entries of constants that the shape arithmetic and the masks of a small file may need; about 24 bytes each.
const FREE_ENTRIES: usize = 1 << 20;
