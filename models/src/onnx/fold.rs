//! Arithmetic on what is known at import: shapes with a symbolic batch, and small computations on weights.

use super::array::{Array, Data, Num, all, is_float, sizes};
use super::call::{Call, Graph, Value};
use super::fold_numbers::{binary, choose, unary};
use super::fold_scatter::{gather_nd, one_hot, reduce_ints, scatter};
use super::layout::{slice_specs, squeezed, unsqueezed};
use super::resample::resize_known;
use super::views::{View, broadcast, permutation, pick, shape, viewed};
use super::{fold_run, per_image};
use candle_core::{DType, Tensor};
use robust_core::Result;
use std::rc::Rc;

/// Ops that exist only here: the others of this file can also be built into the network.
pub const ONLY_FOLDED: &[&str] = &["Constant", "ConstantOfShape", "Mod", "OneHot", "Range", "Size"];

/// The node's value if all its inputs are known and the op is one we compute here.
pub fn fold(graph: &mut Graph, call: &Call) -> Result<Option<Vec<Value>>> {
    if call.inputs.iter().flatten().any(|v| !matches!(v, Value::Known(_))) {
        return Ok(None);
    }
    let per_image = per_image::of(call)?;
    let array = match call.op() {
        "Identity" | "Dropout" => return Ok(Some(vec![call.need(0)?.clone()])),
        "Constant" => constant(call)?,
        "Shape" => {
            let from = call.known(0)?;
            let mut all: Vec<Num> = from.dims.iter().map(|&d| Num::known(d as i64)).collect();
            all.first_mut().filter(|_| from.per_image).into_iter().for_each(|first| *first = Num::BATCH);
            shape(call, all)?
        }
        "Size" => {
            let from = call.known(0)?;
            let size = Num::known(from.len() as i64);
            let size = if from.per_image { size.mul(Num::BATCH).unwrap_or(size) } else { size };
            Array::ints(call.out(), vec![], vec![size])
        }
        "CastLike" => cast_like(graph, call)?,
        "ConstantOfShape" => constant_of_shape(graph, call)?,
        "Range" => range(graph, call)?,
        "Cast" => cast(graph, call)?,
        "Reshape" => {
            let dims = reshaped(call)?;
            redim(graph, call, dims)?
        }
        "Squeeze" => {
            let dims = squeezed(call, &call.known(0)?.dims)?;
            redim(graph, call, dims)?
        }
        "Unsqueeze" => {
            let dims = unsqueezed(call, &call.known(0)?.dims)?;
            redim(graph, call, dims)?
        }
        "Flatten" => {
            let dims = &call.known(0)?.dims;
            let axis = match call.int("axis", 1)? {
                end if end == dims.len() as i64 => dims.len(),
                a => call.axis(a, dims.len())?,
            };
            redim(graph, call, vec![dims[..axis].iter().product(), dims[axis..].iter().product()])?
        }
        "Transpose" => transpose(graph, call)?,
        "Slice" => slice(graph, call)?,
        "Expand" => expand(graph, call)?,
        "Concat" => concat(graph, call)?,
        "Gather" => gather(graph, call)?,
        "Where" => choose(graph, call)?,
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Add" | "Sub" | "Mul"
        | "Div" | "Mod" | "Pow" => binary(graph, call)?,
        "Resize" => resize_known(graph, call)?,
        "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" if call.known(0)?.nums().is_some() => {
            reduce_ints(graph, call)?
        }
        op if op.starts_with("Reduce") => match fold_run::reduce(graph, call)? {
            Some(array) => array,
            None => return Ok(None),
        },
        "MatMul" => match fold_run::matmul(graph, call)? {
            Some(array) => array,
            None => return Ok(None),
        },
        "Split" => return fold_run::split(graph, call).map(Some),
        "Tile" => fold_run::tile(graph, call)?,
        "CumSum" => fold_run::running_sums(graph, call)?,
        "DequantizeLinear" => fold_run::dequantised(graph, call)?,
        "QuantizeLinear" => fold_run::quantised(graph, call)?,
        "BatchNormalization" if call.int("training_mode", 0)? != 0 => fold_run::standardised(graph, call)?,
        "ScatterND" => scatter(graph, call)?,
        "GatherND" => gather_nd(graph, call)?,
        "OneHot" => one_hot(graph, call)?,
        "Floor" | "Ceil" | "Not" | "Sqrt" | "Neg" | "Abs" | "Exp" | "Log" | "Reciprocal" => unary(graph, call)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![Array { per_image: array.per_image || per_image, ..array }.into()]))
}

/// The same entries under other dimensions, which must have as many.
fn redim(graph: &mut Graph, call: &Call, dims: Vec<usize>) -> Result<Array> {
    let from = call.known(0)?;
    let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if n != Some(from.len()) {
        return Err(call.fail(format!("{:?} cannot become {dims:?}", from.dims)));
    }
    let data = match &from.data {
        // One number over and over takes no more under other dimensions.
        Data::Float(t) if !t.is_contiguous() && t.stride().iter().all(|s| *s == 0) => {
            let first = (0..t.rank()).try_fold(t.clone(), |t, axis| t.narrow(axis, 0, 1))?.flatten_all()?;
            Data::Float(first.reshape(vec![1; dims.len()])?.broadcast_as(dims.as_slice())?)
        }
        Data::Float(t) => Data::Float(t.reshape(dims.as_slice())?),
        ints => {
            graph.spend(call, &dims)?;
            ints.clone()
        }
    };
    Ok(Array::new(call.out(), dims, data))
}

fn constant(call: &Call) -> Result<Array> {
    let name = call.out();
    if let Some(array) = call.tensor("value")? {
        return Ok(array);
    }
    if call.has("value_float") {
        return Array::floats(name, vec![], vec![call.float("value_float", 0.)?], DType::F32);
    }
    if let Some(v) = call.floats("value_floats")?.filter(|v| !v.is_empty()) {
        return Array::floats(name, vec![v.len()], v.iter().map(|&x| x as f64).collect(), DType::F32);
    }
    if call.has("value_int") {
        return Ok(Array::ints(name, vec![], vec![Num::known(call.int("value_int", 0)?)]));
    }
    match call.ints("value_ints")? {
        Some(v) => Ok(Array::ints(name, vec![v.len()], v.iter().copied().map(Num::known).collect())),
        None => Err(call.fail("it holds neither a tensor nor numbers")),
    }
}

fn to_dims(call: &Call, values: &[i64]) -> Result<Vec<usize>> {
    sizes(values).ok_or_else(|| call.fail(format!("{values:?} is not a shape")))
}

fn constant_of_shape(graph: &mut Graph, call: &Call) -> Result<Array> {
    // Once per image: a leading 1 says the same, since it meets the batch axis later.
    let mut target = call.known_nums(0)?;
    let per_image = target.first() == Some(&Num::BATCH);
    target.iter_mut().take(usize::from(per_image)).for_each(|first| *first = Num::known(1));
    let sizes: Option<Vec<i64>> = target.iter().map(|n| n.value()).collect();
    let sizes = sizes.ok_or_else(|| call.fail("its shape depends on the batch size").hint(super::call::BATCH_HINT))?;
    let dims = to_dims(call, &sizes)?;
    let n = dims.iter().product();
    let value = match call.tensor("value")? {
        Some(v) if v.len() != 1 => return Err(call.fail("attribute `value` must have one entry")),
        Some(v) => v,
        None => Array::floats("", vec![1], vec![0.], DType::F32)?,
    };
    // A weight that is one number over and over is kept as one number.
    if let Some(number) = value.tensor().filter(|_| n > 1) {
        if n > graph.filled {
            let room = graph.filled;
            return Err(call.fail(format!(
                "a constant of shape {dims:?} is far beyond the size of the file, and beyond the {room} entries of constants of one number"
            )));
        }
        graph.filled -= n;
        let all = number.flatten_all()?.reshape(vec![1; dims.len()])?.broadcast_as(dims.as_slice())?;
        return Ok(Array { per_image, ..Array::new(call.out(), dims, Data::Float(all)) });
    }
    graph.spend(call, &dims)?;
    Ok(Array { per_image, ..pick(call, &value, dims, vec![0; n])? })
}

fn range(graph: &mut Graph, call: &Call) -> Result<Array> {
    if (0..3).any(|i| matches!(call.input(i), Some(Value::Known(a)) if a.nums().is_some_and(|n| n.iter().any(|n| n.per_row != 0)))) {
        return Err(call.fail("its bounds depend on the batch size").hint(super::call::BATCH_HINT));
    }
    let part = |i| call.scalar(i).map(|v| v.unwrap_or(f64::NAN));
    let (start, limit, delta) = (part(0)?, part(1)?, part(2)?);
    let steps = ((limit - start) / delta).ceil().max(0.);
    if !steps.is_finite() || delta == 0. {
        return Err(call.fail(format!("a range from {start} to {limit} by {delta} does not end")));
    }
    let n = steps as usize;
    graph.spend(call, &[n])?;
    let values = (0..n).map(|i| start + i as f64 * delta);
    match call.known(0)?.tensor() {
        Some(t) => Array::floats(call.out(), vec![n], values.collect(), t.dtype()),
        None => Ok(Array::ints(call.out(), vec![n], values.map(|v| Num::known(v as i64)).collect())),
    }
}

fn cast(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = call.known(0)?;
    let to = call.int("to", 1)?;
    let name = call.out();
    let wide = if to == 11 { DType::F64 } else { DType::F32 };
    if let Data::Float(t) = &from.data
        && is_float(to)
        && t.dtype() == wide
    {
        return Ok(Array { name: name.to_string(), ..from.as_ref().clone() });
    }
    graph.spend(call, &from.dims)?;
    let depends = || call.fail("the batch size would become a floating point number, which is not supported");
    match (&from.data, is_float(to)) {
        (Data::Int(v), false) if to == 9 => {
            let truth = v.iter().map(|n| n.equal(Num::known(0)).map(|zero| Num::known(i64::from(!zero))));
            let truth = all(v.len(), truth);
            Ok(Array::ints(name, from.dims.clone(), truth.ok_or_else(depends)?))
        }
        (Data::Int(v), false) => Ok(Array::ints(name, from.dims.clone(), v.clone())),
        (_, true) => Array::floats(name, from.dims.clone(), from.values().ok_or_else(depends)?, wide),
        (Data::Float(_), false) => {
            let values = from.values().unwrap_or_default();
            Ok(Array::ints(name, from.dims.clone(), values.iter().map(|&v| Num::known(v as i64)).collect()))
        }
    }
}

/// The other's type.
fn cast_like(graph: &mut Graph, call: &Call) -> Result<Array> {
    let to = match call.known(1)?.tensor() {
        Some(t) if t.dtype() == DType::F64 => DType::F64,
        Some(_) => DType::F32,
        None => return Err(call.fail("a cast to integers is not supported here")),
    };
    let from = call.known(0)?;
    graph.spend(call, &from.dims)?;
    let values = from.values().ok_or_else(|| call.fail("it depends on the batch size"))?;
    Array::floats(call.out(), from.dims.clone(), values, to)
}

/// The dimensions a known tensor is reshaped to, with 0 and -1 resolved.
fn reshaped(call: &Call) -> Result<Vec<usize>> {
    let from = call.known(0)?;
    let mut target = match call.known_nums(1)? {
        // Once per image: its first axis is the batch, or as many lines of each image.
        nums if from.per_image && nums.first().is_some_and(|n| n.fixed == 0 && n.per_row > 0) => {
            let rest = nums[1..].iter().map(|n| n.value()).collect::<Option<Vec<i64>>>();
            let rest = rest.ok_or_else(|| call.fail("a dimension depends on the batch size"))?;
            [&[nums[0].per_row], &rest[..]].concat()
        }
        _ => call.short_ints(1)?,
    };
    if call.int("allowzero", 0)? == 0 {
        for (i, t) in target.iter_mut().enumerate().filter(|(_, t)| **t == 0) {
            let kept = from.dims.get(i).ok_or_else(|| call.fail(format!("there is no dimension {i} to keep")))?;
            *t = *kept as i64;
        }
    }
    if let Some(open) = target.iter().position(|&t| t == -1) {
        let rest = target.iter().enumerate().filter(|(i, _)| *i != open).try_fold(1i64, |n, (_, &t)| n.checked_mul(t));
        let rest = rest.filter(|&r| r > 0 && from.len() as i64 % r == 0);
        target[open] =
            from.len() as i64 / rest.ok_or_else(|| call.fail(format!("{:?} cannot become {target:?}", from.dims)))?;
    }
    to_dims(call, &target)
}

fn transpose(graph: &mut Graph, call: &Call) -> Result<Array> {
    let view = View::of(&call.known(0)?.dims);
    let perm = permutation(call, view.dims.len())?;
    let dims = perm.iter().map(|&p| view.dims[p]).collect();
    let strides = perm.iter().map(|&p| view.strides[p]).collect();
    viewed(graph, call, View { dims, strides, offset: 0 })
}

fn slice(graph: &mut Graph, call: &Call) -> Result<Array> {
    let mut view = View::of(&call.known(0)?.dims);
    for spec in slice_specs(call, view.dims.len())? {
        let (start, count) = spec.bounds(view.dims[spec.axis]);
        view.offset += start * view.strides[spec.axis];
        view.strides[spec.axis] *= if count > 1 { spec.step } else { 0 };
        view.dims[spec.axis] = count;
    }
    if view.dims.contains(&0) {
        return pick(call, call.known(0)?, view.dims, vec![]);
    }
    viewed(graph, call, view)
}

fn expand(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = call.known(0)?;
    let mut target = call.known_nums(1)?;
    // Repeated once per image: a leading 1 says the same, since it meets the batch axis in sums and concatenations.
    let leads = from.dims.len() < target.len() || from.dims.first() == Some(&1);
    let mut per_image = false;
    if let Some(first) = target.first_mut().filter(|n| leads && **n == Num::BATCH) {
        *first = Num::known(1);
        per_image = true;
    }
    let target: Option<Vec<i64>> = target.iter().map(|n| n.value()).collect();
    let target =
        target.ok_or_else(|| call.fail("it repeats a constant along an axis that depends on the batch size"))?;
    let target = to_dims(call, &target)?;
    let dims = broadcast(&from.dims, &target)
        .ok_or_else(|| call.fail(format!("{:?} cannot be expanded to {target:?}", from.dims)))?;
    Ok(Array { per_image, ..viewed(graph, call, View::of(&from.dims).expand(&dims))? })
}

fn known_inputs<'a>(call: &'a Call) -> Result<Vec<&'a Rc<Array>>> {
    (0..call.inputs.len()).map(|i| call.known(i)).collect()
}

fn concat(graph: &mut Graph, call: &Call) -> Result<Array> {
    let parts = known_inputs(call)?;
    let first = parts.first().ok_or_else(|| call.fail("it has no inputs"))?;
    let axis = call.axis(call.int("axis", 0)?, first.dims.len())?;
    let fits = |p: &Array| {
        p.dims.len() == first.dims.len()
            && p.nums().is_some() == first.nums().is_some()
            && (0..p.dims.len()).all(|i| i == axis || p.dims[i] == first.dims[i])
    };
    if let Some(odd) = parts.iter().find(|p| !fits(p)) {
        return Err(call.fail(format!("{:?} and {:?} do not fit along axis {axis}", first.dims, odd.dims)));
    }
    let mut dims = first.dims.clone();
    dims[axis] = parts.iter().map(|p| p.dims[axis]).sum();
    graph.spend(call, &dims)?;
    let data = if first.nums().is_some() {
        let outer: usize = dims[..axis].iter().product();
        let mut out = vec![];
        for o in 0..outer {
            for v in parts.iter().filter_map(|p| p.nums()) {
                let block = v.len() / outer;
                out.extend_from_slice(&v[o * block..(o + 1) * block]);
            }
        }
        Data::Int(out)
    } else {
        let tensors: Vec<&Tensor> = parts.iter().filter_map(|p| p.tensor()).collect();
        Data::Float(Tensor::cat(&tensors, axis)?)
    };
    Ok(Array::new(call.out(), dims, data))
}

fn gather(graph: &mut Graph, call: &Call) -> Result<Array> {
    let (from, index) = (call.known(0)?, call.known(1)?);
    let axis = call.axis(call.int("axis", 0)?, from.dims.len())?;
    let chosen: Vec<usize> =
        call.known_ints(1)?.into_iter().map(|i| call.axis(i, from.dims[axis])).collect::<Result<_>>()?;
    let dims: Vec<usize> = from.dims[..axis].iter().chain(&index.dims).chain(&from.dims[axis + 1..]).copied().collect();
    graph.spend(call, &dims)?;
    let outer: usize = from.dims[..axis].iter().product();
    let inner: usize = from.dims[axis + 1..].iter().product();
    let mut indices = Vec::with_capacity(outer * chosen.len() * inner);
    for o in 0..outer {
        for &c in &chosen {
            let start = (o * from.dims[axis] + c) * inner;
            indices.extend((start..start + inner).map(|i| i as u32));
        }
    }
    pick(call, from, dims, indices)
}
