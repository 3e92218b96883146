//! Values rounded to few levels (QuantizeLinear, DequantizeLinear on what depends on the image): the numbers of an integer network, in
//! floating point. Gradients pass straight through the rounding where it is not cut off; a note says so.

use super::arithmetic::Steps;
use super::array::Array;
use super::call::{Call, Graph, Value, one};
use crate::compose::MADE;
use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use robust_engine::{Activation, Binary, NodeId, Op};
use std::rc::Rc;

/// What the notes say of such networks.
pub const NOTE: &str = "activations are rounded to integers (quantised) at";

/// Smallest and largest integer of an element type.
pub(super) fn bounds(data_type: i64) -> Option<(f64, f64)> {
    Some(match data_type {
        2 => (0., 255.),
        3 => (-128., 127.),
        4 => (0., 65535.),
        5 => (-32768., 32767.),
        21 => (0., 15.),
        22 => (-8., 7.),
        25 => (0., 3.),
        26 => (-2., 1.),
        _ => return None,
    })
}

/// Input `i` as a value that broadcasts against one of `rank` axes: a number, or one for each index of the attribute `axis`.
fn along(graph: &mut Graph, call: &Call, i: usize, rank: usize) -> Result<NodeId> {
    let array: Rc<Array> = Rc::clone(call.known(i)?);
    if call.int("block_size", 0)? != 0 {
        return Err(call.fail("scales by blocks are not supported"));
    }
    let values = array.values().ok_or_else(|| call.fail(format!("input {i} depends on the batch size")))?;
    let dims = match values.len() {
        1 => vec![],
        n if array.dims.len() == 1 => {
            let axis = call.row_axis(call.int("axis", 1)?, rank)?;
            let mut dims = vec![1; rank];
            dims[axis] = n;
            dims
        }
        _ => return Err(call.fail(format!("input {i} has shape {:?}: a number or a list is supported", array.dims))),
    };
    // Scales as they are stored, in single precision.
    let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(DType::F32)?;
    let param = graph.derived(&format!("{MADE}{}", call.out()), &format!(".{i}"), tensor);
    graph.step(call, &format!("by{i}"), Op::Param(param), &[])
}

/// Whole numbers nearest to `x / scale`, ties to even, plus the zero point, within the range of the type.
pub fn quantize(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let zero = match call.input(2) {
        Some(_) => Some(Rc::clone(call.known(2)?)),
        None => None,
    };
    let stated = call.int("output_dtype", 0)?;
    let element = match &zero {
        Some(zero) => i64::from(zero.element),
        None if stated != 0 => stated,
        None => 2,
    };
    let (low, high) = bounds(element)
        .ok_or_else(|| call.fail(format!("its element type {element} is not an integer of 2 to 16 bits")))?;
    let values = match &zero {
        Some(zero) => zero.values().ok_or_else(|| call.fail("its zero point depends on the batch size"))?,
        None => vec![],
    };
    let scale = along(graph, call, 1, shape.rank())?;
    graph.rounded += 1;
    let mut s = Steps::new(graph, call);
    let scaled = s.two(Binary::Div, id, scale)?;
    // Without the zero point the range is moved, which is the same: all are whole numbers.
    if values.iter().all(|z| *z == 0.) {
        return one(s.act(Activation::Quantise(low, high), scaled)?);
    }
    if let [zero] = values[..] {
        let levels = s.act(Activation::Quantise(low - zero, high - zero), scaled)?;
        return one(s.by(Binary::Add, levels, zero)?);
    }
    // Of several zero points each has a range of its own: rounded first, then cut off.
    let wide = s.act(Activation::Quantise(-MOST, MOST), scaled)?;
    let zero = along(s.graph, call, 2, shape.rank())?;
    let moved = s.two(Binary::Add, wide, zero)?;
    // Half a level beyond the ends, so that the ends themselves have their slope; what is cut is whole.
    let cut = s.act(Activation::Clip(low - 0.5, high + 0.5), moved)?;
    one(s.act(Activation::Quantise(low, high), cut)?)
}

/// Beyond any range, and exact in single precision.
const MOST: f64 = (1 << 22) as f64;

/// `(x - zero) scale`.
pub fn dequantize(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let scale = along(graph, call, 1, shape.rank())?;
    let zero = match call.input(2) {
        Some(_) if call.known(2)?.values().is_some_and(|v| v.iter().any(|z| *z != 0.)) => {
            Some(along(graph, call, 2, shape.rank())?)
        }
        _ => None,
    };
    let mut s = Steps::new(graph, call);
    let x = zero.map_or(Ok(id), |zero| s.two(Binary::Sub, id, zero))?;
    one(s.two(Binary::Mul, x, scale)?)
}
