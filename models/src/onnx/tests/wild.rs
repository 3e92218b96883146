//! What other people's exporters write: constants for each image, axes in front, integers around layers, standardised weights.

use super::ops::{float_attr, made, near, op, reals, slopes};
use super::*;

/// The number of images, `[1]`, in front of `nodes`.
fn counting(nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    let count = with(with(node("Shape", &["x"], "count"), int_attr("start", 0)), int_attr("end", 1));
    std::iter::once(count).chain(nodes).collect()
}

#[test]
fn a_constant_made_for_each_image_stands_once_and_is_not_summed_over_images() {
    let of = |inner: NodeProto| {
        let nodes = vec![
            with(node("Concat", &["count", "three"], "shape"), int_attr("axis", 0)),
            node("ConstantOfShape", &["shape"], "zeros"),
            node("Add", &["zeros", "two"], "twos"),
            inner,
            node("Add", &["x", "sums"], "y"),
        ];
        let mut model = model(counting(nodes), vec![ints("three", &[3]), ints("axis", &[1]), floats("two", &[])]);
        model.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(3)]);
        model.opset_import[0].version = 18;
        model
    };
    let along = |axis: &str| with(node("CumSum", &["twos", axis], "sums"), int_attr("reverse", 0));
    let net = load(&of(along("axis"))).unwrap();
    let x = candle_core::Tensor::zeros((2, 3), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let reference = robust_engine::Reference::new(std::sync::Arc::new(net), candle_core::DType::F32).unwrap();
    assert_eq!(reference.forward(&x).unwrap().to_vec2::<f32>().unwrap(), [[0.5, 1., 1.5], [0.5, 1., 1.5]]);
    // Two images would make it twice as large as one.
    let across = with(node("ReduceSum", &["twos", "zero"], "sums"), int_attr("keepdims", 1));
    let mut summed = of(across);
    summed.graph.as_mut().unwrap().initializer.push(ints("zero", &[0]));
    refused(&summed, &["once for each image", "n_sums"]);
    // Its shape is known to be the number of images.
    let sized = with(node("Expand", &["twos", "shape"], "sums"), int_attr("unused", 0));
    assert!(load(&of(sized)).is_ok());
}

#[test]
fn channels_are_flipped_by_index_in_front_of_the_batch() {
    let turn = |from: &str, to: &str| with(node("Transpose", &[from], to), attr("perm", &[1, 0, 2, 3]));
    let index = |places: &[i64]| TensorProto { dims: vec![places.len() as i64, 1], ..ints("i", places) };
    let nodes = |places: &[i64]| {
        let all =
            vec![turn("x", "t"), node("GatherND", &["t", "i"], "g"), turn("g", "b"), node("Flatten", &["b"], "y")];
        model(all, vec![index(places)])
    };
    let rows = counted(&nodes(&[1, 0]));
    let expected: Vec<f32> = (16..32).chain(0..16).map(|v| v as f32).collect();
    assert_eq!(rows[0], expected);
    assert_eq!(counted(&nodes(&[-1]))[1], (48..64).map(|v| v as f32).collect::<Vec<_>>());
    refused(&nodes(&[2]), &["axis 2 is outside"]);
    // Indices into the batch itself.
    let plain = vec![node("GatherND", &["x", "i"], "g"), node("Flatten", &["g"], "y")];
    refused(&model(plain, vec![index(&[0])]), &["rows would depend"]);
}

#[test]
fn members_stacked_in_front_are_averaged() {
    let up = |from: &str, to: &str| with(node("Unsqueeze", &[from, "zero"], to), int_attr("unused", 0));
    let nodes = vec![
        node("Neg", &["x"], "n"),
        node("Mul", &["x", "w"], "m"),
        up("m", "a"),
        up("n", "b"),
        with(node("Concat", &["a", "b"], "all"), int_attr("axis", 0)),
        with(node("ReduceMean", &["all", "zero"], "mean"), int_attr("keepdims", 0)),
        node("Flatten", &["mean"], "y"),
    ];
    let mut net = model(nodes, vec![ints("zero", &[0]), floats("w", &[])]);
    net.opset_import[0].version = 18;
    // (0.5 x - x) / 2
    assert_eq!(counted(&net)[1][..3], [-8., -8.25, -8.5]);
}

#[test]
fn images_merged_with_the_batch_are_convolved_apart() {
    // [n, 2, 4, 4] as 2 n images of one channel, each summed over windows of 3 x 3 with a border of one and a stride of 2.
    let conv = with(with(node("Conv", &["m", "w"], "c"), attr("pads", &[1, 1, 1, 1])), attr("strides", &[2, 2]));
    let nodes = vec![node("Reshape", &["x", "cut"], "m"), conv, node("Reshape", &["c", "whole"], "y")];
    let weights = vec![ints("cut", &[-1, 1, 4, 4]), ints("whole", &[-1, 8]), floats("w", &[1, 1, 3, 3])];
    let rows = counted(&model(nodes, weights));
    // Half of the sums: 0+1+4+5; 1+2+3+5+6+7; 4+5+8+9+12+13; 5+..+15 without the last column's left.
    assert_eq!(rows[0][..4], [5., 12., 25.5, 45.]);
    assert_eq!(rows[0][4..], [5. + 32., 12. + 48., 25.5 + 48., 45. + 72.]);
    assert_eq!(rows[1][..2], [5. + 64., 12. + 96.]);
}

#[test]
fn rounding_to_integers_is_exact_and_passes_gradients_within_its_range() {
    let zero =
        TensorProto { name: "z".into(), dims: vec![], data_type: 2, raw_data: vec![3].into(), ..Default::default() };
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], "q"),
        node("DequantizeLinear", &["q", "s", "z"], "d"),
        node("Flatten", &["d"], "y"),
    ];
    // In steps of 1/2 from -1.5 (level 0) to 126 (level 255); halves of a step to the even level.
    let x = [-9., -1.5, -1.76, -0.25, 0.25, 0.75, 0.3, 126., 126.2, 127.];
    let (y, dx) = slopes(nodes.clone(), vec![reals("s", &[], &[0.5]), zero.clone()], 13, &[10], &x);
    assert_eq!(y, [-1.5, -1.5, -1.5, 0., 0., 1., 0.5, 126., 126., 126.]);
    assert_eq!(dx, [0., 1., 0., 1., 1., 1., 1., 1., 1., 0.]);
    let mut whole = model(nodes, vec![reals("s", &[], &[0.5]), zero]);
    whole.opset_import[0].version = 13;
    let read = import(whole.encode_to_vec(), &Options::default()).unwrap();
    assert!(read.network.jumps());
    assert!(read.notes.iter().any(|n| n.contains("quantised") && n.contains("straight through")), "{:?}", read.notes);
}

#[test]
fn files_of_integer_ops_are_refused_with_the_float_model_as_the_way_out() {
    let nodes = vec![node("Relu", &["x"], "r"), node("QLinearConv", &["r", "s", "z", "w", "s", "z", "s", "z"], "y")];
    let error = load(&model(nodes, vec![floats("s", &[]), floats("z", &[]), floats("w", &[1, 2, 1, 1])])).unwrap_err();
    assert!(error.message.contains("QLinearConv"), "{error}");
    let hint = error.hint.unwrap();
    assert!(hint.contains("float model") && hint.contains("QDQ"), "{hint}");
    // Named before what comes first in the graph.
    let odd = vec![with(node("Flatten", &["x"], "f"), int_attr("axis", 0)), node("LSTM", &["f"], "y")];
    refused(&model(odd, vec![]), &["unsupported op `LSTM`"]);
}

#[test]
fn a_weight_in_training_mode_is_standardised_and_an_image_is_refused() {
    let norm = |from: &str| {
        let norm = node("BatchNormalization", &[from, "one", "zero", "zero", "one"], "b");
        with(with(norm, int_attr("training_mode", 1)), float_attr("epsilon", 0.))
    };
    let ends = || vec![reals("one", &[2], &[1., 10.]), reals("zero", &[2], &[0., 0.])];
    // [1, 2 channels, 3]: 0, 1, 2 and 1, 1, 4.
    let nodes = vec![norm("w"), node("Reshape", &["b", "shape"], "v"), node("MatMul", &["x", "v"], "y")];
    let weights = [vec![reals("w", &[1, 2, 3], &[0., 1., 2., 1., 1., 4.]), ints("shape", &[2, 3])], ends()].concat();
    let y = made(nodes, weights, 15, &[2], &[1., 1.]);
    let (a, b) = (1.5f32.sqrt(), 10. / 2f32.sqrt());
    near(&y, &[-a - b, -b, a + 2. * b]);
    let image = model(vec![norm("x"), node("Flatten", &["b"], "y")], ends());
    refused(&image, &["training mode", "neighbours"]);
}

#[test]
fn weights_of_one_number_are_not_paid_from_the_file() {
    // 4 million entries out of a file of a few bytes.
    let fill = with(
        node("ConstantOfShape", &["s"], "w"),
        AttributeProto { name: "value".into(), t: Some(reals("", &[1], &[0.5])), kind: 4, ..Default::default() },
    );
    let gemm = with(node("Gemm", &["x", "w"], "y"), int_attr("transB", 1));
    let y = made(vec![fill, gemm], vec![ints("s", &[1 << 20, 4])], 13, &[4], &[1., 2., 3., 4.]);
    assert_eq!((y.len(), y[0], y[(1 << 20) - 1]), (1 << 20, 5., 5.));
}

#[test]
fn windows_say_nothing_of_entries_that_are_not_there() {
    // Dilated: entries 0 and 2, 1 and 3 of a line; a border never wins a maximum, even of negative numbers.
    let pool = |kind: &str, more: &[AttributeProto]| {
        let own = [attr("kernel_shape", &[1, 2]), attr("dilations", &[1, 2])];
        op(node(kind, &["x"], "o"), &[&own[..], more].concat())
    };
    let x = [-4., -1., -3., -2.];
    assert_eq!(made(pool("MaxPool", &[]), vec![], 13, &[1, 1, 4], &x), [-3., -1.]);
    let border = [attr("pads", &[0, 1, 0, 1])];
    let (y, dx) = slopes(pool("MaxPool", &border), vec![], 13, &[1, 1, 4], &x);
    assert_eq!((y, dx), (vec![-1., -3., -1., -3.], vec![0., 2., 2., 0.]));
    assert_eq!(made(pool("AveragePool", &border), vec![], 19, &[1, 1, 4], &x), [-1., -3.5, -1.5, -3.]);
    let norm = op(node("LpPool", &["x"], "o"), &[attr("kernel_shape", &[1, 2]), int_attr("p", 2)]);
    near(&made(norm, vec![], 18, &[1, 1, 3], &[3., -4., 0.]), &[5., 4.]);
}

#[test]
fn what_a_mask_hides_may_be_infinite() {
    let mask =
        TensorProto { dims: vec![4], data_type: 9, int32_data: vec![1, 0, 1, 0], int64_data: vec![], ..ints("m", &[]) };
    let nodes = vec![node("Where", &["m", "x", "far"], "c"), node("Softmax", &["c"], "y")];
    let (y, dx) =
        slopes(nodes, vec![mask, reals("far", &[], &[f32::NEG_INFINITY])], 13, &[4], &[0., 9., 3f32.ln(), 9.]);
    near(&y, &[0.25, 0., 0.75, 0.]);
    near(&dx, &[0.; 4]);
}

#[test]
fn attention_as_one_op_is_its_formula() {
    // Two tokens of two heads of one entry; the second head's first token does not see the second.
    let heads = |q: &str| {
        with(with(node("Attention", &[q, q, q, "m"], "a"), int_attr("q_num_heads", 2)), int_attr("kv_num_heads", 2))
    };
    let truths = TensorProto {
        dims: vec![1, 2, 2, 2],
        data_type: 9,
        int32_data: vec![1, 1, 1, 1, 1, 0, 1, 1],
        int64_data: vec![],
        ..ints("m", &[])
    };
    let nodes = |m: TensorProto| (vec![heads("x"), node("Flatten", &["a"], "y")], vec![m]);
    let (all, weights) = nodes(truths.clone());
    let x = [0., 1., 2f32.ln(), 3.];
    let y = made(all, weights, 23, &[2, 2], &x);
    // Head 0: values 0 and ln 2; head 1: values 1 and 3.
    let mix = |q: f32, a: f32, b: f32| (a * (q * a).exp() + b * (q * b).exp()) / ((q * a).exp() + (q * b).exp());
    near(&y, &[mix(x[0], x[0], x[2]), 1., mix(x[2], x[0], x[2]), mix(3., 1., 3.)]);
    let blind = TensorProto { int32_data: vec![1, 1, 1, 1, 0, 0, 1, 1], ..truths };
    let (all, weights) = nodes(blind);
    let mut refused_model = model(all, weights);
    refused_model.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(2), Some(2)]);
    refused_model.opset_import[0].version = 23;
    refused(&refused_model, &["see nothing"]);
}
