//! Convolutions, pools, normalisation, matrix products, softmax and reductions.

use super::array::{Array, Data};
use super::call::{Call, Graph, Value, one};
use super::extents::{bias, flat_sizes, image, pads};
use super::views::MAX_EXTENT;
use candle_core::Tensor;
use robust_core::Result;
use robust_engine::{Activation, Binary, NodeId, Op, Pair, ParamId, Reduction, Shape, Window};
use std::rc::Rc;

/// Input 0 as an image: a line `[n, c, l]` is one of height 1. Whether it was a line.
fn lifted(graph: &mut Graph, call: &Call) -> Result<(NodeId, Pair, bool)> {
    let (id, shape) = graph.rows(call, 0)?;
    match shape.row[..] {
        [c, l] => Ok((graph.step(call, "image", Op::Reshape { row: vec![c, 1, l] }, &[id])?, [1, l], true)),
        _ => image(graph, call).map(|(id, hw)| (id, hw, false)),
    }
}

/// The node's value, of a line without its height.
fn lowered(graph: &mut Graph, call: &Call, op: Op, id: NodeId, line: bool) -> Result<Vec<Value>> {
    if !line {
        return one(graph.node(call, op, &[id])?);
    }
    let made = graph.step(call, "made", op, &[id])?;
    let mut row = graph.builder.shape(made).row.clone();
    row.remove(1);
    one(graph.node(call, Op::Reshape { row }, &[made])?)
}

pub fn conv(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    if call.known(1)?.dims.len() == 5 {
        return super::patches::conv(graph, call);
    }
    let (id, hw, line) = lifted(graph, call)?;
    let mut weight = Rc::clone(call.known(1)?);
    if let (true, &[o, c, k], Some(tensor)) = (line, weight.dims.as_slice(), weight.tensor()) {
        let (name, data) = (format!("{}[line]", weight.name), Data::Float(tensor.unsqueeze(2)?));
        weight = Rc::new(Array::new(name, vec![o, c, 1, k], data));
    }
    let weight = &weight;
    let &[_, _, kh, kw] = weight.dims.as_slice() else {
        return Err(call.fail(format!("its weight has shape {:?}; only 2-d convolutions are supported", weight.dims)));
    };
    let kernel = [kh, kw];
    if kernel.contains(&0)
        || kernel.iter().any(|&k| k as i64 > MAX_EXTENT)
        || flat_sizes(call, "kernel_shape", 0, 1, line)? != kernel && call.has("kernel_shape")
    {
        return Err(call.fail(format!("attribute `kernel_shape` and the weight {:?} disagree", weight.dims)));
    }
    let (stride, dilation) = (flat_sizes(call, "strides", 1, 1, line)?, flat_sizes(call, "dilations", 1, 1, line)?);
    let pads = pads(call, hw, kernel, stride, dilation, line)?;
    let groups = call.int("group", 1)?;
    let groups = usize::try_from(groups).map_err(|_| call.fail(format!("group = {groups} is negative")))?;
    let weight = graph.weight(call, weight)?;
    let bias = bias(graph, call, 2)?;
    lowered(graph, call, Op::Conv2d { weight, bias, stride, dilation, pads, groups }, id, line)
}

pub fn pool(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let dilated = call.ints("dilations")?.is_some_and(|d| d.iter().any(|d| *d != 1));
    if dilated || graph.rows(call, 0)?.1.row.len() == 4 {
        return super::patches::pool(graph, call);
    }
    let (id, hw, line) = lifted(graph, call)?;
    if !call.has("kernel_shape") {
        return Err(call.fail("attribute `kernel_shape` is missing"));
    }
    let mut kernel: Pair = flat_sizes(call, "kernel_shape", 1, 1, line)?;
    let stride: Pair = flat_sizes(call, "strides", 1, 1, line)?;
    let pads = pads(call, hw, kernel, stride, [1, 1], line)?;
    let ceil = call.int("ceil_mode", 0)? != 0;
    for i in 0..2 {
        // Rounded up, a window larger than the image still makes one output, which sees the whole image.
        let extent = hw[i] + pads[i] + pads[i + 2];
        if ceil && kernel[i] > extent && stride[i] > kernel[i] - extent {
            kernel[i] = extent;
        }
    }
    let window = Window { kernel, stride, pads, ceil };
    let op = match call.op() {
        "MaxPool" => Op::MaxPool(window),
        _ => Op::AvgPool { window, count_pads: call.int("count_include_pad", 0)? != 0 },
    };
    lowered(graph, call, op, id, line)
}

pub fn global_pool(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let kind = if call.op() == "GlobalMaxPool" { Reduction::Max } else { Reduction::Mean };
    let first = 2 + call.hidden;
    if shape.rank() <= first {
        return Err(call.fail("its input has no axes after the channels"));
    }
    one(graph.node(call, Op::Reduce { kind, axes: (first..shape.rank()).collect(), keep: true }, &[id])?)
}

pub fn reduce(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axes = call.list("axes", 1)?.unwrap_or_default();
    if axes.is_empty() && call.int("noop_with_empty_axes", 0)? != 0 {
        return one(id);
    }
    if axes.is_empty() {
        return Err(call.fail("it reduces over every axis, the batch included"));
    }
    let mut axes = axes.iter().map(|&a| call.row_axis(a, shape.rank())).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    let keep = call.int("keepdims", 1)? != 0;
    if call.op() == "ReduceL2" {
        let squares = graph.step(call, "squares", Op::Binary(Binary::Mul), &[id, id])?;
        let sum = graph.step(call, "sum", Op::Reduce { kind: Reduction::Sum, axes, keep }, &[squares])?;
        // The slope of a root at 0 is infinite; zeros have none here, as in PyTorch.
        let floor = Op::Act(Activation::Clip(1e-30, f64::INFINITY));
        let sum = graph.step(call, "floor", floor, &[sum])?;
        return one(graph.node(call, Op::Act(Activation::Sqrt), &[sum])?);
    }
    let kind = match call.op() {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        _ => return super::arithmetic::reduced(graph, call, id, (axes, keep)),
    };
    one(graph.node(call, Op::Reduce { kind, axes, keep }, &[id])?)
}

pub fn batch_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    // Before opset 14 the number of outputs told the mode.
    let statistics = call.opset < 14 && call.node.output.iter().skip(1).any(|o| !o.is_empty());
    if statistics || call.int("training_mode", 0)? != 0 {
        return Err(call.fail("it is in training mode: it uses the statistics of the batch, so that rows would depend on their neighbours").hint("export the model in eval mode"));
    }
    let (id, _) = graph.rows(call, 0)?;
    let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|i| graph.weight(call, &Rc::clone(call.known(i)?)));
    let eps = call.float("epsilon", 1e-5)?;
    let op = Op::BatchNorm { mean: mean?, var: var?, gamma: Some(gamma?), beta: Some(beta?), eps };
    one(graph.node(call, op, &[id])?)
}

/// The constant matrix at input `i` as a linear layer's weight `[out, in]`.
fn linear_weight(graph: &mut Graph, call: &Call, i: usize, transposed: bool, scale: f64) -> Result<ParamId> {
    let array: &Array = call.known(i)?;
    if transposed && scale == 1. {
        return graph.weight(call, array);
    }
    let tensor = array.tensor().ok_or_else(|| call.fail(format!("`{}` must be floating point", array.name)))?;
    let tensor = if transposed { tensor.clone() } else { tensor.t()?.contiguous()? };
    graph.spend(call, &array.dims)?;
    let suffix = if transposed { "" } else { "^T" };
    let times = if scale == 1. { String::new() } else { format!("*{scale}") };
    let tensor = if scale == 1. { tensor } else { (tensor * scale)? };
    Ok(graph.derived(&array.name, &format!("{suffix}{times}"), tensor))
}

fn is_matrix(value: &Value) -> bool {
    matches!(value, Value::Known(array) if array.dims.len() == 2)
}

pub fn gemm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    if shape.rank() - call.hidden != 2 || call.int("transA", 0)? != 0 || !is_matrix(call.need(1)?) {
        return Err(call.fail("only an activation [n, k] times a constant matrix is supported"));
    }
    let (alpha, beta) = (call.float("alpha", 1.)?, call.float("beta", 1.)?);
    let weight = linear_weight(graph, call, 1, call.int("transB", 0)? != 0, alpha)?;
    let outputs = graph.builder.param_dims(weight)[0];
    match call.input(2) {
        None => one(graph.node(call, Op::Linear { weight, bias: None }, &[id])?),
        Some(Value::Known(c)) => {
            let bias = Some(gemm_bias(graph, call, &Rc::clone(c), outputs, beta)?);
            one(graph.node(call, Op::Linear { weight, bias }, &[id])?)
        }
        Some(Value::ByRow(_)) => Err(call.fail("C holds indices that depend on the batch size")),
        Some(Value::Node(_)) if beta != 1. => Err(call.fail("beta other than 1 needs a constant C")),
        Some(Value::Node(c)) => {
            let product = graph.step(call, "product", Op::Linear { weight, bias: None }, &[id])?;
            one(graph.node(call, Op::Binary(Binary::Add), &[product, *c])?)
        }
    }
}

/// Gemm's C as a bias `[outputs]`: it may be a scalar, a row or a matrix of one row.
fn gemm_bias(graph: &mut Graph, call: &Call, c: &Array, outputs: usize, beta: f64) -> Result<ParamId> {
    let lead = c.dims.len().saturating_sub(1);
    let width = c.dims.last().copied().unwrap_or(1);
    if c.dims.len() > 2 || c.dims[..lead].iter().any(|&d| d != 1) || (width != outputs && width != 1) {
        return Err(call.fail(format!("C of shape {:?} is not a bias of {outputs} entries", c.dims)));
    }
    if c.dims == [outputs] && beta == 1. {
        return graph.weight(call, c);
    }
    let tensor = c.tensor().ok_or_else(|| call.fail(format!("`{}` must be floating point", c.name)))?;
    let tensor: Tensor = tensor.flatten_all()?.broadcast_as(outputs)?.contiguous()?;
    Ok(graph.derived(&c.name, &format!("*{beta}[{outputs}]"), (tensor * beta)?))
}

pub fn matmul(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let right = call.need(1)?;
    if let Value::Node(id) = call.need(0)?
        && is_matrix(right)
        && graph.builder.shape(*id).rank() >= 2
    {
        let weight = linear_weight(graph, call, 1, false, 1.)?;
        return one(graph.node(call, Op::Linear { weight, bias: None }, &[*id])?);
    }
    // A vector on the right is a matrix of one column whose axis goes away again.
    if let (Value::Node(id), Value::Known(vector)) = (call.need(0)?, right)
        && vector.dims.len() == 1
        && graph.builder.shape(*id).rank() >= 2
    {
        let (id, vector) = (*id, Rc::clone(vector));
        let tensor = vector.tensor().ok_or_else(|| call.fail(format!("`{}` must be floating point", vector.name)))?;
        let weight = graph.derived(&vector.name, "[row]", tensor.unsqueeze(0)?);
        let column = graph.step(call, "column", Op::Linear { weight, bias: None }, &[id])?;
        let mut row = graph.builder.shape(column).row.clone();
        row.pop();
        return one(graph.node(call, Op::Reshape { row }, &[column])?);
    }
    let (a, b) = (graph.any(call, 0)?, graph.any(call, 1)?);
    if [a, b].iter().any(|&i| graph.builder.shape(i).rank() < 2) {
        return Err(call.fail("products with a vector are not supported"));
    }
    one(graph.node(call, Op::MatMul, &[a, b])?)
}

/// Over all axes from `axis` on, which become one.
pub fn layer_norm(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let axis = call.row_axis(call.int("axis", -1)?, shape.rank())?;
    let eps = call.float("epsilon", 1e-5)?;
    if axis + 1 == shape.rank() {
        let gamma = Some(graph.weight(call, &Rc::clone(call.known(1)?))?);
        let beta = bias(graph, call, 2)?;
        return one(graph.node(call, Op::LayerNorm { gamma, beta, eps }, &[id])?);
    }
    let (lead, normed) = shape.row.split_at(axis - 1);
    let size: usize = normed.iter().product();
    let mut flat = |i: usize| -> Result<Option<ParamId>> {
        if call.input(i).is_none() {
            return Ok(None);
        }
        let array = Rc::clone(call.known(i)?);
        match array.tensor().filter(|_| array.dims == normed) {
            Some(tensor) => Ok(Some(graph.derived(&array.name, "[flat]", tensor.flatten_all()?))),
            None => Err(call.fail(format!("`{}` has shape {:?}, not {normed:?}", array.name, array.dims))),
        }
    };
    let (gamma, beta) = (flat(1)?, flat(2)?);
    let row = [lead, &[size]].concat();
    let lines = graph.step(call, "lines", Op::Reshape { row }, &[id])?;
    let made = graph.step(call, "normed", Op::LayerNorm { gamma, beta, eps }, &[lines])?;
    one(graph.node(call, Op::Reshape { row: shape.row.clone() }, &[made])?)
}

pub fn softmax(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let log = call.op() == "LogSoftmax";
    let op = |axis| if log { Op::LogSoftmax { axis } } else { Op::Softmax { axis } };
    let last = shape.rank().saturating_sub(1);
    if call.opset >= 13 {
        let axis = call.row_axis(call.int("axis", -1)?, shape.rank())?;
        return one(graph.node(call, op(axis), &[id])?);
    }
    // Before opset 13 the value is a matrix: all axes from `axis` on form its columns.
    let axis = call.row_axis(call.int("axis", 1)?, shape.rank())?;
    if axis == last {
        return one(graph.node(call, op(axis), &[id])?);
    }
    let Shape { row, .. } = shape;
    let flat = [&row[..axis - 1], &[row[axis - 1..].iter().product()]].concat();
    let flat = graph.step(call, "flat", Op::Reshape { row: flat }, &[id])?;
    let soft = graph.step(call, "soft", op(axis), &[flat])?;
    one(graph.node(call, Op::Reshape { row }, &[soft])?)
}
