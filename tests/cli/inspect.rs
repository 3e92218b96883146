//! What a file is, and what looks wrong with it.

use crate::support::Place;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

#[test]
fn a_model_and_a_data_set_say_what_they_are() {
    let place = Place::new();
    let text = place.ok("inspect builtin:mnist-at --dataset builtin:mnist").out;
    for word in ["mnist-cnn", "classes: 10", "conv2d", "cpu plan", "nothing looks wrong"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let json: Value = serde_json::from_str(&place.ok("inspect builtin:mnist-at --json").out).unwrap();
    // 16*25+16 + 32*16*25+32 + 1568*128+128 + 1280+10.
    assert_eq!(json["model"]["parameters"], 215_370);
    // 28*28*16*25 + 14*14*32*16*25 + 1568*128 + 1280.
    assert_eq!(json["model"]["multiply_adds"], 3_024_384);
    assert!(place.ok("inspect builtin:mnist").out.contains("1000"));
    place.fails("inspect nothing.onnx", 4, &["nothing.onnx"]);
}

#[test]
fn the_doctor_speaks_up_in_every_evaluation() {
    let place = Place::new();
    // MNIST upside down in value: a model that is right on 98 % of the digits is lost on their negatives.
    let x: Vec<u8> = (0..64 * 784).flat_map(|i| (((i * 7919) % 256) as f32 / 255.).to_le_bytes()).collect();
    let y: Vec<u8> = (0..64i64).flat_map(|i| (i % 10).to_le_bytes()).collect();
    let x = TensorView::new(Dtype::F32, vec![64, 1, 28, 28], &x).unwrap();
    let y = TensorView::new(Dtype::I64, vec![64], &y).unwrap();
    std::fs::write(place.path("noise.safetensors"), safetensors::serialize([("x", x), ("y", y)], None).unwrap())
        .unwrap();
    let run = "eval --model builtin:mnist-std --dataset noise.safetensors --attack fgsm:eps=0.1 --out";
    let said = place.ok(&format!("{run} run"));
    assert!(said.err.contains("warning: mnist-std") && said.err.contains("guessing"), "{}", said.err);
    assert!(place.read("run/run.json").contains("at_chance"));
    assert!(!place.ok(&format!("{run} quiet --no-doctor")).err.contains("warning"));
    let healthy = place.ok("eval --model builtin:mnist-std --attack fgsm:eps=0.1 --limit 64 --out healthy");
    assert!(!healthy.err.contains("warning"), "{}", healthy.err);
    // Only where it looked is silence a good sign.
    assert!(place.read("healthy/diagnostics.json").contains(r#""grade": "reliable""#));
    assert!(place.read("quiet/diagnostics.json").contains(r#""grade": null"#));
}

#[test]
fn checkpoints_convert_to_safetensors() {
    let place = Place::new();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden");
    let found = std::fs::read_dir(&golden).unwrap().map(|e| e.unwrap().path());
    let checkpoints: Vec<_> = found.filter(|p| p.extension().is_some_and(|e| e == "pth")).collect();
    assert!(!checkpoints.is_empty());
    let converts = checkpoints.iter().filter(|path| {
        let said = place.robust(&format!("convert {} out.safetensors", path.display()));
        assert!(said.code == 0 || said.code == 4 || said.code == 2, "{}: {}", path.display(), said.err);
        said.code == 0
    });
    assert!(converts.count() > 0);
    place.fails("convert gone.pth out.safetensors", 4, &["gone.pth"]);
}

#[test]
fn the_selftest_holds_on_this_machine() {
    let said = crate::support::Place::new().ok("selftest --json");
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["failed"], 0);
    assert!(value["checks"].as_array().unwrap().len() >= 8);
}

#[test]
fn the_doctor_calls_masked_gradients_by_their_name_and_smoothing_uncovers_them() {
    let place = crate::support::Place::new();
    let said = place.ok("doctor builtin:mnist-at --attack pgd-l2:eps=2 --limit 24 --adaptive --json");
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["grade"], "unreliable");
    assert!(value["findings"].as_array().unwrap().iter().any(|f| f["code"] == "black_box_beats_white_box"));
    let own = value["trials"][0]["robust_accuracy"].as_f64().unwrap();
    let smoothed = value["adaptive"].as_array().unwrap().iter().filter(|t| t["counter"] == "smoothed_gradient");
    assert!(smoothed.map(|t| t["alone"].as_f64().unwrap()).fold(1., f64::min) < own - 0.1, "{value}");
    place.fails("doctor builtin:mnist-at --limit 0", 2, &["--limit 0"]);
    place.fails("doctor gone.onnx --dataset builtin:mnist", 4, &["gone.onnx"]);
}
