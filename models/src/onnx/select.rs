//! Entries of an image picked along an axis in any order: flips, repetitions, reflected and wrapped edges.

use super::call::{Call, Graph, Value, one};
use super::views::MAX_EXTENT;
use crate::compose::MADE;
use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use robust_engine::{NodeId, Op};

/// Runs of neighbours that are cut out and joined; more are picked by a matrix.
const MAX_RUNS: usize = 16;

/// The entries `list` along `axis` (not 0) of `id`, each below its size.
pub fn select(graph: &mut Graph, call: &Call, id: NodeId, axis: usize, list: &[usize]) -> Result<NodeId> {
    let dim = graph.builder.shape(id).row[axis - 1];
    if list.is_empty() {
        return Err(call.fail(format!("nothing of axis {axis} is left")));
    }
    let runs = runs(list);
    if let [(0, count, 1)] = runs[..]
        && count == dim
    {
        return Ok(id);
    }
    let cut = |(start, count, step): (usize, usize, usize)| Op::Slice {
        axis,
        start,
        end: start + (count - 1) * step + 1,
        step,
    };
    let at = list[0];
    let what = format!("axis{axis}.{at}");
    match runs[..] {
        [run] => graph.step(call, &what, cut(run), &[id]),
        _ if runs.len() <= MAX_RUNS => {
            let parts =
                runs.iter().enumerate().map(|(i, &run)| graph.step(call, &format!("{what}.{i}"), cut(run), &[id]));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            graph.step(call, &what, Op::Concat { axis }, &parts)
        }
        _ => by_matrix(graph, call, id, axis, list),
    }
}

/// `(start, count, step)` of entries at equal distances, in order.
fn runs(list: &[usize]) -> Vec<(usize, usize, usize)> {
    let mut all: Vec<(usize, usize, usize)> = vec![];
    for &at in list {
        match all.last_mut() {
            Some((start, count, step)) if *count == 1 && at > *start => (*count, *step) = (2, at - *start),
            Some((start, count, step)) if *count > 1 && at == *start + *count * *step => *count += 1,
            _ => all.push((at, 1, 1)),
        }
    }
    all
}

fn by_matrix(graph: &mut Graph, call: &Call, id: NodeId, axis: usize, list: &[usize]) -> Result<NodeId> {
    let shape = graph.builder.shape(id).clone();
    let dim = shape.row[axis - 1];
    graph.spend(call, &[list.len(), dim])?;
    let mut entries = vec![0f32; list.len() * dim];
    list.iter().enumerate().for_each(|(i, &at)| entries[i * dim + at] = 1.);
    let matrix = Tensor::from_vec(entries, (list.len(), dim), &Device::Cpu)?.to_dtype(DType::F32)?;
    let weight = graph.derived(&format!("{MADE}{}", call.out()), &format!(".axis{axis}.{}", list[0]), matrix);
    let last = shape.rank() - 1;
    let mut axes: Vec<usize> = (0..shape.rank()).collect();
    axes.swap(axis, last);
    let what = format!("axis{axis}.{}", list[0]);
    let turn = |graph: &mut Graph, end: &str, id: NodeId| match axis == last {
        true => Ok(id),
        false => graph.step(call, &format!("{what}.{end}"), Op::Transpose { axes: axes.clone() }, &[id]),
    };
    let turned = turn(graph, "turned", id)?;
    let picked = graph.step(call, &what, Op::Linear { weight, bias: None }, &[turned])?;
    turn(graph, "back", picked)
}

/// Where the entries of a padded axis come from; an error text for modes that are not known and images too small for them.
/// Negative amounts take entries away, before anything is continued.
pub fn padded(mode: &str, dim: usize, before: i64, after: i64) -> std::result::Result<Vec<usize>, String> {
    let (low, n) = ((-before).max(0), dim as i64 + before.min(0) + after.min(0));
    let at = |i: i64| match mode {
        "edge" => Some(i.clamp(0, n - 1)),
        "wrap" => Some(i.rem_euclid(n)),
        "reflect" if n > 1 => {
            let i = i.rem_euclid(2 * (n - 1));
            Some(i.min(2 * (n - 1) - i))
        }
        "reflect" => Some(0),
        _ => (0..n).contains(&i).then_some(i),
    };
    if !["edge", "wrap", "reflect", "constant"].contains(&mode) {
        return Err(format!("padding mode `{mode}` is not supported"));
    }
    let (before, after) = (before.max(0), after.max(0));
    if n < 1 || n + before + after > MAX_EXTENT {
        return Err(format!("of an axis of {dim} entries {n} are left, {before} and {after} are added"));
    }
    let all: Option<Vec<usize>> = (-before..n + after).map(|i| at(i).map(|i| (i + low) as usize)).collect();
    all.ok_or_else(|| "it pads with constants here".to_string())
}

/// Repeats the image's entries along its axes.
pub fn tile(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (mut id, shape) = graph.rows(call, 0)?;
    let times = call.short_ints(1)?;
    if times.len() != shape.rank() || times.first() != Some(&1) {
        return Err(call
            .fail(format!("its repeats {times:?} do not fit a value of {} axes, or repeat the batch", shape.rank())));
    }
    for (axis, &t) in times.iter().enumerate().skip(1).filter(|(_, t)| **t != 1) {
        let dim = shape.row[axis - 1];
        let count = usize::try_from(t)
            .ok()
            .and_then(|t| t.checked_mul(dim))
            .filter(|&n| (1..=MAX_EXTENT as usize).contains(&n));
        let count =
            count.ok_or_else(|| call.fail(format!("axis {axis} of {dim} entries cannot be repeated {t} times")))?;
        graph.spend(call, &[count])?;
        let list: Vec<usize> = (0..count).map(|i| i % dim).collect();
        id = select(graph, call, id, axis, &list)?;
    }
    one(id)
}

/// Blocks of channels as blocks of places.
pub fn depth_to_space(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, [c, h, w], b) = blocks(graph, call)?;
    if c % (b * b) != 0 {
        return Err(call.fail(format!("{c} channels are not a multiple of {b} x {b}")));
    }
    let rest = c / (b * b);
    let (row, axes) = match call.text("mode", "DCR")?.as_str() {
        "DCR" => (vec![b, b, rest, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![rest, b, b, h, w], vec![0, 1, 4, 2, 5, 3]),
        other => return Err(call.fail(format!("mode `{other}` is unknown"))),
    };
    let cut = graph.step(call, "blocks", Op::Reshape { row }, &[id])?;
    let turned = graph.step(call, "turned", Op::Transpose { axes }, &[cut])?;
    one(graph.node(call, Op::Reshape { row: vec![rest, h * b, w * b] }, &[turned])?)
}

/// Blocks of places as blocks of channels.
pub fn space_to_depth(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, [c, h, w], b) = blocks(graph, call)?;
    if h % b != 0 || w % b != 0 {
        return Err(call.fail(format!("{h} x {w} places are not a multiple of {b} x {b}")));
    }
    let cut = graph.step(call, "blocks", Op::Reshape { row: vec![c, h / b, b, w / b, b] }, &[id])?;
    let turned = graph.step(call, "turned", Op::Transpose { axes: vec![0, 3, 5, 1, 2, 4] }, &[cut])?;
    one(graph.node(call, Op::Reshape { row: vec![c * b * b, h / b, w / b] }, &[turned])?)
}

fn blocks(graph: &Graph, call: &Call) -> Result<(NodeId, [usize; 3], usize)> {
    let (id, shape) = graph.rows(call, 0)?;
    let b = call.int("blocksize", 0)?;
    match (&shape.row[..], usize::try_from(b)) {
        (&[c, h, w], Ok(b)) if (1..=1 << 12).contains(&b) => Ok((id, [c, h, w], b)),
        _ => Err(call.fail(format!("blocksize {b} on {:?}", shape.row))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_continued_as_numpy_does() {
        // numpy.pad(range(4), (3, 2), mode)
        assert_eq!(padded("edge", 4, 3, 2).unwrap(), [0, 0, 0, 0, 1, 2, 3, 3, 3]);
        assert_eq!(padded("reflect", 4, 3, 2).unwrap(), [3, 2, 1, 0, 1, 2, 3, 2, 1]);
        assert_eq!(padded("wrap", 4, 3, 2).unwrap(), [1, 2, 3, 0, 1, 2, 3, 0, 1]);
        assert_eq!(padded("constant", 4, -1, -2).unwrap(), [1]);
        assert_eq!(padded("wrap", 4, 2, -1).unwrap(), [1, 2, 0, 1, 2]);
        assert!(padded("constant", 4, 1, 0).is_err());
        assert!(padded("edge", 4, -3, -1).is_err());
    }

    #[test]
    fn runs_are_taken_together() {
        assert_eq!(runs(&[0, 1, 2, 5, 7, 9, 3]), [(0, 3, 1), (5, 3, 2), (3, 1, 1)]);
        assert_eq!(runs(&[2, 1, 0]), [(2, 1, 1), (1, 1, 1), (0, 1, 1)]);
    }
}
