//! Scores as networks in the wild give them: masked classes, ties, numbers that are none, scales from 1e-44 to 1e37. The table
//! and the doctor must say the same, and what is true.

use crate::nets::{Planted, Tail, npy, top};
use crate::support::Place;
use serde_json::Value;

const OFF: f32 = f32::NEG_INFINITY;

fn lines(place: &Place, run: &str) -> Vec<Value> {
    place.read(&format!("{run}/outcomes.jsonl")).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn row(place: &Place, run: &str) -> Value {
    serde_json::from_str::<Value>(&place.read(&format!("{run}/summary.json"))).unwrap()["results"][0].clone()
}

/// Whether a point within `eps` and `[0,1]` changes the class of a linear network among its first `open` classes: in closed form.
fn falls(planted: &Planted, x: &[f32], y: u32, open: usize, eps: f64) -> bool {
    let z = planted.scores(x);
    (0..open as u32).filter(|t| *t != y).any(|t| {
        let gain: f64 = planted
            .uphill(y, t)
            .iter()
            .zip(x)
            .map(|(g, x)| {
                let room = if *g > 0. { 1. - f64::from(*x) } else { f64::from(*x) };
                f64::from(g.abs()) * room.min(eps)
            })
            .sum();
        gain >= z[y as usize] - z[t as usize]
    })
}

#[test]
fn a_class_masked_with_minus_infinity_is_one_that_never_wins() {
    let place = Place::new();
    let mut planted = Planted::new(&place, 70, 4, 8);
    let clean = planted.pixels();
    planted.labels = clean.iter().map(|x| top(&planted.scores(x)[..5])).collect();
    let y: Vec<u8> = planted.labels.iter().flat_map(|y| i64::from(*y).to_le_bytes()).collect();
    npy(&place, "y.npy", "<i8", &[70], &y);
    let mask = |low: f32| [0., 0., 0., 0., 0., low, low, low];
    for (name, low) in [("inf", OFF), ("low", -1e4)] {
        let constants: &[(&str, &[usize], &[f32])] = &[("m", &[1, 8], &mask(low))];
        planted.net(&place, &format!("{name}.onnx"), &Tail { nodes: &[("Add", &["z", "m"], "o")], constants });
    }
    let truth: Vec<bool> = clean.iter().zip(&planted.labels).map(|(x, &y)| falls(&planted, x, y, 5, 0.03)).collect();
    let fell = truth.iter().filter(|t| **t).count();
    assert!(fell > 15 && fell < 60, "{fell} of 70 say something");
    let attacks = ["pgd", "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square:steps=300", "mi-fgsm"];
    let specs: String =
        attacks.iter().map(|a| format!(" --attack {a}{}eps=0.03", if a.contains(':') { ',' } else { ':' })).collect();
    for name in ["inf", "low"] {
        let said =
            place.ok(&format!("eval --model {name}.onnx --dataset npy:d.npy,y.npy{specs} --evidence all --out {name}"));
        assert!(!said.err.contains("NaN") && !said.err.contains("trained"), "{}\n{}", said.out, said.err);
        assert_eq!(row(&place, name)["clean_correct"], 70);
        place.ok(&format!("verify {name}"));
    }
    let (inf, low) = (lines(&place, "inf"), lines(&place, "low"));
    for (a, b) in inf.iter().zip(&low) {
        let key = |l: &Value| (l["attack"].clone(), l["id"].clone(), l["verdict"].clone());
        assert_eq!(key(a), key(b));
        assert!(a["best"]["margin"].is_number() && a["clean"]["margin"].is_number(), "{a}");
        if a["attack"].as_str().unwrap().starts_with("apgd-t") {
            assert_eq!(a["verdict"] == "fooled", truth[a["id"].as_u64().unwrap() as usize], "{a}");
        }
    }
    let said = place.ok("doctor inf.onnx --dataset npy:d.npy,y.npy --attack apgd-t-linf:eps=0.03");
    assert!(said.out.contains(": reliable") && !said.out.contains("NaN"), "{}", said.out);
    // A target that is masked is not chosen by rule, and cannot be reached by number.
    place.ok("eval --model inf.onnx --dataset npy:d.npy,y.npy --attack pgd-linf:eps=0.5,target=least --out least");
    assert!(lines(&place, "least").iter().all(|l| l["target"].as_u64().unwrap() < 5 && l["verdict"] == "fooled"));
    place.ok("eval --model inf.onnx --dataset npy:d.npy,y.npy --attack pgd-linf:eps=0.5,target=6 --out six");
    assert!(lines(&place, "six").iter().all(|l| l["verdict"] == "held" && l["best"]["margin"].is_number()));
    place.ok("verify six");
}

/// Every tail of the planted network of five classes, on 60 images.
fn planted(place: &Place) -> Planted {
    let planted = Planted::new(place, 60, 4, 5);
    let scalars: [(&str, &str, f32); 8] = [
        ("x1e30", "Mul", 1e30),
        ("x1e37", "Mul", 1e37),
        ("x1e-30", "Mul", 1e-30),
        ("x1e-44", "Mul", 1e-44),
        ("plus1e6", "Add", 1e6),
        ("plus1e9", "Add", 1e9),
        ("const", "Mul", 0.),
        ("hard", "Mul", 200.),
    ];
    for (name, op, k) in scalars {
        let constants: &[(&str, &[usize], &[f32])] = &[("k", &[], &[k])];
        let soft: &[(&str, &[&str], &str)] = &[(op, &["z", "k"], "q"), ("Softmax", &["q"], "o")];
        let plain: &[(&str, &[&str], &str)] = &[(op, &["z", "k"], "o")];
        let nodes = if name == "hard" { soft } else { plain };
        planted.net(place, &format!("{name}.onnx"), &Tail { nodes, constants });
    }
    let clip: &[(&str, &[usize], &[f32])] = &[("lo", &[], &[-1.]), ("hi", &[], &[1.])];
    planted.net(place, "tie.onnx", &Tail { nodes: &[("Clip", &["z", "lo", "hi"], "o")], constants: clip });
    planted.net(place, "log.onnx", &Tail { nodes: &[("Log", &["z"], "o")], constants: &[] });
    planted.net(place, "sqrt.onnx", &Tail { nodes: &[("Abs", &["z"], "a"), ("Sqrt", &["a"], "o")], constants: &[] });
    planted
}

/// Of 60 images: right and not to be judged, as the table has them.
fn counted(place: &Place, net: &str, options: &str) -> (u64, u64, String) {
    let run = format!("run-{net}");
    let said = place.robust(&format!(
        "eval --model {net}.onnx --dataset npy:d.npy,y.npy --attack pgd-linf:eps=0.01,steps=10 --out {run} {options}"
    ));
    let judged = row(place, &run);
    let (right, failed) = (judged["clean_correct"].as_u64().unwrap(), judged["failed"].as_u64().unwrap());
    assert_eq!(said.code == 0, failed == 0 || !options.is_empty(), "{net}: {}\n{}", said.out, said.err);
    if failed == 0 {
        place.ok(&format!("verify {run}"));
    }
    (right, failed, said.err)
}

#[test]
fn the_doctor_and_the_table_count_ties_and_scores_that_are_no_numbers_alike() {
    let place = Place::new();
    let planted = planted(&place);
    let scores: Vec<Vec<f64>> = planted.pixels().iter().map(|x| planted.scores(x)).collect();
    // Clipped to [-1, 1]: right only where no other class is at the top too; where one is, argmax may still be right.
    let clipped: Vec<Vec<f64>> = scores.iter().map(|z| z.iter().map(|v| v.clamp(-1., 1.)).collect()).collect();
    let pairs = || clipped.iter().zip(&planted.labels);
    let alone = |(z, y): &(&Vec<f64>, &u32)| (0..5).all(|c| c == **y as usize || z[c] < z[**y as usize]);
    let tied = |(z, y): &(&Vec<f64>, &u32)| !alone(&(z, y)) && z.iter().all(|v| *v <= z[**y as usize]);
    let (right, ties) = (pairs().filter(alone).count(), pairs().filter(tied).count());
    assert!(right + ties == 60 && ties > 5, "{right} {ties}");
    let (table, failed, said) = counted(&place, "tie", "");
    assert_eq!((table, failed), (right as u64, 0), "{said}");
    assert!(said.contains("shares the largest score"), "{said}");
    let doctor = |net: &str| place.ok(&format!("doctor {net}.onnx --dataset npy:d.npy,y.npy --limit 60")).out;
    let out = doctor("tie");
    assert!(out.contains(&format!("in {ties} of 60 clean samples the label shares the largest score")), "{out}");
    // Everything ties: nothing is right, and training is not to blame.
    let (table, failed, said) = counted(&place, "const", "");
    assert_eq!((table, failed), (0, 0));
    assert!(said.contains("in 48 of 48 clean samples") && !said.contains("trained"), "{said}");
    // The logarithm of a negative score.
    let nan = scores.iter().filter(|z| z.iter().any(|v| *v < 0.)).count();
    let (table, failed, said) = counted(&place, "log", "--allow-failed 60");
    assert_eq!((failed, table), (nan as u64, 60 - nan as u64), "{said}");
    assert!(said.contains("NaN or infinite scores") && !said.contains("stands alone"), "{said}");
    let out = doctor("log");
    assert!(out.contains(&format!("{nan} of 60 clean samples get NaN")) && !out.contains("normalisation"), "{out}");
}

#[test]
fn scores_of_any_size_are_judged_by_their_order() {
    let place = Place::new();
    let planted = planted(&place);
    let scores: Vec<Vec<f64>> = planted.pixels().iter().map(|x| planted.scores(x)).collect();
    for net in ["x1e30", "x1e-30", "plus1e6"] {
        let (right, failed, said) = counted(&place, net, "");
        // A million leaves a sixteenth to tell scores apart by, and sums of a hundred terms some sixteenths.
        let close = |z: &&Vec<f64>| {
            let mut order = (*z).clone();
            order.sort_by(f64::total_cmp);
            order[4] - order[3] < 0.5
        };
        let doubtful = if net == "plus1e6" { scores.iter().filter(close).count() as u64 } else { 0 };
        assert!(failed == 0 && right + doubtful >= 60, "{net}: {right} right, {failed} failed\n{said}");
        assert!(
            !said.contains("NaN") && !said.contains("stands alone") && !said.contains("derivative"),
            "{net}: {said}"
        );
        let fragile = row(&place, &format!("run-{net}"))["fragile"].as_u64().unwrap();
        assert!(fragile < 5 || net == "plus1e6", "{net}: {fragile} are within rounding");
    }
    // Beyond what f32 holds, a score is infinite and cannot be judged.
    let beyond = scores.iter().filter(|z| z.iter().any(|v| v.abs() * 1e37 > f64::from(f32::MAX) && *v > 0.)).count();
    let (right, failed, said) = counted(&place, "x1e37", "--allow-failed 60");
    assert!(failed >= beyond as u64 && right + failed == 60, "{right} {failed} {beyond}\n{said}");
    // Equal after rounding is equal: few levels are left.
    for net in ["plus1e9", "x1e-44"] {
        let (right, failed, said) = counted(&place, net, "");
        assert!(failed == 0 && right < 60 && said.contains("shares the largest score"), "{net}: {right}\n{said}");
    }
    let (right, failed, said) = counted(&place, "hard", "");
    assert!(failed == 0 && right > 50, "{right}");
    assert!(said.contains("ends in a softmax") && !said.contains("derivative"), "{said}");
    let roots = scores.iter().zip(&planted.labels).filter(|(z, y)| {
        let sizes: Vec<f64> = z.iter().map(|v| v.abs()).collect();
        top(&sizes) == **y
    });
    let (right, failed, said) = counted(&place, "sqrt", "");
    assert_eq!((right, failed), (roots.count() as u64, 0), "{said}");
}

#[test]
fn samples_that_are_of_the_target_class_already_are_said_to_go_elsewhere() {
    let place = Place::new();
    let planted = planted(&place);
    planted.net(&place, "lin.onnx", &Tail { nodes: &[], constants: &[] });
    let own = planted.labels.iter().filter(|y| **y == 3).count();
    assert!(own > 2);
    let said =
        place.ok("eval --model lin.onnx --dataset npy:d.npy,y.npy --attack pgd-linf:eps=0.02,target=3 --out run");
    let note = format!("{own} samples are of class 3 themselves: they were driven toward class 4");
    assert!(said.err.contains(&note), "{}", said.err);
    assert!(place.ok("explain pgd").out.contains("samples of that class go for the one after it"));
}

#[test]
fn one_sample_is_a_data_set() {
    let place = Place::new();
    let planted = Planted::new(&place, 1, 4, 5);
    planted.net(&place, "lin.onnx", &Tail { nodes: &[], constants: &[] });
    let said = place.ok("eval --model lin.onnx --dataset npy:d.npy,y.npy --attack pgd-linf:eps=0.01 --out one");
    assert!(!said.err.contains("warning"), "{}", said.err);
    assert_eq!(row(&place, "one")["clean_correct"], 1);
    place.ok("verify one");
    place.ok("doctor lin.onnx --dataset npy:d.npy,y.npy");
}
