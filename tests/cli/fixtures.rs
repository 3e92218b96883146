//! Against what the reference AutoAttack said of the stored nets: every `models/NAME-*.json` of the fixtures.

use crate::support::{Place, fixtures};
use serde_json::Value;
use std::path::{Path, PathBuf};

struct Case {
    name: String,
    reference: Value,
    /// Files of the net: NAME.onnx and NAME.safetensors, whichever are there.
    files: Vec<PathBuf>,
}

fn cases(root: &Path) -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root.join("models")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let json = paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "json"));
    json.map(|path| {
        let reference: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = reference["model"].as_str().unwrap().to_string();
        let files = ["onnx", "safetensors"].map(|e| root.join("models").join(format!("{name}.{e}")));
        Case { name, reference, files: files.into_iter().filter(|f| f.is_file()).collect() }
    })
    .collect()
}

/// `--dataset` and the choice of samples that the reference used; `None` when the data is not there.
fn data(root: &Path, place: &Place, case: &Case) -> Option<String> {
    let n = case.reference["n"].as_u64().unwrap();
    let data = root.parent()?.join("data");
    if case.name.starts_with("mnist") {
        let dir = data.join("mnist");
        return dir.is_dir().then(|| format!("--dataset mnist:{} --first {n}", dir.display()));
    }
    // The first n / 10 files of each of ten classes of 500.
    let each = n / 10;
    let ids: Vec<String> = (0..10).map(|c| format!("{}-{}", c * 500, c * 500 + each - 1)).collect();
    std::fs::write(place.path("ids"), ids.join("\n")).unwrap();
    let tar = data.join("cifar10/test.tar.gz");
    tar.is_file().then(|| format!("--dataset folder:{} --ids {}", tar.display(), place.path("ids").display()))
}

fn outcomes(place: &Place, run: &str) -> Vec<Value> {
    place.read(&format!("{run}/outcomes.jsonl")).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn clean_correctness_is_the_references_sample_by_sample() {
    let Some(root) = fixtures("clean_correctness_is_the_references_sample_by_sample") else { return };
    let place = Place::new();
    let mut seen = std::collections::BTreeSet::new();
    for (i, case) in cases(&root).iter().enumerate() {
        let Some(data) = data(&root, &place, case) else {
            println!("{}: skipped, its data is not there", case.name);
            continue;
        };
        for (j, file) in case.files.iter().enumerate() {
            // Several references of one net ask for the same clean flags on the same samples.
            if !seen.insert((file.clone(), case.reference["clean_correct"].to_string())) {
                continue;
            }
            let run = format!("run{i}-{j}");
            place.ok(&format!("eval --model {} {data} --attack fgsm:eps={} --out {run}", file.display(), 0.01));
            let flags: Vec<u64> =
                outcomes(&place, &run).iter().map(|o| u64::from(o["clean"]["margin"].as_f64().unwrap() > 0.)).collect();
            let want: Vec<u64> =
                case.reference["clean_correct"].as_array().unwrap().iter().map(|f| f.as_u64().unwrap()).collect();
            assert_eq!(flags, want, "{}", file.display());
            place.ok(&format!("verify {run}"));
        }
    }
}

#[test]
fn pgd_100_with_5_restarts_is_nearly_as_strong_as_apgd_ce() {
    let Some(root) = fixtures("pgd_100_with_5_restarts_is_nearly_as_strong_as_apgd_ce") else { return };
    let place = Place::new();
    for (i, case) in cases(&root).iter().enumerate() {
        let Some(bar) = case.reference["attacks"]["apgd-ce"]["robust_accuracy_after"].as_f64() else { continue };
        let (Some(data), Some(file)) = (data(&root, &place, case), case.files.last()) else {
            println!("{}: skipped, its data is not there", case.name);
            continue;
        };
        let (norm, eps) = (case.reference["norm"].as_str().unwrap().to_lowercase(), &case.reference["eps"]);
        let attack = format!("pgd-{norm}:eps={eps},steps=100,restarts=5");
        let said =
            place.ok(&format!("eval --model {} {data} --attack {attack} --out pgd{i} --format json", file.display()));
        let json: Value = serde_json::from_str(&said.out).unwrap();
        let robust = json["results"][0]["robust_accuracy"].as_f64().unwrap();
        println!("{} {attack}: {robust} (apgd-ce {bar})", case.name);
        assert!(robust <= bar + 0.02, "{} {attack}: {robust} > {bar} + 0.02", case.name);
    }
}

/// How many of the reference's flags its other seeds flip: its own noise.
fn seed_noise(all: &[Case], case: &Case) -> usize {
    let same = |c: &&Case| {
        c.reference["seed"].as_u64().is_some_and(|s| s > 0)
            && ["model", "norm", "n", "eps"].iter().all(|k| c.reference[*k] == case.reference[*k])
    };
    let seeds: Vec<Vec<u64>> = all.iter().filter(same).map(|c| flags(&c.reference["robust"])).collect();
    let pairs = seeds.iter().enumerate().flat_map(|(i, a)| seeds[i + 1..].iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| a.iter().zip(b).filter(|(x, y)| x != y).count()).max().unwrap_or(0)
}

fn flags(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|f| f.as_u64().unwrap()).collect()
}

/// Square in compat mode against twelve seeds of the reference, on the 52 images that its attacks with gradients leave. One
/// seed says little: the reference draws one window a step for the whole batch, so its counts range over nine images.
///
/// Five minutes: `cargo test --release --test cli square_over_seeds -- --ignored --nocapture`; the reference's counts are
/// those of `scripts/autoattack_seeds.py`.
#[test]
#[ignore = "takes five minutes"]
fn square_over_seeds_is_as_strong_as_the_references() {
    let Some(root) = fixtures("square_over_seeds_is_as_strong_as_the_references") else { return };
    let theirs: Value = serde_json::from_str(include_str!("square_l2_seeds.json")).unwrap();
    let (place, list) = (Place::new(), |v: &Value| v.as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).collect());
    let (ids, held): (Vec<u64>, Vec<u64>) = (list(&theirs["ids"]), list(&theirs["held"]));
    let data = root.parent().unwrap().join("data/mnist");
    if !data.is_dir() {
        println!("skipped: no MNIST beside the fixtures");
        return;
    }
    std::fs::write(place.path("ids"), ids.iter().map(|i| format!("{i}\n")).collect::<String>()).unwrap();
    let net = root.join("models/mnist_at.safetensors");
    let ours: Vec<u64> = (0..held.len())
        .map(|seed| {
            place.ok(&format!(
                "eval --model {} --dataset mnist:{} --ids ids --attack square-l2:eps={},compat=true --seed {seed} \
                 --out square{seed} --no-doctor --evidence none",
                net.display(),
                data.display(),
                theirs["eps"]
            ));
            outcomes(&place, &format!("square{seed}")).iter().filter(|o| o["verdict"] == "held").count() as u64
        })
        .collect();
    let mean = |v: &[u64]| v.iter().sum::<u64>() as f64 / v.len() as f64;
    println!("held: ours {ours:?}, mean {:.2}; the reference's {held:?}, mean {:.2}", mean(&ours), mean(&held));
    assert!(mean(&ours) <= mean(&held) + 1.);
}

/// An hour of two cores: `cargo test --release --test cli autoattack_agrees -- --ignored --nocapture`.
#[test]
#[ignore = "takes an hour"]
fn autoattack_agrees_with_the_reference() {
    use robust::attacks::autoattack::{Version, compat_passes};
    let Some(root) = fixtures("autoattack_agrees_with_the_reference") else { return };
    let (place, all) = (Place::new(), cases(&root));
    let whole = |c: &&Case| c.reference["seed"].as_u64().is_none_or(|s| s == 0);
    for (i, case) in all.iter().filter(whole).enumerate() {
        let (Some(data), Some(file)) = (data(&root, &place, case), case.files.last()) else { continue };
        let (norm, eps) = (case.reference["norm"].as_str().unwrap().to_lowercase(), &case.reference["eps"]);
        let (theirs, noise) = (flags(&case.reference["robust"]), seed_noise(&all, case));
        for (j, extra) in ["", ",compat=true"].iter().enumerate() {
            let spec = format!("autoattack-{norm}:eps={eps}{extra}");
            let name = format!("aa{i}-{j}");
            place.ok(&format!("eval --model {} {data} --attack {spec} --out {name} --no-doctor", file.display()));
            let lines = outcomes(&place, &name);
            let ours: Vec<u64> = lines.iter().map(|o| u64::from(o["verdict"] == "held")).collect();
            let (mine, robust): (u64, u64) = (ours.iter().sum(), theirs.iter().sum());
            let more = ours.iter().zip(&theirs).filter(|(a, b)| a > b).count();
            let fewer = ours.iter().zip(&theirs).filter(|(a, b)| a < b).count();
            println!("{} {spec}: {mine} of {robust}, {more} more, {fewer} fewer, noise {noise}", case.name);
            // In L2 one seed of the reference is nine images wide: `square_over_seeds_...` compares means.
            let slack = if norm == "l2" && j == 1 { 5 } else { 1 };
            assert!(mine <= robust + slack, "{spec}: {mine} of {robust}");
            if norm == "linf" {
                assert!(more <= noise + 1, "{spec}: {more} samples held that the reference broke");
            }
            if j == 0 {
                continue;
            }
            let survivor = compat_passes(Version::Standard, norm.parse().unwrap(), 10, None).unwrap();
            for line in lines.iter().filter(|l| l["verdict"] == "held") {
                let search = &line["cost"]["search"];
                assert_eq!(
                    (search["forward"].as_u64(), search["backward"].as_u64()),
                    (Some(survivor.0), Some(survivor.1))
                );
            }
        }
    }
}
