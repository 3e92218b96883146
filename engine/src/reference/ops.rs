//! Which family computes an op, and what its pullback needs kept.

use super::array::Array;
use super::site::{How, Memory, Pulled, Remembered, Saves, Site};
use super::{
    activation, attention, binary, conv, dropout, grid, layer_norm, layout, linear, mean_sparse, norm, pick, pool,
    reduce, softmax, top,
};
use crate::cpu::Float;
use crate::graph::Op;
use robust_core::{Error, Result};
use std::sync::Arc;

/// What a trace must keep for the pullback to the inputs.
pub(super) fn saves(op: &Op) -> Saves {
    match op {
        Op::Act(act) => activation::saves(act),
        Op::Binary(kind) => binary::saves(*kind),
        Op::MatMul
        | Op::LayerNorm { .. }
        | Op::MeanSparse { .. }
        | Op::Attention { .. }
        | Op::KeepTop { .. }
        | Op::Sorted { .. }
        | Op::Choose
        | Op::GridSample { .. } => Saves::INPUTS,
        Op::Softmax { .. } | Op::LogSoftmax { .. } => Saves::OUTPUT,
        Op::Reduce { kind, .. } => reduce::saves(*kind),
        Op::Input
        | Op::Param(_)
        | Op::Conv2d { .. }
        | Op::Linear { .. }
        | Op::BatchNorm { .. }
        | Op::MaxPool(_)
        | Op::AvgPool { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::Pick { .. }
        | Op::Pad { .. }
        | Op::Dropout { .. } => Saves::NOTHING,
    }
}

/// `op` over `inputs`, as an array of shape `dims`, and what its pullback needs besides values.
pub(super) fn forward<F: Float>(
    op: &Op,
    mut inputs: Vec<Array<F>>,
    params: &[Array<F>],
    dims: Vec<usize>,
    how: &How<'_>,
) -> Result<(Array<F>, Option<Memory>)> {
    if let Op::Concat { axis } = op {
        return Ok((layout::concat(&inputs, *axis, dims)?, None));
    }
    if let Op::Attention { .. } = op {
        return Ok((attention::forward(op, &inputs, dims)?, None));
    }
    if let Op::Choose = op {
        return Ok((binary::choose(&inputs, &dims)?, None));
    }
    let second = if inputs.len() > 1 { inputs.pop() } else { None };
    let two = || second.clone().ok_or_else(|| Error::internal(format!("{} needs two inputs", op.name())));
    let Some(x) = inputs.pop() else {
        return match op {
            Op::Param(p) => Ok((params[p.0].clone(), None)),
            _ => Err(Error::internal(format!("{} needs an input", op.name()))),
        };
    };
    let y = match op {
        Op::Input | Op::Param(_) | Op::Concat { .. } | Op::Attention { .. } | Op::Choose => x,
        Op::Conv2d { .. } => conv::forward(op, &x, dims, params)?,
        Op::Linear { weight, bias } => linear::forward(&x, &params[weight.0], bias.map(|b| &params[b.0]), dims),
        Op::MatMul => linear::matmul(&x, &two()?, dims)?,
        Op::BatchNorm { .. } if how.train.is_some() => {
            let (y, moments) = norm::forward_batch(op, x, params)?;
            return Ok((y, Some(Arc::new(Remembered::Moments(moments)))));
        }
        Op::BatchNorm { .. } => norm::forward(op, x, params)?,
        Op::Dropout { rate } => {
            let (y, passed) = dropout::forward(x, *rate, how.train.as_ref())?;
            return Ok((y, passed.map(|p| Arc::new(Remembered::Passed(p)))));
        }
        Op::MeanSparse { .. } => mean_sparse::forward(op, x, params)?,
        Op::LayerNorm { .. } => layer_norm::forward(op, x, params)?,
        Op::Act(act) => activation::forward(act, x),
        Op::Binary(kind) => binary::forward(*kind, x, two()?, dims)?,
        Op::Softmax { axis } => softmax::forward(x, *axis, false),
        Op::LogSoftmax { axis } => softmax::forward(x, *axis, true),
        Op::MaxPool(window) => {
            let (y, winners) = pool::max(&x, window, dims, how.record);
            return Ok((y, winners.map(|w| Arc::new(Remembered::Winners(w)))));
        }
        Op::AvgPool { window, count_pads } => pool::average(&x, window, *count_pads, dims),
        Op::KeepTop { k } => top::forward(x, *k),
        Op::Reduce { kind, axes, .. } => reduce::forward(*kind, x, axes, dims)?,
        Op::Reshape { .. } => x.with_dims(dims),
        Op::Transpose { axes } => layout::transpose(&x, axes),
        Op::Slice { axis, start, step, .. } => layout::slice(&x, *axis, [*start, *step], dims),
        Op::Pick { from, .. } => pick::forward(&x, from, dims),
        Op::Sorted { k, largest } => top::sorted(&x, *k, *largest, dims),
        Op::GridSample { nearest, edge, corners } => {
            grid::forward(&grid::Rule { nearest: *nearest, edge: *edge, corners: *corners }, &x, &two()?, dims)
        }
        Op::Pad { pads, value } => layout::pad(&x, pads, *value, dims),
    };
    Ok((y, None))
}

/// The transpose of the op's derivative applied to `grad`.
pub(super) fn pull<F: Float>(op: &Op, site: &Site<'_, F>, grad: Array<F>) -> Result<Pulled<F>> {
    let dims = || site.input_dims[0].clone();
    Ok(match op {
        Op::Input => Pulled { inputs: vec![], params: vec![] },
        Op::Param(p) => Pulled { inputs: vec![], params: vec![(*p, grad)] },
        Op::Conv2d { .. } => conv::pull(op, site, grad)?,
        Op::Linear { .. } => linear::pull(linear::ids(op)?, site, grad)?,
        Op::MatMul => linear::pull_matmul(site, grad)?,
        Op::BatchNorm { .. } => norm::pull(op, site, grad)?,
        Op::MeanSparse { .. } => mean_sparse::pull(op, site, grad)?,
        Op::LayerNorm { .. } => layer_norm::pull(op, site, grad)?,
        Op::Attention { .. } => attention::pull(op, site, grad)?,
        Op::Act(act) => match activation::saves(act) {
            Saves::OUTPUT => Pulled::one(activation::pull(act, site.output()?, grad)),
            Saves::INPUTS => Pulled::one(activation::pull(act, site.input(0)?, grad)),
            _ => Pulled::one(activation::pull_blind(act, grad)),
        },
        Op::Binary(kind) => binary::pull(*kind, site, grad)?,
        Op::Choose => binary::pull_choice(site, &grad)?,
        Op::Softmax { axis } => Pulled::one(softmax::pull(site.output()?, *axis, false, grad)),
        Op::LogSoftmax { axis } => Pulled::one(softmax::pull(site.output()?, *axis, true, grad)),
        Op::MaxPool(_) => {
            let Remembered::Winners(winners) = site.memory()? else {
                return Err(Error::internal("the tape lacks a pool's winners"));
            };
            Pulled::one(pool::pull_max(&grad, winners, &dims()))
        }
        Op::AvgPool { window, count_pads } => Pulled::one(pool::pull_average(&grad, window, *count_pads, &dims())),
        Op::KeepTop { k } => Pulled::one(top::pull(site.input(0)?, *k, grad)),
        Op::Reduce { kind, axes, .. } => reduce::pull(*kind, site, axes, grad)?,
        Op::Reshape { .. } => Pulled::one(grad.with_dims(dims())),
        Op::Transpose { axes } => Pulled::one(layout::pull_transpose(&grad, axes)),
        Op::Concat { axis } => layout::pull_concat(site, *axis, &grad)?,
        Op::Slice { axis, start, step, .. } => Pulled::one(layout::pull_slice(&grad, *axis, [*start, *step], &dims())),
        Op::Pick { from, .. } => Pulled::one(pick::pull(&grad, from, &dims())),
        Op::Sorted { k, largest } => Pulled::one(top::pull_sorted(site.input(0)?, *k, *largest, &grad)),
        Op::GridSample { nearest, edge, corners } => {
            grid::pull(&grid::Rule { nearest: *nearest, edge: *edge, corners: *corners }, site, &grad)?
        }
        Op::Pad { pads, .. } => Pulled::one(layout::pull_pad(&grad, pads, &dims())),
        Op::Dropout { rate } => Pulled::one(dropout::pull(grad, *rate, site)?),
    })
}
