//! Evidence that was edited: verify fails and names the sample.

use crate::support::Place;
use serde_json::Value;
use std::path::PathBuf;

fn run() -> Place {
    let place = Place::new();
    place.ok("eval --model builtin:mnist-at --attack pgd:eps=0.3,steps=15 --first 60 --evidence all --out run");
    place.ok("verify run");
    place
}

fn evidence(place: &Place) -> PathBuf {
    place.path("run/evidence/m00-a00-00000000.safetensors")
}

fn edit_line(place: &Place, pick: impl Fn(&Value) -> bool, edit: impl Fn(&mut Value)) -> u64 {
    let mut lines: Vec<Value> =
        place.read("run/outcomes.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let line = lines.iter_mut().find(|l| pick(l)).unwrap();
    edit(line);
    let id = line["id"].as_u64().unwrap();
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    std::fs::write(place.path("run/outcomes.jsonl"), text).unwrap();
    id
}

#[test]
fn a_changed_point_is_named() {
    let place = run();
    let mut bytes = std::fs::read(evidence(&place)).unwrap();
    // The last float of the last point in the file, still a legal pixel.
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&0.031f32.to_le_bytes());
    std::fs::write(evidence(&place), bytes).unwrap();
    place.fails("verify run", 1, &["1 of 60 rows do not hold", "sample ", "digest"]);
}

#[test]
fn a_truncated_or_missing_file_is_named() {
    let place = run();
    let bytes = std::fs::read(evidence(&place)).unwrap();
    std::fs::write(evidence(&place), &bytes[..bytes.len() / 2]).unwrap();
    place.fails("verify run", 1, &["damaged"]);
    std::fs::remove_file(evidence(&place)).unwrap();
    place.fails("verify run", 1, &["evidence is missing"]);
}

#[test]
fn every_edited_line_is_named() {
    let fooled = |l: &Value| l["verdict"] == "fooled";
    let held = |l: &Value| l["verdict"] == "held";
    type Edit = fn(&mut Value);
    let edits: [(&str, bool, Edit); 7] = [
        ("a fooled sample declared held", true, |l| l["verdict"] = "held".into()),
        ("a held sample declared fooled", false, |l| l["verdict"] = "fooled".into()),
        ("a margin flipped with its verdict", true, |l| {
            l["verdict"] = "held".into();
            l["best"]["margin"] = 3.5.into();
        }),
        ("a shorter distance", true, |l| l["distance"] = 0.1.into()),
        ("another label", true, |l| l["label"] = 99.into()),
        ("another clean image", false, |l| l["digest"] = "00".into()),
        ("a clean miss that was none", false, |l| l["verdict"] = "clean_miss".into()),
    ];
    let place = run();
    let (lines, summary) = (place.read("run/outcomes.jsonl"), place.read("run/summary.json"));
    for (what, of_fooled, edit) in edits {
        let id = if of_fooled { edit_line(&place, fooled, edit) } else { edit_line(&place, held, edit) };
        let said = place.fails("verify run", 1, &[&format!("sample {id} ")]);
        assert!(said.out.contains("1 wrong"), "{what}: {}", said.out);
        std::fs::write(place.path("run/outcomes.jsonl"), &lines).unwrap();
    }
    std::fs::write(place.path("run/summary.json"), summary.replace("\"held\":", "\"held\":1")).unwrap();
    place.fails("verify run", 1, &["summary.json"]);
}

#[test]
fn another_model_under_the_same_name_is_refused() {
    let place = run();
    place.fails("verify run --model mnist-at=builtin:mnist-std", 4, &["content", "--model"]);
    place.fails("verify nowhere", 4, &["nowhere", "robust eval --out"]);
}

#[test]
fn an_edited_plan_is_refused() {
    let place = run();
    let text = place.read("run/run.json").replace("\"eps\": 0.3", "\"eps\": 0.9");
    std::fs::write(place.path("run/run.json"), text).unwrap();
    place.fails("verify run", 1, &["run.json was edited"]);
}
