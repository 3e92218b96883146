//! An attack without an epsilon, end to end: distances instead of a robust accuracy, and nothing that shows one.

use crate::support::Place;
use serde_json::Value;

const DDN: &str =
    "eval --model builtin:mnist-at --dataset builtin:mnist --limit 24 --attack ddn-l2:steps=40 --no-doctor";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn an_attack_without_an_epsilon_tells_distances_and_no_robust_accuracy() {
    let place = Place::new();
    let said = place.ok(&format!("{DDN} --out run"));
    assert!(said.out.contains("nearest L2") && said.out.contains("ddn-l2 finds a success at L2"), "{}", said.out);
    let row = said.out.lines().find(|l| l.contains("nearest L2")).unwrap();
    assert!(row.contains(" - ") && !said.out.contains("worst-case"), "{}", said.out);
    let summary = json(&place.read("run/summary.json"));
    let rows = summary["results"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["robust_accuracy"].is_null() && rows[0]["eps"].is_null(), "{}", rows[0]);
    assert!(!place.read("run/summary.csv").contains("NaN"));
    // What computes is what the model's card says.
    let computes = robust::models::load("builtin:mnist-at").unwrap().card.interpreter;
    assert!(!computes.is_empty());
    assert_eq!(json(&place.read("run/run.json"))["plan"]["interpreter"], computes.as_str());
    // The distances are those of the lines, and accuracy at an epsilon counts them.
    let lines: Vec<Value> = place.read("run/outcomes.jsonl").lines().map(json).collect();
    let right = lines.iter().filter(|l| l["verdict"] != "clean_miss").count();
    let nearest: Vec<f64> = lines.iter().filter_map(|l| l["nearest"].as_f64()).collect();
    assert!(nearest.len() > 15 && lines.iter().all(|l| l["nearest"] == l["distance"] || l["nearest"].is_null()));
    let told = &rows[0]["distances"];
    assert_eq!(told["attacked"], right);
    let mut checked = 0;
    for level in told["at"].as_array().unwrap() {
        let eps = level["eps"].as_f64().unwrap();
        let fell = nearest.iter().filter(|d| **d <= eps).count();
        assert_eq!(level["held"], right - fell, "{level}");
        checked += usize::from(fell > 0 && fell < right);
    }
    assert!(checked > 0, "no epsilon divides the samples: {told}");
    // One run feeds the chart: a step for each distance.
    let curves = place.read("run/curves.csv");
    assert_eq!(curves.matches("accuracy-against-epsilon").count(), 1 + nearest.len(), "{curves}");
    place.ok("report run --html page.html");
    let page = place.read("page.html");
    assert!(page.contains("Robust accuracy against epsilon") && page.contains("ddn-l2 finds a success"));
    assert!(!page.contains("NaN"), "a number that there is none of is shown");
    // Points and distances are judged again.
    place.ok("verify run");
    let honest = place.read("run/outcomes.jsonl");
    let first = lines.iter().find_map(|l| l["nearest"].as_f64()).unwrap();
    let closer = honest.replacen(&format!("\"nearest\":{first}"), &format!("\"nearest\":{}", first / 2.), 1);
    assert_ne!(closer, honest);
    std::fs::write(place.path("run/outcomes.jsonl"), closer).unwrap();
    place.fails("verify run", 1, &["do not hold"]);
    std::fs::write(place.path("run/outcomes.jsonl"), &honest).unwrap();
    // Continued after a cut, the bytes are the same.
    let cut: String = honest.lines().take(0).collect();
    std::fs::write(place.path("run/outcomes.jsonl"), cut).unwrap();
    place.ok(&format!("{DDN} --out run --resume"));
    assert_eq!(place.read("run/outcomes.jsonl"), honest);
}

#[test]
fn what_needs_a_robust_accuracy_says_that_there_is_none() {
    let place = Place::new();
    let short = DDN.replace("--limit 24", "--limit 8").replace("steps=40", "steps=10");
    place.ok(&format!("{short} --out a"));
    place.ok(&format!("{short} --out b --seed 1"));
    place.fails("compare a b --attack ddn-l2:steps=10", 2, &["has no epsilon", "distances in outcomes.jsonl"]);
    place.fails("leaderboard a", 2, &["have no epsilon", "robust report"]);
    let suite = "[[suite]]\nname = \"s\"\nmodels = [\"builtin:mnist-at\"]\ndataset = \"builtin:mnist\"\nlimit = 8\n";
    std::fs::write(place.path("robust.toml"), format!("{suite}attacks = [\"ddn-l2\"]\n")).unwrap();
    place.fails("gate", 2, &["`ddn-l2`, which has no epsilon", "ddn-l2:eps=0.5"]);
    place.fails("doctor builtin:mnist-at --attack ddn-l2 --limit 4", 2, &["has none"]);
    // With an epsilon it is an attack like others: in the worst case, with the distances beyond the ball kept.
    let both = short.replace("ddn-l2:steps=10", "ddn-l2:eps=1.5,steps=20 --attack pgd-l2:eps=1.5,steps=5");
    let said = place.ok(&format!("{both} --out both --format json"));
    let rows = json(&said.out);
    let rows = rows["results"].as_array().unwrap();
    assert_eq!(rows.last().unwrap()["attack"], "worst-case");
    assert!(rows.iter().all(|r| r["robust_accuracy"].is_f64() && r.get("distances").is_none()));
    let lines = place.read("both/outcomes.jsonl");
    let beyond = lines.lines().map(json).filter(|l| l["nearest"].as_f64().is_some_and(|d| d > 1.5)).count();
    assert!(beyond > 0, "{lines}");
    place.ok("verify both");
    // Without one, the epsilons of the other attacks are those that are told.
    let beside = short.replace("ddn-l2:steps=10", "ddn-l2:steps=10 --attack pgd-l2:eps=1.5,steps=5");
    let rows = json(&place.ok(&format!("{beside} --out beside --format json")).out);
    let at = rows["results"][0]["distances"]["at"].as_array().unwrap();
    assert!(at.len() == 1 && at[0]["eps"] == 1.5, "{at:?}");
    let board = place.ok("leaderboard beside").out;
    assert!(board.contains("pgd-l2") && !board.contains("ddn") && !board.contains("NaN"), "{board}");
}
