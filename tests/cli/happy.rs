//! What a newcomer types, and the promises about bytes.

use crate::support::Place;
use serde_json::Value;

const PGD: &str = "eval --model builtin:mnist-at --attack pgd-linf:eps=0.3,steps=5 --attack fgsm:eps=0.3";

#[test]
fn the_first_command_prints_a_table_and_leaves_a_folder_that_verifies() {
    let place = Place::new();
    let said = place.ok(&format!("{PGD} --limit 100"));
    for word in
        ["mnist-at", "pgd-linf:eps=0.3,steps=5", "fgsm-linf:eps=0.3", "worst-case", "95 % interval", "not comparable"]
    {
        assert!(said.out.contains(word), "{word} is not in\n{}", said.out);
    }
    let dir = said.err.split("robust verify ").nth(1).unwrap().split('`').next().unwrap();
    let said = place.ok(&format!("verify {dir}"));
    assert!(said.err.contains("every row holds: 200 rows"), "{}", said.err);
    // The same command again finds its folder, does nothing and prints the same.
    let again = place.ok(&format!("{PGD} --limit 100"));
    assert!(again.err.contains("200 of 200 outcomes are there"), "{}", again.err);
}

#[test]
fn batch_size_threads_and_order_of_work_do_not_change_a_byte() {
    let place = Place::new();
    let run = |out: &str, more: &str| place.ok(&format!("{PGD} --first 80 --evidence all --out {out} {more}"));
    run("whole", "");
    run("single", "--batch-size 1");
    run("odd", "--batch-size 7 --threads 1");
    for other in ["single", "odd"] {
        assert_eq!(place.read("whole/outcomes.jsonl"), place.read(&format!("{other}/outcomes.jsonl")));
        for entry in std::fs::read_dir(place.path("whole/evidence")).unwrap() {
            let name = entry.unwrap().file_name();
            let bytes = |run: &str| std::fs::read(place.path(run).join("evidence").join(&name)).unwrap();
            assert_eq!(bytes("whole"), bytes(other), "{name:?}");
        }
    }
}

#[test]
fn plain_kernels_give_the_same_verdicts_under_their_own_name_and_unknown_ones_are_refused() {
    let place = Place::new();
    let verdicts = |out: &str| -> Vec<(Value, Value)> {
        let lines = place.read(&format!("{out}/outcomes.jsonl"));
        let line = |l: &str| serde_json::from_str::<Value>(l).unwrap();
        lines.lines().map(line).map(|l| (l["id"].clone(), l["verdict"].clone())).collect()
    };
    let run = |out: &str, kernels: &str| {
        let mut command = place.command(&format!("{PGD} --first 64 --out {out}"));
        crate::support::said(command.env("ROBUST_KERNELS", kernels).output().unwrap())
    };
    assert_eq!((run("plain", "portable").code, run("best", "").code), (0, 0));
    assert_eq!(verdicts("plain"), verdicts("best"));
    assert!(place.read("plain/run.json").contains("plan/f32/portable"));
    let refused = run("none", "mmx");
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("mmx") && refused.err.contains("portable"), "{}", refused.err);
}

#[test]
fn a_subset_gives_each_sample_the_same_line() {
    let place = Place::new();
    place.ok(&format!("{PGD} --first 60 --out whole"));
    std::fs::write(place.path("ids"), "# a few\n3, 40-44\n59\n").unwrap();
    place.ok(&format!("{PGD} --ids ids --out part"));
    let whole = place.read("whole/outcomes.jsonl");
    let part = place.read("part/outcomes.jsonl");
    assert_eq!(part.lines().count(), 14);
    assert!(part.lines().all(|line| whole.lines().any(|w| w == line)));
}

#[test]
fn json_and_csv_hold_what_the_outcomes_say() {
    let place = Place::new();
    let json: Value =
        serde_json::from_str(&place.ok(&format!("{PGD} --first 70 --out run --format json")).out).unwrap();
    assert_eq!(json["schema"], "robust.eval/1");
    let rows = json["results"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let lines: Vec<Value> =
        place.read("run/outcomes.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for row in &rows[..2] {
        let mine: Vec<&Value> = lines.iter().filter(|l| l["attack"] == row["attack"]).collect();
        let held = mine.iter().filter(|l| l["verdict"] == "held").count();
        assert_eq!(row["n"], 70);
        assert_eq!(row["robust_accuracy"].as_f64().unwrap(), held as f64 / 70.);
        let backward: u64 = mine.iter().map(|l| l["cost"]["search"]["backward"].as_u64().unwrap()).sum();
        assert_eq!(row["backwards"], backward);
    }
    let held = |id: u64| lines.iter().filter(|l| l["id"] == id).all(|l| l["verdict"] == "held");
    assert_eq!(rows[2]["attack"], "worst-case");
    assert_eq!(rows[2]["held"].as_u64().unwrap(), (0..70).filter(|id| held(*id)).count() as u64);
    for key in [
        "model",
        "dataset",
        "threat",
        "norm",
        "eps",
        "clean_accuracy",
        "failed",
        "fragile",
        "forwards",
        "seconds",
        "seed",
        "model_digest",
        "data_digest",
    ] {
        assert!(!rows[0][key].is_null(), "{key}");
    }
    let csv = place.ok(&format!("{PGD} --first 70 --out run --resume --format csv")).out;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.headers().unwrap().len(), 25);
    let record = reader.records().next().unwrap().unwrap();
    assert_eq!(record[10].parse::<f64>().unwrap(), rows[0]["robust_accuracy"].as_f64().unwrap());
}

#[test]
fn seeds_change_the_noise_and_nothing_else_does() {
    let place = Place::new();
    let run = |seed: u64, out: &str| {
        place.ok(&format!("eval --model builtin:mnist-std --attack uniform-noise:eps=0.2 --first 40 --evidence all --seed {seed} --out {out}"));
        place.read(&format!("{out}/outcomes.jsonl"))
    };
    let (a, b, c) = (run(1, "a"), run(1, "b"), run(2, "c"));
    assert!(a == b && a != c);
}

#[test]
fn targeted_attacks_verify_too() {
    let place = Place::new();
    place.ok(
        "eval --model builtin:mnist-std --attack pgd:eps=0.2,steps=10,target=next --first 40 --evidence all --out run",
    );
    assert!(place.read("run/outcomes.jsonl").contains("\"target\":8"));
    place.ok("verify run");
}

#[test]
fn a_dry_run_says_what_it_would_cost_and_writes_nothing() {
    let place = Place::new();
    let said = place.ok(&format!("{PGD} --first 70 --dry-run"));
    // 70 samples: 6 + 2 forwards and 5 backwards each for PGD-5.
    assert!(said.out.contains("at most 560 forwards, 350 backwards"), "{}", said.out);
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[test]
fn lists_and_explanations_come_from_the_indexes() {
    let place = Place::new();
    let list = place.ok("list").out;
    for word in ["pgd", "mi-fgsm", "builtin:mnist-at", "?arch=cifar-resnet", "npz:"] {
        assert!(list.contains(word), "{word}");
    }
    let json: Value = serde_json::from_str(&place.ok("list attacks --json").out).unwrap();
    for row in json["results"].as_array().unwrap() {
        let text = place.ok(&format!("explain {}", row["name"].as_str().unwrap())).out;
        assert!(text.contains("# Steps") && text.contains("Paper: "));
    }
    place.ok("explain builtin:mnist-at");
    place.ok("explain folder");
    for (topic, says) in [
        ("imagenet-c", "--corruptions imagenet-c"),
        ("knn", "temperature"),
        ("onnx", "Opsets"),
        ("pth", "nothing in it runs"),
    ] {
        assert!(place.ok(&format!("explain {topic}")).out.contains(says), "{topic}");
    }
    place.fails("explain kn", 2, &["did you mean `knn`"]);
    place.fails("explain pgdd", 2, &["did you mean `pgd`"]);
    for verb in ["eval", "verify", "list", "explain"] {
        assert!(place.ok(&format!("{verb} --help")).out.contains("Examples:"), "{verb}");
    }
}

#[test]
fn a_models_own_preprocessing_reaches_the_images_unless_the_data_set_has_its_own() {
    let place = Place::new();
    for (i, class) in ["a", "b", "a"].iter().enumerate() {
        let pixels: Vec<u8> = (0..40 * 34).map(|p| ((p * (i + 3) * 7) % 251) as u8).collect();
        let png = robust_imaging::png(&pixels, 34, 40, 1).unwrap();
        std::fs::create_dir_all(place.path(&format!("set/{class}"))).unwrap();
        std::fs::write(place.path(&format!("set/{class}/{i}.png")), png).unwrap();
    }
    let eval = |model: &str, data: &str, out: &str| {
        place.ok(&format!("eval --model {model} --dataset {data} --attack uniform-noise:eps=0.1 --out {out}"));
        place.ok(&format!("verify {out}"));
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let lines: Vec<_> = place.read(&format!("{out}/outcomes.jsonl")).lines().map(value).collect();
        lines.into_iter().map(|l| (l["digest"].clone(), l["clean"].clone())).collect::<Vec<_>>()
    };
    let by_data =
        eval("builtin:mnist-std", "folder:set?classes=sorted&resize=32&crop=28&interpolation=bicubic", "data");
    let by_model =
        eval("builtin:mnist-std?resize=32&crop=28&interpolation=bicubic", "folder:set?classes=sorted", "model");
    let both = eval(
        "builtin:mnist-std?resize=28x28",
        "folder:set?classes=sorted&resize=32&crop=28&interpolation=bicubic",
        "both",
    );
    let other = eval("builtin:mnist-std?resize=28x28", "folder:set?classes=sorted", "other");
    assert_eq!(by_data, by_model);
    assert_eq!(by_data, both);
    assert_ne!(by_data, other);
    place.fails("inspect builtin:mnist-std?crop=0", 2, &["crop=0"]);
    assert!(place.ok("inspect builtin:mnist-std?resize=32&crop=28").out.contains("resize=32&crop=28x28"));
}
