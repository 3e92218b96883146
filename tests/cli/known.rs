//! Published numbers beside those of a run.

#[allow(dead_code, reason = "the library's own tests use the rest")]
#[path = "../../src/doctor/published_results/toy.rs"]
mod toy;

use crate::support::Place;
use serde_json::Value;

/// The toy reads four pictures of five, the model whose name it bears nine of ten.
#[test]
fn a_recognised_name_with_other_numbers_is_a_finding() {
    let place = Place::new();
    toy::data(&place.path("cifar"));
    toy::model(&place.path("net.safetensors"));
    let model = format!("net.safetensors?{}", toy::RIGHT);
    let run = "--dataset cifar10:cifar --attack fgsm-linf:eps=1/255 --limit 400 --out";
    let said = place.ok(&format!("eval --model Carmon2019Unlabeled={model} {run} known"));
    for word in ["warning: Carmon2019Unlabeled: probable loading error", "89.69 %", "normalisation"] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
    let json: Value = serde_json::from_str(&place.read("known/diagnostics.json")).unwrap();
    assert_eq!(json["models"][0]["findings"][0]["code"], "clean_not_as_published");
    assert_eq!(json["models"][0]["grade"], "unreliable");
    let said = place.ok(&format!("eval --model mine={model} {run} mine"));
    assert!(!said.err.contains("loading error"), "{}", said.err);

    let text = place.ok(&format!("inspect Carmon2019Unlabeled={model}")).out;
    assert!(text.contains("cifar10, Linf 8/255: clean 89.69 %, AutoAttack 59.53 %"), "{text}");
    let json: Value = serde_json::from_str(&place.ok(&format!("inspect mine={model} --json")).out).unwrap();
    assert_eq!(json["published"].as_array().map(Vec::len), Some(0));
    // A dozen samples are enough where nearly none is right.
    let wrong = format!("Carmon2019Unlabeled=net.safetensors?{}", toy::WRONG);
    let doctor = format!("doctor {wrong} --dataset cifar10:cifar --limit 12 --attack fgsm-linf:eps=1/255");
    assert!(place.ok(&doctor).out.contains("critical: probable loading error"));
}
