//! Images channels last, batches that a file fixes, and what a file leaves out.

use super::*;

/// An image `[n, 5, 6, 3]` whose channels are first put first, as tf2onnx writes them, and then weighed.
fn channels_last(leading: Vec<NodeProto>, from: &str) -> ModelProto {
    let mut nodes = leading;
    nodes.push(with(node("Transpose", &[from], "t"), attr("perm", &[0, 3, 1, 2])));
    nodes.push(node("Conv", &["t", "w"], "c"));
    nodes.push(node("Flatten", &["c"], "y"));
    let w = TensorProto { float_data: vec![1., 10., 100.], ..floats("w", &[1, 3, 1, 1]) };
    let half = TensorProto { float_data: vec![0.5, 1., 2.], ..floats("m", &[3]) };
    let mut model = model(nodes, vec![w, half]);
    model.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(5), Some(6), Some(3)]);
    model
}

fn read(model: &ModelProto, options: &Options) -> Imported {
    import(model.encode_to_vec(), options).unwrap()
}

/// What the network makes of one image, channels first, whose channels hold `c`.
fn of_planes(net: Network, c: [f32; 3]) -> Vec<f32> {
    let x: Vec<f32> = c.iter().flat_map(|&v| [v; 30]).collect();
    let x = candle_core::Tensor::from_vec(x, (1, 3, 5, 6), &candle_core::Device::Cpu).unwrap();
    let net = std::sync::Arc::new(net);
    robust_engine::Reference::new(net, candle_core::DType::F32)
        .unwrap()
        .forward(&x)
        .unwrap()
        .to_vec2()
        .unwrap()
        .remove(0)
}

#[test]
fn a_graph_that_puts_channels_first_by_itself_takes_them_first() {
    let plain = read(&channels_last(vec![], "x"), &Options::default());
    assert_eq!(plain.network.input_row(), [3, 5, 6]);
    assert!(plain.notes.iter().any(|n| n.contains("channels last (5x6x3)")), "{:?}", plain.notes);
    // The two transpositions cancel.
    assert!(plain.network.nodes().iter().all(|n| !matches!(n.op, Op::Transpose { .. })));
    assert_eq!(of_planes(plain.network, [1., 2., 3.]), [321.; 30]);
    // Arithmetic by channel comes before it, with three entries along the last axis.
    let scaled = channels_last(vec![node("Mul", &["x", "m"], "s")], "s");
    let read_ = read(&scaled, &Options::default());
    assert_eq!(of_planes(read_.network, [1., 2., 3.]), [0.5 + 20. + 600.; 30]);
    // Normalisation is by channel, in the order of channels.
    let options = Options { mean: Some(vec![1., 2., 3.]), std: Some(vec![0.5]), ..Options::default() };
    assert_eq!(of_planes(read(&scaled, &options).network, [1.5, 2., 3.]), [0.5; 30]);
}

#[test]
fn the_order_of_axes_can_be_said() {
    let mut flat = model(vec![node("Flatten", &["x"], "y")], vec![]);
    flat.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(5), Some(6), Some(3)]);
    let of = |layout: Option<&str>| read(&flat, &Options { layout: layout.map(String::from), ..Options::default() });
    assert_eq!(of(None).network.input_row(), [5, 6, 3]);
    assert!(of(None).notes.iter().any(|n| n.contains("?layout=nhwc")), "{:?}", of(None).notes);
    let last = of(Some("nhwc"));
    assert_eq!(last.network.input_row(), [3, 5, 6]);
    // As the file flattens them: all channels of a place together.
    assert_eq!(of_planes(last.network, [1., 2., 3.])[..6], [1., 2., 3., 1., 2., 3.]);
    let turned = channels_last(vec![], "x");
    let kept = import(turned.encode_to_vec(), &Options { layout: Some("nchw".into()), ..Options::default() });
    assert_eq!(kept.unwrap().network.input_row(), [5, 6, 3]);
    // Sizes are said channels first in either order.
    let mut open = channels_last(vec![], "x");
    open.graph.as_mut().unwrap().input[0] = info("x", &[None, None, None, Some(3)]);
    let options = Options { input: Some([3, 5, 6]), ..Options::default() };
    assert_eq!(read(&open, &options).network.input_row(), [3, 5, 6]);
}

#[test]
fn a_transposition_behind_other_paths_is_no_layout() {
    let mut nodes = vec![with(node("Transpose", &["x"], "t"), attr("perm", &[0, 3, 1, 2]))];
    nodes.push(node("Flatten", &["t"], "a"));
    nodes.push(node("Flatten", &["x"], "b"));
    nodes.push(node("Add", &["a", "b"], "y"));
    assert_eq!(load(&model(nodes, vec![])).unwrap().input_row(), [2, 4, 4]);
}

#[test]
fn a_fixed_or_negative_batch_is_any_batch() {
    for (batch, said) in [(Some(1), true), (Some(-1), false), (Some(0), false), (None, false)] {
        let mut fixed = model(vec![node("Flatten", &["x"], "y")], vec![]);
        fixed.graph.as_mut().unwrap().input[0] = info("x", &[batch, Some(2), Some(4), Some(4)]);
        let read = read(&fixed, &Options::default());
        assert_eq!(read.network.output_row(), [32]);
        assert_eq!(read.notes.iter().any(|n| n.contains("fixes the batch at 1")), said, "{:?}", read.notes);
        assert_eq!(read.notes.iter().any(|n| n.contains("states the batch as -1")), batch == Some(-1));
    }
}

#[test]
fn half_precision_weights_are_said_to_run_in_single_precision() {
    let half = |data_type: i32| TensorProto {
        name: "w".into(),
        dims: vec![],
        data_type,
        raw_data: vec![0, 0x3c, 0, 0x3c][..if data_type == 1 { 4 } else { 2 }].to_vec().into(),
        ..Default::default()
    };
    let notes = |w: TensorProto| {
        let nodes = vec![node("Mul", &["x", "w"], "m"), node("Flatten", &["m"], "y")];
        read(&model(nodes, vec![w]), &Options::default()).notes
    };
    assert!(notes(half(10)).iter().any(|n| n.contains("half precision") && n.contains("32 bit")));
    assert!(notes(half(16)).iter().any(|n| n.contains("half precision")));
    assert!(notes(half(1)).is_empty());
}
