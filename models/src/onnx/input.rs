//! The graph's image input: its size, its batch, and the order of its axes.

use super::array::is_float;
use super::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::Options;
use robust_core::{Error, Result};
use std::collections::{HashMap, HashSet};

/// One row of the input as the network takes it, and what the file has instead.
#[derive(Debug, PartialEq)]
pub struct Input<'a> {
    pub name: &'a str,
    /// Channels first for images.
    pub row: Vec<usize>,
    /// The batch size the file was exported with, if it is not symbolic.
    pub batch: Option<usize>,
    /// Whether the file wants `[n, h, w, c]`.
    pub channels_last: bool,
}

/// Reads the one input that is not a weight.
///
/// # Errors
/// Kind `Load` for inputs that are no images, kind `Usage` for options that do not fit.
pub fn read<'a>(
    graph: &'a GraphProto,
    weights: &HashMap<&str, usize>,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Input<'a>> {
    let input = only(graph, weights)?;
    let (row, batch) = dims(input)?;
    let channels_last = match options.layout.as_deref() {
        Some(_) if row.len() != 3 => {
            return Err(Error::usage(format!(
                "`layout` is for images; the input `{}` has {} axes",
                input.name,
                row.len() + 1
            )));
        }
        Some(layout) => layout == "nhwc",
        None => row.len() == 3 && turned(graph, &input.name, weights),
    };
    if channels_last && options.layout.is_none() {
        notes.push(format!(
            "the graph wants channels last ({}) and transposes them first: images are given channels first",
            text(&row)
        ));
    }
    if let (None, false, [Some(a), _, Some(c)]) = (&options.layout, channels_last, &row[..])
        && [1, 3].contains(c)
        && !(1..=4).contains(a)
    {
        notes.push(format!(
            "the input has {a} channels by its shape ({}); `?layout=nhwc` if it is channels last",
            text(&row)
        ));
    }
    let row = sized(&input.name, row, channels_last, options)?;
    if stated(input).is_some_and(|d| d < 0) {
        notes.push("the file states the batch as -1: it is read for any batch".to_string());
    }
    if let Some(fixed) = batch {
        notes.push(format!("the file fixes the batch at {fixed}: it is read for any batch"));
    }
    Ok(Input { name: &input.name, row, batch, channels_last })
}

/// The one graph input that is not a weight.
fn only<'a>(graph: &'a GraphProto, weights: &HashMap<&str, usize>) -> Result<&'a ValueInfoProto> {
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

/// The batch as the file has it, if it is a number.
fn stated(input: &ValueInfoProto) -> Option<i64> {
    let shape = input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    shape.dim.first()?.dim_value
}

type Row = Vec<Option<usize>>;

/// The dimensions as the file states them, `None` where it leaves them open, without the batch; and the batch it fixes.
fn dims(input: &ValueInfoProto) -> Result<(Row, Option<usize>)> {
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
    // Some writers say 0 or -1 for what is open.
    let dims: Vec<Option<i64>> =
        tensor.shape.iter().flat_map(|s| &s.dim).map(|d| d.dim_value.filter(|&v| v != 0 && v != -1)).collect();
    let Some((batch, row)) = dims.split_first().filter(|(_, row)| (1..=5).contains(&row.len())) else {
        return Err(fail(format!("it has {} axes; a batch of images has 4", dims.len())));
    };
    if row.iter().flatten().any(|&d| !(1..=1 << 28).contains(&d)) || batch.is_some_and(|b| b < 1) {
        return Err(fail(format!("its dimensions {dims:?} make no sense")));
    }
    Ok((row.iter().map(|d| d.map(|d| d as usize)).collect(), batch.map(|b| b as usize)))
}

/// The row channels first, with what the user says where the file leaves it open.
fn sized(name: &str, row: Row, channels_last: bool, options: &Options) -> Result<Vec<usize>> {
    let row = match row[..] {
        [h, w, c] if channels_last => vec![c, h, w],
        _ => row,
    };
    let Some(wanted) = options.input else {
        let known: Option<Vec<usize>> = row.iter().copied().collect();
        return known.ok_or_else(|| {
            Error::load(format!("input `{name}`"), "it leaves its size open")
                .hint("say which with `?input=CxHxW`, for instance `?input=3x224x224`")
        });
    };
    if row.len() != 3 || row.iter().zip(wanted).any(|(d, w)| d.is_some_and(|d| d != w)) {
        return Err(Error::usage(format!(
            "input={} does not fit the file's {}",
            wanted.map(|d| d.to_string()).join("x"),
            text(&row)
        )));
    }
    Ok(wanted.to_vec())
}

fn text(row: &[Option<usize>]) -> String {
    row.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect::<Vec<String>>().join("x")
}

/// Whether every path from the input begins with a transposition to channels first, behind nothing but arithmetic with
/// constants: only a graph whose images are channels last does that.
fn turned(graph: &GraphProto, input: &str, weights: &HashMap<&str, usize>) -> bool {
    let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    let mut constants: HashSet<&str> = weights.keys().copied().collect();
    for node in &graph.node {
        node.input.iter().for_each(|i| readers.entry(i).or_default().push(node));
        if node.op_type == "Constant" {
            constants.extend(node.output.iter().map(String::as_str));
        }
    }
    let (mut open, mut found) = (vec![input], false);
    let mut seen = HashSet::from([input]);
    while let Some(at) = open.pop() {
        for node in readers.get(at).map(|n| &n[..]).unwrap_or_default() {
            match node.op_type.as_str() {
                "Transpose" => {
                    let perm = node.attribute.iter().find(|a| a.name == "perm").map(|a| &a.ints[..]);
                    if perm != Some(&[0, 3, 1, 2]) {
                        return false;
                    }
                    found = true;
                }
                "Shape" => {}
                "Identity" | "Cast" | "Sub" | "Add" | "Mul" | "Div" | "Neg"
                    if node.input.iter().all(|i| i == at || constants.contains(i.as_str())) =>
                {
                    open.extend(node.output.iter().map(String::as_str).filter(|o| seen.insert(*o)));
                }
                _ => return false,
            }
        }
    }
    found
}
