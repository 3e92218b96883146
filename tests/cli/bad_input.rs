//! Whatever is wrong: a clear message with the next step, the right exit code, nothing lost, no panic.

use crate::support::{self, Place};
use safetensors::{Dtype, tensor::TensorView};
use std::path::Path;

const FGSM: &str = "--attack fgsm:eps=0.1";

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A data set of `n` images of this shape, all `value`, labelled in turn from `label`.
fn images(place: &Place, name: &str, n: usize, shape: [usize; 3], value: f32, label: i64) {
    let labels: Vec<i64> = (0..n as i64).map(|i| label + i % 10).collect();
    let x = vec![value; n * shape.iter().product::<usize>()];
    support::images(place, name, &x, [n, shape[0], shape[1], shape[2]], &labels);
}

/// An MNIST CNN of few channels whose weights are all `weight` and whose last bias is `bias`.
fn network(path: &Path, weight: f32, bias: f32) {
    let shapes: [(&str, Vec<usize>); 8] = [
        ("conv1.weight", vec![2, 1, 5, 5]),
        ("conv1.bias", vec![2]),
        ("conv2.weight", vec![3, 2, 5, 5]),
        ("conv2.bias", vec![3]),
        ("fc1.weight", vec![4, 147]),
        ("fc1.bias", vec![4]),
        ("fc2.weight", vec![10, 4]),
        ("fc2.bias", vec![10]),
    ];
    let data: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(name, s)| f32s(&vec![if *name == "fc2.bias" { bias } else { weight }; s.iter().product()]))
        .collect();
    let views = shapes.iter().zip(&data).map(|((n, s), d)| (*n, TensorView::new(Dtype::F32, s.clone(), d).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn models_that_are_not_there_or_damaged() {
    let place = Place::new();
    network(&place.path("net.safetensors"), 0.01, 0.);
    let bytes = std::fs::read(place.path("net.safetensors")).unwrap();
    std::fs::write(place.path("half.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(place.path("empty.onnx"), "").unwrap();
    std::fs::write(place.path("text.onnx"), "hello, I am not a model").unwrap();
    let data = "--dataset builtin:mnist --first 4";
    place.fails(&format!("eval --model nett.safetensors {data} {FGSM}"), 4, &["nett.safetensors", "net.safetensors"]);
    place.fails(&format!("eval --model half.safetensors {data} {FGSM}"), 4, &["half.safetensors"]);
    place.fails(&format!("eval --model empty.onnx {data} {FGSM}"), 4, &["empty.onnx"]);
    place.fails(&format!("eval --model text.onnx {data} {FGSM}"), 4, &["text.onnx"]);
    place.fails(&format!("eval --model org/name {data} {FGSM}"), 2, &["hf:org/name", "./org/name"]);
    place.fails(&format!("eval --model builtin:mnist-ta {data} {FGSM}"), 2, &["mnist-at"]);
    place.fails(&format!("eval --model net.safetensors?arch=mnist-cn {data} {FGSM}"), 2, &["mnist-cnn"]);
    place.fails(&format!("eval --model net.safetensors {FGSM}"), 2, &["--dataset"]);
    place.fails(&format!("eval --model builtin:mnist-at --model builtin:mnist-at {FGSM}"), 2, &["two models"]);
    place.ok(&format!("eval --model net.safetensors {data} {FGSM}"));
}

#[test]
fn weights_and_scores_that_are_not_numbers() {
    let place = Place::new();
    network(&place.path("nan.safetensors"), f32::NAN, 0.);
    network(&place.path("inf.safetensors"), 0.1, f32::INFINITY);
    network(&place.path("huge.safetensors"), 3e30, 0.);
    let data = "--dataset builtin:mnist --first 4";
    place.fails(&format!("eval --model nan.safetensors {data} {FGSM}"), 4, &["conv1.weight", "NaN"]);
    place.fails(&format!("eval --model inf.safetensors {data} {FGSM}"), 4, &["fc2.bias", "infinite"]);
    let run = format!("eval --model huge.safetensors {data} {FGSM} --out run");
    place.fails(&run, 3, &["4 samples could not be judged", "sample 0", "NaN or infinite", "--allow-failed 4"]);
    let said = place.ok(&format!("{run} --resume --allow-failed 4 --format json"));
    assert!(said.out.contains("\"failed\":4") && said.out.contains("\"robust_accuracy\":0.0"), "{}", said.out);
    place.ok("verify run");
}

#[test]
fn data_that_is_not_there_damaged_or_of_another_kind() {
    let place = Place::new();
    let path = |name: &str| place.path(name);
    images(&place, "rgb.safetensors", 3, [3, 32, 32], 0.5, 0);
    images(&place, "small.safetensors", 3, [1, 14, 14], 0.5, 0);
    images(&place, "bytes.safetensors", 3, [1, 28, 28], 128., 0);
    images(&place, "labels.safetensors", 3, [1, 28, 28], 0.5, 9);
    images(&place, "negative.safetensors", 3, [1, 28, 28], 0.5, -1);
    images(&place, "none.safetensors", 0, [1, 28, 28], 0.5, 0);
    let bytes = std::fs::read(path("rgb.safetensors")).unwrap();
    std::fs::write(path("half.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    let fails = |data: &str, code: i32, words: &[&str]| {
        place.fails(&format!("eval --model builtin:mnist-at --dataset {data} {FGSM}"), code, words);
    };
    fails("safetensors:rgb.safetensors", 4, &["1", "28", "3", "32"]);
    fails("safetensors:small.safetensors", 4, &["28", "14"]);
    fails("safetensors:bytes.safetensors", 4, &["128", "255"]);
    fails("safetensors:labels.safetensors", 4, &["label 10", "10 classes"]);
    fails("safetensors:negative.safetensors", 4, &["-1"]);
    fails("safetensors:none.safetensors", 4, &["none.safetensors"]);
    fails("safetensors:half.safetensors", 4, &["half.safetensors"]);
    fails("safetensors:gone.safetensors", 4, &["gone.safetensors"]);
    fails("mnist:nowhere", 4, &["nowhere"]);
    fails("flder:here", 2, &["folder"]);
    std::fs::create_dir_all(path("classes/empty")).unwrap();
    fails("folder:classes", 4, &["classes"]);
}

#[test]
fn attacks_that_make_no_sense() {
    let place = Place::new();
    let fails = |attack: &str, words: &[&str]| {
        place.fails(&format!("eval --model builtin:mnist-at --first 4 --attack {attack}"), 2, words);
    };
    fails("pgdd:eps=0.3", &["unknown attack `pgdd`", "did you mean `pgd`"]);
    fails("pgd:eps=0.3,stepps=4", &["no parameter `stepps`", "did you mean steps=4?"]);
    fails("pgd:eps=8", &["8/255"]);
    fails("pgd:eps=-1", &["not a distance"]);
    fails("pgd-l2:eps=1000", &["L2"]);
    fails("pgd-l2", &["no epsilon", "eps="]);
    fails("pgd:eps=nonsense", &["eps=nonsense", "not a number"]);
    fails("pgd:steps=0", &["at least 1"]);
    fails("pgd:target=10", &["target=10", "10 classes"]);
    fails("pgd:target=random", &["target=random is not next, second, least or the number of a class"]);
    fails("pgd-linf:epsilon=8/255", &["no parameter `epsilon`", "did you mean eps=8/255?"]);
    // Spelling is looked at before any file is.
    for attack in ["pgdd:eps=0.1", "pgd:stepps=3", "file:adv.npy,projct=true"] {
        place.fails(&format!("eval --model gone.onnx --dataset folder:gone --attack {attack}"), 2, &["did you mean"]);
        place.fails(&format!("doctor gone.onnx --dataset folder:gone --attack {attack}"), 2, &[]);
    }
    place.fails("eval --model gone.onnx --dataset folder:gone --corruptions mnistc", 2, &["did you mean"]);
    fails("pgd --attack pgd", &["given twice"]);
    place.fails("eval --model builtin:mnist-at", 2, &["--attack"]);
}

#[test]
fn options_that_make_no_sense() {
    let place = Place::new();
    std::fs::write(place.path("ids"), "3,99999").unwrap();
    let fails = |options: &str, code: i32, words: &[&str]| {
        place.fails(&format!("eval --model builtin:mnist-at {FGSM} {options}"), code, words);
    };
    fails("--limit 0", 2, &["no samples"]);
    fails("--ids ids", 2, &["99999"]);
    fails("--ids gone", 4, &["gone"]);
    fails("--batch-size 0", 2, &["--batch-size"]);
    fails("--threads 0", 2, &["--threads"]);
    fails("--device cuda", 2, &["--device cpu"]);
    fails("--device tpu", 2, &["tpu"]);
    fails("--limit 3 --first 3", 2, &["--first"]);
    fails("--evidence some", 2, &["all, fooled or none"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let place = Place::new();
    std::fs::write(place.path("file"), "in the way").unwrap();
    std::fs::create_dir(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/thesis.tex"), "precious").unwrap();
    let run = |out: &str| format!("eval --model builtin:mnist-at {FGSM} --first 4 --out {out}");
    place.fails(&run("file/run"), 75, &["file/run", "--out"]);
    place.fails(&run("mine"), 2, &["not empty", "--out"]);
    place.fails(&format!("{} --resume", run("mine")), 2, &["holds no run"]);
    assert_eq!(place.read("mine/thesis.tex"), "precious");
}

/// The default build has no client: the way to the files is said, and nothing is asked.
#[cfg(not(feature = "hub"))]
#[test]
fn without_the_feature_a_model_of_the_hub_that_is_not_there_says_how_to_get_it() {
    let place = Place::new();
    let mut command = place.command("inspect hf:org/nowhere");
    let said = support::said(command.env("HF_HOME", place.path("hub")).output().unwrap());
    assert_eq!(said.code, 4, "{}", said.err);
    for word in ["not in the cache", "hf download org/nowhere", "--features hub"] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
    assert!(place.ok("list models").out.contains("this build downloads nothing"));
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_before_anything_waits_on_them() {
    let place = Place::new();
    assert!(std::process::Command::new("mkfifo").arg(place.path("pipe.onnx")).status().unwrap().success());
    let data = "--dataset builtin:mnist --first 4";
    let asked = robust::clock::Stopwatch::start();
    for model in ["pipe.onnx", "/dev/zero?arch=mnist-cnn", "."] {
        let said = place.robust(&format!("eval --model {model} {data} {FGSM}"));
        assert!(said.code == 4 || said.code == 2, "{model}: {} {}", said.code, said.err);
    }
    place.fails(&format!("eval --model pipe.onnx {data} {FGSM}"), 4, &["a pipe or a device, not a file"]);
    place.fails("convert /dev/zero x.safetensors", 4, &["a pipe or a device"]);
    let eval = format!("eval --model builtin:mnist-at {FGSM}");
    place.fails(&format!("{eval} --ids /dev/zero"), 4, &["/dev/zero", "a pipe or a device"]);
    place.fails(&format!("{eval} --dataset npz:pipe.onnx"), 4, &["not a file"]);
    place.fails("gate --config /dev/zero", 2, &["/dev/zero", "a pipe or a device"]);
    std::fs::create_dir(place.path("run")).unwrap();
    std::fs::rename(place.path("pipe.onnx"), place.path("run/run.json")).unwrap();
    place.fails("report run", 4, &["run.json", "a pipe or a device"]);
    assert!(asked.seconds() < 60.);
}

#[test]
fn a_record_that_would_fill_the_memory_is_refused() {
    let place = Place::new();
    place.ok(&format!("eval --model builtin:mnist-at {FGSM} --first 4 --out run"));
    let text = place.read("run/run.json");
    let write = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(place.path("run/run.json"), text.replacen(from, to, 1)).unwrap();
    };
    write("\"params\": {", &format!("\"params\": {{\"x\": [{}0],", "{\"\":0},".repeat(1 << 20)));
    place.fails("report run", 4, &["objects and lists"]);
    write("\"ids\": \"0-3\"", "\"ids\": \"0-3000000000\"");
    place.fails("report run", 4, &["more than 16777216 ids"]);
    write("\"ids\": \"0-3\"", "\"ids\": \"3,1\"");
    place.fails("report run", 4, &["do not ascend"]);
    write("\"unit\": 64", "\"unit\": 0");
    place.fails("report run", 4, &["units of 0 samples"]);
    std::fs::write(place.path("run/run.json"), vec![b' '; 33 << 20]).unwrap();
    place.fails("report run", 4, &["at most 33554432 are read"]);
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_has_to_listen() {
    let place = Place::new();
    let robust = env!("CARGO_BIN_EXE_robust");
    let run = |i: usize, to: &str| {
        let script = format!("{robust} eval --model builtin:mnist-at {FGSM} --first 4 --no-doctor --out run{i} {to}");
        support::said(
            std::process::Command::new("bash").args(["-c", &script]).current_dir(place.dir.path()).output().unwrap(),
        )
    };
    for (i, to) in [
        "2>/dev/full",
        "2>&-",
        "2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}",
        "| true; exit ${PIPESTATUS[0]}",
        ">&- 2>&-",
    ]
    .into_iter()
    .enumerate()
    {
        let said = run(i, to);
        assert_eq!(said.code, 0, "{to}: {}", said.err);
        place.ok(&format!("verify run{i}"));
    }
    // Data that could not be given is an error, and the run is whole nevertheless.
    let full = run(9, ">/dev/full");
    assert!(full.code == 75 && full.err.contains("standard output"), "{} {}", full.code, full.err);
    place.ok("verify run9");
    // An error keeps its code when it cannot be told.
    let script = format!("{robust} verify nowhere 2>/dev/full");
    let code = std::process::Command::new("bash").args(["-c", &script]).status().unwrap().code();
    assert_eq!(code, Some(4));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_text_are_names() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = std::ffi::OsStr::from_bytes(b"run\xff");
    let mut eval = place.command(&format!("eval --model builtin:mnist-at {FGSM} --first 4 --no-doctor --out"));
    let said = support::said(eval.arg(odd).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    let mut verify = place.command("verify");
    assert_eq!(support::said(verify.arg(odd).output().unwrap()).code, 0);
    place.ok("init");
    std::fs::rename(place.path("robust.toml"), place.dir.path().join(odd).join("robust.toml")).unwrap();
    let mut gate = place.command("gate --no-progress --config");
    let said =
        support::said(gate.arg(std::path::Path::new(odd).join("robust.toml")).env_remove("CI").output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn names_of_strangers_steer_neither_the_terminal_nor_the_runner_of_a_job() {
    let place = Place::new();
    let evil = "+x\n::error file=a\n\u{1b}[2J\u{9b}31m\u{202e}##[group].onnx";
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ci-gate/model.onnx"), place.path(evil)).unwrap();
    let mut eval = place.command(&format!("eval {FGSM} --dataset builtin:mnist --first 4 --out run --model"));
    let said = support::said(eval.arg(format!("onnx:{evil}")).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    let others = ["verify run", "compare run run", "leaderboard run", "export run --out x"].map(|c| place.robust(c));
    for said in others.iter().chain([&said]) {
        for text in [&said.out, &said.err] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
            assert!(!text.lines().any(|l| l.trim_start().starts_with("::")) && !text.contains("##["), "{text}");
        }
    }
    let csv = place.ok("verify run --format csv").out;
    assert!(csv.lines().nth(1).unwrap().starts_with("'+x"), "{csv}");
}

#[cfg(unix)]
#[test]
fn what_lies_beside_a_file_to_be_written_is_not_touched() {
    let place = Place::new();
    place.ok(&format!("eval --model builtin:mnist-at {FGSM} --first 4 --no-doctor --out run"));
    std::fs::write(place.path("precious"), "mine").unwrap();
    std::fs::write(place.path("net.part"), "mine too").unwrap();
    std::os::unix::fs::symlink(place.path("precious"), place.path("page.part")).unwrap();
    place.ok("report run --html net.html");
    place.ok("report run --html page.html --md /dev/null");
    assert_eq!((place.read("net.part").as_str(), place.read("precious").as_str()), ("mine too", "mine"));
    assert!(place.path("page.part").is_symlink() && place.read("page.html").contains("<html"));
    // Both at once leave no other names behind.
    let names = std::fs::read_dir(place.dir.path()).unwrap().count();
    assert_eq!(names, 6, "run, precious, net.part, page.part, net.html, page.html");
}

#[test]
fn a_dry_run_says_where_and_how_much() {
    let place = Place::new();
    let eval = format!("eval --model builtin:mnist-at {FGSM} --first 4 --dry-run");
    assert!(place.ok(&format!("{eval} --out my/place")).out.contains("run folder: my/place\n"));
    assert!(place.ok(&eval).out.contains("run folder: runs/mnist-at-"));
    let corrupt = "eval --model builtin:mnist-std --corruptions mnist-c --first 4 --dry-run";
    let said = place.ok(corrupt).out;
    assert!(said.contains("no evidence: corrupted images are made again"), "{said}");
    assert!(place.ok(&format!("{corrupt} --evidence all")).out.contains("MB of evidence"));
}

#[test]
fn a_run_whose_models_have_moved_says_how_to_name_them() {
    let place = Place::new();
    network(&place.path("my net.safetensors"), 0.01, 0.);
    let mut eval =
        place.command(&format!("eval --dataset builtin:mnist --first 4 {FGSM} --no-doctor --out run --model"));
    assert_eq!(support::said(eval.arg("my net.safetensors").output().unwrap()).code, 0);
    std::fs::rename(place.path("my net.safetensors"), place.path("moved.safetensors")).unwrap();
    place.fails("verify run", 4, &["say where the run's models are now: --model 'my net=PATH'"]);
    let mut verify = place.command("verify run --model");
    assert_eq!(support::said(verify.arg("my net=moved.safetensors").output().unwrap()).code, 0);
}
