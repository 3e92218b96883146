//! Attention as one operator (opset 23 and later), made of products and a softmax.

use super::arithmetic::Steps;
use super::call::{Call, Graph, Value, one};
use super::views::{View, broadcast};
use crate::compose::MADE;
use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use robust_engine::{Activation, Binary, NodeId, Op};

/// `[heads, tokens, width]` of a value that has them apart, or as one axis `[tokens, heads x width]`.
fn heads(s: &mut Steps, call: &Call, id: NodeId, name: &str) -> Result<(NodeId, [usize; 3])> {
    let shape = s.graph.builder.shape(id).clone();
    match shape.row[..] {
        [h, t, d] if shape.batched => Ok((id, [h, t, d])),
        [t, all] if shape.batched => {
            let h = usize::try_from(call.int(name, 0)?).ok().filter(|h| *h > 0 && all % h == 0);
            let h = h.ok_or_else(|| call.fail(format!("attribute `{name}` does not divide {all} entries")))?;
            let apart = s.node(Op::Reshape { row: vec![t, h, all / h] }, &[id])?;
            Ok((s.node(Op::Transpose { axes: vec![0, 2, 1, 3] }, &[apart])?, [h, t, all / h]))
        }
        _ => Err(call.fail(format!("queries, keys and values are [n, heads, tokens, width], not {:?}", shape.row))),
    }
}

/// What is added to the scores `[asking, asked]` so that some are not seen: nothing, or minus infinity.
fn unseen(call: &Call, asking: usize, asked: usize) -> Result<Option<Vec<f64>>> {
    let causal = call.int("is_causal", 0)? != 0;
    let (left, right) = (call.int("left_window_size", -1)?, call.int("right_window_size", -1)?);
    if !causal && left < 0 && right < 0 {
        return Ok(None);
    }
    let seen = |i: i64, j: i64| (!causal || j <= i) && (left < 0 || j >= i - left) && (right < 0 || j <= i + right);
    let at = |k: usize| seen((k / asked) as i64, (k % asked) as i64);
    Ok(Some((0..asking * asked).map(|k| if at(k) { 0. } else { f64::NEG_INFINITY }).collect()))
}

/// What is added to the scores: the mask a file holds, a constant or another value, and what is not seen anyway.
fn bias(s: &mut Steps, call: &Call, [asking, asked]: [usize; 2]) -> Result<Option<NodeId>> {
    let unseen = unseen(call, asking, asked)?;
    let (mut dims, mut values) = (vec![1, asking, asked], unseen.unwrap_or_default());
    s.graph.spend(call, &dims)?;
    let mask = match call.input(3) {
        Some(Value::Known(array)) => {
            let mask = array.values().ok_or_else(|| call.fail("its mask depends on the batch size"))?;
            let truths = array.tensor().is_none();
            let added = |v: f64| if truths { if v == 0. { f64::NEG_INFINITY } else { 0. } } else { v };
            if values.is_empty() {
                values = vec![0.; asking * asked];
            }
            let all = broadcast(&array.dims, &dims);
            let all = all.filter(|all| all.ends_with(&dims[1..]));
            let all = all.ok_or_else(|| call.fail(format!("a mask {:?} does not fit {dims:?}", array.dims)))?;
            s.graph.spend(call, &all)?;
            let places = |own: &[usize]| View::of(own).expand(&all).indices();
            let pairs = places(&array.dims).into_iter().zip(places(&dims));
            values = pairs.map(|(i, j)| added(mask[i as usize]) + values[j as usize]).collect();
            dims = all;
            None
        }
        Some(_) => {
            let id = s.graph.any(call, 3)?;
            if s.graph.masks.contains(&id) {
                return Err(call.fail("masks of truths that depend on the image are not supported"));
            }
            Some(id)
        }
        None => None,
    };
    // Runtimes differ in what such a token becomes.
    if values.chunks(asked).any(|line| line.iter().all(|v| *v == f64::NEG_INFINITY)) {
        return Err(call.fail("its mask lets a token see nothing"));
    }
    if values.is_empty() {
        return Ok(mask);
    }
    let tensor = Tensor::from_vec(values, dims.as_slice(), &Device::Cpu)?.to_dtype(DType::F32)?;
    let param = s.graph.derived(&format!("{MADE}{}", call.out()), ".unseen", tensor);
    let own = s.node(Op::Param(param), &[])?;
    match mask {
        Some(mask) => s.two(Binary::Add, mask, own).map(Some),
        None => Ok(Some(own)),
    }
}

/// `softmax(scale q k^T + mask) v`, head by head; several heads of queries may share one of keys and values.
pub fn attention(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    if (4..7).any(|i| call.input(i).is_some()) {
        return Err(call.fail("keys and values of earlier calls are not supported"));
    }
    let inputs = [graph.any(call, 0)?, graph.any(call, 1)?, graph.any(call, 2)?];
    let joined = graph.builder.shape(inputs[0]).row.len() == 2;
    let mut s = Steps::new(graph, call);
    let (q, [h, asking, d]) = heads(&mut s, call, inputs[0], "q_num_heads")?;
    let (k, [shared, asked, keys]) = heads(&mut s, call, inputs[1], "kv_num_heads")?;
    let (v, [valued, tokens, width]) = heads(&mut s, call, inputs[2], "kv_num_heads")?;
    if shared != valued || asked != tokens || d != keys || h % shared != 0 {
        return Err(
            call.fail(format!("{h} heads of {d} entries do not fit {shared} of {keys} and {valued} of {width}"))
        );
    }
    let group = h / shared;
    let apart = |s: &mut Steps, id: NodeId, row: [usize; 4]| s.node(Op::Reshape { row: row.to_vec() }, &[id]);
    let q = apart(&mut s, q, [shared, group, asking, d])?;
    let k = s.node(Op::Transpose { axes: vec![0, 1, 3, 2] }, &[k])?;
    let k = apart(&mut s, k, [shared, 1, d, asked])?;
    let v = apart(&mut s, v, [shared, 1, asked, width])?;
    let scores = s.node(Op::MatMul, &[q, k])?;
    let scores = s.by(Binary::Mul, scores, call.float("scale", 1. / (d as f64).sqrt())?)?;
    let mut scores = s.node(Op::Reshape { row: vec![h, asking, asked] }, &[scores])?;
    let cap = call.float("softcap", 0.)?;
    if cap > 0. {
        let small = s.by(Binary::Div, scores, cap)?;
        let bent = s.act(Activation::Tanh, small)?;
        scores = s.by(Binary::Mul, bent, cap)?;
    }
    if let Some(bias) = bias(&mut s, call, [asking, asked])? {
        scores = s.two(Binary::Add, scores, bias)?;
    }
    let weights = s.node(Op::Softmax { axis: 3 }, &[scores])?;
    let weights = apart(&mut s, weights, [shared, group, asking, asked])?;
    let mixed = s.node(Op::MatMul, &[weights, v])?;
    let mixed = s.node(Op::Reshape { row: vec![h, asking, width] }, &[mixed])?;
    if !joined {
        return one(mixed);
    }
    let turned = s.node(Op::Transpose { axes: vec![0, 2, 1, 3] }, &[mixed])?;
    one(s.node(Op::Reshape { row: vec![asking, h * width] }, &[turned])?)
}
