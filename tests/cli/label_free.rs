//! Bare encoders attacked without labels, and encoders compared under heads of the run's own.

use crate::support::{Place, images};
use serde_json::Value;

const FEATURES: &str = "builtin:mnist-std?output=features";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn lines(place: &Place, run: &str) -> Vec<Value> {
    place.read(&format!("{run}/outcomes.jsonl")).lines().map(json).collect()
}

#[test]
fn an_encoder_is_attacked_without_labels_and_the_run_is_verified() {
    let place = Place::new();
    let base =
        format!("eval --model std={FEATURES} --dataset builtin:mnist --limit 24 --attack pgd-linf:eps=0.1,steps=8");
    for (goal, name) in [("away:cosine=0.95", "away"), ("towards:cosine=0.5", "towards"), ("away:l2=8", "l2")] {
        let said = place.ok(&format!("{base} --goal {goal} --out {name} --evidence all --format json"));
        let result = &json(&said.out)["results"][0];
        assert!(result["threat"].as_str().unwrap().starts_with("Linf 0.100000, "), "{result}");
        let all = lines(&place, name);
        let fooled = all.iter().filter(|l| l["verdict"] == "fooled").count();
        assert!(all.len() == 24 && result["fooled"] == fooled, "{goal}: {fooled}");
        for line in &all {
            assert!(line["label"].is_null() && line["clean"].get("label").is_none(), "{line}");
            assert_eq!(line["anchor"].is_u64(), name == "towards", "{line}");
            assert_eq!(line["cost"]["clean"], if name == "towards" { 2 } else { 1 });
            let missed = line["verdict"] == "clean_miss";
            assert_eq!(line["clean"]["margin"].as_f64().unwrap() <= 0., missed, "{line}");
            let best = line["best"]["margin"].as_f64();
            assert!(
                missed == best.is_none() && best.is_none_or(|m| (m < 0.) == (line["verdict"] == "fooled")),
                "{line}"
            );
        }
        assert!(fooled > 0, "{goal} fools nobody");
        let missed = all.iter().filter(|l| l["verdict"] == "clean_miss").count();
        assert!(missed == 0 || name == "towards", "{goal}: {missed} are there already");
        let verified = json(&place.ok(&format!("verify {name} --format json")).out);
        assert_eq!(verified["results"][0]["evidence"], 24 - missed, "{verified}");
        place.ok(&format!("export {name} --out {name}-points --json"));
        place.ok(&format!("report {name} --html {name}.html"));
    }
    // Rows do not depend on the batch, and a run that was cut short continues to the same bytes.
    let whole = place.read("away/outcomes.jsonl");
    place.ok(&format!("{base} --goal away:cosine=0.95 --out again --evidence all --batch-size 5"));
    assert_eq!(whole, place.read("again/outcomes.jsonl"));
    let cut: String = whole.lines().take(7).map(|l| format!("{l}\n")).collect();
    std::fs::write(place.path("again/outcomes.jsonl"), cut).unwrap();
    place.ok(&format!("{base} --goal away:cosine=0.95 --out again --evidence all --resume"));
    assert_eq!(whole, place.read("again/outcomes.jsonl"));
    // A line that claims more than its point does is found out.
    let lie = whole.replacen("\"verdict\":\"held\"", "\"verdict\":\"fooled\"", 1);
    let lie = if lie == whole { whole.replacen("\"verdict\":\"fooled\"", "\"verdict\":\"held\"", 1) } else { lie };
    std::fs::write(place.path("again/outcomes.jsonl"), lie).unwrap();
    place.fails("verify again", 1, &["do not hold"]);
}

#[test]
fn a_threshold_left_open_comes_from_the_data_and_is_written_down() {
    let place = Place::new();
    let base = format!("eval --model std={FEATURES} --dataset builtin:mnist --limit 16 --attack fgsm-linf:eps=0.05");
    let said = place.ok(&format!("{base} --goal away --out run"));
    let goal = said.err.split("the goal is away cosine<").nth(1).and_then(|t| t.split(',').next()).unwrap();
    let number: f64 = goal.parse().unwrap();
    assert!(number > 0. && number < 0.9, "{number}");
    let plan = json(&place.read("run/run.json"));
    let aim = &plan["plan"]["models"][0]["attacks"][0]["aim"];
    assert_eq!(
        (aim["goal"].as_str(), aim["by"].as_str(), aim["below"].as_f64()),
        (Some("away"), Some("cosine"), Some(number))
    );
    // The doctor does not look at bare encoders, so nothing calls their numbers reliable.
    assert!(json(&place.read("run/summary.json"))["results"][0]["reliability"].is_null());
    assert!(json(&place.read("run/diagnostics.json"))["models"][0]["grade"].is_null());
    place.ok(&format!("{base} --goal away --out run --resume"));
    place.fails(&format!("{base} --goal away:cosine=0.9 --out run --resume"), 2, &["other settings", "aim.below"]);
    place.ok("verify run");
}

#[test]
fn what_needs_classes_or_has_none_is_a_usage_error() {
    let place = Place::new();
    let eval = |model: &str, rest: &str| format!("eval --model {model} --dataset builtin:mnist --limit 4 {rest}");
    let fails = |model: &str, rest: &str, words: &[&str]| {
        place.fails(&eval(model, rest), 2, words);
    };
    fails(FEATURES, "--attack fgsm:eps=0.1", &["--goal away", "robust probe"]);
    fails("builtin:mnist-std", "--attack fgsm --goal away", &["scores of 10 classes", "?output=features"]);
    fails(FEATURES, "--attack apgd-dlr:eps=0.1 --goal away", &["class scores", "without labels there are"]);
    fails(FEATURES, "--attack fab:eps=0.1 --goal away", &["cannot go away"]);
    fails(FEATURES, "--attack pgd:eps=0.1,target=next --goal away", &["`target` is about classes"]);
    fails(FEATURES, "--attack pgd:eps=0.1 --goal away:cosine=7", &["beyond -1 to 1"]);
    fails(FEATURES, "--attack pgd:eps=0.1 --goal near", &["goals are away and towards"]);
    fails(FEATURES, "--attack pgd:eps=0.1 --goal away --probe knn --train builtin:mnist", &["choose one"]);
    fails(FEATURES, "--attack pgd:eps=0.1 --probe kn --train builtin:mnist", &["did you mean `knn`"]);
    fails(FEATURES, "--attack pgd:eps=0.1 --probe knn", &["--train"]);
    // One image has no other to go towards.
    images(&place, "one.safetensors", &[0.5; 784], [1, 1, 28, 28], &[0]);
    let one = format!("eval --model {FEATURES} --dataset one.safetensors --attack fgsm:eps=0.1 --goal");
    place.fails(&format!("{one} towards:cosine=0.9"), 2, &["no other sample"]);
    place.fails(&format!("{one} away"), 4, &["no two samples"]);
}

#[test]
fn encoders_are_compared_under_heads_that_the_run_fits() {
    let place = Place::new();
    let at = "builtin:mnist-at?output=features";
    let run = format!(
        "eval --model std={FEATURES} --model at={at} --probe knn:k=5 --probe linear:l2=0.01 --probe bayes,prototypes --train builtin:mnist \
         --train-limit 300 --dataset builtin:mnist --limit 20 --attack pgd-linf:eps=0.2,steps=6"
    );
    let said = place.ok(&format!("{run} --out run"));
    assert!(said.out.contains("robust gap") && said.out.contains("knn:k=5"), "{}", said.out);
    let rows = json(&place.read("run/summary.json"));
    let rows = rows["results"].as_array().unwrap();
    let robust = |encoder: &str, head: &str| {
        let row = rows.iter().find(|r| r["encoder"] == encoder && r["head"] == head).unwrap();
        row["robust_accuracy"].as_f64().unwrap()
    };
    for head in ["knn:k=5", "linear:l2=0.01", "bayes", "prototypes"] {
        assert!(robust("at", head) > robust("std", head), "{head}");
    }
    assert_eq!(place.read("run/encoders.csv").lines().count(), 1 + 8);
    let heads: Vec<_> = std::fs::read_dir(place.path("run/heads")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(heads.len(), 8);
    place.ok("verify run");
    // A moved folder still has its heads, and a resumed run takes them from there.
    std::fs::rename(place.path("run"), place.path("moved")).unwrap();
    place.ok("verify moved");
    let whole = place.read("moved/outcomes.jsonl");
    std::fs::write(place.path("moved/outcomes.jsonl"), "").unwrap();
    place.ok(&format!("{run} --out moved --resume"));
    assert_eq!(whole, place.read("moved/outcomes.jsonl"));
    // Shards fit the same heads, and join.
    for shard in ["1/2", "2/2"] {
        place.ok(&format!("{run} --out s{} --shard {shard}", &shard[..1]));
    }
    place.ok("merge s1 s2 --out joined");
    assert_eq!(whole, place.read("joined/outcomes.jsonl"));
    place.ok("verify joined");
    // A plan that names a file outside its folder writes nothing there.
    for shard in ["s1", "s2"] {
        let text = place.read(&format!("{shard}/run.json")).replace("\"heads/", "\"../outside/");
        std::fs::write(place.path(&format!("{shard}/run.json")), text).unwrap();
    }
    place.fails("merge s1 s2 --out robbed", 4, &["not a file of its heads"]);
    assert!(!place.path("outside").exists());
    // Another head under the same name is another model.
    std::fs::copy(&heads_of(&place, "moved")[0], &heads_of(&place, "moved")[1]).unwrap();
    let said = place.robust("verify moved");
    assert_eq!(said.code, 4, "{}", said.err);
}

fn heads_of(place: &Place, run: &str) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(place.path(run).join("heads")).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}
