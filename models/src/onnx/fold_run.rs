//! Constants that ops of networks compute: a network of the op alone, run once by the reference interpreter, and a few ops whose
//! axes may include the first.

use super::array::{Array, Data, Num};
use super::call::Lower;
use super::call::{Call, Graph, Value};
use super::layout::split_sizes;
use super::pointwise;
use super::views::{View, viewed};
use candle_core::{DType, Tensor};
use robust_core::Result;
use robust_engine::{Builder, Op, Reference};
use std::rc::Rc;
use std::sync::Arc;

/// Products one constant may take: seconds.
const MAX_PRODUCTS: usize = 1 << 30;

/// The value of an op whose inputs are all known. Its first input's first axis is taken for a batch, which no op but those below
/// mixes; an op of single entries takes every entry for a row.
pub(super) fn run(graph: &mut Graph, call: &Call, plain: Lower) -> Result<Vec<Value>> {
    let from = Rc::clone(call.known(0)?);
    let tensor = from.tensor().ok_or_else(|| call.fail("it is computed on floating point numbers alone"))?;
    let single = pointwise::ACTIVATIONS.contains(&call.op());
    let (rows, row) = match from.dims.split_first() {
        Some((&rows, row)) if !single => (rows, row.to_vec()),
        None if !single => return Err(call.fail("it is computed on values with axes alone")),
        _ => (from.len(), vec![]),
    };
    let mut builder = Builder::new();
    let x = builder.input("constant", &row)?;
    let mut inner = Graph::new(builder, Some(rows), graph.budget);
    let mut inputs = call.inputs.clone();
    inputs[0] = Some(Value::Node(x));
    let made = plain(&mut inner, &Call { node: call.node, opset: call.opset, inputs, hidden: 0 })?;
    let Some(&Value::Node(out)) = made.first() else { return Err(call.fail("it makes no value")) };
    let net = inner.builder.finish(out)?;
    let mut products = 0usize;
    for (node, shape) in net.nodes().iter().zip(net.shapes()) {
        let deep = match &node.op {
            Op::Conv2d { weight, .. } | Op::Linear { weight, .. } => {
                net.params()[weight.0].value.dims()[1..].iter().product()
            }
            Op::MatMul => node.inputs.first().and_then(|i| net.shapes()[i.0].row.last().copied()).unwrap_or(1),
            _ => 1usize,
        };
        products = products.saturating_add(shape.len().saturating_mul(rows).saturating_mul(deep));
        graph.spend(call, &[shape.len(), rows])?;
    }
    if products > MAX_PRODUCTS {
        return Err(call.fail(format!("{products} products for a constant are beyond {MAX_PRODUCTS}")));
    }
    let x = tensor.to_dtype(DType::F64)?.reshape([&[rows], &row[..]].concat())?;
    let value = Reference::new(Arc::new(net), DType::F64)?.forward(&x)?.to_dtype(tensor.dtype())?;
    let value = if single { value.reshape(from.dims.as_slice())? } else { value };
    Ok(vec![floats(call, value).into()])
}

fn floats(call: &Call, value: Tensor) -> Array {
    Array::new(call.out(), value.dims().to_vec(), Data::Float(value))
}

/// The parts of a constant.
pub(super) fn split(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let from = Rc::clone(call.known(0)?);
    let axis = call.axis(call.int("axis", 0)?, from.dims.len())?;
    let mut start = 0;
    let mut parts = vec![];
    for (size, name) in split_sizes(call, from.dims[axis])?.into_iter().zip(&call.node.output) {
        let mut view = View::of(&from.dims);
        view.offset = start * view.strides[axis];
        view.dims[axis] = size;
        start += size as i64;
        parts.push(Array { name: name.clone(), ..viewed(graph, call, view)? }.into());
    }
    Ok(parts)
}

/// The entries repeated along each axis as often as input 1 says.
pub(super) fn tile(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = Rc::clone(call.known(0)?);
    let mut times = call.known_nums(1)?;
    // Once per image: a leading 1 says the same, since it meets the batch axis later.
    let mut per_image = false;
    if let (Some(first), Some(1)) = (times.first_mut().filter(|n| **n == Num::BATCH), from.dims.first()) {
        *first = Num::known(1);
        per_image = true;
    }
    let times: Option<Vec<usize>> = times.into_iter().map(|t| usize::try_from(t.value()?).ok()).collect();
    let times = times.filter(|t| t.len() == from.dims.len() && !t.contains(&0));
    let times = times.ok_or_else(|| call.fail(format!("its repeats do not fit a value of shape {:?}", from.dims)))?;
    let all = from.dims.iter().zip(&times).map(|(&d, &t)| d.checked_mul(t)).collect::<Option<Vec<usize>>>();
    let all = all.ok_or_else(|| call.fail("its result is beyond any memory"))?;
    let own = View::of(&from.dims);
    let dims = times.iter().zip(&own.dims).flat_map(|(&t, &d)| [t, d]).collect();
    let strides = own.strides.iter().flat_map(|&s| [0, s]).collect();
    let made = viewed(graph, call, View { dims, strides, offset: 0 })?;
    let data = match made.data {
        Data::Float(t) => Data::Float(t.reshape(all.as_slice())?),
        ints => ints,
    };
    Ok(Array { dims: all, data, per_image, ..made })
}

/// Sums, means and their kin over any axes of floating point constants.
pub(super) fn reduce(graph: &mut Graph, call: &Call) -> Result<Option<Array>> {
    let from = Rc::clone(call.known(0)?);
    let Some(tensor) = from.tensor() else { return Ok(None) };
    let rank = from.dims.len();
    let mut axes = match call.list("axes", 1)?.filter(|l| !l.is_empty()) {
        Some(list) => list.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None if call.int("noop_with_empty_axes", 0)? != 0 => vec![],
        None => (0..rank).collect(),
    };
    axes.sort_unstable();
    axes.dedup();
    graph.spend(call, &[2, from.len()])?;
    let x = tensor.to_dtype(DType::F64)?;
    let n = axes.iter().map(|&a| from.dims[a]).product::<usize>() as f64;
    let sum = |x: &Tensor| x.sum_keepdim(axes.as_slice());
    let value = match call.op() {
        "ReduceSum" => sum(&x)?,
        "ReduceMean" => (sum(&x)? / n)?,
        "ReduceL1" => sum(&x.abs()?)?,
        "ReduceL2" => sum(&x.sqr()?)?.sqrt()?,
        "ReduceSumSquare" => sum(&x.sqr()?)?,
        "ReduceLogSum" => sum(&x)?.log()?,
        "ReduceMax" => axes.iter().try_fold(x, |x, &a| x.max_keepdim(a))?,
        "ReduceMin" => axes.iter().try_fold(x, |x, &a| x.min_keepdim(a))?,
        _ => return Ok(None),
    };
    let value = value.to_dtype(tensor.dtype())?;
    let value = match call.int("keepdims", 1)? {
        0 => {
            let kept: Vec<usize> = (0..rank).filter(|i| !axes.contains(i)).map(|i| from.dims[i]).collect();
            value.reshape(kept)?
        }
        _ => value,
    };
    Ok(Some(floats(call, value)))
}

/// The product of two constant matrices, or of stacks of them.
pub(super) fn matmul(graph: &mut Graph, call: &Call) -> Result<Option<Array>> {
    let (a, b) = (Rc::clone(call.known(0)?), Rc::clone(call.known(1)?));
    let (Some(x), Some(y)) = (a.tensor(), b.tensor()) else { return Ok(None) };
    let ([.., rows, inner], [.., same, columns]) = (&a.dims[..], &b.dims[..]) else { return Ok(None) };
    let lead = super::views::broadcast(&a.dims[..a.dims.len() - 2], &b.dims[..b.dims.len() - 2]);
    let Some(lead) = lead.filter(|_| inner == same && *inner > 0) else {
        return Err(call.fail(format!("{:?} and {:?} cannot be multiplied", a.dims, b.dims)));
    };
    let dims = [&lead[..], &[*rows, *columns]].concat();
    graph.spend(call, &dims)?;
    graph.spend(call, &[&lead[..], &[*rows, *inner]].concat())?;
    graph.spend(call, &[&lead[..], &[*inner, *columns]].concat())?;
    let products = dims.iter().product::<usize>().saturating_mul(*inner);
    if products > MAX_PRODUCTS {
        return Err(call.fail(format!("{products} products for a constant are beyond {MAX_PRODUCTS}")));
    }
    let value = x.to_dtype(DType::F64)?.broadcast_matmul(&y.to_dtype(DType::F64)?)?;
    Ok(Some(floats(call, value.to_dtype(x.dtype())?)))
}

/// Running sums along an axis.
pub(super) fn running_sums(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = Rc::clone(call.known(0)?);
    let axis = match call.short_ints(1)?[..] {
        [axis] => call.axis(axis, from.dims.len())?,
        _ => return Err(call.fail("its axis is not a single number")),
    };
    let (exclusive, reverse) = (call.int("exclusive", 0)? != 0, call.int("reverse", 0)? != 0);
    graph.spend(call, &[2, from.len()])?;
    let (dim, step) = (from.dims[axis], from.dims[axis + 1..].iter().product::<usize>());
    // Every line along the axis, in the order of summation.
    let places = |line: usize| {
        let start = line / step.max(1) * step * dim + line % step.max(1);
        (0..dim).map(move |i| start + (if reverse { dim - 1 - i } else { i }) * step)
    };
    let lines = from.len() / dim.max(1);
    if let Some(nums) = from.nums() {
        let mut out = nums.to_vec();
        for line in 0..lines {
            let mut sum = Num::known(0);
            for at in places(line) {
                let next = sum.add(nums[at]).ok_or_else(|| call.fail("a sum overflows"))?;
                out[at] = if exclusive { sum } else { next };
                sum = next;
            }
        }
        return Ok(Array::ints(call.out(), from.dims.clone(), out));
    }
    let values = from.values().unwrap_or_default();
    let mut out = values.clone();
    for line in 0..lines {
        let mut sum = 0.;
        for at in places(line) {
            out[at] = if exclusive { sum } else { sum + values[at] };
            sum += values[at];
        }
    }
    Array::floats(call.out(), from.dims.clone(), out, from.tensor().map_or(DType::F32, Tensor::dtype))
}

/// Weights stored as small integers: `(x - zero) scale`, with one zero and scale in all or one for each index of an axis.
pub(super) fn dequantised(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (from, scale) = (Rc::clone(call.known(0)?), Rc::clone(call.known(1)?));
    if call.int("block_size", 0)? != 0 {
        return Err(call.fail("scales by blocks are not supported"));
    }
    let Some(scales) = scale.tensor() else { return Err(call.fail("its scale is not floating point")) };
    let rank = from.dims.len();
    let mut dims = vec![1; rank];
    if scale.len() != 1 {
        let axis = call.axis(call.int("axis", 1)?, rank)?;
        dims[axis] = scale.len();
        if scale.dims != [from.dims[axis]] {
            return Err(call.fail(format!("{:?} scales for a weight of shape {:?}", scale.dims, from.dims)));
        }
    }
    graph.spend(call, &[3, from.len()])?;
    let read = |array: &Array| -> Result<Tensor> {
        match array.tensor() {
            Some(t) => Ok(t.clone()),
            None => {
                let values = array.values().unwrap_or_default();
                Ok(Tensor::from_vec(values, array.dims.as_slice(), &candle_core::Device::Cpu)?)
            }
        }
    };
    // The difference is exact; the product is rounded once where the integers fit single precision.
    let mut x = read(&from)?;
    if call.input(2).is_some() {
        let zero = Rc::clone(call.known(2)?);
        if zero.len() != scale.len() {
            return Err(call.fail(format!("{} zero points for {} scales", zero.len(), scale.len())));
        }
        x = x.broadcast_sub(&read(&zero)?.reshape(dims.as_slice())?.to_dtype(x.dtype())?)?;
    }
    let value = x.broadcast_mul(&scales.reshape(dims)?.to_dtype(x.dtype())?)?.to_dtype(scales.dtype())?;
    Ok(floats(call, value))
}

/// Weights rounded to small integers, which are kept as floating point numbers: as in `quantised`, in single precision.
pub(super) fn quantised(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (from, scale) = (Rc::clone(call.known(0)?), Rc::clone(call.known(1)?));
    if call.int("block_size", 0)? != 0 {
        return Err(call.fail("scales by blocks are not supported"));
    }
    let zero = if call.input(2).is_some() { Some(Rc::clone(call.known(2)?)) } else { None };
    let element = match (&zero, call.int("output_dtype", 0)?) {
        (Some(zero), _) => i64::from(zero.element),
        (None, 0) => 2,
        (None, stated) => stated,
    };
    let (low, high) = super::quantised::bounds(element)
        .ok_or_else(|| call.fail(format!("its element type {element} is not an integer of 2 to 16 bits")))?;
    let missing = || call.fail("its inputs depend on the batch size");
    let (values, scales) = (from.values().ok_or_else(missing)?, scale.values().ok_or_else(missing)?);
    let zeros = zero.map_or(Some(vec![0.]), |z| z.values()).ok_or_else(missing)?;
    let rank = from.dims.len();
    let (count, inner) = match scales.len() {
        1 => (1, 1),
        n => {
            let axis = call.axis(call.int("axis", 1)?, rank)?;
            if from.dims[axis] != n || scale.dims.len() != 1 {
                return Err(call.fail(format!("{:?} scales for a value of shape {:?}", scale.dims, from.dims)));
            }
            (n, from.dims[axis + 1..].iter().product::<usize>().max(1))
        }
    };
    if ![1, count].contains(&zeros.len()) {
        return Err(call.fail(format!("{} zero points for {count} scales", zeros.len())));
    }
    graph.spend(call, &[3, from.len()])?;
    let level = |(i, v): (usize, &f64)| {
        let c = i / inner % count;
        let scaled = f64::from(*v as f32 / scales[c] as f32);
        (scaled.round_ties_even() + zeros[c.min(zeros.len() - 1)]).clamp(low, high)
    };
    Array::floats(call.out(), from.dims.clone(), values.iter().enumerate().map(level).collect(), DType::F32)
}

/// A weight with mean 0 and variance 1 in each channel (weight standardisation, Qiao et al. 2019): exporters write it as a batch norm in
/// training mode, whose statistics are those of the weight itself.
pub(super) fn standardised(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = Rc::clone(call.known(0)?);
    let Some(tensor) = from.tensor().filter(|_| from.dims.len() >= 2 && !from.is_empty()) else {
        return Err(call.fail("it is computed on floating point numbers with channels alone"));
    };
    graph.spend(call, &[4, from.len()])?;
    let channels = from.dims[1];
    let line: Vec<usize> = (0..from.dims.len()).map(|i| if i == 1 { channels } else { 1 }).collect();
    let each = |i: usize| -> Result<Tensor> {
        let array = call.known(i)?;
        match array.tensor().filter(|_| array.dims == [channels]) {
            Some(t) => Ok(t.to_dtype(DType::F64)?.reshape(line.as_slice())?),
            None => Err(call.fail(format!("`{}` has shape {:?}, not [{channels}]", array.name, array.dims))),
        }
    };
    let axes: Vec<usize> = (0..from.dims.len()).filter(|&i| i != 1).collect();
    let x = tensor.to_dtype(DType::F64)?;
    let off = x.broadcast_sub(&x.mean_keepdim(axes.as_slice())?)?;
    let variance = off.sqr()?.mean_keepdim(axes.as_slice())?;
    let root = (variance + call.float("epsilon", 1e-5)?)?.sqrt()?;
    let normed = off.broadcast_div(&root)?.broadcast_mul(&each(1)?)?.broadcast_add(&each(2)?)?;
    Ok(floats(call, normed.to_dtype(tensor.dtype())?))
}
