//! Data that changed under its old names: nothing is continued, compared or verified as if it were the same.

use crate::support::{Place, said};
use flate2::Crc;
use robust::benchmarks::data;
use robust::core::{Input, View};
use robust::eval::record;
use serde_json::Value;
use std::path::Path;

const EVAL: &str = "eval --no-progress --model builtin:mnist-at --dataset folder:set --attack pgd-linf:eps=0.1,steps=2 --attack fgsm:eps=0.1";
/// Images per class.
const EACH: usize = 3;

/// A grey PNG without compression: images of one size have files of one size.
fn png(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], body: &[u8]| {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(body);
        [&(body.len() as u32).to_be_bytes(), kind, body, &crc.sum().to_be_bytes()].concat()
    };
    let raw: Vec<u8> = pixels.chunks(width as usize).flat_map(|row| [&[0], row].concat()).collect();
    let (mut a, mut b) = (1u32, 0u32);
    raw.iter().for_each(|v| {
        a = (a + u32::from(*v)) % 65_521;
        b = (b + a) % 65_521;
    });
    let length = raw.len() as u16;
    let body = [&[0x78, 1, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &raw, &(b << 16 | a).to_be_bytes()];
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let parts = [chunk(b"IHDR", &head), chunk(b"IDAT", &body.concat()), chunk(b"IEND", &[])];
    [&b"\x89PNG\r\n\x1a\n"[..], &parts.concat()].concat()
}

/// Digits in class folders under names that say nothing; class `c` holds the digits `c + shift`.
fn digits(root: &Path, shift: usize) {
    let source = data::open("builtin:mnist").unwrap();
    let view = View::from(Input::image(1, 28, 28));
    let batch = source.load(&(0..200).collect::<Vec<_>>(), &view, &candle_core::Device::Cpu).unwrap().batch.unwrap();
    let rows = batch.x.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let labels = batch.labels.unwrap();
    for class in 0..10 {
        let mine = rows.iter().zip(&labels).filter(|(_, l)| **l as usize == (class + shift) % 10);
        for (i, (row, _)) in mine.take(EACH).enumerate() {
            let path = root.join(format!("{class}/{i}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let pixels: Vec<u8> = row.iter().map(|v| (255. * v).round() as u8).collect();
            std::fs::write(path, png(&pixels, 28, 28)).unwrap();
        }
    }
}

fn clean(place: &Place, run: &str) -> f64 {
    let summary: Value = serde_json::from_str(&place.read(&format!("{run}/summary.json"))).unwrap();
    summary["results"][0]["clean_accuracy"].as_f64().unwrap()
}

fn sizes(root: &Path) -> Vec<u64> {
    (0..10).map(|c| std::fs::metadata(root.join(format!("{c}/0.png"))).unwrap().len()).collect()
}

fn groups(place: &Place, dirs: &str) -> usize {
    let json: Value = serde_json::from_str(&place.ok(&format!("leaderboard {dirs} --format json")).out).unwrap();
    json["groups"].as_array().unwrap().len()
}

/// Makes of a run what an earlier version would have left: its data set named by names and sizes.
fn as_formerly(place: &Place, run: &str) {
    let root = place.path(run);
    let opened = data::open(&format!("folder:{}", place.path("set").display())).unwrap();
    let mut record = record::read_record(&root).unwrap();
    let (new, old) = (record.plan.dataset.card.digest.clone(), opened.formerly().unwrap().to_string());
    (record.plan.dataset.card.digest, record.plan.dataset.by_content) = (old.clone(), false);
    record.fingerprint = record.plan.fingerprint().unwrap();
    record::write_record(&root, &record).unwrap();
    for table in ["summary.json", "summary.csv"] {
        std::fs::write(root.join(table), place.read(&format!("{run}/{table}")).replace(&new, &old)).unwrap();
    }
}

#[test]
fn replaced_images_are_another_data_set_whatever_their_names_and_sizes() {
    let place = Place::new();
    digits(&place.path("set"), 0);
    let before = sizes(&place.path("set"));
    place.ok(&format!("{EVAL} --out run"));
    place.ok("verify run");
    let own = place.ok(EVAL);
    assert!(clean(&place, "run") > 0.9 && own.err.contains("run folder: runs/"), "{}", own.err);
    assert!(place.ok(EVAL).err.contains("resuming"), "the same images continue the same run");

    digits(&place.path("set"), 1);
    assert_eq!(before, sizes(&place.path("set")));
    let again = place.ok(&format!("{EVAL} --format json"));
    let result: Value = serde_json::from_str(&again.out).unwrap();
    assert!(!again.err.contains("resuming"), "an old run was continued: {}", again.err);
    assert!(result["results"][0]["clean_accuracy"].as_f64().unwrap() < 0.2, "{result}");
    place.fails(&format!("{EVAL} --out run --resume"), 2, &["other settings", "digest", "--out"]);
    place.fails("verify run", 4, &["data set", "content"]);
    place.ok(&format!("{EVAL} --out new"));
    place.fails("compare run new", 2, &["not comparable", "data set"]);
    assert_eq!(groups(&place, "run new"), 2);
    digits(&place.path("set"), 0);
    place.ok("verify run");
}

#[test]
fn a_baseline_of_other_images_is_refused_by_the_gate() {
    let place = Place::new();
    digits(&place.path("set"), 0);
    let suite = "[[suite]]\nname = 's'\nmodels = ['builtin:mnist-at']\nattacks = ['fgsm-linf:eps=0.1']\n\
                 dataset = 'folder:set'\nmax_drop = '2pp'\n";
    std::fs::write(place.path("robust.toml"), suite).unwrap();
    let gate = |more: &str| {
        let mut command = place.command(&format!("gate --no-progress {more}"));
        for name in ["CI", "GITHUB_ACTIONS", "GITLAB_CI"] {
            command.env_remove(name);
        }
        said(command.output().unwrap())
    };
    assert_eq!(gate("--update-baseline").code, 0);
    // The run was made a moment ago and is only read again.
    assert!(gate("").out.contains("resumed"));
    digits(&place.path("set"), 1);
    let refused = gate("");
    assert!(refused.code == 2 && refused.err.contains("the data set is"), "{}", refused.err);
    assert!(refused.err.contains("--update-baseline") && refused.err.contains("names and sizes"), "{}", refused.err);
    assert_eq!(gate("--update-baseline").code, 0);
    // The run was made a moment ago and is only read again.
    assert!(gate("").out.contains("resumed"));
}

#[test]
fn runs_of_earlier_versions_are_verified_by_their_lines_and_never_mixed() {
    let place = Place::new();
    let set = place.path("set");
    digits(&set, 0);
    for run in ["a", "part"] {
        place.ok(&format!("{EVAL} --out {run}"));
        as_formerly(&place, run);
    }
    place.ok(&format!("{EVAL} --shard 1/2 --out s1"));
    as_formerly(&place, "s1");
    let told = place.ok("verify a");
    assert!(told.err.contains("names and sizes") && told.err.contains("every row holds"), "{}", told.err);
    place.fails(&format!("{EVAL} --out a --resume"), 2, &["names and sizes", "--out"]);

    digits(&set, 1);
    place.fails("verify a", 1, &["the clean sample is not the one that was attacked"]);
    place.ok(&format!("{EVAL} --out b"));
    as_formerly(&place, "b");
    place.ok("verify b");
    // One digest, other images: the digests in the lines tell.
    place.fails("compare a b", 2, &["not comparable", "sample 0 is not the same image in both"]);
    assert_eq!(groups(&place, "a b"), 2);
    place.ok("report a b --html page.html");
    place.ok(&format!("{EVAL} --shard 2/2 --out s2"));
    as_formerly(&place, "s2");
    place.fails("merge s1 s2 --out whole", 1, &["sample 0 is not the same image in all lines"]);
    // Continued over other images, as earlier versions did: the first attack saw the old ones, the second the new ones.
    let half = |run: &str| place.read(&format!("{run}/outcomes.jsonl"));
    let lines: Vec<String> = half("a").lines().take(10 * EACH).map(str::to_string).collect();
    let rest: Vec<String> = half("b").lines().skip(10 * EACH).map(str::to_string).collect();
    std::fs::write(place.path("part/outcomes.jsonl"), [lines, rest].concat().join("\n") + "\n").unwrap();
    for command in ["compare part a", "leaderboard part", "report part --html page.html"] {
        place.fails(command, 1, &["sample 0 is not the same image in all lines", "--out"]);
    }
    place.fails("verify part", 1, &["do not hold"]);
}

#[test]
fn a_run_is_not_continued_when_its_clean_rows_are_others() {
    let place = Place::new();
    let eval = "eval --no-progress --model builtin:mnist-at --attack fgsm:eps=0.1 --first 70 --out run";
    place.ok(eval);
    let text = place.read("run/outcomes.jsonl");
    let line: Value = serde_json::from_str(text.lines().nth(7).unwrap()).unwrap();
    let other = text.replace(line["digest"].as_str().unwrap(), &"0".repeat(64));
    std::fs::write(place.path("run/outcomes.jsonl"), &other).unwrap();
    place.fails(&format!("{eval} --resume"), 4, &["sample 7 is another image", "--out"]);
    assert_eq!(place.read("run/outcomes.jsonl"), other, "the refused run was changed");
}

/// The folder `set` as `set.tar.gz`.
fn packed(place: &Place) {
    let file = std::fs::File::create(place.path("set.tar.gz")).unwrap();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    tar.append_dir_all("set", place.path("set")).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn an_altered_copy_in_the_cache_is_found_and_unpacked_anew() {
    let place = Place::new();
    digits(&place.path("set"), 0);
    packed(&place);
    let eval = EVAL.replace("folder:set", "folder:set.tar.gz?cache=cache");
    place.ok(&format!("{eval} --out honest"));
    let kept = |end: &str| {
        let mut all = std::fs::read_dir(place.path("cache")).unwrap().map(|e| e.unwrap().path());
        all.find(|p| p.extension().is_some_and(|e| e == end)).unwrap()
    };
    let (good, proof) = (std::fs::read(kept("tar")).unwrap(), std::fs::read(kept("b3")).unwrap());
    // Every picture of the archive, the lower half in white: still legal PNGs for a reader that ignores checksums or not.
    let mut bad = good.clone();
    let blank = png(&[255; 784], 28, 28);
    let starts: Vec<usize> =
        bad.windows(8).enumerate().filter(|(_, w)| w == b"\x89PNG\r\n\x1a\n").map(|(i, _)| i).collect();
    assert_eq!(starts.len(), 10 * EACH);
    starts.iter().for_each(|at| bad[*at..*at + blank.len()].copy_from_slice(&blank));
    std::fs::write(kept("tar"), &bad).unwrap();
    let again = place.ok(&format!("{eval} --out again"));
    assert!(again.err.contains("altered"), "{}", again.err);
    assert_eq!(place.read("honest/outcomes.jsonl"), place.read("again/outcomes.jsonl"));
    assert!(std::fs::read(kept("tar")).unwrap() == good && std::fs::read(kept("b3")).unwrap() == proof);
    // Whoever makes the digest beside it again deceives a run, but not `verify`, which unpacks once more.
    std::fs::write(kept("tar"), &bad).unwrap();
    std::fs::write(kept("b3"), blake3::hash(&bad).to_hex().to_string()).unwrap();
    place.ok(&format!("{eval} --out forged"));
    assert!(clean(&place, "forged") < 0.2 && clean(&place, "honest") > 0.9);
    place.fails("verify forged", 1, &["the clean sample is not the one that was attacked"]);
    place.ok("verify honest");
    // An old cache has no digest beside the copy: it is unpacked once more to learn it.
    std::fs::remove_file(kept("b3")).unwrap();
    place.ok(&format!("{eval} --out third"));
    assert_eq!(std::fs::read(kept("b3")).unwrap(), proof);
}
