//! What embeddings are like, through the command.

use crate::support::{Place, images};
use serde_json::Value;

const FEATURES: &str = "builtin:mnist-std?output=features";

#[test]
fn an_encoder_is_measured_with_and_without_a_head() {
    let place = Place::new();
    let run = format!(
        "measure --model std={FEATURES} --dataset builtin:mnist --limit 40 --eps 0.1 --levels 2 --steps 5 --k 5 --no-progress"
    );
    let json: Value = serde_json::from_str(&place.ok(&format!("{run} --format json")).out).unwrap();
    let number =
        |pointer: &str| json.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {json}"));
    assert_eq!((json["schema"].as_str(), json["n"].as_u64()), (Some("robust.measure/1"), Some(40)));
    assert!((-8. ..0.).contains(&number("/uniformity")) && (1. ..=40.).contains(&number("/effective_rank")));
    assert!((-1. ..=1.).contains(&number("/tolerance")) && json.get("head").is_none());
    // PGD moves further than noise, and a larger ball lets it move further.
    let moved = |kind: usize, level: usize| number(&format!("/disturbances/{kind}/levels/{level}/displacement"));
    assert!(moved(1, 1) > 2. * moved(0, 1) && moved(1, 1) > moved(1, 0) && moved(0, 1) > moved(0, 0), "{json}");
    assert!(number("/disturbances/1/levels/1/nearest_flips") > number("/disturbances/0/levels/1/nearest_flips"));
    // Noise goes straight on by equal steps; the summary is below the mean step, since no steps are quite equal.
    assert!(number("/disturbances/0/step_variation") < 0.5);
    assert!(number("/disturbances/1/rmqm_style") <= number("/disturbances/1/mean_step"));
    assert_eq!(place.ok(&run).out, place.ok(&format!("{run} --threads 1")).out);

    let head = "--train builtin:mnist --train-limit 200 --head linear:l2=0.01 --attack fgsm-linf:eps=0.1 --format json";
    let json: Value = serde_json::from_str(&place.ok(&format!("{run} {head}")).out).unwrap();
    for risk in ["/head/risk", "/head/attacked/risk"] {
        let part = |name: &str| json.pointer(&format!("{risk}/{name}")).and_then(Value::as_f64).unwrap();
        let sum = part("usability") + part("probe_generalisation") + part("encoder_generalisation");
        assert!((sum - part("aggregate")).abs() < 1e-12, "{json}");
    }
    let aggregate = |of: &str| json.pointer(&format!("/head/{of}/aggregate")).and_then(Value::as_f64).unwrap();
    assert!(aggregate("attacked/risk") > aggregate("risk"), "{json}");
    let tilting = &json["head"]["tilting"];
    assert!(
        tilting["strength"].as_f64().unwrap() >= 1. && tilting["angle_degrees"].as_f64().unwrap() < 90.,
        "{tilting}"
    );
}

/// A network for 28x28 images whose features are all zero.
fn dead(place: &Place) {
    let shapes: [(&str, &[usize], f32); 8] = [
        ("conv1.weight", &[1, 1, 5, 5], 0.1),
        ("conv1.bias", &[1], 0.),
        ("conv2.weight", &[1, 1, 5, 5], 0.1),
        ("conv2.bias", &[1], 0.),
        ("fc1.weight", &[4, 49], 0.),
        ("fc1.bias", &[4], -1.),
        ("fc2.weight", &[10, 4], 0.1),
        ("fc2.bias", &[10], 0.),
    ];
    let bytes = |s: &[usize], v: f32| v.to_le_bytes().repeat(s.iter().product());
    let all: Vec<_> = shapes.iter().map(|(n, s, v)| (*n, s.to_vec(), bytes(s, *v))).collect();
    let views = all
        .iter()
        .map(|(n, s, b)| (*n, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, s.clone(), b).unwrap()));
    std::fs::write(place.path("dead.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn embeddings_of_zero_have_no_numbers_and_are_said() {
    let place = Place::new();
    dead(&place);
    let run = "measure --model dead.safetensors?output=features --dataset builtin:mnist --limit 12 --levels 1 --steps 2 --no-progress";
    let json: Value = serde_json::from_str(&place.ok(&format!("{run} --format json")).out).unwrap();
    assert_eq!(json["zero_embeddings"], 12);
    let level = &json["disturbances"][1]["levels"][0];
    for value in [&json["uniformity"], &level["displacement"], &level["cosine"], &level["nearest_flips"]] {
        assert!(value.is_null(), "{json}");
    }
    assert!(json["disturbances"][1]["rmqm_style"].is_null() && json.get("tolerance").is_none(), "{json}");
    assert!(place.ok(run).out.contains("12 of 12 clean embeddings are zero"));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let place = Place::new();
    let measure = |model: &str, rest: &str| format!("measure --model {model} --dataset builtin:mnist --limit 4 {rest}");
    place.fails(&measure("builtin:mnist-std", ""), 2, &["scores of 10 classes", "?output=features"]);
    place.fails(&measure(FEATURES, "--norm l0"), 2, &["do not work in L0"]);
    place.fails(&measure(FEATURES, "--levels 0"), 2, &["0 levels"]);
    place.fails(&measure(FEATURES, "--eps 8"), 2, &["eps=2"]);
    place.fails(&measure(FEATURES, "--head kn --train builtin:mnist"), 2, &["did you mean `knn`"]);
    images(&place, "one.safetensors", &[0.5; 784], [1, 1, 28, 28], &[0]);
    place.fails(&format!("measure --model {FEATURES} --dataset one.safetensors"), 2, &["no neighbours"]);
}
