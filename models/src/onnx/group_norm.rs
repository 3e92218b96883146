//! Norms over groups of channels and all places: layer norms of another shape, with a scale and a shift per channel behind.

use super::array::Array;
use super::call::{Call, Graph, Value, one};
use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use robust_engine::{NodeId, Op};
use std::rc::Rc;

/// Each channel by itself.
pub fn instance_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let Some((&channels, places)) = shape.row.split_first().filter(|(_, places)| !places.is_empty()) else {
        return Err(call.fail("its input has no axes after the channels"));
    };
    let normed = normed(graph, call, id, [channels, places.iter().product()], &shape.row)?;
    let (scale, shift) = (Rc::clone(call.known(1)?), Rc::clone(call.known(2)?));
    // PyTorch exports a group norm so, with nothing to scale and the real scale behind.
    if all(&scale, 1.) && all(&shift, 0.) {
        return one(graph.node(call, Op::Reshape { row: shape.row }, &[normed])?);
    }
    per_channel(graph, call, normed, channels, 1, [&scale, &shift])
}

/// Groups of as many channels; scale and shift are per group before opset 21, per channel from then on.
pub fn group_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let groups = call.int("num_groups", 0)?;
    let channels = shape.row.first().copied().unwrap_or(0);
    let fits = usize::try_from(groups).ok().filter(|&g| g > 0 && channels > 0 && channels % g == 0);
    let Some(groups) = fits else {
        return Err(call.fail(format!("num_groups = {groups} does not divide {channels} channels")));
    };
    let normed = normed(graph, call, id, [groups, shape.len() / groups], &shape.row)?;
    let (scale, shift) = (Rc::clone(call.known(1)?), Rc::clone(call.known(2)?));
    let repeat = if call.opset < 21 { channels / groups } else { 1 };
    per_channel(graph, call, normed, channels, repeat, [&scale, &shift])
}

fn all(array: &Array, value: f64) -> bool {
    array.values().is_some_and(|values| values.iter().all(|v| *v == value))
}

/// Mean 0 and variance 1 along each line of `lines`, in the shape it came in.
fn normed(graph: &mut Graph, call: &Call, id: NodeId, lines: [usize; 2], row: &[usize]) -> Result<NodeId> {
    let eps = call.float("epsilon", 1e-5)?;
    let flat = graph.step(call, "lines", Op::Reshape { row: lines.to_vec() }, &[id])?;
    let normed = graph.step(call, "normed", Op::LayerNorm { gamma: None, beta: None, eps }, &[flat])?;
    graph.step(call, "places", Op::Reshape { row: row.to_vec() }, &[normed])
}

/// The scale and the shift, each entry for `repeat` channels.
fn per_channel(
    graph: &mut Graph,
    call: &Call,
    id: NodeId,
    channels: usize,
    repeat: usize,
    [scale, shift]: [&Array; 2],
) -> Result<Vec<Value>> {
    graph.spend(call, &[4, channels])?;
    let mut spread = |array: &Array| {
        let tensor = array.tensor().filter(|t| t.dims() == [channels / repeat]);
        let tensor = tensor.ok_or_else(|| {
            call.fail(format!("`{}` has shape {:?}, not [{}]", array.name, array.dims, channels / repeat))
        })?;
        let each = tensor.unsqueeze(1)?.broadcast_as((channels / repeat, repeat))?.flatten_all()?;
        Ok(graph.derived(&array.name, &format!("[{channels}]"), each))
    };
    let (gamma, beta): (_, Result<_>) = (spread(scale)?, spread(shift));
    let constant = |value: f64| Tensor::full(value, channels, &Device::Cpu)?.to_dtype(DType::F64);
    let mean = graph.derived("group norm", &format!(".mean[{channels}]"), constant(0.)?);
    let var = graph.derived("group norm", &format!(".variance[{channels}]"), constant(1.)?);
    let op = Op::BatchNorm { mean, var, gamma: Some(gamma), beta: Some(beta?), eps: 0. };
    one(graph.node(call, op, &[id])?)
}
