//! Which output is taken, and what one number means.

use super::*;
use crate::load as load_spec;
use robust_core::Output;

/// Features `f` [n, 32], `z` = f w [n, 3] and `p` = softmax(z), under the names given to them as outputs.
fn several(names: [&str; 3], outputs: &[(&str, &[Option<i64>])]) -> ModelProto {
    let [f, z, p] = names;
    let nodes = vec![node("Flatten", &["x"], f), node("MatMul", &[f, "w"], z), node("Softmax", &[z], p)];
    let mut model = model(nodes, vec![floats("w", &[32, 3])]);
    model.graph.as_mut().unwrap().output = outputs.iter().map(|(name, dims)| info(name, dims)).collect();
    model
}

fn with_output(model: &ModelProto, output: Option<&str>) -> Result<Imported> {
    import(model.encode_to_vec(), &Options { output: output.map(String::from), ..Options::default() })
}

const WIDE: &[Option<i64>] = &[None, Some(32)];
const SCORES: &[Option<i64>] = &[None, Some(3)];

#[test]
fn of_several_outputs_the_scores_are_taken_and_said() {
    let plain = ["a", "b", "c"];
    for (names, outputs, width, taken, why) in [
        (["features", "logits", "p"], vec![("features", WIDE), ("logits", SCORES)], 3, "`logits`", "by its name"),
        (["x1", "class_scores", "p"], vec![("x1", WIDE), ("class_scores", SCORES)], 3, "`class_scores`", "by its name"),
        (["embedding", "out", "p"], vec![("embedding", WIDE), ("out", SCORES)], 3, "`out`", "[n, classes]"),
        // By what is made of what: logits behind features, and before probabilities.
        (plain, vec![("a", WIDE), ("b", SCORES)], 3, "`b`", "made of the others"),
        (plain, vec![("a", WIDE), ("b", SCORES), ("c", SCORES)], 3, "`b`", "made of the others"),
    ] {
        let read = with_output(&several(names, &outputs), None).unwrap();
        assert_eq!(read.network.output_row(), [width], "{names:?}");
        let said = format!("{taken} is used");
        assert!(read.notes.iter().any(|n| n.contains(&said) && n.contains(why)), "{:?}", read.notes);
    }
}

#[test]
fn an_output_is_taken_by_its_name_or_declared_an_embedding() {
    let outputs = [("features", WIDE), ("logits", SCORES)];
    let model = several(["features", "logits", "p"], &outputs);
    let of = |output| with_output(&model, Some(output)).unwrap();
    assert_eq!((of("logits").network.output_row().to_vec(), of("logits").embeds), (vec![3], false));
    assert_eq!((of("features").network.output_row().to_vec(), of("features").embeds), (vec![32], true));
    assert_eq!((of("embedding").network.output_row().to_vec(), of("embedding").embeds), (vec![32], true));
    assert_eq!((of("embedding:logits").network.output_row().to_vec(), of("embedding:logits").embeds), (vec![3], true));
    let error = with_output(&model, Some("logit")).err().unwrap();
    assert_eq!(error.kind, Kind::Usage);
    for part in ["no output `logit`", "?output=logits", "`features` [n, 32]", "`logits` [n, 3]"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn outputs_that_nothing_tells_apart_are_listed_with_their_shapes() {
    let nodes = vec![node("Flatten", &["x"], "a"), node("Flatten", &["x"], "b")];
    let mut two = model(nodes, vec![]);
    two.graph.as_mut().unwrap().output = vec![info("a", WIDE), info("b", WIDE)];
    refused(&two, &["2 outputs", "?output=NAME", "`a` [n, 32]", "`b` [n, 32]"]);
}

#[test]
fn classes_chosen_at_the_end_are_cut_off() {
    let nodes = vec![
        node("Flatten", &["x"], "f"),
        node("MatMul", &["f", "w"], "z"),
        with(with(node("ArgMax", &["z"], "label"), int_attr("axis", 1)), int_attr("keepdims", 0)),
        node("Identity", &["label"], "y"),
    ];
    let read = with_output(&model(nodes, vec![floats("w", &[32, 3])]), None).unwrap();
    assert_eq!(read.network.output_row(), [3]);
    assert!(read.notes.iter().any(|n| n.contains("ArgMax") && n.contains("`z`")), "{:?}", read.notes);
}

/// A model file of one score; `rank` axes of the output.
fn binary(sigmoid: bool, rank: usize) -> tempfile::TempDir {
    let mut nodes = vec![node("Flatten", &["x"], "f"), node("MatMul", &["f", "w"], "z")];
    let last = if sigmoid { "p" } else { "z" };
    nodes.extend(sigmoid.then(|| node("Sigmoid", &["z"], "p")));
    nodes.push(match rank {
        1 => with(node("Squeeze", &[last, "one"], "y"), int_attr("unused", 0)),
        _ => node("Identity", &[last], "y"),
    });
    let folder = tempfile::tempdir().unwrap();
    let model = model(nodes, vec![floats("w", &[32, 1]), ints("one", &[1])]);
    std::fs::write(folder.path().join("net.onnx"), model.encode_to_vec()).unwrap();
    folder
}

#[test]
fn one_score_is_the_logit_of_two_classes() {
    let x = candle_core::Tensor::arange(0f32, 64., &candle_core::Device::Cpu).unwrap().reshape((2, 2, 4, 4)).unwrap();
    for (sigmoid, rank) in [(false, 2), (true, 2), (false, 1), (true, 1)] {
        let folder = binary(sigmoid, rank);
        let path = folder.path().join("net.onnx").to_string_lossy().into_owned();
        let loaded = load_spec(&path).unwrap();
        assert_eq!(loaded.card.output, Output::Logits { k: 2 });
        assert!(loaded.notes.iter().any(|n| n.contains("one number")), "{:?}", loaded.notes);
        assert_eq!(loaded.notes.iter().any(|n| n.contains("sigmoid at the end is left out")), sigmoid);
        let reference = robust_engine::Reference::new(loaded.network.unwrap(), candle_core::DType::F32).unwrap();
        // Half the sum of 0 to 31, and of 32 to 63.
        assert_eq!(reference.forward(&x).unwrap().to_vec2::<f32>().unwrap(), [[0., 248.], [0., 760.]]);
        let embedding = load_spec(&format!("{path}?output=embedding")).unwrap();
        assert_eq!(embedding.card.output, Output::Embedding { d: 1 });
    }
}

#[test]
fn features_are_cut_only_before_a_last_linear_layer() {
    let place = tempfile::tempdir().unwrap();
    let load = |nodes: Vec<NodeProto>, what: &str| {
        let weights = vec![floats("w", &[32, 8]), floats("v", &[8, 3]), floats("g", &[3])];
        let path = place.path().join("net.onnx");
        std::fs::write(&path, model(nodes, weights).encode_to_vec()).unwrap();
        load_spec(&format!("{}?output={what}", path.display()))
    };
    let flat = node("Flatten", &["x"], "f");
    let hidden = vec![flat.clone(), node("MatMul", &["f", "w"], "h"), node("Relu", &["h"], "r")];
    let whole = [hidden.clone(), vec![node("MatMul", &["r", "v"], "y")]].concat();
    let cut = load(whole, "features").unwrap();
    assert_eq!(cut.card.output, Output::Embedding { d: 8 });
    assert!(cut.notes.iter().any(|n| n.contains("`r` [n, 8]") && n.contains("8 to 3")), "{:?}", cut.notes);
    // A norm behind the layer: what it reads is an inner value, not the embedding.
    let norm = [hidden, vec![node("MatMul", &["r", "v"], "z"), node("LayerNormalization", &["z", "g"], "y")]].concat();
    let error = load(norm.clone(), "features").unwrap_err();
    assert!(error.to_string().contains("layer_norm") && error.to_string().contains("?output=embedding"), "{error}");
    assert_eq!(load(norm, "embedding").unwrap().card.output, Output::Embedding { d: 3 });
    let linear = vec![flat, node("MatMul", &["f", "w"], "y")];
    assert!(load(linear, "features").unwrap_err().message.contains("reads the pixels themselves"));
}

#[test]
fn a_normalised_embedding_loads() {
    // torch.nn.functional.normalize: x / expand(max(|x|, eps))
    let nodes = vec![
        node("Flatten", &["x"], "f"),
        with(with(node("ReduceL2", &["f", "last"], "n"), int_attr("keepdims", 1)), int_attr("noop", 0)),
        node("Clip", &["n", "eps"], "c"),
        node("Shape", &["f"], "s"),
        node("Expand", &["c", "s"], "e"),
        node("Div", &["f", "e"], "y"),
    ];
    let eps = TensorProto { dims: vec![], float_data: vec![1e-12], ..floats("eps", &[]) };
    for row in counted(&model(nodes, vec![ints("last", &[-1]), eps])) {
        let length: f32 = row.iter().map(|v| v * v).sum();
        assert!((length - 1.).abs() < 1e-6, "{length}");
    }
}
