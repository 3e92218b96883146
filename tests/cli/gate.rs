//! `init`, `gate`: verdicts, exit codes, the baseline and what other tools read.

use crate::support::{Place, Said, said};
use serde_json::Value;
use std::path::Path;

/// A repository as `examples/ci-gate` shows it.
fn repository() -> Place {
    let place = Place::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci-gate");
    for name in ["model.onnx", "weakened.onnx", "robust.toml", "robust.baseline.json"] {
        std::fs::copy(from.join(name), place.path(name)).unwrap();
    }
    place
}

/// Runs with these variables and without those of a CI that runs the tests.
fn gate(place: &Place, args: &str, env: &[(&str, &str)]) -> Said {
    let mut command = place.command(&format!("gate --no-progress {args}"));
    for name in ["CI", "GITHUB_ACTIONS", "GITLAB_CI", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"] {
        command.env_remove(name);
    }
    said(command.envs(env.iter().copied()).output().unwrap())
}

fn edit(place: &Place, name: &str, from: &str, to: &str) {
    let text = place.read(name);
    assert!(text.contains(from), "{from} is not in {name}");
    std::fs::write(place.path(name), text.replace(from, to)).unwrap();
}

#[test]
fn the_example_passes_reproduces_its_baseline_and_its_weakened_version_fails() {
    let place = repository();
    let pass = gate(&place, "", &[]);
    assert_eq!(pass.code, 0, "{}\n{}", pass.out, pass.err);
    assert!(
        pass.out.contains("gate: pass") && (pass.out.contains("reproduced") || pass.out.contains("changed")),
        "{}",
        pass.out
    );

    std::fs::copy(place.path("weakened.onnx"), place.path("model.onnx")).unwrap();
    let files = "--json g.json --junit g.xml --sarif g.sarif --gitlab g.cq --md g.md";
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", "summary"), ("GITHUB_OUTPUT", "output")];
    let fail = gate(&place, files, &github);
    assert_eq!(fail.code, 1, "{}\n{}", fail.out, fail.err);
    for word in
        ["hard-drop:", "floor:", "after Holm", "measure it again: robust eval --model=digits=model.onnx", "gate: fail"]
    {
        assert!(fail.out.contains(word), "{word} is not in\n{}", fail.out);
    }
    assert!(fail.err.contains("::error file=robust.toml,line=10,title=hard-drop"), "{}", fail.err);
    assert_eq!(place.read("output"), "verdict=fail\nexit-code=1\n");
    assert_eq!(place.read("summary"), place.read("g.md"));
    let json: Value = serde_json::from_str(&place.read("g.json")).unwrap();
    assert_eq!((json["schema"].as_str(), json["exit_code"].as_u64()), (Some("robust.gate/1"), Some(1)));
    // Clean accuracy, PGD, Square; the drops of the latter two are tested together.
    assert_eq!((json["checks"].as_array().unwrap().len(), json["tested"].as_u64()), (3, Some(2)));
    let sarif: Value = serde_json::from_str(&place.read("g.sarif")).unwrap();
    let place_of = |r: &Value| r["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64();
    assert!(sarif["runs"][0]["results"].as_array().unwrap().iter().all(|r| place_of(r).is_some()));
    let quality: Value = serde_json::from_str(&place.read("g.cq")).unwrap();
    assert_eq!(quality[0]["location"]["path"], "robust.toml");
    assert!(place.read("g.xml").contains("<failure message="), "{}", place.read("g.xml"));

    assert_eq!(gate(&place, "--exit-zero", &[]).code, 0);
    // Accepting it is a decision that CI cannot take.
    let refused = gate(&place, "--update-baseline", &[("CI", "true")]);
    assert!(refused.code == 2 && refused.err.contains("--allow-ci"), "{}", refused.err);
    let before = place.read("robust.baseline.json");
    let update = gate(&place, "--update-baseline --allow-ci", &[("CI", "true")]);
    assert!(update.code == 0 && update.out.contains(" -> ") && update.out.contains("broken"), "{}", update.out);
    assert_ne!(before, place.read("robust.baseline.json"));
    edit(&place, "robust.toml", "min_robust_accuracy", "# min_robust_accuracy");
    let again = gate(&place, "", &[]);
    // Nothing came out again: the run folder was only read.
    assert!(again.code == 0 && again.out.contains("resumed:"), "{}\n{}", again.out, again.err);
    assert!(!again.out.contains("reproduced"), "{}", again.out);
    std::fs::remove_dir_all(place.path("runs")).unwrap();
    let anew = gate(&place, "", &[]);
    assert!(anew.code == 0 && anew.out.contains("reproduced:"), "{}\n{}", anew.out, anew.err);
}

#[test]
fn init_adds_to_a_list_of_what_is_ignored_and_takes_nothing_away() {
    let place = Place::new();
    std::fs::write(place.path(".gitignore"), "target").unwrap();
    place.ok("init");
    assert_eq!(place.read(".gitignore"), "target\nruns/\n");
    place.ok("init --force");
    assert_eq!(place.read(".gitignore"), "target\nruns/\n");
}

#[test]
fn what_init_writes_works_as_it_stands_from_any_folder_below() {
    let place = Place::new();
    place.ok("init");
    place.fails("init", 2, &["--force"]);
    let none = gate(&place, "--require-baseline", &[]);
    assert!(none.code == 5 && none.out.contains("no-baseline"), "{}\n{}", none.out, none.err);
    assert!(none.out.ends_with("gate: no baseline\n"), "{}", none.out);
    assert_eq!(place.read(".gitignore"), "runs/\n");
    assert_eq!(gate(&place, "", &[]).code, 0);
    assert_eq!(gate(&place, "--update-baseline", &[]).code, 0);
    let first = place.read("robust.baseline.json");
    std::fs::create_dir_all(place.path("a/b")).unwrap();
    let mut below = place.command("gate --no-progress --require-baseline --json here.json");
    let below = said(below.current_dir(place.path("a/b")).output().unwrap());
    assert!(below.code == 0 && below.out.contains("resumed:"), "{}\n{}", below.out, below.err);
    assert!(!below.out.contains("no baseline"), "{}", below.out);
    assert!(place.path("a/b/here.json").exists());
    // The same results make the same bytes.
    assert_eq!(gate(&place, "--update-baseline", &[]).code, 0);
    assert_eq!(first, place.read("robust.baseline.json"));
}

const SMALL: &str = "[[suite]]
name = 's'
models = ['builtin:mnist-at']
attacks = ['pgd-linf:eps=0.3,steps=3']
limit = 40
max_drop = '2pp'
max_drop_hard = '50pp'
";

#[test]
fn another_thing_is_not_compared_and_a_baseline_that_was_edited_is_found_out() {
    let place = Place::new();
    std::fs::write(place.path("robust.toml"), SMALL).unwrap();
    assert_eq!(gate(&place, "--update-baseline", &[]).code, 0);
    for (from, to, what) in [
        ("limit = 40", "limit = 50", "samples are 40"),
        ("steps=3", "steps=4", "not in the baseline"),
        ("limit = 40", "limit = 40\nseed = 1", "seed is 0 then 1"),
        ("limit = 40", "limit = 40\ndataset = 'builtin:mnist'\neot = 2", "the attack's parameters changed"),
    ] {
        std::fs::write(place.path("robust.toml"), SMALL.replace(from, to)).unwrap();
        let other = gate(&place, "", &[]);
        let code = if what.starts_with("not in") { 0 } else { 2 };
        assert!(
            other.code == code && (other.err.clone() + &other.out).contains(what),
            "{what}: {}\n{}\n{}",
            other.code,
            other.out,
            other.err
        );
    }
    std::fs::write(place.path("robust.toml"), SMALL).unwrap();
    let mut baseline: Value = serde_json::from_str(&place.read("robust.baseline.json")).unwrap();
    let entry = baseline["suites"]["s"]["models"]["mnist-at"].as_object_mut().unwrap();
    let key = entry.keys().find(|k| k.starts_with("pgd")).unwrap().clone();
    let whole = entry[&key].clone();
    // All 40 samples are said to have held: the model is unchanged and does otherwise.
    entry[&key]["bits"] = "//////8=".into();
    entry[&key]["held"] = 40.into();
    std::fs::write(place.path("robust.baseline.json"), baseline.to_string()).unwrap();
    let edited = gate(&place, "", &[]);
    assert!(edited.code == 1 && edited.out.contains("non-deterministic"), "{}\n{}", edited.out, edited.err);
    for (key_of, value) in [("bits", Value::from("AAAA")), ("held", Value::from(41)), ("bits", Value::from("!"))] {
        let mut broken = baseline.clone();
        let entry = &mut broken["suites"]["s"]["models"]["mnist-at"][&key];
        *entry = whole.clone();
        entry[key_of] = value;
        std::fs::write(place.path("robust.baseline.json"), broken.to_string()).unwrap();
        let said = gate(&place, "", &[]);
        assert!(said.code == 2 && said.err.contains("the baseline is damaged"), "{}", said.err);
    }
    std::fs::write(place.path("robust.baseline.json"), "{").unwrap();
    let said = gate(&place, "", &[]);
    assert!(said.code == 2 && said.err.contains("cannot read the baseline"), "{}", said.err);
}

#[test]
fn runs_that_are_there_are_judged_and_incomplete_ones_are_not_failures() {
    let place = Place::new();
    std::fs::write(place.path("robust.toml"), SMALL).unwrap();
    place.ok("eval --model builtin:mnist-at --attack pgd-linf:eps=0.3,steps=3 --limit 40 --no-progress --out run");
    let judged = gate(&place, "--runs run", &[]);
    assert_eq!(judged.code, 0, "{}\n{}", judged.out, judged.err);
    let stranger = "eval --model builtin:mnist-at --attack fgsm:eps=0.3 --limit 40 --no-progress --out other";
    place.ok(stranger);
    let refused = gate(&place, "--runs other", &[]);
    assert!(refused.code == 2 && refused.err.contains("not of suite"), "{}", refused.err);
    let lines = place.read("run/outcomes.jsonl");
    let half: String = lines.lines().take(20).map(|l| format!("{l}\n")).collect();
    std::fs::write(place.path("run/outcomes.jsonl"), half).unwrap();
    let cut = gate(&place, "--runs run", &[]);
    assert!(cut.code == 3 && cut.out.contains("20 of 40 outcomes are missing"), "{}\n{}", cut.out, cut.err);
    assert_eq!(gate(&place, "--runs run --update-baseline", &[]).code, 3);
}

#[test]
fn a_wrong_configuration_is_explained() {
    let place = Place::new();
    place.fails("gate", 2, &["no robust.toml", "robust init"]);
    for (from, to, word) in [
        ("limit = 40", "limits = 40", "unknown field `limits`"),
        ("'2pp'", "2", "is not a share"),
        ("'2pp'", "'2 points'", "is not a share"),
        ("'50pp'", "'1pp'", "max_drop_hard below"),
        ("['builtin:mnist-at']", "[]", "has no models"),
        ("name = 's'", "name = ''", "needs a name"),
        ("pgd-linf", "pdg-linf", "unknown attack"),
        ("limit = 40", "limit = 40\nvotes = '9/1'", "K/M"),
        ("[[suite]]", "[gate]\nalpha = 2.0\n[[suite]]", "alpha = 2"),
        ("[[suite]]", "[[suite", "line 1"),
    ] {
        std::fs::write(place.path("robust.toml"), SMALL.replace(from, to)).unwrap();
        let wrong = gate(&place, "", &[]);
        assert!(wrong.code == 2 && wrong.err.contains(word), "{to}: {}\n{}", wrong.code, wrong.err);
    }
    std::fs::write(place.path("robust.toml"), SMALL.replace("builtin:mnist-at", "gone.onnx")).unwrap();
    let gone = gate(&place, "", &[]);
    assert!(gone.code == 2 || gone.code == 4, "{}", gone.err);
}

/// A model is called as its file is, and files come from strangers.
#[test]
fn a_hostile_name_stays_a_name_in_every_output() {
    let place = repository();
    let evil = "=cmd()|<img src=x>&\n::error::%0A\u{1b}[2J`@all`";
    std::fs::rename(place.path("weakened.onnx"), place.path(&format!("{evil}.onnx"))).unwrap();
    let written = evil.replace('\n', "\\n").replace('\u{1b}', "\\u001b");
    edit(&place, "robust.toml", "digits=model.onnx", &format!("{written}.onnx"));
    let files = "--json g.json --junit g.xml --sarif g.sarif --gitlab g.cq --md g.md";
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", "summary")];
    let said = gate(&place, files, &github);
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("=cmd()"), "{}", said.out);
    let read = |name: &str| place.read(name);
    for text in [&said.out, &read("g.xml"), &read("g.md"), &read("g.sarif"), &read("g.cq"), &read("g.json")] {
        assert!(!text.contains('\u{1b}') && !text.contains("\n::error"), "{text}");
    }
    for name in ["g.xml", "g.md"] {
        assert!(!read(name).contains("<img"), "{name}");
    }
    let commands: Vec<&str> = said.err.lines().filter(|l| l.starts_with("::")).collect();
    let ours =
        |l: &&str| l.starts_with("::error file=robust.toml,line=") || l.starts_with("::warning file=robust.toml,line=");
    assert!(commands.iter().all(ours), "{commands:?}");
    assert!(!commands.is_empty() && !said.err.contains('\u{1b}'), "{}", said.err);
}

#[test]
fn the_action_and_the_templates_fit_their_schemas() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check_ci_files.sh");
    let tool = std::env::var("CHECK_JSONSCHEMA").unwrap_or("check-jsonschema".to_string());
    if std::process::Command::new(&tool).arg("--version").output().is_err() {
        println!("skipped, there is no {tool} (pip install check-jsonschema, or set CHECK_JSONSCHEMA)");
        return;
    }
    let checked = said(std::process::Command::new("sh").arg(script).env("CHECK_JSONSCHEMA", tool).output().unwrap());
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    let action = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).unwrap();
    let script = action.split("\n      run: |\n").nth(1).unwrap();
    assert!(!script.contains("${{"), "an input is pasted into a script:\n{script}");
}
