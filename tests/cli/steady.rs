//! `robust sequences` and `robust calibration`.

use crate::support::{Place, images};
use serde_json::Value;

const CIFAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/golden/dm_preact.pth");

/// Five images of waves, which a small network with arbitrary weights sees differently as they move.
fn waves(place: &Place) {
    let value = |i: usize| {
        let (n, c, y, x) = (i / 3072, i / 1024 % 3, i / 32 % 32, i % 32);
        let wave = ((x * (n + 1) + 2 * y * (c + 1)) as f64 / 5.).sin();
        ((127.5 + 127.5 * wave).floor() / 255.) as f32
    };
    let x: Vec<f32> = (0..5 * 3072).map(value).collect();
    images(place, "waves.safetensors", &x, [5, 3, 32, 32], &[0, 1, 2, 3, 4]);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn sequences_count_flips_write_every_prediction_and_resume() {
    let place = Place::new();
    waves(&place);
    let run =
        format!("sequences --model {CIFAR} --dataset waves.safetensors --only brightness+gaussian_noise+translate");
    let said = place.ok(&format!("{run} --out whole"));
    assert!(said.out.contains("dm_preact on cifar-p, 5 samples") && said.out.contains("translate"), "{}", said.out);
    let report = json(&place.read("whole/sequences.json"));
    let lines: Vec<Value> = place.read("whole/sequences.jsonl").lines().map(json).collect();
    assert_eq!(lines.len(), 6);
    // By hand from the predictions: brightness against the frame before, noise against the first.
    let flips = |k: usize, pair: &dyn Fn(usize) -> usize| {
        let one = |line: &Value| {
            let classes = line["walks"][k]["classes"].as_array().unwrap().clone();
            let changed = (1..classes.len()).filter(|&j| classes[j] != classes[pair(j)]).count();
            changed as f64 / (classes.len() - 1) as f64
        };
        lines[1..].iter().map(one).sum::<f64>() / 5.
    };
    for (k, want) in [(0, flips(0, &|j| j - 1)), (1, flips(1, &|_| 0)), (2, flips(2, &|j| j - 1))] {
        let got = report["lines"][k]["flip_probability"].as_f64().unwrap();
        assert!((got - want).abs() < 1e-12, "{k}: {got} {want}");
    }
    assert_eq!([31, 31, 16].map(Value::from), [0, 1, 2].map(|k: usize| report["lines"][k]["frames"].clone()));

    // Killed in the middle of a line: what is left over is made again, to the same bytes.
    let text = place.read("whole/sequences.jsonl");
    let cut = text.match_indices('\n').nth(2).unwrap().0 + 40;
    std::fs::create_dir(place.path("torn")).unwrap();
    std::fs::write(place.path("torn/sequences.jsonl"), &text[..cut]).unwrap();
    place.fails(&format!("{run} --out torn"), 2, &["exists", "--resume"]);
    place.fails(&format!("{run} --out torn --resume --seed 1"), 2, &["another job"]);
    place.ok(&format!("{run} --out torn --resume --threads 1"));
    for file in ["sequences.jsonl", "sequences.json"] {
        assert_eq!(place.read(&format!("whole/{file}")), place.read(&format!("torn/{file}")), "{file}");
    }
}

#[test]
fn flips_are_relative_to_a_run_over_the_same_frames_only() {
    let place = Place::new();
    waves(&place);
    let run = format!("sequences --model {CIFAR} --dataset waves.safetensors");
    let own = json(&place.ok(&format!("{run} --only brightness --out own --format json")).out);
    assert!(own["mean_flip_probability"].as_f64().unwrap() > 0., "{own}");
    let same = place.ok(&format!("{run} --only brightness --reference own"));
    assert!(same.out.contains("mFR 100.0, mT5D 100.0"), "{}", same.out);
    place.fails(&format!("{run} --only brightness --reference own --seed 3"), 2, &["not comparable", "seed"]);
    place.fails(&format!("{run} --only rotate --reference own"), 2, &["it lacks rotate"]);
    place.fails(&format!("{run} --only brightness --first 2 --reference own"), 2, &["other samples"]);
    place.fails(&format!("{run} --only rotat"), 2, &["did you mean `rotate`"]);
    place.fails(&format!("{run} --only tilt+tilt"), 2, &["twice"]);
    place.fails("sequences --model builtin:mnist-std --dataset builtin:mnist", 4, &["[1, 28, 28]", "3x32x32"]);
    place.fails(&format!("{run} --reference nowhere"), 4, &["sequences.json", "--out"]);
}

#[test]
fn calibration_agrees_with_the_clean_pass_and_strangers_are_told() {
    let place = Place::new();
    let run = "calibration --model builtin:mnist-std --dataset builtin:mnist";
    let report = json(&place.ok(&format!("{run} --format json")).out);
    let eval = "eval --model builtin:mnist-std --dataset builtin:mnist --attack uniform-noise-linf:eps=0 --no-doctor --format json";
    let eval = place.ok(&format!("{eval} --out run"));
    let row = json(&eval.out)["results"][0].clone();
    assert_eq!(report["accuracy"], row["clean_accuracy"], "{row}");
    assert!(report["ece"].as_f64().unwrap() < 0.02 && report["strangers"].is_null(), "{report}");

    // The same images are strangers to nobody; grey ones to a network of digits.
    let same = json(&place.ok(&format!("{run} --strangers builtin:mnist --format json")).out);
    assert!((same["strangers"]["auroc"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    let grey: Vec<f32> = (0..20 * 784).map(|i| 0.3 + 0.2 * ((i * 7919 % 97) as f32 / 97.)).collect();
    images(&place, "grey.safetensors", &grey, [20, 1, 28, 28], &[0; 20]);
    let said = json(&place.ok(&format!("{run} --strangers grey.safetensors --format json")).out);
    assert!(said["strangers"]["auroc"].as_f64().unwrap() > 0.9, "{said}");

    // Of one class alone everything is right and certain.
    let run_of_one = "calibration --model builtin:mnist-std --dataset grey.safetensors --seen-classes --format json";
    let only = json(&place.ok(run_of_one).out);
    assert_eq!(
        [&only["accuracy"], &only["mean_confidence"], &only["classes"]],
        [&Value::from(1.), &Value::from(1.), &Value::from(1)]
    );
    place.fails("calibration --model builtin:mnist-std?output=features --dataset builtin:mnist", 2, &["robust probe"]);
    place.fails(&format!("{run} --limit 0"), 2, &[]);
}
