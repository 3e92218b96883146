//! Data as people have it: flat inputs, class folders, labels that are off, rows that are wrong, broken images.

use crate::linear;
use crate::support::{self, Place};
use serde_json::Value;
use std::path::Path;

const FGSM: &str = "--attack fgsm:eps=0.01 --no-progress";

fn summary(place: &Place, run: &str) -> Value {
    serde_json::from_str::<Value>(&place.read(&format!("{run}/summary.json"))).unwrap()["results"][0].clone()
}

/// The share of robust samples, in percent.
fn robust(place: &Place, run: &str) -> f64 {
    let accuracy = summary(place, run)["robust_accuracy"].as_f64().unwrap();
    (1000. * accuracy).round() / 10.
}

fn clean(place: &Place, run: &str) -> f64 {
    let accuracy = summary(place, run)["clean_accuracy"].as_f64().unwrap();
    (1000. * accuracy).round() / 10.
}

/// Three kinds of images of 4x4, four of each, `a` in the upper half and `b` in the lower. The net's second score beats its first where
/// the lower half's sum exceeds the upper's by 7. At eps 0.3 the first kind holds by far, the second is fooled; of the third
/// the upper half is black, which pixels cannot leave downwards: at best 8 * 0.8 - 7 < 0.
fn boxed(place: &Place, scale: f32) {
    let kinds = [(1., 0., 0), (0., 1., 1), (0., 0.5, 0)];
    let row = |(a, b, _): (f32, f32, i64)| [[a * scale; 8], [b * scale; 8]].concat();
    let all: Vec<_> = (0..12).map(|i| kinds[i % 3]).collect();
    let x: Vec<f32> = all.iter().flat_map(|kind| row(*kind)).collect();
    let y: Vec<i64> = all.iter().map(|kind| kind.2).collect();
    support::images(place, "d.safetensors", &x, [12, 1, 4, 4], &y);
}

fn boxed_net(path: &Path, row: &[usize]) {
    let weight: Vec<f32> = (0..16).flat_map(|i| [0., if i < 8 { -1. } else { 1. }]).collect();
    linear::write(path, row, &weight, &[0., -7.]);
}

#[test]
fn pixels_keep_their_range_in_whatever_shape_a_model_takes_them() {
    let place = Place::new();
    boxed(&place, 1.);
    let shapes: [&[usize]; 6] = [&[1, 4, 4], &[16], &[16, 1], &[1, 16], &[1, 16, 1], &[1, 1, 16]];
    for (i, row) in shapes.into_iter().enumerate() {
        boxed_net(&place.path("n.onnx"), row);
        let eval = "eval --model n.onnx --dataset d.safetensors --evidence all";
        let said = place.ok(&format!("{eval} --attack pgd-linf:eps=0.3 --out r{i}"));
        assert_eq!((clean(&place, &format!("r{i}")), robust(&place, &format!("r{i}"))), (100., 66.7), "{row:?}");
        assert_eq!(said.err.contains("pixels in [0, 1]"), i > 0, "{}", said.err);
        place.ok(&format!("verify r{i}"));
        place.fails(&format!("{eval} --attack pgd-linf:eps=8"), 2, &["eps=8", "eps=8/255"]);
    }
    // Pixels that were forgotten to be divided are none of features.
    boxed(&place, 254.);
    place.fails(
        "eval --model n.onnx --dataset d.safetensors --attack pgd-linf:eps=0.3",
        4,
        &["go from 0 to 254", "divide by 255"],
    );
}

#[test]
fn features_have_no_range_but_the_one_they_are_given() {
    let place = Place::new();
    // Every row leaves [0,1], as features do; the net is that of the pixels, moved along.
    let row = |(a, b): (f32, f32)| [[a - 3.; 8], [b + 5.; 8]].concat();
    let x: Vec<f32> = (0..12).flat_map(|i| row([(1., 0.), (0., 0.5)][i % 2])).collect();
    support::images(&place, "d.safetensors", &x, [12, 1, 4, 4], &[0; 12]);
    let weight: Vec<f32> = (0..16).flat_map(|i| [0., if i < 8 { -1. } else { 1. }]).collect();
    linear::write(&place.path("n.onnx"), &[16], &weight, &[0., -7. - 64.]);
    let eval = |query: &str, out: &str| {
        format!("eval --model n.onnx --dataset d.safetensors{query} --attack pgd-linf:eps=0.3 --out {out}")
    };
    let said = place.ok(&eval("", "free"));
    assert!(said.err.contains("know no bounds"), "{}", said.err);
    assert_eq!(robust(&place, "free"), 50.);
    // Nothing below -3: what saved the pixels above saves these.
    let said = place.ok(&eval("?domain=-3:6", "bound"));
    assert!(said.err.contains("[-3, 6]"), "{}", said.err);
    assert_eq!(robust(&place, "bound"), 100.);
    place.ok("verify bound");
    place.fails(&eval("?domain=3", "x"), 2, &["is not a range"]);
    boxed_net(&place.path("image.onnx"), &[1, 4, 4]);
    place.fails(
        "eval --model image.onnx --dataset d.safetensors?domain=-3:6 --attack fgsm:eps=0.1",
        2,
        &["[0, 1]", "[-3, 6]"],
    );
}

fn folders(place: &Place, root: &str, names: &[&str], levels: &[u8], each: usize) {
    for (name, level) in names.iter().zip(levels) {
        std::fs::create_dir_all(place.path(root).join(name)).unwrap();
        for i in 0..each {
            let png = grey_png(*level);
            std::fs::write(place.path(root).join(name).join(format!("{i}.png")), png).unwrap();
        }
    }
}

/// A grey image of 8x8.
fn grey_png(level: u8) -> Vec<u8> {
    robust_imaging::png(&[level; 192], 8, 8, 3).unwrap()
}

#[test]
fn class_folders_have_the_labels_that_are_meant() {
    let place = Place::new();
    let levels: Vec<u8> = (0..11).map(|i| 10 + i * 21).collect();
    linear::levels(&place.path("n11.onnx"), &[3, 8, 8], &levels);
    let names: Vec<String> = (0..11).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    folders(&place, "num11", &names, &levels, 2);
    let said = place.ok(&format!("eval --model n11.onnx --dataset folder:num11 {FGSM} --out a"));
    assert_eq!(clean(&place, "a"), 100.);
    assert!(said.err.contains("in the order of numbers"), "{}", said.err);
    // On images between two levels the runner-up is one class on one side and another on the other: no fault of the gradient.
    assert!(!said.err.contains("derivative") && said.out.contains("grade: reliable"), "{}{}", said.out, said.err);
    place.ok("verify a");
    // Number 7 is class 7 though 3 is missing.
    std::fs::remove_dir_all(place.path("num11/3")).unwrap();
    place.ok(&format!("eval --model n11.onnx --dataset folder:num11 {FGSM} --out gap"));
    assert_eq!(clean(&place, "gap"), 100.);

    let levels = [10, 70, 130, 190];
    linear::levels(&place.path("n4.onnx"), &[3, 8, 8], &levels);
    folders(&place, "four", &["ant", "bee", "cat", "dog"], &levels, 12);
    std::fs::create_dir(place.path("four/.ipynb_checkpoints")).unwrap();
    std::fs::copy(place.path("four/ant/0.png"), place.path("four/.ipynb_checkpoints/0-checkpoint.png")).unwrap();
    let said = place.ok(&format!("eval --model n4.onnx --dataset folder:four {FGSM} --out four-run"));
    assert_eq!((clean(&place, "four-run"), summary(&place, "four-run")["n"].as_u64()), (100., Some(48)));
    assert!(said.err.contains(".ipynb_checkpoints"), "{}", said.err);
    folders(&place, "from1", &["1", "2", "3", "4"], &levels, 2);
    place.ok(&format!("eval --model n4.onnx --dataset folder:from1 {FGSM} --out from1-run"));
    assert_eq!(clean(&place, "from1-run"), 100.);

    // What does not fit is refused before there is a folder for a run.
    linear::levels(&place.path("large.onnx"), &[3, 9, 9], &levels);
    place.fails(
        &format!("eval --model large.onnx --dataset folder:four {FGSM} --out misfit"),
        4,
        &["the model wants 3x9x9"],
    );
    assert!(!place.path("misfit").exists());

    // Five outputs, of which the first is not a class of the data.
    linear::levels(&place.path("bg.onnx"), &[3, 8, 8], &[255, 10, 70, 130, 190]);
    place.fails(
        &format!("eval --model bg.onnx --dataset folder:four {FGSM}"),
        4,
        &["(ant, bee, cat, dog)", "5 outputs", "?offset=1"],
    );
    let said = place.ok("doctor bg.onnx --dataset folder:four");
    assert!(said.out.contains("(100.0 %)") && said.out.contains("`?offset=1`"), "{}", said.out);
    place.ok(&format!("eval --model bg.onnx --dataset folder:four?offset=1 {FGSM} --out bg"));
    assert_eq!(clean(&place, "bg"), 100.);
    // A class without a folder.
    std::fs::remove_dir_all(place.path("four/cat")).unwrap();
    place.fails(
        &format!("eval --model n4.onnx --dataset folder:four {FGSM}"),
        4,
        &["3 class folders (ant, bee, dog)", "4 outputs"],
    );
    std::fs::create_dir(place.path("four/cat")).unwrap();
    place.ok(&format!("eval --model n4.onnx --dataset folder:four {FGSM} --out three"));
    assert_eq!(clean(&place, "three"), 100.);
}

#[test]
fn labels_from_one_are_named_by_the_doctor_of_every_evaluation() {
    let place = Place::new();
    let levels = [10, 70, 130, 190];
    linear::levels(&place.path("n.onnx"), &[1, 4, 4], &levels);
    // The last class is absent, so no label is beyond the outputs.
    let classes: Vec<usize> = (0..48).map(|i| i % 3).collect();
    let x: Vec<f32> = classes.iter().flat_map(|c| [f32::from(levels[*c]) / 255.; 16]).collect();
    let y: Vec<i64> = classes.iter().map(|c| *c as i64 + 1).collect();
    support::images(&place, "d.safetensors", &x, [48, 1, 4, 4], &y);
    let said = place.ok(&format!("eval --model n.onnx --dataset d.safetensors {FGSM} --out off"));
    assert!(said.err.contains("labels are one off") && said.err.contains("`?offset=-1`"), "{}", said.err);
    place.ok(&format!("eval --model n.onnx --dataset d.safetensors?offset=-1 {FGSM} --out on"));
    assert_eq!((clean(&place, "off"), clean(&place, "on")), (0., 100.));
    // With the last class they are refused before anything is attacked.
    let y: Vec<i64> = (0..48).map(|i| i % 4 + 1).collect();
    support::images(&place, "e.safetensors", &x, [48, 1, 4, 4], &y);
    place.fails(
        &format!("eval --model n.onnx --dataset e.safetensors {FGSM} --out no"),
        4,
        &["label 4 of sample 3", "`?offset=-1`"],
    );
    assert!(!place.path("no").exists());
}

#[test]
fn one_wrong_label_or_row_does_not_end_a_run_in_the_middle() {
    let place = Place::new();
    linear::levels(&place.path("n.onnx"), &[1, 4, 4], &[20, 220]);
    let n = 200;
    let mut x: Vec<f32> = (0..n).flat_map(|i| [if i % 2 == 0 { 0. } else { 1. }; 16]).collect();
    let mut y: Vec<i64> = (0..n as i64).map(|i| i % 2).collect();
    y[199] = 2;
    support::images(&place, "late.safetensors", &x, [n, 1, 4, 4], &y);
    let run = |name: &str| format!("eval --model n.onnx --dataset {name}.safetensors {FGSM} --out {name}-run");
    place.fails(&run("late"), 4, &["label 2 of sample 199", "1 of 200 samples", "--ids"]);
    assert!(!place.path("late-run").exists());
    y[199] = 1;
    // Rounding is moved back; what is further out is one failed sample.
    x[199 * 16] = 1f32.next_up();
    x[198 * 16 + 3] = -2.98e-8;
    support::images(&place, "rounded.safetensors", &x, [n, 1, 4, 4], &y);
    let said = place.ok(&run("rounded"));
    assert!(said.err.contains("2 samples, the first of them sample 198"), "{}", said.err);
    assert_eq!(clean(&place, "rounded-run"), 100.);
    place.ok("verify rounded-run");
    x[197 * 16] = 1.5;
    x[196 * 16] = f32::NAN;
    support::images(&place, "wrong.safetensors", &x, [n, 1, 4, 4], &y);
    place.fails(&run("wrong"), 3, &["2 samples could not be judged", "sample 196: holds NaN", "--allow-failed 2"]);
    assert_eq!(place.read("wrong-run/outcomes.jsonl").lines().count(), n);
    assert!(place.read("wrong-run/outcomes.jsonl").contains("has values from 1 to 1.5"));
    assert_eq!(summary(&place, "wrong-run")["failed"], 2);
}

/// A PNG of 2x1 pixels with a palette of so many bytes.
fn palette(bytes: usize) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    // The pixels 0 and 1 as a stored block of zlib.
    let data = [0x78, 1, 1, 3, 0, 0xFC, 0xFF, 0, 0, 1, 0, 5, 0, 2];
    let header = [0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0];
    for (kind, body) in [(b"IHDR", &header[..]), (b"PLTE", &vec![255; bytes]), (b"IDAT", &data), (b"IEND", &[])] {
        png.extend((body.len() as u32).to_be_bytes());
        let checked = [kind.as_slice(), body].concat();
        png.extend(&checked);
        png.extend(crc(&checked).to_be_bytes());
    }
    png
}

#[test]
fn an_image_that_breaks_its_decoder_is_one_failed_sample() {
    let place = Place::new();
    linear::levels(&place.path("n.onnx"), &[3, 1, 2], &[0, 255]);
    for (class, bytes) in [("a", 4), ("b", 6)] {
        std::fs::create_dir_all(place.path("d").join(class)).unwrap();
        std::fs::write(place.path("d").join(class).join("0.png"), palette(bytes)).unwrap();
    }
    let run = format!("eval --model n.onnx --dataset folder:d {FGSM} --out r");
    place.fails(&run, 3, &["1 samples could not be judged", "a/0.png"]);
    assert_eq!(summary(&place, "r")["clean_accuracy"], 0.5);
    place.ok(&format!("{run} --resume --allow-failed 1"));
    let said = place.ok("inspect folder:d");
    assert!(
        said.out.contains("sample 0 cannot be read") && !said.err.contains("panicked"),
        "{} {}",
        said.out,
        said.err
    );
}
