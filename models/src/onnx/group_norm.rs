//! Norms over groups of channels and all places.

use super::array::Array;
use super::call::{Call, Graph, Value, one};
use crate::compose;
use robust_core::Result;
use robust_engine::{NodeId, ParamId};
use std::rc::Rc;

/// Each channel by itself.
pub fn instance_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    if shape.rank() < 3 {
        return Err(call.fail("its input has no axes after the channels"));
    }
    let channels = shape.row[0];
    normed(graph, call, id, [channels, channels, 1])
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
    let repeat = if call.opset < 21 { channels / groups } else { 1 };
    normed(graph, call, id, [channels, groups, repeat])
}

/// Scale and shift have an entry for every `repeat` channels.
fn normed(graph: &mut Graph, call: &Call, id: NodeId, [channels, groups, repeat]: [usize; 3]) -> Result<Vec<Value>> {
    let eps = call.float("epsilon", 1e-5)?;
    let both = [Rc::clone(call.known(1)?), Rc::clone(call.known(2)?)];
    if let Some(odd) = both.iter().find(|a| a.dims != [channels / repeat] || a.tensor().is_none()) {
        return Err(call.fail(format!("`{}` has shape {:?}, not [{}]", odd.name, odd.dims, channels / repeat)));
    }
    // PyTorch exports a group norm with nothing to scale here and the real scale behind.
    let plain = every(&both[0], 1.) && every(&both[1], 0.);
    let affine = if plain { None } else { Some(spread(graph, call, &both, [channels, repeat])?) };
    let made = compose::group_norm(&mut graph.builder, id, call.out(), (groups, eps), affine);
    one(made.map_err(|e| e.within(format!("ONNX op {}", call.op())))?)
}

fn every(array: &Array, value: f64) -> bool {
    array.values().is_some_and(|values| values.iter().all(|v| *v == value))
}

/// Scale and shift, one entry for each channel.
fn spread(
    graph: &mut Graph,
    call: &Call,
    both: &[Rc<Array>; 2],
    [channels, repeat]: [usize; 2],
) -> Result<[ParamId; 2]> {
    graph.spend(call, &[6, channels])?;
    let mut one = |array: &Array| -> Result<ParamId> {
        let tensor = array.tensor().ok_or_else(|| call.fail(format!("`{}` is not floating point", array.name)))?;
        let each = tensor.unsqueeze(1)?.broadcast_as((channels / repeat, repeat))?.flatten_all()?;
        Ok(graph.derived(&array.name, &format!("[{channels}]"), each))
    };
    Ok([one(&both[0])?, one(&both[1])?])
}
