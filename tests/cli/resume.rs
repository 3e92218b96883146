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
fn ctrl_c_finishes_the_unit_in_hand_and_exits_130() {
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
    let script = format!(
        "trap '' XFSZ; ulimit -f 110; exec {robust} {} --out full",
        RUN.replace("--evidence all", "--evidence none")
    );
    let output =
        std::process::Command::new("bash").args(["-c", &script]).current_dir(place.dir.path()).output().unwrap();
    let full = said(output);
    assert_eq!(full.code, 75, "{}", full.err);
    assert!(full.err.contains("--resume"), "{}", full.err);
    assert!(lines(&place, "full") > 0);
    place.ok(&format!("{} --out full --resume", RUN.replace("--evidence all", "--evidence none")));
    assert_eq!(place.read("full/outcomes.jsonl"), reference);
}
