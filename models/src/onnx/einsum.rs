//! Sums of products over named axes (`bij,bjk->bik`), as transpositions around one product of matrices.

use super::call::{Call, Graph, Value, one};
use crate::compose::MADE;
use robust_core::Result;
use robust_engine::{NodeId, Op};
use std::rc::Rc;

/// A value with the names of its axes, the batch among them where it has one.
struct Named {
    id: NodeId,
    labels: Vec<char>,
    /// Without the batch.
    dims: Vec<usize>,
    batched: bool,
}

pub fn einsum(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let stated: String = call.text("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let equation = spelled_out(graph, call, &stated)?;
    let refuse = |why: &str| call.fail(format!("equation `{equation}`: {why}"));
    let (left, out) = equation.split_once("->").unwrap_or((&equation, ""));
    let parts: Vec<&str> = left.split(',').collect();
    let (&[a, b], true) = (&parts[..], call.inputs.len() == 2) else {
        return Err(refuse("products of two values are supported"));
    };
    let distinct =
        |text: &str| text.chars().enumerate().all(|(i, c)| c.is_ascii_alphabetic() && !text[..i].contains(c));
    if ![a, b, out].iter().all(|t| distinct(t)) {
        return Err(refuse("axes have one letter each, no two of a value the same"));
    }
    let (mut x, mut y) = (named(graph, call, 0, a)?, named(graph, call, 1, b)?);
    if !x.batched {
        (x, y) = (y, x);
    }
    let n = x.labels[0];
    let others_lead = y.labels.first() == Some(&n) && y.batched;
    if !x.batched || !out.starts_with(n) || y.batched != others_lead || !y.batched && y.labels.contains(&n) {
        return Err(refuse("the batch axis has to be the first of every value that depends on the image"));
    }
    let out: Vec<char> = out.chars().skip(1).collect();
    let own = |v: &Named| -> Vec<char> { v.labels.iter().skip(usize::from(v.batched)).copied().collect() };
    let (of_x, of_y) = (own(&x), own(&y));
    let shared: Vec<char> = out.iter().filter(|c| of_x.contains(c) && of_y.contains(c)).copied().collect();
    let summed: Vec<char> = of_x.iter().filter(|c| of_y.contains(c) && !out.contains(c)).copied().collect();
    let rows: Vec<char> = out.iter().filter(|c| of_x.contains(c) && !of_y.contains(c)).copied().collect();
    let columns: Vec<char> = out.iter().filter(|c| of_y.contains(c) && !of_x.contains(c)).copied().collect();
    let known = |c: &char| of_x.contains(c) || of_y.contains(c);
    let gone = of_x.iter().chain(&of_y).any(|c| !out.contains(c) && !summed.contains(c));
    if gone || !out.iter().all(known) {
        return Err(refuse("axes are summed that only one value has, or the result has others"));
    }
    let size = |list: &[char]| -> Option<Vec<usize>> {
        let dim = |v: &Named, own: &[char], c: &char| own.iter().position(|o| o == c).map(|i| v.dims[i]);
        list.iter()
            .map(|c| match (dim(&x, &of_x, c), dim(&y, &of_y, c)) {
                (Some(p), Some(q)) if p != q => None,
                (p, q) => p.or(q),
            })
            .collect()
    };
    let sizes = [&shared, &rows, &summed, &columns].map(|l| size(l));
    let [Some(s), Some(r), Some(k), Some(c)] = sizes else { return Err(refuse("axes of one name have several sizes")) };
    let [many, height, depth, width] = [&s, &r, &k, &c].map(|d| d.iter().product::<usize>());
    let left = arranged(graph, call, ("left", &x), &[&shared[..], &rows, &summed].concat(), vec![many, height, depth])?;
    let right =
        arranged(graph, call, ("right", &y), &[&shared[..], &summed, &columns].concat(), vec![many, depth, width])?;
    let product = graph.step(call, "product", Op::MatMul, &[left, right])?;
    let made: Vec<char> = [&shared[..], &rows, &columns].concat();
    let apart = graph.step(call, "apart", Op::Reshape { row: [s, r, c].concat() }, &[product])?;
    let order = out.iter().map(|c| made.iter().position(|m| m == c).map(|i| i + 1)).collect::<Option<Vec<usize>>>();
    let order = order.ok_or_else(|| refuse("its result has axes of no value"))?;
    let axes: Vec<usize> = std::iter::once(0).chain(order).collect();
    if axes.is_sorted() {
        return one(apart);
    }
    one(graph.node(call, Op::Transpose { axes }, &[apart])?)
}

/// The equation with letters of their own for the axes of `...`, and with its result.
fn spelled_out(graph: &Graph, call: &Call, stated: &str) -> Result<String> {
    let refuse = |why: &str| call.fail(format!("equation `{stated}`: {why}"));
    let (left, out) = match stated.split_once("->") {
        Some((left, out)) => (left.to_string(), Some(out.to_string())),
        None => (stated.to_string(), None),
    };
    let ranks: Vec<usize> = (0..call.inputs.len())
        .map(|i| match call.input(i) {
            Some(Value::Node(id)) => graph.builder.shape(*id).rank(),
            Some(Value::Known(array)) => array.dims.len(),
            _ => 0,
        })
        .collect();
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != ranks.len() {
        return Err(refuse("it has another number of values than the node"));
    }
    let free: Vec<char> = ('A'..='Z').filter(|c| !stated.contains(*c)).collect();
    let hidden = |part: &str, rank: usize| part.contains("...").then(|| rank.checked_sub(part.len() - 3)).flatten();
    let most = parts.iter().zip(&ranks).filter_map(|(p, &r)| hidden(p, r)).max().unwrap_or(0);
    if most > free.len() || parts.iter().zip(&ranks).any(|(p, &r)| p.contains("...") && hidden(p, r).is_none()) {
        return Err(refuse("its dots stand for no axes of the value"));
    }
    // Fewer axes are the last ones, as in broadcasting.
    let letters = |n: usize| free[most - n..most].iter().collect::<String>();
    let spelled = parts.iter().zip(&ranks).map(|(p, &r)| p.replacen("...", &letters(hidden(p, r).unwrap_or(0)), 1));
    let spelled = spelled.collect::<Vec<String>>().join(",");
    let out = match out {
        Some(out) => out.replacen("...", &letters(most), 1),
        None => {
            let once = |c: &char| spelled.matches(*c).count() == 1 && c.is_ascii_alphabetic() && !free.contains(c);
            let mut own: Vec<char> = spelled.chars().filter(once).collect();
            own.sort_unstable();
            letters(most) + &own.into_iter().collect::<String>()
        }
    };
    Ok(format!("{spelled}->{out}"))
}

fn named(graph: &mut Graph, call: &Call, i: usize, text: &str) -> Result<Named> {
    let id = match call.need(i)? {
        Value::Node(id) => *id,
        Value::Known(array) if array.tensor().is_some() => return constant(graph, call, i, text),
        _ => return Err(call.fail(format!("input {i} is not floating point"))),
    };
    let shape = graph.builder.shape(id).clone();
    let labels: Vec<char> = text.chars().collect();
    match shape.batched && labels.len() == shape.rank() {
        true => Ok(Named { id, labels, dims: shape.row, batched: true }),
        false => Err(call.fail(format!("input {i} has {} axes, the equation says `{text}`", shape.rank()))),
    }
}

fn constant(graph: &mut Graph, call: &Call, i: usize, text: &str) -> Result<Named> {
    let array = Rc::clone(call.known(i)?);
    let labels: Vec<char> = text.chars().collect();
    if labels.len() != array.dims.len() {
        return Err(call.fail(format!("input {i} has {} axes, the equation says `{text}`", array.dims.len())));
    }
    Ok(Named { id: graph.any(call, i)?, labels, dims: array.dims.clone(), batched: false })
}

/// The value with its axes in the order of `wanted`, taken together to `row`. A constant is arranged at import.
fn arranged(
    graph: &mut Graph,
    call: &Call,
    (side, value): (&str, &Named),
    wanted: &[char],
    row: Vec<usize>,
) -> Result<NodeId> {
    let places: Vec<usize> = wanted.iter().filter_map(|c| value.labels.iter().position(|l| l == c)).collect();
    if value.batched {
        let axes: Vec<usize> = std::iter::once(0).chain(places).collect();
        let turned = graph.step(call, &format!("{side}.turned"), Op::Transpose { axes }, &[value.id])?;
        return graph.step(call, side, Op::Reshape { row }, &[turned]);
    }
    let Some(array) = call.inputs.iter().flatten().find_map(|v| match v {
        Value::Known(array) => Some(Rc::clone(array)),
        _ => None,
    }) else {
        return Err(call.fail("its constant is missing"));
    };
    let tensor = array.tensor().ok_or_else(|| call.fail(format!("`{}` is not floating point", array.name)))?;
    graph.spend(call, &array.dims)?;
    let dims = [&[1], &row[..]].concat();
    let made = tensor.permute(places)?.contiguous()?.reshape(dims)?;
    let param = graph.derived(&format!("{MADE}{}", call.out()), &format!(".{side}"), made);
    graph.step(call, side, Op::Param(param), &[])
}
