//! Ops on images whose right values are worked out by hand.

use super::*;

pub(super) fn reals(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub(super) fn float_attr(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, kind: 1, ..Default::default() }
}

/// What a model over a flat input `x` of as many entries makes of one row, and the slope of the sum of its outputs.
#[track_caller]
pub(super) fn slopes(
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    opset: i64,
    dims: &[i64],
    x: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let mut model = model(nodes, weights);
    model.opset_import[0].version = opset;
    let row: Vec<Option<i64>> = std::iter::once(None).chain(dims.iter().map(|&d| Some(d))).collect();
    model.graph.as_mut().unwrap().input[0] = info("x", &row);
    let net = std::sync::Arc::new(load(&model).unwrap());
    let shape: Vec<usize> = std::iter::once(1).chain(dims.iter().map(|&d| d as usize)).collect();
    let x = candle_core::Tensor::from_slice(x, shape, &candle_core::Device::Cpu).unwrap();
    let reference = robust_engine::Reference::new(net, candle_core::DType::F32).unwrap();
    let mut tape = reference.trace(&x, &[]).unwrap();
    let out = reference.network().output();
    let y = reference.forward(&x).unwrap();
    let dx = tape.pull(&[(out, y.ones_like().unwrap())]).unwrap();
    let list = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (list(&y), list(&dx))
}

#[track_caller]
pub(super) fn made(nodes: Vec<NodeProto>, weights: Vec<TensorProto>, opset: i64, dims: &[i64], x: &[f32]) -> Vec<f32> {
    slopes(nodes, weights, opset, dims, x).0
}

#[track_caller]
pub(super) fn near(found: &[f32], expected: &[f32]) {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1.);
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(close), "{found:?}, not {expected:?}");
}

fn count(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

/// One op on a row, flattened.
pub(super) fn op(mut node: NodeProto, attributes: &[AttributeProto]) -> Vec<NodeProto> {
    node.output = vec!["o".into()];
    node.attribute.extend(attributes.iter().cloned());
    vec![node, super::node("Flatten", &["o"], "y")]
}

#[test]
fn nearest_entries_fall_as_in_single_precision() {
    // 3 / 0.6 is 5 in f32 and less than 5 in f64: ONNX Runtime takes entry 5. 9 / 1.2 is less than 7.5 in both, by less than it sees.
    let of = |scale: f32, mode: &'static str| {
        let places = [text_attr("coordinate_transformation_mode", "asymmetric"), text_attr("nearest_mode", mode)];
        let scales = reals("s", &[4], &[1., 1., 1., scale]);
        made(op(node("Resize", &["x", "", "s"], "o"), &places), vec![scales], 13, &[1, 1, 10], &count(10))
    };
    assert_eq!(of(0.6, "floor"), [0., 1., 3., 5., 6., 8.]);
    assert_eq!(of(1.2, "round_prefer_ceil"), [0., 1., 2., 3., 3., 4., 5., 6., 7., 8., 8., 9.]);
    assert_eq!(of(2.5, "round_prefer_floor")[..6], [0., 0., 1., 1., 2., 2.]);
}

#[test]
fn old_forms_of_ops_say_what_they_said_then() {
    let x = count(4);
    let padded = op(node("Pad", &["x"], "o"), &[attr("pads", &[0, 0, 0, 1, 0, 0, 0, 2]), float_attr("value", 7.)]);
    assert_eq!(made(padded, vec![], 9, &[1, 1, 4], &x), [7., 0., 1., 2., 3., 7., 7.]);
    let sliced = op(node("Slice", &["x"], "o"), &[attr("starts", &[1]), attr("ends", &[3]), attr("axes", &[3])]);
    assert_eq!(made(sliced, vec![], 9, &[1, 1, 4], &x), [1., 2.]);
    let grown = op(node("Upsample", &["x", "s"], "o"), &[text_attr("mode", "nearest")]);
    let by = |f: f32| vec![reals("s", &[4], &[1., 1., 1., f])];
    assert_eq!(made(grown, by(2.), 9, &[1, 1, 4], &x), [0., 0., 1., 1., 2., 2., 3., 3.]);
    let scales = AttributeProto { name: "scales".into(), floats: vec![1., 1., 1., 2.], kind: 6, ..Default::default() };
    let oldest = op(node("Upsample", &["x"], "o"), &[scales]);
    assert_eq!(made(oldest, vec![], 7, &[1, 1, 4], &x), [0., 0., 1., 1., 2., 2., 3., 3.]);
    // Between the grid's own entries, which begins with the first: 0, 0.5, 1, ... and the last one again.
    let linear = op(node("Resize", &["x", "s"], "o"), &[text_attr("mode", "linear")]);
    assert_eq!(made(linear, by(2.), 10, &[1, 1, 4], &x), [0., 0.5, 1., 1.5, 2., 2.5, 3., 3.]);
    // Statistics of single entries, which no later opset has.
    let weights = ["s", "b", "m", "v"].map(|n| floats(n, &[2]));
    let norm = with(node("BatchNormalization", &["x", "s", "b", "m", "v"], "y"), int_attr("spatial", 0));
    let mut old = model(vec![norm], weights.to_vec());
    old.opset_import[0].version = 7;
    refused(&old, &["n_y", "spatial = 0"]);
}

#[test]
fn sums_means_and_slopes_below_zero() {
    let x = [-2., -1., 1., 4.];
    let w = || vec![reals("w", &[4], &[1., 2., 3., 4.])];
    assert_eq!(made(op(node("Sum", &["x", "w", "x"], "o"), &[]), w(), 13, &[4], &x), [-3., 0., 5., 12.]);
    assert_eq!(made(op(node("Mean", &["x", "w"], "o"), &[]), w(), 13, &[4], &x), [-0.5, 0.5, 2., 4.]);
    let prelu = slopes(op(node("PRelu", &["x", "w"], "o"), &[]), w(), 16, &[4], &x);
    assert_eq!(prelu, (vec![-2., -2., 1., 4.], vec![1., 2., 1., 1.]));
}

#[test]
fn activations_made_of_others_have_their_closed_forms() {
    let x = [-2f32, -0.25, 0., 0.5, 3.];
    let of = |name: &str, attributes: &[AttributeProto]| {
        slopes(op(node(name, &["x"], "o"), attributes), vec![], 24, &[5], &x)
    };
    let map = |f: fn(f32) -> f32| x.map(f).to_vec();
    near(&of("Softsign", &[]).0, &map(|v| v / (1. + v.abs())));
    near(&of("Mish", &[]).0, &map(|v| v * (1. + v.exp()).ln().tanh()));
    near(&of("Swish", &[float_attr("alpha", 2.)]).0, &map(|v| v / (1. + (-2. * v).exp())));
    near(&of("Celu", &[float_attr("alpha", 2.)]).0, &map(|v| v.max(0.) + (2. * ((v / 2.).exp() - 1.)).min(0.)));
    near(&of("Selu", &[]).0, &map(|v| 1.050_701 * if v > 0. { v } else { 1.673_263_2 * (v.exp() - 1.) }));
    // Jumps have no slope, and hold at the bound itself.
    assert_eq!(
        of("ThresholdedRelu", &[float_attr("alpha", 0.5)]),
        (vec![0., 0., 0., 0., 3.], vec![0., 0., 0., 0., 1.])
    );
    assert_eq!(of("Sign", &[]), (vec![-1., -1., 0., 1., 1.], vec![0.; 5]));
    let shrunk = of("Shrink", &[float_attr("lambd", 0.4), float_attr("bias", 0.25)]);
    assert_eq!(shrunk, (vec![-1.75, 0., 0., 0.25, 2.75], vec![1., 0., 0., 1., 1.]));
}

#[test]
fn comparisons_are_masks_down_to_the_smallest_number() {
    let tiny = f32::from_bits(1);
    let x = [-1., -tiny, 0., tiny, 2.];
    let zero = || vec![reals("zero", &[], &[0.]), reals("five", &[], &[5.])];
    for (name, expected) in [
        ("Greater", [0., 0., 0., 1., 1.]),
        ("GreaterOrEqual", [0., 0., 1., 1., 1.]),
        ("Less", [1., 1., 0., 0., 0.]),
        ("LessOrEqual", [1., 1., 1., 0., 0.]),
        ("Equal", [0., 0., 1., 0., 0.]),
    ] {
        let nodes = vec![node(name, &["x", "zero"], "m"), with(node("Cast", &["m"], "y"), int_attr("to", 1))];
        assert_eq!(slopes(nodes, zero(), 18, &[5], &x), (expected.to_vec(), vec![0.; 5]), "{name}");
    }
    let nodes = vec![
        node("Greater", &["x", "zero"], "m"),
        node("Not", &["m"], "not"),
        node("Mul", &["x", "five"], "more"),
        node("Where", &["not", "more", "x"], "y"),
    ];
    let x = [-1., -2., 0., 1., 2.];
    assert_eq!(slopes(nodes, zero(), 18, &[5], &x), (vec![-5., -10., 0., 1., 2.], vec![5., 5., 5., 1., 1.]));
}

#[test]
fn entries_are_picked_in_any_order() {
    let x = count(6);
    let picked = |list: &[i64]| {
        made(op(node("Gather", &["x", "i"], "o"), &[int_attr("axis", 1)]), vec![ints("i", list)], 18, &[6], &x)
    };
    assert_eq!(picked(&[2, 1, 0]), [2., 1., 0.]);
    assert_eq!(picked(&[5, 5, 0, 2, 4, -1]), [5., 5., 0., 2., 4., 5.]);
    // More runs than are cut out one by one.
    let many: Vec<i64> = (0..40).map(|i| (i * 5) % 6).collect();
    assert_eq!(picked(&many), many.iter().map(|&i| i as f32).collect::<Vec<_>>());
    let cut = |start: i64, end: i64, step: i64| {
        let numbers = vec![ints("s", &[start]), ints("e", &[end]), ints("a", &[1]), ints("by", &[step])];
        made(op(node("Slice", &["x", "s", "e", "a", "by"], "o"), &[]), numbers, 18, &[6], &x)
    };
    assert_eq!(cut(-1, i64::MIN, -1), [5., 4., 3., 2., 1., 0.]);
    assert_eq!(cut(4, 0, -2), [4., 2.]);
    let tiled = op(node("Tile", &["x", "t"], "o"), &[]);
    assert_eq!(made(tiled, vec![ints("t", &[1, 2])], 18, &[3], &count(3)), [0., 1., 2., 0., 1., 2.]);
}

#[test]
fn edges_are_padded_in_every_mode() {
    let x = count(4);
    let padded = |mode: &'static str, pads: &[i64]| {
        made(op(node("Pad", &["x", "p"], "o"), &[text_attr("mode", mode)]), vec![ints("p", pads)], 19, &[4], &x)
    };
    assert_eq!(padded("edge", &[0, 1, 0, 2]), [0., 0., 1., 2., 3., 3., 3.]);
    assert_eq!(padded("reflect", &[0, 2, 0, 1]), [2., 1., 0., 1., 2., 3., 2.]);
    assert_eq!(padded("wrap", &[0, 2, 0, 1]), [2., 3., 0., 1., 2., 3., 0.]);
    assert_eq!(padded("constant", &[0, -1, 0, 2]), [1., 2., 3., 0., 0.]);
}

#[test]
fn reductions_are_sums_and_extremes() {
    let x = [1f32, -2., 3., -4.];
    let of = |name: &str| made(op(node(name, &["x", "a"], "o"), &[]), vec![ints("a", &[1])], 18, &[4], &x);
    assert_eq!(of("ReduceMin"), [-4.]);
    assert_eq!(of("ReduceL1"), [10.]);
    assert_eq!(of("ReduceSumSquare"), [30.]);
    near(&of("ReduceLogSumExp"), &[x.map(f32::exp).iter().sum::<f32>().ln()]);
    let large =
        made(op(node("ReduceLogSumExp", &["x", "a"], "o"), &[]), vec![ints("a", &[1])], 18, &[2], &[1000., 1000.]);
    near(&large, &[1000. + 2f32.ln()]);
}

#[test]
fn transposed_convolutions_spread_each_entry_by_the_kernel() {
    // [1, 2, 3] with kernel [1, 10, 100] at stride 2: each entry lays its kernel down, two apart.
    let kernel = || vec![reals("w", &[1, 1, 1, 3], &[1., 10., 100.])];
    let laid = |attributes: &[AttributeProto]| {
        let all = [&[attr("strides", &[1, 2])], attributes].concat();
        made(op(node("ConvTranspose", &["x", "w"], "o"), &all), kernel(), 18, &[1, 1, 3], &[1., 2., 3.])
    };
    assert_eq!(laid(&[]), [1., 10., 102., 20., 203., 30., 300.]);
    assert_eq!(laid(&[attr("pads", &[0, 1, 0, 1])]), [10., 102., 20., 203., 30.]);
    assert_eq!(
        laid(&[attr("pads", &[0, 1, 0, 1]), attr("output_padding", &[0, 1])]),
        [10., 102., 20., 203., 30., 300.]
    );
    // Two channels in two groups, each with its own kernel.
    let groups = op(node("ConvTranspose", &["x", "w"], "o"), &[int_attr("group", 2)]);
    let weights = vec![reals("w", &[2, 1, 1, 2], &[1., 2., 3., 4.])];
    assert_eq!(made(groups, weights, 18, &[2, 1, 2], &[1., 0., 0., 1.]), [1., 2., 0., 0., 3., 4.]);
}

#[test]
fn blocks_and_neighbouring_channels() {
    let x = count(8);
    let dcr = op(node("DepthToSpace", &["x"], "o"), &[int_attr("blocksize", 2)]);
    assert_eq!(made(dcr, vec![], 18, &[8, 1, 1], &x), [0., 2., 4., 6., 1., 3., 5., 7.]);
    let crd = op(node("DepthToSpace", &["x"], "o"), &[int_attr("blocksize", 2), text_attr("mode", "CRD")]);
    assert_eq!(made(crd, vec![], 18, &[8, 1, 1], &x), x);
    let back = op(node("SpaceToDepth", &["x"], "o"), &[int_attr("blocksize", 2)]);
    assert_eq!(made(back, vec![], 18, &[1, 2, 4], &x), [0., 2., 1., 3., 4., 6., 5., 7.]);
    let lrn = op(node("LRN", &["x"], "o"), &[int_attr("size", 3), float_attr("alpha", 3.), float_attr("beta", 0.5)]);
    // 1 + (sum of squares of the channel and its neighbours)
    near(&made(lrn, vec![], 13, &[3, 1, 1], &[1., 2., 3.]), &[1. / 6f32.sqrt(), 2. / 15f32.sqrt(), 3. / 14f32.sqrt()]);
}

#[test]
fn lines_are_images_of_height_one() {
    let conv =
        op(node("Conv", &["x", "w"], "o"), &[attr("strides", &[2]), attr("pads", &[1, 0]), attr("dilations", &[2])]);
    let weights = vec![reals("w", &[1, 1, 2], &[1., 10.])];
    assert_eq!(made(conv, weights, 18, &[1, 5], &[1., 2., 3., 4., 5.]), [20., 42.]);
    let pool = op(node("MaxPool", &["x"], "o"), &[attr("kernel_shape", &[2]), attr("strides", &[2])]);
    assert_eq!(made(pool, vec![], 18, &[1, 4], &[1., 4., 3., 2.]), [4., 3.]);
    let product = op(node("MatMul", &["x", "v"], "o"), &[]);
    assert_eq!(made(product, vec![reals("v", &[2], &[1., 10.])], 18, &[2, 2], &count(4)), [10., 32.]);
    let norm = op(node("LayerNormalization", &["x", "g"], "o"), &[int_attr("axis", 1), float_attr("epsilon", 1e-30)]);
    let gamma = reals("g", &[2, 2], &[1., 1., 2., 2.]);
    near(&made(norm, vec![gamma], 18, &[2, 2], &[-1., 1., -1., 1.]), &[-1., 1., -2., 2.]);
}

#[test]
fn weights_computed_from_others_are_computed_once() {
    // Standardised weights: mean over all but the first axis taken off, by the deviation; then halved and joined the other way round.
    let nodes = vec![
        with(node("ReduceMean", &["w", "rest"], "mean"), int_attr("keepdims", 1)),
        node("Sub", &["w", "mean"], "centred"),
        NodeProto {
            output: vec!["p".into(), "q".into()],
            ..with(node("Split", &["centred"], "p"), int_attr("axis", 0))
        },
        with(node("Concat", &["q", "p"], "joined"), int_attr("axis", 0)),
        node("Relu", &["joined"], "positive"),
        node("Conv", &["x", "positive"], "c"),
        node("Flatten", &["c"], "y"),
    ];
    let w = reals("w", &[2, 1, 1, 2], &[1., 3., 10., 20.]);
    // Means 2 and 15: [-1, 1], [-5, 5]; joined [-5, 5], [-1, 1]; positive [0, 5], [0, 1].
    assert_eq!(made(nodes.clone(), vec![w.clone(), ints("rest", &[1, 2, 3])], 18, &[1, 1, 2], &[7., 2.]), [10., 2.]);
    let mut model = model(nodes, vec![w, ints("rest", &[1, 2, 3])]);
    model.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(1), Some(1), Some(2)]);
    assert_eq!(load(&model).unwrap().nodes().len(), 3);
    let picked = vec![node("GatherND", &["w", "i"], "s"), node("Mul", &["x", "s"], "y")];
    let places = TensorProto { dims: vec![3, 2], ..ints("i", &[1, 0, 0, 1, -1, -1]) };
    let numbers = vec![reals("w", &[2, 2], &[1., 2., 3., 4.]), places];
    assert_eq!(made(picked, numbers, 18, &[3], &[1., 1., 1.]), [3., 2., 4.]);
    let sums = vec![node("CumSum", &["w", "axis"], "s"), node("Mul", &["x", "s"], "y")];
    let numbers = vec![reals("w", &[3], &[1., 2., 3.]), TensorProto { dims: vec![], ..ints("axis", &[0]) }];
    assert_eq!(made(sums, numbers, 18, &[3], &[1., 1., 1.]), [1., 3., 6.]);
}

#[test]
fn quantised_weights_are_scaled_when_read() {
    let nodes = vec![
        with(node("DequantizeLinear", &["q", "s", "z"], "w"), int_attr("axis", 1)),
        node("MatMul", &["x", "w"], "y"),
    ];
    let bytes = |name: &str, dims: &[i64], values: &[i8]| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 3,
        raw_data: values.iter().map(|&v| v as u8).collect::<Vec<u8>>().into(),
        ..Default::default()
    };
    let weights =
        vec![bytes("q", &[2, 2], &[-128, 2, 3, 127]), reals("s", &[2], &[0.5, 2.]), bytes("z", &[2], &[0, 1])];
    // Columns by their own scale: [-64, 2], [1.5, 252].
    assert_eq!(made(nodes, weights, 18, &[2], &[1., 10.]), [-64. + 15., 2. + 2520.]);
}

#[test]
fn sums_of_products_over_named_axes() {
    let text = |s: &'static str| [text_attr("equation", s)];
    // x is [n, 2, 3], the weight [3, 2, 2]: y[n, i, h] = sum over j and k of x[n, k, j] w[j, k, ...].
    let w: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let x = [1., 2., 3., 4., 5., 6.];
    let weights = || vec![reals("w", &[3, 2, 2], &w)];
    let mut expected = vec![0.; 4];
    let mut shared = [0.; 4];
    for k in 0..2 {
        for j in 0..3 {
            for h in 0..2 {
                expected[k * 2 + h] += x[k * 3 + j] * w[j * 4 + k * 2 + h];
                shared[h] += x[k * 3 + j] * w[j * 4 + k * 2 + h];
            }
        }
    }
    let of =
        |equation, inputs: &[&str]| made(op(node("Einsum", inputs, "o"), &text(equation)), weights(), 18, &[2, 3], &x);
    assert_eq!(of("nkj, jkh -> nkh", &["x", "w"]), expected);
    assert_eq!(of("jkh,nkj->nh", &["w", "x"]), shared[..2]);
    let turned = of("nkj,jkh->nhk", &["x", "w"]);
    assert_eq!(turned, [expected[0], expected[2], expected[1], expected[3]]);
    // Two values of the image: the products of all lines.
    assert_eq!(of("nij,nkj->nik", &["x", "x"]), [14., 32., 32., 77.]);
    for bad in ["nij,nkj", "nij,nkj->ik", "nij,nkl->nik", "nii,nkj->nk", "inj,nkj->nik"] {
        let nodes =
            op(node("Einsum", &["x", "x"], "o"), &[AttributeProto { s: bad.into(), ..text_attr("equation", "") }]);
        let mut model = model(nodes, vec![]);
        model.graph.as_mut().unwrap().input[0] = info("x", &[None, Some(2), Some(3)]);
        refused(&model, &["Einsum", bad]);
    }
}
