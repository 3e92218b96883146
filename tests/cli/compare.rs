//! `leaderboard` and `compare`.

use crate::support::Place;
use serde_json::Value;

const EVAL: &str = "eval --no-progress --attack pgd-linf:eps=0.1,steps=5 --attack fgsm:eps=0.1";

#[test]
fn a_leaderboard_sorts_by_the_worst_case_and_never_mixes_what_differs() {
    let place = Place::new();
    let evil = "=HYPERLINK(1)|<b>";
    let weakened = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ci-gate/weakened.onnx");
    std::fs::copy(weakened, place.path(&format!("{evil}.onnx"))).unwrap();
    let both = format!("--model {evil}.onnx --model builtin:mnist-at --dataset builtin:mnist");
    place.ok(&format!("{EVAL} {both} --limit 60 --out both"));
    place.ok(&format!("{EVAL} --model builtin:mnist-at --limit 30 --out less"));
    place.ok("eval --no-progress --model builtin:mnist-at --attack fgsm:eps=0.2 --limit 60 --out far");
    place.ok("eval --no-progress --model builtin:mnist-at --attack fgsm:eps=0.1 --limit 60 --out weak");
    let dirs = "both less far weak";
    let json: Value = serde_json::from_str(&place.ok(&format!("leaderboard {dirs} --format json")).out).unwrap();
    let groups = json["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 3, "{json:#}");
    for group in groups {
        let rates: Vec<f64> =
            group["entries"].as_array().unwrap().iter().map(|e| e["robust_accuracy"].as_f64().unwrap()).collect();
        assert!(rates.windows(2).all(|w| w[0] >= w[1]), "{rates:?}");
        let limited = |e: &Value| e["flags"].as_array().unwrap().contains(&Value::from("limited"));
        assert!(group["entries"].as_array().unwrap().iter().all(limited), "{group:#}");
    }
    let mixed = groups.iter().find(|g| g["entries"].as_array().unwrap().len() == 3).unwrap();
    assert!(mixed.to_string().contains("attacks-differ"), "a weaker set of attacks is not flagged: {mixed:#}");

    let csv = place.ok(&format!("leaderboard {dirs} --format csv")).out;
    let header = csv.lines().next().unwrap();
    let columns: Vec<&str> = robust::runs::leaderboard::COLUMNS.iter().map(|(name, _)| *name).collect();
    assert_eq!(header, columns.join(","));
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gate.md")).unwrap();
    for (name, what) in robust::runs::leaderboard::COLUMNS {
        assert!(
            documented.contains(&format!("| `{name}` | {what} |")),
            "docs/gate.md does not document {name}: {what}"
        );
    }
    let mut reader = csv.lines().skip(1);
    assert!(
        reader.clone().any(|l| l.contains("'=HYPERLINK(1)"))
            && !reader.any(|l| l.split(',').any(|c| c.starts_with('='))),
        "{csv}"
    );
    let markdown = place.ok(&format!("leaderboard {dirs} --format md")).out;
    assert!(markdown.contains("HYPERLINK(1)\\|&lt;b&gt;"), "{markdown}");
    let text = place.ok(&format!("leaderboard {dirs}")).out;
    assert!(text.contains("not comparable") && text.contains("upper bound"), "{text}");
}

#[test]
fn two_models_are_compared_sample_by_sample_and_different_things_are_refused() {
    let place = Place::new();
    place.ok(&format!("{EVAL} --model builtin:mnist-std --limit 60 --out std"));
    place.ok(&format!("{EVAL} --model builtin:mnist-at --limit 60 --out at"));
    let said = place.ok("compare at std");
    for word in ["Newcombe", "McNemar", "mid-p", "robust under A only", "seen with a chance of 80 %"] {
        assert!(said.out.contains(word), "{word} is not in\n{}", said.out);
    }
    let json: Value = serde_json::from_str(&place.ok("compare at std --format json").out).unwrap();
    let count = |key: &str| json["samples"][key].as_u64().unwrap();
    assert_eq!(count("both") + count("broken") + count("fixed") + count("neither"), 60);
    assert_eq!(json["broken"].as_array().unwrap().len() as u64, count("broken"));
    assert_eq!(count("both") + count("broken"), json["a"]["held"].as_u64().unwrap());
    assert!(json["p_mid"].as_f64().unwrap() < json["p_exact"].as_f64().unwrap());
    let listed = place.ok("compare at std --all").out;
    for id in json["broken"].as_array().unwrap() {
        assert!(listed.contains(&id.to_string()), "{id}");
    }
    let same = place.ok("compare at at");
    assert!(same.out.contains("exact p = 1.0000"), "{}", same.out);
    // The threat model as tables round it, and as pages write it.
    place.ok("eval --no-progress --model builtin:mnist-at --attack fgsm:eps=8/255 --attack fgsm:eps=0.1 --limit 20 --out two");
    for threat in ["Linf 0.031373", "Linf 8/255", "linf 8/255"] {
        let mut compare = place.command("compare two two --threat");
        let said = crate::support::said(compare.arg(threat).output().unwrap());
        assert!(said.code == 0 && said.out.contains("Linf 0.031373"), "{threat}: {} {}", said.out, said.err);
    }
    place.fails("compare two two", 2, &["several threat models", "--threat"]);
    place.fails("compare two two --threat L2", 2, &["nothing matches `L2`", "its threat models are", "Linf 0.1"]);
    let two = place.ok("compare at at --attack pgd-linf:eps=0.1,steps=5 --attack-b fgsm-linf:eps=0.1");
    assert!(two.out.contains("fgsm-linf"), "{}", two.out);

    for (more, what) in [
        ("--model builtin:mnist-at --limit 30 --attack pgd-linf:eps=0.1,steps=5 --attack fgsm:eps=0.1", "samples: 60"),
        (
            "--model builtin:mnist-at --limit 60 --attack pgd-linf:eps=0.2,steps=5 --attack fgsm:eps=0.2",
            "threat model: Linf",
        ),
        ("--model builtin:mnist-at --limit 60 --attack pgd-linf:eps=0.1,steps=6 --attack fgsm:eps=0.1", "attacks: "),
    ] {
        let out = format!("other-{}", what.len());
        place.ok(&format!("eval --no-progress {more} --out {out}"));
        place.fails(&format!("compare at {out}"), 2, &["not comparable", what]);
    }
    place.fails("compare at nowhere", 4, &["nowhere"]);
    place.fails("compare at std --attack nonsense", 2, &["nothing matches", "worst-case"]);
    // A run that is cut short is another set of samples.
    let lines = place.read("std/outcomes.jsonl");
    let half: String = lines.lines().take(30).map(|l| format!("{l}\n")).collect();
    std::fs::write(place.path("std/outcomes.jsonl"), half).unwrap();
    place.fails("compare at std", 2, &["not comparable", "samples: 60"]);
    let partial = place.ok("leaderboard at std");
    assert!(
        partial.err.contains("90 of 120 outcomes are missing") && partial.out.contains("incomplete"),
        "{}",
        partial.out
    );
}
