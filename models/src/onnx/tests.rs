//! Hostile and odd graphs, written message by message.

mod external;
mod layouts;
mod ops;
mod outputs;
mod wild;

use super::import::{Imported, import, open};
use super::proto::*;
use crate::Options;
use prost::Message;
use prost::bytes::Bytes;
use robust_core::{Kind, Result};
use robust_engine::{Network, Op};

fn info(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = dims.iter().map(|&dim_value| Dimension { dim_value }).collect();
    let tensor = TensorType { elem_type: 1, shape: Some(TensorShape { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

pub(super) fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let input = inputs.iter().map(|s| s.to_string()).collect();
    NodeProto {
        op_type: op.into(),
        name: format!("n_{output}"),
        input,
        output: vec![output.into()],
        ..Default::default()
    }
}

fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

fn attr(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), kind: 7, ..Default::default() }
}

fn int_attr(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, kind: 2, ..Default::default() }
}

fn text_attr(name: &str, s: &'static str) -> AttributeProto {
    AttributeProto { name: name.into(), s: s.into(), kind: 3, ..Default::default() }
}

pub(super) fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let n: i64 = dims.iter().product();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: vec![0.5; n as usize],
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    TensorProto { name: name.into(), dims, data_type: 7, int64_data: values.to_vec(), ..Default::default() }
}

/// A model of an image `[n, 2, 4, 4]` whose output is `y`.
pub(super) fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        opset_import: vec![OperatorSetId { domain: String::new(), version: 18 }],
        graph: Some(GraphProto {
            node,
            initializer,
            input: vec![info("x", &[None, Some(2), Some(4), Some(4)])],
            output: vec![info("y", &[])],
        }),
    }
}

fn load(model: &ModelProto) -> Result<Network> {
    import(model.encode_to_vec(), &Options::default()).map(|i| i.network)
}

/// The error, checked to be of kind `Load` and to say each of `parts`.
#[track_caller]
fn refused(model: &ModelProto, parts: &[&str]) {
    let error = load(model).unwrap_err();
    assert_eq!(error.kind, Kind::Load, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` not in: {error}");
    }
}

#[test]
fn cycles_are_refused_and_any_order_is_sorted() {
    let cyclic = vec![node("Relu", &["b"], "a"), node("Relu", &["a"], "b"), node("Add", &["b", "x"], "y")];
    refused(&model(cyclic, vec![]), &["cyclic", "n_a"]);
    refused(&model(vec![node("Add", &["y", "x"], "y")], vec![]), &["cyclic"]);
    let backwards = vec![node("Flatten", &["a"], "y"), node("Relu", &["x"], "a")];
    assert_eq!(load(&model(backwards, vec![])).unwrap().output_row(), [32]);
}

#[test]
fn a_graph_as_deep_as_it_is_long_needs_no_stack() {
    let mut nodes: Vec<NodeProto> =
        (0..20_000).map(|i| node("Relu", &[&format!("v{i}")], &format!("v{}", i + 1))).collect();
    nodes[0].input[0] = "x".into();
    nodes.push(node("Flatten", &["v20000"], "y"));
    nodes.reverse();
    assert_eq!(load(&model(nodes, vec![])).unwrap().nodes().len(), 20_002);
}

#[test]
fn missing_and_doubly_defined_values_are_refused_by_name() {
    refused(&model(vec![node("Flatten", &["z"], "y")], vec![]), &["nothing produces", "`z`", "n_y"]);
    refused(&model(vec![node("Relu", &["x"], "y"), node("Abs", &["x"], "y")], vec![]), &["`y` is defined twice"]);
    refused(&model(vec![node("Relu", &["x"], "a")], vec![]), &["no node produces the output `y`"]);
    refused(&model(vec![node("Relu", &[], "y")], vec![]), &["input 0 is missing"]);
    refused(&model(vec![node("Relu", &["w"], "y")], vec![floats("w", &[2])]), &["does not depend on the"]);
}

#[test]
fn an_unknown_op_is_named_with_what_is_supported() {
    refused(
        &model(vec![node("Frobnicate", &["x"], "y")], vec![]),
        &["n_y", "unsupported op `Frobnicate`", "Conv", "Relu"],
    );
    let foreign = NodeProto { domain: "com.vendor".into(), ..node("Relu", &["x"], "y") };
    refused(&model(vec![foreign], vec![]), &["unsupported op `Relu` of domain `com.vendor`"]);
    refused(&model(vec![node("Where", &["x", "x", "x"], "y")], vec![]), &["condition is no comparison"]);
    refused(&model(vec![node("Mod", &["x", "x"], "y")], vec![]), &["constants and shapes only"]);
}

/// What a model makes of two rows that count from 0.
pub(super) fn counted(model: &ModelProto) -> Vec<Vec<f32>> {
    let x = candle_core::Tensor::arange(0f32, 64., &candle_core::Device::Cpu).unwrap().reshape((2, 2, 4, 4)).unwrap();
    let net = std::sync::Arc::new(load(model).unwrap());
    robust_engine::Reference::new(net, candle_core::DType::F32).unwrap().forward(&x).unwrap().to_vec2().unwrap()
}

#[test]
fn an_axis_in_front_of_the_batch_is_taken_apart() {
    let scalar = |i: i64| TensorProto { dims: vec![], ..ints("i", &[i]) };
    let front = |from: &str, perm: &[i64]| with(node("Transpose", &[from], "t"), attr("perm", perm));
    let taken = with(node("Gather", &["t", "i"], "g"), int_attr("axis", 0));
    let nodes = vec![front("x", &[1, 0, 2, 3]), taken.clone(), node("Flatten", &["g"], "y")];
    let rows = counted(&model(nodes, vec![scalar(-1)]));
    assert_eq!(rows[1], (48..64).map(|v| v as f32).collect::<Vec<_>>());
    // Merged with the batch: [2 n, 4, 4] -> [4, 2 n, 4], of which the last.
    let nodes =
        vec![node("Reshape", &["x", "s"], "m"), front("m", &[1, 0, 2]), taken, node("Reshape", &["g", "r"], "y")];
    let rows = counted(&model(nodes, vec![scalar(3), ints("s", &[-1, 4, 4]), ints("r", &[-1, 8])]));
    assert_eq!(rows[1], [44., 45., 46., 47., 60., 61., 62., 63.]);
    // Sliced and squeezed instead.
    let nodes = vec![
        front("x", &[1, 0, 3, 2]),
        node("Slice", &["t", "one", "two", "zero"], "p"),
        node("Squeeze", &["p", "zero"], "g"),
        node("Flatten", &["g"], "y"),
    ];
    let numbers = [ints("zero", &[0]), ints("one", &[1]), ints("two", &[2])].to_vec();
    assert_eq!(counted(&model(nodes.clone(), numbers.clone()))[0][..3], [16., 20., 24.]);
    let whole = vec![nodes[0].clone(), node("Squeeze", &["t", "zero"], "g"), nodes[3].clone()];
    refused(&model(whole, numbers), &["removes an axis of 2 entries"]);
}

#[test]
fn indices_that_grow_with_the_row_stay_within_it() {
    let by = |factor: i64, offset: &[i64]| {
        let nodes = vec![
            with(with(node("Shape", &["x"], "b"), int_attr("start", 0)), int_attr("end", 1)),
            node("Squeeze", &["b"], "n"),
            with(node("ReduceMax", &["x", "places"], "max"), int_attr("keepdims", 1)),
            node("Reshape", &["max", "all"], "flat"),
            node("Range", &["from", "n", "step"], "rows"),
            node("Mul", &["rows", "factor"], "starts"),
            node("Unsqueeze", &["starts", "step"], "column"),
            node("Add", &["column", "offset"], "index"),
            node("Gather", &["flat", "index"], "y"),
        ];
        let numbers = vec![
            ints("places", &[2, 3]),
            ints("all", &[-1]),
            ints("from", &[0]),
            ints("step", &[1]),
            ints("factor", &[factor]),
            ints("offset", offset),
        ];
        model(nodes, numbers)
    };
    assert_eq!(counted(&by(2, &[0, 1])), [[15., 31.], [47., 63.]]);
    assert_eq!(counted(&by(2, &[1])), [[31.], [63.]]);
    refused(&by(1, &[0, 1]), &["neighbours"]);
    refused(&by(2, &[1, 2]), &["neighbours"]);
    refused(&by(2, &[1, 0]), &["not neighbours"]);
    refused(&by(i64::MAX, &[0, 1]), &["neighbours"]);
}

#[test]
fn entries_are_scattered_into_constants_and_summed() {
    let matrix = |name: &str, dims: &[i64], values: &[i64]| TensorProto { dims: dims.to_vec(), ..ints(name, values) };
    let build = |places: &[i64], updates: &[i64]| {
        let nodes = vec![
            node("ScatterND", &["data", "places", "updates"], "made"),
            with(node("ReduceSum", &["made", "axis"], "sums"), int_attr("keepdims", 0)),
            node("Reshape", &["x", "sums"], "y"),
        ];
        let numbers = vec![
            matrix("data", &[2, 2], &[7, 7, 7, 7]),
            matrix("places", &[places.len() as i64 / 2, 2], places),
            ints("updates", updates),
            ints("axis", &[1]),
        ];
        model(nodes, numbers)
    };
    // [[-2, 1], [30, 2]] -> [-1, 32]
    assert_eq!(load(&build(&[0, 0, 0, 1, 1, 0, 1, -1], &[-2, 1, 30, 2])).unwrap().output_row(), [32]);
    refused(&build(&[0, 0, 0, 2], &[1, 1]), &["axis 2 is outside"]);
    refused(&build(&[0, 0, 0, 1], &[1]), &["1 updates for 2 places"]);
}

#[test]
fn ops_that_touch_the_batch_axis_are_refused() {
    let reshape = |target: &[i64]| model(vec![node("Reshape", &["x", "s"], "y")], vec![ints("s", target)]);
    for target in [&[-1i64, 2][..], &[-1], &[2, 32], &[0, 3, -1], &[0, -1, -1], &[0, 0, 0, 0, 0], &[]] {
        refused(&reshape(target), &["y`"]);
    }
    refused(&reshape(&[-1, 16]), &["merges or splits the batch axis"]);
    assert_eq!(load(&reshape(&[0, -1])).unwrap().output_row(), [32]);
    assert_eq!(load(&reshape(&[-1, 32])).unwrap().output_row(), [32]);
    let flat = with(node("Flatten", &["x"], "y"), int_attr("axis", 2));
    refused(&model(vec![flat], vec![]), &["merges or splits the batch axis"]);
    let moved = with(node("Transpose", &["x"], "y"), attr("perm", &[2, 1, 0, 3]));
    refused(&model(vec![moved], vec![]), &["in front of the batch"]);
    let front = with(node("Transpose", &["x"], "t"), attr("perm", &[1, 0, 2, 3]));
    refused(&model(vec![front.clone(), node("Softmax", &["t"], "y")], vec![]), &["in front of the batch", "n_y"]);
    let last = NodeProto { output: vec!["y".into()], ..front.clone() };
    refused(&model(vec![last], vec![]), &["in front of the batch"]);
    // The first input is a plain value, with fewer axes than the other one or with as many.
    let pooled = with(with(node("ReduceMean", &["x"], "r"), attr("axes", &[1, 2, 3])), int_attr("keepdims", 0));
    for first in ["r", "x"] {
        let nodes = vec![pooled.clone(), front.clone(), node("Add", &[first, "t"], "y")];
        refused(&model(nodes, vec![]), &["joins values", "in front of the batch", "n_y"]);
    }
    let softmax = with(node("Softmax", &["x"], "y"), int_attr("axis", 0));
    refused(&model(vec![softmax], vec![]), &["neighbours"]);
    refused(&model(vec![node("ReduceMean", &["x"], "y")], vec![]), &["the batch included"]);
    let first = model(vec![node("Slice", &["x", "s", "e"], "y")], vec![ints("s", &[0]), ints("e", &[1])]);
    refused(&first, &["neighbours"]);
    let padded = model(vec![node("Pad", &["x", "p"], "y")], vec![ints("p", &[1, 0, 0, 0, 0, 0, 0, 0])]);
    refused(&padded, &["pads the batch axis"]);
    refused(&model(vec![node("Unsqueeze", &["x", "a"], "y")], vec![ints("a", &[0])]), &["in front of the batch"]);
}

#[test]
fn a_batch_size_that_arithmetic_merges_with_others_is_refused() {
    let nodes = vec![
        node("Shape", &["x"], "all"),
        with(node("Gather", &["all", "zero"], "n"), int_attr("axis", 0)),
        node("Mul", &["n", "two"], "n2"),
        with(node("Concat", &["n2", "rest"], "s"), int_attr("axis", 0)),
        node("Reshape", &["x", "s"], "y"),
    ];
    let weights = vec![ints("zero", &[0]), ints("two", &[2]), ints("rest", &[16])];
    refused(&model(nodes, weights), &["y`", "merges or splits the batch axis"]);
}

/// Reshapes the input to windows in the batch axis, applies `inner`, reshapes back.
fn windowed(windows: &[i64], inner: Vec<NodeProto>, weights: Vec<TensorProto>) -> ModelProto {
    let mut nodes = vec![node("Reshape", &["x", "cut"], "a")];
    nodes.extend(inner);
    nodes.push(node("Reshape", &["b", "whole"], "y"));
    let own = vec![ints("cut", windows), ints("whole", &[-1, 32])];
    model(nodes, own.into_iter().chain(weights).collect())
}

#[test]
fn windows_merged_with_the_batch_are_kept_apart_until_they_come_back() {
    let transposed =
        |cut: &[i64]| windowed(cut, vec![with(node("Transpose", &["a"], "b"), attr("perm", &[0, 2, 1]))], vec![]);
    let net = load(&transposed(&[-1, 4, 2])).unwrap();
    let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let x = candle_core::Tensor::from_vec(x, (2, 32), &candle_core::Device::Cpu).unwrap();
    let image = x.reshape([&[2], net.input_row()].concat()).unwrap();
    let reference = robust_engine::Reference::new(std::sync::Arc::new(net), candle_core::DType::F32).unwrap();
    let ours = reference.forward(&image).unwrap();
    let expected =
        x.reshape((8, 4, 2)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap().reshape((2, 32)).unwrap();
    assert_eq!(ours.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
    // What looks across windows, or mixes them with plain rows, is refused.
    let moved = with(node("Transpose", &["a"], "b"), attr("perm", &[1, 2, 0]));
    refused(&windowed(&[-1, 4, 2], vec![moved], vec![]), &["in front of the batch"]);
    let front = with(node("Transpose", &["a"], "b"), attr("perm", &[1, 0, 2]));
    refused(&windowed(&[-1, 4, 2], vec![front], vec![]), &["in front of the batch"]);
    let mixed = vec![node("Flatten", &["x"], "f"), node("Add", &["a", "f"], "b")];
    refused(&windowed(&[-1, 16], mixed, vec![]), &["mixes values"]);
    let along = floats("w", &[2, 4, 2]);
    refused(&windowed(&[-1, 4, 2], vec![node("Add", &["a", "w"], "b")], vec![along]), &["merged batch axis"]);
    refused(&windowed(&[-1, 4, 2], vec![node("ReduceMean", &["a"], "b")], vec![]), &["the batch included"]);
    let norm = node("InstanceNormalization", &["a", "g", "g"], "b");
    refused(&windowed(&[-1, 2, 2, 2], vec![norm], vec![floats("g", &[2])]), &["merged with others"]);
}

#[test]
fn axes_are_counted_as_the_file_counts_them_within_windows() {
    // [n, 32] as [4 n, 2, 4]: the two lines of a window the other way round, and the sums of each window's columns taken off.
    let inner = vec![
        with(node("Gather", &["a", "turn"], "t"), int_attr("axis", 1)),
        with(node("ReduceMean", &["t", "lines"], "m"), int_attr("keepdims", 1)),
        node("Sub", &["t", "m"], "b"),
    ];
    let net = load(&windowed(&[-1, 2, 4], inner, vec![ints("turn", &[1, 0]), ints("lines", &[1])])).unwrap();
    let x = candle_core::Tensor::arange(0f32, 32., &candle_core::Device::Cpu).unwrap().reshape((1, 2, 4, 4)).unwrap();
    let reference = robust_engine::Reference::new(std::sync::Arc::new(net), candle_core::DType::F32).unwrap();
    // Lines of a window differ by 4.
    let row = reference.forward(&x).unwrap().to_vec2::<f32>().unwrap().remove(0);
    assert_eq!(row, [[2.; 4], [-2.; 4]].concat().repeat(4));
    let norm = node("BatchNormalization", &["a", "one", "zero", "mean", "four"], "b");
    let all = |name: &str, v: [f32; 2]| TensorProto { float_data: v.to_vec(), ..floats(name, &[2]) };
    let weights = vec![all("one", [1., 10.]), all("zero", [0., 0.]), all("mean", [1., 0.]), all("four", [4., 4.])];
    let norm = with(norm, AttributeProto { name: "epsilon".into(), f: 1e-30, kind: 1, ..Default::default() });
    let net = load(&windowed(&[-1, 2, 4], vec![norm], weights)).unwrap();
    let reference = robust_engine::Reference::new(std::sync::Arc::new(net), candle_core::DType::F32).unwrap();
    let row = reference.forward(&x).unwrap().to_vec2::<f32>().unwrap().remove(0);
    assert_eq!(row[..8], [-0.5, 0., 0.5, 1., 20., 25., 30., 35.]);
    assert_eq!(row[8..16], [3.5, 4., 4.5, 5., 60., 65., 70., 75.]);
}

#[test]
fn attributes_of_the_wrong_type_or_size_are_refused() {
    let conv =
        |a: AttributeProto| model(vec![with(node("Conv", &["x", "w"], "y"), a)], vec![floats("w", &[3, 2, 3, 3])]);
    refused(&conv(text_attr("strides", "two")), &["attribute `strides` is not a list of integers"]);
    for bad in [&[0i64, 1][..], &[-1, 1], &[1], &[1 << 40, 1]] {
        refused(&conv(attr("strides", bad)), &["strides"]);
    }
    refused(&conv(attr("pads", &[-1, 0, 0, 0])), &["pads"]);
    refused(&conv(attr("pads", &[1 << 20, 1 << 20, 1 << 20, 1 << 20])), &["n", "y"]);
    refused(&conv(attr("kernel_shape", &[5, 5])), &["kernel_shape"]);
    refused(&conv(int_attr("group", -1)), &["group = -1"]);
    refused(&conv(int_attr("group", 0)), &["y"]);
    refused(&conv(text_attr("auto_pad", "SOMETIMES")), &["SOMETIMES"]);
    let clip = model(vec![node("Clip", &["x", "a", "b"], "y")], vec![floats("a", &[]), floats("b", &[2])]);
    refused(&clip, &["single number"]);
}

#[test]
fn dimensions_are_checked_before_anything_is_allocated() {
    let huge = |dims: &[i64]| TensorProto { name: "w".into(), dims: dims.to_vec(), data_type: 1, ..Default::default() };
    for dims in [&[i64::MAX, i64::MAX][..], &[1 << 33, 1 << 33], &[-1, 4], &[1 << 30], &[1; 40]] {
        refused(&model(vec![node("Add", &["x", "w"], "y")], vec![huge(dims)]), &["`w`"]);
    }
    let outside = TensorProto { data_location: 1, ..floats("w", &[1]) };
    refused(&model(vec![node("Add", &["x", "w"], "y")], vec![outside]), &["another file"]);
    let mut model = model(vec![node("Flatten", &["x"], "y")], vec![]);
    for dims in [[Some(1 << 20), Some(1 << 20), Some(1 << 20)], [Some(-3), Some(4), Some(4)], [None, Some(4), Some(4)]]
    {
        model.graph.as_mut().unwrap().input[0] = info("x", &[&[None][..], &dims].concat());
        refused(&model, &["input"]);
    }
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    let fill = vec![node("ConstantOfShape", &["s"], "c"), node("Add", &["x", "c"], "y")];
    refused(&model(fill, vec![ints("s", &[1 << 14, 1 << 14])]), &["far beyond the size of the file"]);
    // High and narrow, resized to low and wide: what is between the two is large.
    let resize = with(node("Resize", &["w", "", "", "s"], "c"), text_attr("mode", "cubic"));
    let resized = vec![resize, node("Add", &["x", "c"], "y")];
    let sizes = [floats("w", &[1, 1, 1 << 16, 1]), ints("s", &[1, 1, 1, 1 << 12])];
    refused(&model(resized, sizes.to_vec()), &["[1, 65536, 4096] is far beyond the size of the file"]);
    let spread = vec![node("Expand", &["w", "s"], "c"), node("Add", &["x", "c"], "y")];
    refused(&model(spread, vec![ints("s", &[1 << 20, 1 << 20]), floats("w", &[1])]), &["far beyond"]);
    let count = vec![node("Range", &["a", "b", "a"], "c"), node("Add", &["x", "c"], "y")];
    refused(&model(count, vec![ints("a", &[1]), ints("b", &[1 << 50])]), &["c"]);
    // What is made once is not made again and again: a million integers, a dozen nodes.
    for op in ["Cast", "Neg", "Abs", "Unsqueeze", "Flatten"] {
        let mut chain = vec![node("Range", &["z", "b", "a"], "c0")];
        for i in 0..12 {
            let (from, to) = (format!("c{i}"), format!("c{}", i + 1));
            let made = match op {
                "Unsqueeze" => node(op, &[&from, "z1"], &to),
                _ => node(op, &[&from], &to),
            };
            chain.push(if op == "Cast" { with(made, int_attr("to", 7)) } else { made });
        }
        chain.push(node("Gather", &["x", "c12"], "y"));
        let scalar = |name: &str, v: i64| TensorProto { dims: vec![], ..ints(name, &[v]) };
        let bounds = [scalar("z", 0), scalar("b", 1 << 20), scalar("a", 1), ints("z1", &[0])];
        refused(&model(chain, bounds.to_vec()), &["far beyond the size of the file"]);
    }
    // Nor is it read as the dimensions or axes of anything.
    let bounds = |n: i64| {
        let scalar = |name: &str, v: i64| TensorProto { dims: vec![], ..ints(name, &[v]) };
        vec![scalar("z", 0), scalar("b", n), scalar("a", 1), floats("w", &[2, 3])]
    };
    for made in [
        node("Reshape", &["x", "c"], "y"),
        node("Slice", &["x", "c", "c"], "y"),
        node("Squeeze", &["x", "c"], "y"),
        node("Resize", &["x", "", "", "c"], "y"),
        node("Pad", &["x", "c"], "y"),
        node("Reshape", &["w", "c"], "y"),
        node("Expand", &["w", "c"], "y"),
        node("ConstantOfShape", &["c"], "y"),
    ] {
        let long = vec![node("Range", &["z", "b", "a"], "c"), made];
        refused(&model(long, bounds(1 << 20)), &["input", "1048576 entries"]);
    }
    let empties =
        vec![node("ConstantOfShape", &["s"], "c"), node("Reshape", &["c", "t"], "d"), node("Concat", &["d", "d"], "y")];
    refused(&model(empties, vec![ints("s", &[0]), ints("t", &[0, 1 << 40, 1 << 40])]), &["n_"]);
    // A graph of nothing but empty nodes: two bytes each here, hundreds once decoded.
    let nodes = [0x0a, 0x00].repeat(3 << 20);
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    let error = import(bytes, &Options::default()).err().unwrap();
    assert!(error.message.contains("parts, which no model has"), "{error}");
}

#[test]
fn images_are_resized_along_height_and_width_only() {
    let sized = |sizes: &[i64], more: &[AttributeProto]| {
        let resize = node("Resize", &["x", "", "", "s"], "c");
        let resize = more.iter().fold(resize, |n, a| with(n, a.clone()));
        model(vec![resize, node("Flatten", &["c"], "y")], vec![ints("s", sizes)])
    };
    for (sizes, attributes, part) in [
        (&[1, 3, 8, 8][..], &[][..], "none for batch and channels"),
        (&[1, 2, 8], &[], "none for batch and channels"),
        (&[1, 2, 0, 8], &[], "a side of 0"),
        (&[1, 2, 8, 1 << 40], &[], "a side of 1099511627776"),
        (&[1, 2, -1, 8], &[], "a side of 0"),
        (&[1, 2, 8, 8], &[text_attr("mode", "area")], "mode `area`"),
        (&[1, 2, 8, 8], &[text_attr("nearest_mode", "up")], "nearest_mode `up`"),
        (&[1, 2, 8, 8], &[text_attr("coordinate_transformation_mode", "tf_crop_and_resize")], "`tf_crop_and_resize`"),
        (&[1, 2, 8, 8], &[int_attr("antialias", 1)], "`antialias`"),
        (&[8, 8], &[attr("axes", &[2, 7])], "axis 7"),
    ] {
        refused(&sized(sizes, attributes), &[part]);
    }
    let norm = |groups: i64, entries: usize| {
        let norm = with(node("GroupNormalization", &["x", "s", "s"], "c"), int_attr("num_groups", groups));
        model(vec![norm, node("Flatten", &["c"], "y")], vec![floats("s", &[entries as i64])])
    };
    for (groups, entries, part) in
        [(0, 2, "num_groups = 0"), (3, 2, "num_groups = 3"), (-1, 2, "= -1"), (2, 5, "[5], not [2]")]
    {
        refused(&norm(groups, entries), &[part]);
    }
}

#[test]
fn files_of_other_opsets_and_shapes_say_what_is_supported() {
    let ok = model(vec![node("Flatten", &["x"], "y")], vec![]);
    for version in [6, 29] {
        let other = ModelProto { opset_import: vec![OperatorSetId { domain: String::new(), version }], ..ok.clone() };
        refused(&other, &[&version.to_string(), "7 to 28", "opset_version=18"]);
    }
    refused(&ModelProto { graph: None, ..ok.clone() }, &["no graph"]);
    let mut two = ok.clone();
    two.graph.as_mut().unwrap().input.push(info("mask", &[None, Some(2)]));
    refused(&two, &["2 inputs", "mask"]);
    refused(&model(vec![node("Relu", &["x"], "y")], vec![]), &["output `y`", "classes"]);
    let mut bytes = ok.clone();
    bytes.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = 2;
    refused(&bytes, &["not floating point"]);
}

#[test]
fn an_open_image_size_is_taken_from_the_options() {
    let mut open = model(vec![node("Flatten", &["x"], "y")], vec![]);
    open.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(2), None, None]);
    refused(&open, &["?input="]);
    let given = |input| import(open.encode_to_vec(), &Options { input: Some(input), ..Options::default() });
    assert_eq!(given([2, 3, 5]).unwrap().network.output_row(), [30]);
    assert_eq!(given([3, 3, 5]).err().unwrap().kind, Kind::Usage);
}

#[test]
fn trailing_axes_of_one_are_squeezed_from_the_output() {
    let net = load(&model(vec![node("GlobalAveragePool", &["x"], "y")], vec![])).unwrap();
    assert_eq!(net.output_row(), [2]);
}

#[test]
fn weights_used_twice_are_stored_once() {
    let nodes = vec![node("Flatten", &["x"], "a"), node("MatMul", &["a", "w"], "b"), node("MatMul", &["b", "w"], "y")];
    assert_eq!(load(&model(nodes, vec![floats("w", &[32, 32])])).unwrap().params().len(), 1);
}

#[test]
fn training_mode_is_refused() {
    let drop = vec![node("Dropout", &["x", "r", "t"], "a"), node("Flatten", &["a"], "y")];
    let yes = TensorProto { name: "t".into(), data_type: 9, int32_data: vec![1], ..Default::default() };
    refused(&model(drop, vec![floats("r", &[]), yes]), &["training mode", "eval mode"]);
}
