//! Evidence that was edited: verify fails and names the sample.

use crate::support::Place;
use robust::core::{Norm, Region};
use robust::eval::plan::Plan;
use robust::eval::record;
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
    std::fs::remove_file(place.path("run/summary.json")).unwrap();
    place.fails("verify run", 3, &["every row holds, but summary.json is missing", "--resume"]);
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

/// Edits the plan as someone would who makes its fingerprint again.
fn edit_plan(place: &Place, run: &str, edit: impl Fn(&mut Plan)) {
    let mut record = record::read_record(&place.path(run)).unwrap();
    edit(&mut record.plan);
    record.fingerprint = record.plan.fingerprint().unwrap();
    record::write_record(&place.path(run), &record).unwrap();
}

#[test]
fn every_field_that_follows_from_others_is_held_against_them() {
    let place = Place::new();
    place.ok(
        "eval --model builtin:mnist-at --attack pgd:eps=0.3,steps=15,target=second --first 60 --evidence all --out run",
    );
    place.ok("verify run");
    let lines = place.read("run/outcomes.jsonl");
    let fooled = |l: &Value| l["verdict"] == "fooled";
    let held = |l: &Value| l["verdict"] == "held";
    type Edit = fn(&mut Value);
    let edits: [(&str, bool, Edit); 14] = [
        ("clean class", true, |l| l["clean"]["label"] = ((l["label"].as_u64().unwrap() + 1) % 10).into()),
        ("adversarial class", true, |l| l["best"]["label"] = ((l["target"].as_u64().unwrap() + 1) % 10).into()),
        ("its target is", false, |l| {
            let next = (l["target"].as_u64().unwrap() + 1) % 10;
            l["target"] = (if l["label"] == next { (next + 1) % 10 } else { next }).into();
        }),
        ("queries up to its success", true, |l| l["queries"] = 17.into()),
        ("queries", false, |l| l["queries"] = 1.into()),
        ("part of the attack", true, |l| l["stage"] = "square/r0".into()),
        ("a success that it does not have", false, |l| l["stage"] = "r0".into()),
        ("does not look for it", false, |l| l["nearest"] = 0.35.into()),
        ("at most", false, |l| l["cost"]["search"]["forward"] = 1000.into()),
        ("at most", false, |l| l["cost"]["search"]["backward"] = 16.into()),
        ("clean passes", true, |l| l["cost"]["clean"] = 0.into()),
        ("passes of the judge", true, |l| l["cost"]["confirm"] = 0.into()),
        ("fragile", true, |l| l["fragile"] = true.into()),
        ("votes", true, |l| l["votes"] = serde_json::json!([1, 3])),
    ];
    for (word, of_fooled, edit) in edits {
        let id = if of_fooled { edit_line(&place, fooled, edit) } else { edit_line(&place, held, edit) };
        place.fails("verify run", 1, &[&format!("sample {id} "), word]);
        std::fs::write(place.path("run/outcomes.jsonl"), &lines).unwrap();
    }
    place.ok("verify run");
}

#[test]
fn lines_without_points_are_held_against_themselves() {
    let place = Place::new();
    place.ok(
        "eval --model builtin:mnist-at --attack fab:eps=0.3,steps=10,nearest=true --first 40 --evidence none --out run",
    );
    place.ok("verify run");
    let lines = place.read("run/outcomes.jsonl");
    type Edit = fn(&mut Value);
    let edits: [(&str, &str, Edit); 5] = [
        ("fooled", "nearest success", |l| l["nearest"] = 0.01.into()),
        ("held", "nearest success", |l| l["nearest"] = 0.2.into()),
        ("fooled", "contradicts the margin", |l| l["verdict"] = "held".into()),
        ("held", "epsilon is 0.3", |l| l["distance"] = 0.4.into()),
        ("held", "not those of one point", |l| l["evidence"] = Value::Null),
    ];
    for (verdict, word, edit) in edits {
        let id = edit_line(&place, |l| l["verdict"] == verdict, edit);
        place.fails("verify run", 1, &[&format!("sample {id} "), word]);
        std::fs::write(place.path("run/outcomes.jsonl"), &lines).unwrap();
    }
}

#[test]
fn a_plan_that_was_edited_with_its_fingerprint_is_held_against_data_and_models() {
    let place = Place::new();
    let eval = "eval --no-progress --model builtin:mnist-at --attack fgsm:eps=0.3";
    place.ok(&format!("{eval} --first 40 --out run"));
    place.ok(&format!("{eval} --limit 40 --out part"));
    place.ok(&format!("{eval} --limit 60 --out honest"));
    let (plan, summary) = (place.read("run/run.json"), place.read("run/summary.json"));
    let whole = |p: &mut Plan| (p.pick, p.dataset.card.samples) = ("all".into(), 40);
    type Edit = fn(&mut Plan);
    let edits: [(&str, Edit); 7] = [
        ("40 samples, the data set has 1000", |p| (p.pick, p.dataset.card.samples) = ("all".into(), 40)),
        ("`all` of 1000", |p| p.pick = "all".into()),
        ("`limit 40` of 1000", |p| p.pick = "limit 40".into()),
        ("class names", |p| p.dataset.card.classes = None),
        ("calls the data set", |p| p.dataset.card.name = "folder:imagenet".into()),
        ("other images than the model takes", |p| p.models[0].attacks[0].threat.input.domain = Some((-1., 2.))),
        ("not what its name says", |p| {
            p.models[0].attacks[0].threat.region = Region::Ball { norm: Norm::Linf, eps: 0.6 };
        }),
    ];
    for (word, edit) in edits {
        edit_plan(&place, "run", edit);
        let said = place.robust("verify run");
        assert!(said.code == 1 && (said.out + &said.err).contains(word), "{word}");
        std::fs::write(place.path("run/run.json"), &plan).unwrap();
    }
    place.ok("verify run");
    // Without the data set at hand: ids beyond the samples that are claimed, or another run that knows of more.
    edit_plan(&place, "part", whole);
    place.fails("leaderboard part", 1, &["run.json contradicts itself"]);
    edit_plan(&place, "run", whole);
    let entries = |dirs: &str| {
        let board: Value = serde_json::from_str(&place.ok(&format!("leaderboard {dirs} --format json")).out).unwrap();
        board["groups"].as_array().unwrap().clone()
    };
    let forged = |g: &Value| g["n"] == 40;
    let group = entries("run honest").into_iter().find(forged).unwrap();
    assert!(group["full"] == false && group.to_string().contains("limited"), "{group:#}");
    std::fs::write(place.path("run/run.json"), &plan).unwrap();
    assert_eq!(place.read("run/summary.json"), summary);
}

#[test]
fn every_table_is_made_again_from_the_outcomes() {
    let place = Place::new();
    let eval = "eval --no-progress --model builtin:mnist-at --attack pgd:eps=0.3,steps=5 --corruptions mnist-c:only=fog --first 20 --out run";
    place.ok(eval);
    let files = ["summary.json", "summary.csv", "curves.csv", "diagnostics.json", "corruptions.json"];
    let told = place.ok("verify run").out;
    assert!(told.contains(&format!("as the outcomes say: {}", files.join(", "))), "{told}");
    for name in files {
        let path = place.path("run").join(name);
        let good = std::fs::read(&path).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let number = text.rfind(|c: char| c.is_ascii_digit());
        let edited = match number {
            Some(at) => text[..at].to_string() + if &text[at..=at] == "7" { "8" } else { "7" } + &text[at + 1..],
            None => text.replace("reliable", "doubtful"),
        };
        for bad in [edited.into_bytes(), [&good[..], b"\xff\xfe"].concat(), vec![b' '; 10_000_000]] {
            assert_ne!(bad, good);
            std::fs::write(&path, bad).unwrap();
            place.fails("verify run", 1, &[name, "--resume"]);
        }
        std::fs::write(&path, good).unwrap();
    }
    std::fs::write(place.path("run/evidence/strange.safetensors"), "x").unwrap();
    std::fs::remove_file(place.path("run/curves.csv")).unwrap();
    let told = place.ok("verify run").out;
    assert!(
        told.contains("not checked: evidence/strange.safetensors") && told.contains("not there: curves.csv"),
        "{told}"
    );
    let json: Value = serde_json::from_str(&place.ok("verify run --format json").out).unwrap();
    assert!(json["tables"]["missing"][0] == "curves.csv" && json["plan"].as_array().unwrap().is_empty(), "{json}");
    place.ok(&format!("{eval} --resume"));
    assert!(!place.ok("verify run").out.contains("not there"));
}

#[test]
fn honest_runs_of_every_attack_hold_with_votes_draws_and_restarts() {
    let place = Place::new();
    let attacks = "--attack pgd:eps=0.3,steps=4,restarts=12 --attack pgd-l2:eps=2,steps=4,target=second --attack bim:eps=0.3,target=3 \
                   --attack apgd-ce:eps=0.3,steps=5,restarts=3 --attack apgd-dlr-l1:eps=8,steps=5 --attack apgd-t:eps=0.3,steps=4,restarts=2 \
                   --attack fab-t:eps=0.3,steps=4 --attack fab-l2:eps=1.5,steps=5,nearest=true --attack square:eps=0.3,queries=40,restarts=2 \
                   --attack mi-fgsm:eps=0.3 --attack uniform-noise:eps=0.3 --attack random-sign:eps=0.3 --attack fgsm-l1:eps=9";
    for (more, run) in [("--evidence all", "all"), ("--evidence none --eot 2 --votes 2/3", "none")] {
        place.ok(&format!("eval --no-progress --model builtin:mnist-at {attacks} --limit 20 {more} --out {run}"));
        let told = place.ok(&format!("verify {run}"));
        assert!(told.err.contains("every row holds: 260 rows"), "{}", told.err);
    }
    for version in ["standard", "plus", "rand", "standard,compat=true"] {
        let run = version.replace([',', '='], "-");
        let attack = format!("autoattack:eps=0.35,version={version}");
        place.ok(&format!("eval --no-progress --model builtin:mnist-at --attack {attack} --limit 4 --out {run}"));
        place.ok(&format!("verify {run}"));
    }
}
