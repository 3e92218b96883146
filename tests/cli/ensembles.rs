//! Several models as one, through the command.

use crate::support::Place;
use serde_json::Value;

#[test]
fn an_ensemble_is_inspected_attacked_and_verified_like_any_model() {
    let place = Place::new();
    let both = "both=ensemble:builtin:mnist-at+builtin:mnist-std";
    let json: Value = serde_json::from_str(&place.ok(&format!("inspect {both} --json")).out).unwrap();
    assert_eq!(json["model"]["family"], "2 x mnist-cnn");
    assert_eq!(json["model"]["parameters"], 2 * 215_370);
    assert_eq!(json["model"]["multiply_adds"], 2 * 3_024_384);

    let run = "--dataset builtin:mnist --attack apgd-ce:eps=0.1,steps=5 --first 32 --format json --out";
    let accuracy = |model: &str, out: &str| {
        let said: Value = serde_json::from_str(&place.ok(&format!("eval --model {model} {run} {out}")).out).unwrap();
        let row = &said["results"][0];
        (row["clean_accuracy"].as_f64().unwrap(), row["robust_accuracy"].as_f64().unwrap())
    };
    let (clean, robust) = accuracy(both, "run");
    let (_, weak) = accuracy("builtin:mnist-std", "std");
    // The robust member holds what the other one loses, and the attack sees through both.
    assert!(clean > 0.9 && robust < clean && robust > weak, "{clean} {robust} {weak}");
    place.ok("verify run");
    place.fails("verify run --model both=ensemble:builtin:mnist-at+builtin:mnist-at", 4, &["both"]);
    // As probabilities it is the model that the doctor warns of.
    let said = place.ok(&format!("eval --model {both}?scores=probabilities {run} soft"));
    assert!(said.err.contains("softmax"), "{}", said.err);
    assert!(!place.ok(&format!("eval --model {both} {run} again")).err.contains("warning: both"));

    place.fails("inspect ensemble:builtin:mnist-at+nothing.onnx", 4, &["member 2", "nothing.onnx"]);
    place.fails("convert ensemble:a.pth+b.pth out.safetensors", 4, &["ensemble:a.pth"]);
}
