//! Constants that a file repeats once for each image. They are kept once, with a first axis of one entry; what looks along that axis would
//! see another number of entries than the file means.

use super::array::Num;
use super::call::{Call, Value};
use super::layout::slice_specs;
use super::views::permutation;
use robust_core::Result;

/// Ops of single entries, whose results are repeated as their inputs are.
const EACH: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Cos",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "Dropout",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Sqrt",
    "Sub",
    "Tanh",
    "Where",
];

/// Whether the result of a call on constants stands once for each image, too.
///
/// # Errors
/// Kind `Load` where it would look along the batch.
pub fn of(call: &Call) -> Result<bool> {
    let arrays = || {
        call.inputs.iter().flatten().filter_map(|v| match v {
            Value::Known(array) => Some(array),
            _ => None,
        })
    };
    let rank = match arrays().filter(|a| a.per_image).map(|a| a.dims.len()).max() {
        Some(rank) => rank,
        None => return Ok(false),
    };
    let fine = match call.op() {
        "Shape" | "Size" => return Ok(false),
        op if EACH.contains(&op) => arrays().all(|a| a.dims.len() <= rank && (a.dims.len() < rank || a.dims[0] == 1)),
        "Transpose" => permutation(call, rank)?[0] == 0,
        "Concat" | "Split" | "Gather" => call.axis(call.int("axis", 0)?, rank)? != 0,
        "Softmax" | "LogSoftmax" => call.axis(call.int("axis", -1)?, rank)? != 0 && call.opset >= 13,
        "CumSum" => call.short_ints(1)?.iter().all(|a| call.axis(*a, rank).is_ok_and(|a| a != 0)),
        "Slice" => {
            let specs = slice_specs(call, rank)?;
            specs.iter().all(|s| s.axis != 0 || s.start == 0 && s.end == i64::MAX && s.step == 1)
        }
        "Squeeze" => call.list("axes", 1)?.is_some_and(|l| l.iter().all(|a| call.axis(*a, rank).is_ok_and(|a| a != 0))),
        "Unsqueeze" => {
            call.list("axes", 1)?.is_some_and(|l| l.iter().all(|a| call.axis(*a, rank + l.len()).is_ok_and(|a| a != 0)))
        }
        op if op.starts_with("Reduce") => call
            .list("axes", 1)?
            .is_some_and(|l| !l.is_empty() && l.iter().all(|a| call.axis(*a, rank).is_ok_and(|a| a != 0))),
        "Reshape" => match merged(call)? {
            Some(count) => return Ok(count == 1),
            None => false,
        },
        "Expand" | "Tile" => {
            let target = call.known_nums(1)?;
            let own = if call.op() == "Tile" { Num::known(1) } else { Num::BATCH };
            target.len() < rank || target.len() == rank && [own, Num::known(1)].contains(&target[0])
        }
        "Flatten" => call.int("axis", 1)? == 1,
        // Rows by themselves.
        "Conv" | "LayerNormalization" | "Resize" | "BatchNormalization" | "GlobalAveragePool" => true,
        "MatMul" => rank > 2,
        _ => false,
    };
    match fine {
        true => Ok(true),
        false => Err(call
            .fail("it works along the batch axis of a constant that is repeated once for each image")
            .hint(super::call::BATCH_HINT)),
    }
}

/// Of a reshape, how many lines of each image its result's first axis holds: 1 where it stays the batch, more where others are merged
/// into it, as windows are.
fn merged(call: &Call) -> Result<Option<usize>> {
    let target = call.known_nums(1)?;
    let Some((first, rest)) = target.split_first() else { return Ok(None) };
    let copies = *first == Num::known(0) && call.int("allowzero", 0)? == 0;
    if copies || *first == Num::BATCH {
        return Ok(Some(1));
    }
    let len = call.known(0)?.len() as i64;
    let rest = rest.iter().try_fold(1i64, |n, d| n.checked_mul(d.value().filter(|d| *d > 0)?));
    let count = rest.filter(|r| len % r == 0).map(|r| len / r);
    Ok(count.filter(|c| *first == Num::known(-1) || *first == Num { fixed: 0, per_row: *c }).map(|c| c as usize))
}
