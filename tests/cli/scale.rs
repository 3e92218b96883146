//! Many machines: shards merge to the bytes of one run.

use crate::support::Place;
use serde_json::Value;

const RUN: &str = "eval --model builtin:mnist-std --model builtin:mnist-at --attack fgsm:eps=0.1 --attack bim:eps=0.1,steps=2 --first 300";

fn same_folder(place: &Place, a: &str, b: &str) {
    assert_eq!(place.read(&format!("{a}/outcomes.jsonl")), place.read(&format!("{b}/outcomes.jsonl")));
    let names = |run: &str| -> Vec<_> {
        let mut names: Vec<_> =
            std::fs::read_dir(place.path(run).join("evidence")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(a), names(b));
    for name in names(a) {
        let bytes = |run: &str| std::fs::read(place.path(run).join("evidence").join(&name)).unwrap();
        assert!(bytes(a) == bytes(b), "{name:?}");
    }
}

#[test]
fn one_seven_and_sixteen_shards_merge_to_the_bytes_of_one_run() {
    let place = Place::new();
    place.ok(&format!("{RUN} --out whole"));
    for of in [1, 7, 16] {
        let dirs: Vec<String> = (1..=of).map(|k| format!("s{of}-{k}")).collect();
        for (k, dir) in dirs.iter().enumerate() {
            place.ok(&format!("{RUN} --shard {}/{of} --out {dir}", k + 1));
            place.ok(&format!("verify {dir}"));
        }
        place.ok(&format!("merge {} --out merged{of}", dirs.join(" ")));
        same_folder(&place, "whole", &format!("merged{of}"));
        place.ok(&format!("verify merged{of}"));
    }
    // A shard run twice, and one that was cut off and resumed.
    place.ok(&format!("{RUN} --shard 3/7 --out again"));
    let text = place.read("s7-2/outcomes.jsonl");
    std::fs::write(place.path("s7-2/outcomes.jsonl"), &text[..text.len() / 3]).unwrap();
    let dirs = (1..=7).map(|k| format!("s7-{k}")).collect::<Vec<_>>().join(" ");
    place.fails(&format!("merge {dirs} --out early"), 3, &["missing", "--shard 2/7"]);
    place.ok(&format!("{RUN} --shard 2/7 --out s7-2 --resume"));
    // A merge that was killed is completed by the same command, and one that is complete is checked.
    let joined = place.read("merged7/outcomes.jsonl");
    std::fs::write(place.path("merged7/outcomes.jsonl"), &joined[..joined.len() / 2]).unwrap();
    std::fs::remove_file(place.path("merged7/summary.json")).unwrap();
    std::fs::remove_file(place.path("merged7/evidence/m00-a00-00000000.safetensors")).unwrap();
    for _ in 0..2 {
        place.ok(&format!("merge {dirs} --out merged7"));
        same_folder(&place, "whole", "merged7");
        place.ok("verify merged7");
    }
    std::fs::write(place.path("merged7/outcomes.jsonl"), joined.replacen("\"confirm\":1", "\"confirm\":2", 1)).unwrap();
    place.fails(&format!("merge {dirs} --out merged7"), 1, &["merged7 and", "disagree about sample"]);
    place.ok(&format!("merge again {dirs} --out twice"));
    same_folder(&place, "whole", "twice");
}

#[test]
fn shards_that_do_not_fit_together_are_refused() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-at --attack fgsm:eps=0.3 --first 100";
    place.ok(&format!("{run} --shard 1/2 --out a"));
    place.ok(&format!("{run} --shard 2/2 --seed 1 --out b"));
    place.fails("merge a b --out c", 2, &["another plan", "seed"]);
    place.fails("merge a --out c", 3, &["1 units are missing", "--shard 2/2"]);
    place.fails("merge a nowhere --out c", 4, &["nowhere"]);
    // Two copies of one shard that do not agree.
    place.ok(&format!("{run} --shard 1/2 --out d"));
    let text = place.read("d/outcomes.jsonl").replacen("\"confirm\":1", "\"confirm\":2", 1);
    std::fs::write(place.path("d/outcomes.jsonl"), text).unwrap();
    place.fails("merge a d --out c", 1, &["disagree about sample"]);
    assert!(!place.path("c").exists());
    // A folder of somebody else, and one of another run.
    place.fails("merge a --out a", 3, &["missing"]);
    place.ok(&format!("{run} --out other --seed 2"));
    place.ok(&format!("{run} --shard 2/2 --out e"));
    place.fails("merge a e --out other", 2, &["it holds another run", "--out"]);
    // Plans of strangers: no shard is the 0th part of 0, and inputs are as large as their points.
    let edited = |name: &str, from: &str, to: &str| {
        let text = place.read(&format!("{name}/run.json"));
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(place.path(&format!("{name}/run.json")), text.replace(from, to)).unwrap();
    };
    for name in ["a", "e"] {
        edited(name, "            28\n", "            27\n");
    }
    place.fails("merge a e --out f", 4, &["the point of sample", "784 values"]);
    edited("a", "\"of\": 2", "\"of\": 0");
    place.fails("merge a e --out f", 4, &["a/run.json", "no shard 1/0"]);
    place.fails("report a", 4, &["a/run.json", "no shard 1/0"]);
    assert!(!place.path("f").exists());
    for (shard, word) in [("0/2", "count from 1"), ("3/2", "count from 1"), ("x", "K/N"), ("auto", "ROBUST_SHARD")] {
        place.fails(&format!("{run} --shard {shard}"), 2, &[word]);
    }
    place.fails(&format!("{run} --shard 2/2 --out d --resume"), 2, &["shard 1/2", "shard 2/2"]);
}

#[test]
fn a_plan_names_its_units_by_content() {
    let place = Place::new();
    let units = |args: &str| -> Vec<Value> {
        place.ok(&format!("plan {args}")).out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let whole = units("--model builtin:mnist-at --attack fgsm:eps=0.3 --attack bim:eps=0.3 --first 130");
    assert_eq!(whole.len(), 6);
    let names: std::collections::BTreeSet<String> = whole.iter().map(|u| u["unit"].to_string()).collect();
    assert_eq!(names.len(), 6);
    // The same work inside another plan has the same name; another seed has not.
    let part = units("--model builtin:mnist-at --attack bim:eps=0.3 --first 128");
    assert!(part.iter().all(|u| names.contains(&u["unit"].to_string())));
    let other = units("--model builtin:mnist-at --attack bim:eps=0.3 --first 128 --seed 1");
    assert!(other.iter().all(|u| !names.contains(&u["unit"].to_string())));
    assert_eq!(units("--model builtin:mnist-at --attack bim:eps=0.3 --first 130 --shard 2/3").len(), 1);
}

#[test]
fn time_that_is_up_leaves_a_folder_to_resume() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-at --attack bim:eps=0.3 --first 200 --out run";
    place.fails(&format!("{run} --max-minutes 0.0001"), 3, &["the time is up", "--resume"]);
    place.ok(&format!("{run} --resume"));
    place.ok("verify run");
}

#[cfg(unix)]
#[test]
fn two_processes_do_not_write_to_one_run() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-at --attack pgd:eps=0.3,steps=200 --first 64 --out run";
    let mut first =
        place.command(run).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !place.path("run/run.json").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    place.fails(&format!("{run} --resume"), 75, &["another process"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn batches_shrink_to_the_memory_there_is_and_give_the_same_bytes() {
    let place = Place::new();
    let eval = "eval --model builtin:mnist-std --attack fgsm:eps=0.1 --first 70 --no-doctor";
    place.ok(&format!("{eval} --out whole"));
    let said = place.ok(&format!("{eval} --memory 8MiB --out small"));
    assert!(said.err.contains("instead of 64") && said.err.contains("of 8 MiB"), "{}", said.err);
    assert_eq!(place.read("whole/outcomes.jsonl"), place.read("small/outcomes.jsonl"));
    place.ok(&format!("{eval} --memory 1k --out single"));
    assert_eq!(place.read("whole/outcomes.jsonl"), place.read("single/outcomes.jsonl"));
    place.fails(&format!("{eval} --memory lots --out x"), 2, &["lots", "8GiB"]);
}
