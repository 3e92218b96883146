//! Killed, interrupted, continued: the bytes of an uninterrupted run.

use crate::support::{Place, said};
use std::process::Stdio;
use std::time::Duration;

const RUN: &str =
    "eval --model builtin:mnist-at --attack pgd-linf:eps=0.3,steps=12 --attack bim:eps=0.3 --first 200 --evidence all";

fn whole(place: &Place) -> String {
    place.ok(&format!("{RUN} --out whole"));
    place.read("whole/outcomes.jsonl")
}

fn lines(place: &Place, run: &str) -> usize {
    std::fs::read_to_string(place.path(run).join("outcomes.jsonl")).map_or(0, |t| t.lines().count())
}

/// Starts a run and waits for its first units.
fn started(place: &Place, out: &str) -> std::process::Child {
    let mut child =
        place.command(&format!("{RUN} --out {out}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while lines(place, out) == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn assert_same_run(place: &Place, out: &str, reference: &str) {
    assert_eq!(place.read(&format!("{out}/outcomes.jsonl")), reference);
    for entry in std::fs::read_dir(place.path("whole/evidence")).unwrap() {
        let name = entry.unwrap().file_name();
        let bytes = |run: &str| std::fs::read(place.path(run).join("evidence").join(&name)).unwrap();
        assert_eq!(bytes("whole"), bytes(out), "{name:?}");
    }
    place.ok(&format!("verify {out}"));
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let place = Place::new();
    let reference = whole(&place);
    let mut child = started(&place, "killed");
    child.kill().unwrap();
    child.wait().unwrap();
    let there = lines(&place, "killed");
    assert!(there > 0 && there < 400, "the kill came too late to test anything: {there} lines");
    place.fails("verify killed", 3, &["missing", "--resume"]);
    place.fails(&format!("{RUN} --out killed"), 2, &["not empty", "--resume"]);
    place.ok(&format!("{RUN} --out killed --resume"));
    assert_same_run(&place, "killed", &reference);
}

#[test]
fn every_torn_end_is_cut_back_to_whole_units() {
    let place = Place::new();
    let reference = whole(&place);
    let ends: Vec<usize> = reference.match_indices('\n').map(|(i, _)| i + 1).collect();
    // In the middle of a line, between two lines of a unit, at a unit's end, nothing at all.
    for (i, cut) in [ends[70] + 9, ends[100], ends[63], 0, reference.len() - 1].into_iter().enumerate() {
        let out = format!("torn{i}");
        std::fs::create_dir_all(place.path(&out).join("evidence")).unwrap();
        std::fs::copy(place.path("whole/run.json"), place.path(&out).join("run.json")).unwrap();
        for entry in std::fs::read_dir(place.path("whole/evidence")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.path(&out).join("evidence").join(entry.file_name())).unwrap();
        }
        std::fs::write(place.path(&out).join("outcomes.jsonl"), &reference[..cut]).unwrap();
        place.ok(&format!("{RUN} --out {out} --resume"));
        assert_same_run(&place, &out, &reference);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_whole_units_and_exits_130() {
    let place = Place::new();
    let reference = whole(&place);
    let child = started(&place, "stopped");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(said.err.contains("--resume"), "{}", said.err);
    let there = lines(&place, "stopped");
    assert!(there > 0 && there < 400, "{there}");
    place.ok(&format!("{RUN} --out stopped --resume"));
    assert_same_run(&place, "stopped", &reference);
}

#[test]
fn a_run_from_other_settings_is_not_resumed_and_nothing_is_lost() {
    let place = Place::new();
    place.ok("eval --model builtin:mnist-at --attack fgsm:eps=0.3 --first 10 --out run");
    let before = place.read("run/outcomes.jsonl");
    for (other, word) in [
        ("--model builtin:mnist-at --attack fgsm:eps=0.2 --first 10", "eps"),
        ("--model builtin:mnist-std --attack fgsm:eps=0.3 --first 10", "mnist-std"),
        ("--model builtin:mnist-at --attack fgsm:eps=0.3 --first 11", "ids"),
        ("--model builtin:mnist-at --attack fgsm:eps=0.3 --first 10 --seed 5", "seed: 0 -> 5"),
    ] {
        place.fails(&format!("eval {other} --out run --resume"), 2, &["other settings", word]);
    }
    assert_eq!(place.read("run/outcomes.jsonl"), before);
}

#[test]
fn a_damaged_line_is_named_and_nothing_is_lost() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-at --attack fgsm:eps=0.3 --first 10 --out run";
    place.ok(run);
    let text = place.read("run/outcomes.jsonl");
    for (from, to) in [("\"verdict\"", "\"verdikt\""), ("{", "\u{0}"), ("\"id\":4", "\"id\":5")] {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines[4] = lines[4].replacen(from, to, 1);
        let damaged = lines.join("\n") + "\n";
        std::fs::write(place.path("run/outcomes.jsonl"), &damaged).unwrap();
        place.fails(&format!("{run} --resume"), 4, &["line 5", "head -n 4"]);
        place.fails("verify run", 4, &["line 5"]);
        assert_eq!(place.read("run/outcomes.jsonl"), damaged);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    let reference = whole(&place);
    // A limit on file size is the full disk that needs no root: it strikes in the middle of the second unit's lines.
    let robust = env!("CARGO_BIN_EXE_robust");
    let script =
        format!("ulimit -f 110; exec {robust} {} --out full", RUN.replace("--evidence all", "--evidence none"));
    let output =
        std::process::Command::new("bash").args(["-c", &script]).current_dir(place.dir.path()).output().unwrap();
    let full = said(output);
    assert_eq!(full.code, 75, "{}", full.err);
    assert!(full.err.contains("--resume"), "{}", full.err);
    assert!(lines(&place, "full") > 0);
    place.ok(&format!("{} --out full --resume", RUN.replace("--evidence all", "--evidence none")));
    assert_eq!(place.read("full/outcomes.jsonl"), reference);
}

/// A folder where a run was cut off after its first unit: all evidence is there already, as where it was being written.
fn cut_off(place: &Place, out: &str, reference: &str) {
    std::fs::create_dir_all(place.path(out).join("evidence")).unwrap();
    std::fs::copy(place.path("whole/run.json"), place.path(out).join("run.json")).unwrap();
    for entry in std::fs::read_dir(place.path("whole/evidence")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.path(out).join("evidence").join(entry.file_name())).unwrap();
    }
    let end = reference.match_indices('\n').nth(63).unwrap().0 + 1;
    std::fs::write(place.path(out).join("outcomes.jsonl"), &reference[..end]).unwrap();
}

fn files_below(place: &Place, out: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    for dir in [place.path(out), place.path(out).join("evidence")] {
        for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_file()) {
            all.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_second_start_that_is_refused_touches_nothing_of_the_first() {
    let place = Place::new();
    let reference = whole(&place);
    cut_off(&place, "busy", &reference);
    // The first start, as far as the second can tell: it holds the journal.
    let held = std::fs::OpenOptions::new().append(true).open(place.path("busy/outcomes.jsonl")).unwrap();
    held.lock().unwrap();
    let before = files_below(&place, "busy");
    place.fails(&format!("{RUN} --out busy --resume"), 75, &["another process is writing", "wait for it"]);
    assert!(files_below(&place, "busy") == before);
    drop(held);
    place.ok(&format!("{RUN} --out busy --resume"));
    assert_same_run(&place, "busy", &reference);
}

#[test]
fn evidence_that_is_gone_is_made_again_and_only_if_it_comes_out_the_same() {
    let place = Place::new();
    let reference = whole(&place);
    std::fs::remove_file(place.path("whole/evidence/m00-a00-00000064.safetensors")).unwrap();
    place.fails("verify whole", 1, &["evidence is missing"]);
    let said = place.ok(&format!("{RUN} --out whole --resume"));
    assert!(
        said.err.contains("m00-a00-00000064.safetensors is missing: its 64 samples are attacked again"),
        "{}",
        said.err
    );
    assert_eq!(place.read("whole/outcomes.jsonl"), reference);
    place.ok("verify whole");
    // A journal that says something else than the attack finds gets no evidence made for it.
    std::fs::remove_file(place.path("whole/evidence/m00-a00-00000000.safetensors")).unwrap();
    let forged = reference.replacen("\"forward\":", "\"forward\":1", 1);
    std::fs::write(place.path("whole/outcomes.jsonl"), forged).unwrap();
    place.fails(&format!("{RUN} --out whole --resume"), 1, &["does not come out as outcomes.jsonl says"]);
    assert!(!place.path("whole/evidence/m00-a00-00000000.safetensors").exists());
}

#[test]
fn what_a_kill_before_the_first_record_leaves_counts_as_nothing() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-at --attack fgsm:eps=0.3 --first 10 --no-doctor";
    for (i, options) in ["", "--resume"].into_iter().enumerate() {
        let out = format!("early{i}");
        std::fs::create_dir_all(place.path(&out).join("evidence")).unwrap();
        for name in ["outcomes.jsonl", ".robust-1-0.part", "evidence/.robust-1-1.part"] {
            std::fs::write(place.path(&out).join(name), "").unwrap();
        }
        place.ok(&format!("{run} --out {out} {options}"));
        place.ok(&format!("verify {out}"));
        let left = files_below(&place, &out);
        assert!(!left.iter().any(|(name, _)| name.contains(".robust-")), "{left:?}");
    }
    // Anything else is somebody's.
    std::fs::create_dir_all(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/outcomes.jsonl"), "{}\n").unwrap();
    place.fails(&format!("{run} --out mine --resume"), 2, &["holds no run to resume", "--out"]);
    assert_eq!(place.read("mine/outcomes.jsonl"), "{}\n");
}

#[cfg(unix)]
#[test]
fn a_journal_that_is_removed_in_mid_run_is_noticed_and_made_again() {
    let place = Place::new();
    let reference = whole(&place);
    let child = started(&place, "robbed");
    std::fs::remove_file(place.path("robbed/outcomes.jsonl")).unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 75, "{}", said.err);
    assert!(said.err.contains("removed or replaced") && said.err.contains("--resume"), "{}", said.err);
    place.ok(&format!("{RUN} --out robbed --resume"));
    assert_same_run(&place, "robbed", &reference);
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_long_unit_between_two_steps() {
    let place = Place::new();
    // Minutes of work in one unit.
    let run = "eval --model builtin:mnist-at --attack pgd:eps=0.01,steps=200000 --first 64 --no-doctor";
    let child =
        place.command(&format!("{run} --out long")).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    while !place.path("long/run.json").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(700));
    let asked = robust::clock::Stopwatch::start();
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let said = said(child.wait_with_output().unwrap());
    let took = asked.seconds();
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(took < 5., "it took {took} s");
    assert!(said.err.contains("interrupted") && said.err.contains("--out long --resume"), "{}", said.err);
    assert_eq!(lines(&place, "long"), 0);
}
