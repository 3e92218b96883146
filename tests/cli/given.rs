//! Examples made by any other tool are judged like our own.

use crate::nets::{Planted, Tail, npy, top};
use crate::support::Place;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

/// A run's evidence as a file another tool might have written: the points in order of ids, moved by `shift`.
fn points(place: &Place, run: &str, name: &str, shift: f32) -> u64 {
    let bytes = std::fs::read(place.path(run).join("evidence/m00-a00-00000000.safetensors")).unwrap();
    let x = SafeTensors::deserialize(&bytes).unwrap().tensor("x").unwrap().data().to_vec();
    let shifted = x.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) + shift);
    let x: Vec<u8> = shifted.flat_map(|v| v.clamp(0., 1.).to_le_bytes()).collect();
    let n = x.len() / 4 / 784;
    // No labels, and a name of their own: the points are all there is.
    let x = TensorView::new(Dtype::F32, vec![n, 1, 28, 28], &x).unwrap();
    std::fs::write(place.path(name), safetensors::serialize([("mine", x)], None).unwrap()).unwrap();
    n as u64
}

#[test]
fn points_of_another_tool_get_the_verdict_they_deserve() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-std --first 20";
    place.ok(&format!("{run} --attack pgd:eps=0.2,steps=20 --evidence all --out made"));
    let lines = |run: &str| -> Vec<Value> {
        place.read(&format!("{run}/outcomes.jsonl")).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let made = lines("made");
    assert!(made.iter().all(|l| l["verdict"] != "clean_miss"), "every sample must have a point");
    assert_eq!(points(&place, "made", "adv.safetensors", 0.), 20);
    let said = place.ok(&format!("{run} --attack file:adv.safetensors,eps=0.2,norm=linf --out judged"));
    assert!(said.out.contains("file-"), "{}", said.out);
    for (a, b) in made.iter().zip(lines("judged")) {
        assert_eq!((&a["verdict"], &a["best"], &a["distance"]), (&b["verdict"], &b["best"], &b["distance"]));
        assert_eq!(b["cost"]["search"]["forward"], 1);
    }
    place.ok("verify judged");
    // The same as one .npy file.
    let bytes = std::fs::read(place.path("adv.safetensors")).unwrap();
    let x = SafeTensors::deserialize(&bytes).unwrap().tensor("mine").unwrap().data().to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 1, 28, 28), }\n";
    let npy = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &x].concat();
    std::fs::write(place.path("adv.npy"), npy).unwrap();
    place.ok(&format!("{run} --attack file:adv.npy,eps=0.2,norm=linf --out from_npy"));
    for (a, b) in lines("judged").iter().zip(lines("from_npy")) {
        assert_eq!((&a["verdict"], &a["best"], &a["distance"]), (&b["verdict"], &b["best"], &b["distance"]));
    }
    // Points outside the ball are not judged, unless they are moved into it.
    points(&place, "made", "far.safetensors", 0.05);
    place.fails(
        &format!("{run} --attack file:far.safetensors,eps=0.2,norm=linf --out far"),
        3,
        &["20 samples", "outside"],
    );
    assert!(lines("far").iter().all(|l| l["verdict"] == "failed" && l["why"].as_str().unwrap().contains("outside")));
    place.ok("verify far");
    place.ok(&format!("{run} --attack file:far.safetensors,eps=0.2,norm=linf,project=true --out moved"));
    assert!(lines("moved").iter().any(|l| l["verdict"] == "fooled"));
    place.ok("verify moved");
    place.fails(&format!("{run} --attack file:gone.npz,eps=0.2"), 4, &["gone.npz"]);
    place.fails(
        "eval --model builtin:mnist-std --first 21 --attack file:adv.safetensors,eps=0.2",
        4,
        &["20 points", "one row per sample"],
    );
}

const EPS: f32 = 8. / 255.;

/// The planted network's strongest points within 8/255 in f32, as any tool would make them, and which images they fool.
fn steepest(planted: &Planted) -> (Vec<Vec<f32>>, Vec<bool>) {
    let made = planted.pixels().into_iter().zip(&planted.labels).map(|(x, &y)| {
        let mut rest = planted.scores(&x);
        rest[y as usize] = f64::NEG_INFINITY;
        let uphill = planted.uphill(y, top(&rest));
        let point: Vec<f32> = x.iter().zip(uphill).map(|(x, g)| (x + EPS * g.signum()).clamp(0., 1.)).collect();
        let fooled = top(&planted.scores(&point)) != y;
        (point, fooled)
    });
    made.unzip()
}

fn bytes(points: &[Vec<f32>]) -> Vec<u8> {
    points.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()
}

/// Images, a linear network and its strongest points, of which `robust` may say only what is true of them.
struct Judged {
    place: Place,
    points: Vec<Vec<f32>>,
    fooled: Vec<bool>,
}

impl Judged {
    fn new() -> Self {
        let place = Place::new();
        let planted = Planted::new(&place, 80, 8, 4);
        planted.net(&place, "lin.onnx", &Tail { nodes: &[], constants: &[] });
        let (points, fooled) = steepest(&planted);
        let n = fooled.iter().filter(|f| **f).count();
        assert!(n > 40 && n < 78, "{n} of 80 say something");
        Self { place, points, fooled }
    }

    fn command(file: &str, out: &str) -> String {
        format!("eval --model lin.onnx --dataset npy:d.npy,y.npy --attack file:{file},norm=linf --out {out}")
    }

    fn lines(&self, run: &str) -> Vec<Value> {
        self.place.read(&format!("{run}/outcomes.jsonl")).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn row(&self, run: &str) -> Value {
        serde_json::from_str::<Value>(&self.place.read(&format!("{run}/summary.json"))).unwrap()["results"][0].clone()
    }

    /// Every sample is judged as it should be.
    fn right(&self, file: &str, out: &str) -> String {
        let said = self.place.ok(&Self::command(&format!("{file},eps=8/255"), out));
        let verdicts: Vec<bool> = self.lines(out).iter().map(|l| l["verdict"] == "fooled").collect();
        assert_eq!(verdicts, self.fooled, "{file}: {}", said.out);
        assert_eq!(self.row(out)["failed"], 0, "{file}");
        self.place.ok(&format!("verify {out}"));
        said.out
    }
}

#[test]
fn points_at_exactly_epsilon_in_single_precision_are_judged_whatever_they_are_stored_in() {
    let judged = Judged::new();
    let (place, n) = (&judged.place, judged.points.len());
    npy(place, "adv.npy", "<f4", &[n, 3, 8, 8], &bytes(&judged.points));
    let text = judged.right("adv.npy", "plain");
    assert!(text.contains("points of lin under file-") && text.contains("1e-6"), "{text}");
    let row = judged.row("plain");
    let most = row["points"]["moved_most"].as_f64().unwrap();
    assert!(most > 0. && most < 6e-8 && row["points"]["outside"] == 0, "{row}");
    assert!(judged.lines("plain").iter().filter(|l| l["place"]["moved"].is_number()).count() > 40);
    // Zeros that another tool left a little below, ones a little above.
    let over = |v: &f32| {
        if *v == 0. {
            -2.98e-8
        } else if *v == 1. {
            1.000_000_1
        } else {
            *v
        }
    };
    let overshot: Vec<Vec<f32>> = judged.points.iter().map(|p| p.iter().map(over).collect()).collect();
    assert_ne!(overshot, judged.points);
    npy(place, "over.npy", "<f4", &[n, 3, 8, 8], &bytes(&overshot));
    judged.right("over.npy", "over");
    // As float64, and as uint8 with channels last: eight levels are eight levels.
    let wide: Vec<u8> = judged.points.iter().flatten().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    npy(place, "wide.npy", "<f8", &[n, 3, 8, 8], &wide);
    judged.right("wide.npy", "wide");
    let level = |p: &Vec<f32>| -> Vec<u8> {
        (0..64).flat_map(|s| (0..3).map(move |c| (p[c * 64 + s] * 255.).round() as u8)).collect()
    };
    let levels: Vec<u8> = judged.points.iter().flat_map(level).collect();
    npy(place, "levels.npy", "|u1", &[n, 8, 8, 3], &levels);
    judged.right("levels.npy", "levels");
    // The margins are the same too: to the rounding that moved the points.
    for (a, b) in judged.lines("plain").iter().zip(judged.lines("levels")) {
        let margin = |l: &Value| l["best"]["margin"].as_f64().unwrap();
        assert!((margin(a) - margin(&b)).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn points_outside_are_counted_and_never_count_as_robust() {
    let judged = Judged::new();
    let (place, n) = (&judged.place, judged.points.len());
    npy(place, "adv.npy", "<f4", &[n, 3, 8, 8], &bytes(&judged.points));
    let command = |options: &str, out: &str| Judged::command(&format!("adv.npy,{options}"), out);
    // Made for 8/255, judged at 7/255.
    let said = place.fails(&command("eps=7/255", "seven"), 3, &["80 samples could not be judged", "--allow-failed"]);
    let row = judged.row("seven");
    assert_eq!((&row["held"], &row["failed"], &row["points"]["outside"]), (&0.into(), &80.into(), &80.into()));
    let most = row["points"]["outside_most"].as_f64().unwrap();
    assert!((most - 1. / 255.).abs() < 1e-6, "{most}");
    assert!(said.out.contains("80 points") && said.out.contains("the furthest by 3.92e-3"), "{}", said.out);
    assert!(said.err.contains("they were not judged"), "{}", said.err);
    place.ok("verify seven");
    // Allowed to fail, they are still not to be relied on.
    place.ok(&format!("{} --allow-failed 80", command("eps=7/255", "allowed")));
    let row = judged.row("allowed");
    assert_eq!((&row["robust_accuracy"], &row["reliability"]), (&serde_json::json!(0.0), &"unreliable".into()));
    let found = place.read("allowed/diagnostics.json");
    assert!(found.contains("points_outside") && found.contains("critical"), "{found}");
    // All may be moved, or none.
    let moved = place.ok(&command("eps=7/255,project=true", "moved"));
    assert!(moved.out.contains("80 points") && moved.out.contains("more than rounding"), "{}", moved.out);
    assert!(judged.row("moved")["fooled"].as_u64().unwrap() > 30);
    place.ok("verify moved");
    let strict = place.fails(&command("eps=8/255,project=false", "strict"), 3, &["by rounding"]);
    assert!(strict.out.contains("the furthest by 2.") || strict.out.contains("the furthest by 3."), "{}", strict.out);
    place.fails(
        &command("eps=8/255,project=perhaps", "perhaps"),
        2,
        &["project=perhaps is not true, false or rounding"],
    );
    // One bad row is one failed sample.
    let mut one = judged.points.clone();
    one[3][5] = f32::NAN;
    npy(place, "nan.npy", "<f4", &[n, 3, 8, 8], &bytes(&one));
    place.fails(&Judged::command("nan.npy,eps=8/255", "nan"), 3, &["1 samples", "row 3", "NaN"]);
    let lines = judged.lines("nan");
    for (i, (line, fooled)) in lines.iter().zip(&judged.fooled).enumerate() {
        assert_eq!(line["verdict"] == "fooled", *fooled && i != 3, "{line}");
    }
}

#[test]
fn files_that_hold_something_else_are_named_for_what_they_are() {
    let judged = Judged::new();
    let (place, n) = (&judged.place, judged.points.len());
    let write = |name: &str, rows: &[Vec<f32>]| npy(place, name, "<f4", &[rows.len(), 3, 8, 8], &bytes(rows));
    let fails = |file: &str, code: i32, words: &[&str]| {
        let file = format!("{file},eps=8/255");
        place.fails(&Judged::command(&file, &format!("out{}", file.len())), code, words);
    };
    let each = |f: &dyn Fn(f32) -> f32| -> Vec<Vec<f32>> {
        judged.points.iter().map(|p| p.iter().map(|v| f(*v)).collect()).collect()
    };
    write("bytes255.npy", &each(&|v| v * 255.));
    fails("bytes255.npy", 4, &["255", "divide by 255"]);
    write("normalised.npy", &each(&|v| (v - 0.45) / 0.225));
    fails("normalised.npy", 4, &["undo the normalisation"]);
    write("half.npy", &judged.points[..n / 2]);
    fails("half.npy", 4, &["40 points", "80 samples"]);
    // Rounded to float16, stored as float32: the reason is said.
    let half = |v: f32| if v < 1e-3 { 0. } else { f32::from_bits((v.to_bits() + 0x1000) & !0x1fff) };
    write("float16.npy", &each(&half));
    fails("float16.npy", 3, &["float16", "save float32"]);
    // Perturbations, and the points of other samples.
    let planted = Planted::new(place, n, 8, 4);
    let clean = planted.pixels();
    let pairs = judged.points.iter().zip(&clean);
    let delta: Vec<Vec<f32>> = pairs.map(|(p, c)| p.iter().zip(c).map(|(p, c)| p - c).collect()).collect();
    write("perturbation.npy", &delta);
    fails("perturbation.npy", 4, &["perturbations"]);
    let upwards: Vec<Vec<f32>> = delta.iter().map(|d| d.iter().map(|v| v.max(0.)).collect()).collect();
    write("perturbation-up.npy", &upwards);
    fails("perturbation-up.npy", 3, &["it looks like a perturbation"]);
    let mut turned = judged.points.clone();
    turned.rotate_left(1);
    write("of-others.npy", &turned);
    fails("of-others.npy", 3, &["does the row belong to it"]);
    fails("gone.npy", 4, &["gone.npy"]);
}

#[test]
fn how_points_made_elsewhere_are_judged_is_explained() {
    let place = Place::new();
    for name in ["file", "file:"] {
        let said = place.ok(&format!("explain {name}"));
        for word in ["`project`", "1e-6", "float16", "exit code 3", "uint8", "-2.98e-8"] {
            assert!(said.out.contains(word), "{word}: {}", said.out);
        }
    }
    let list = place.ok("list attacks").out;
    assert!(list.contains("file:POINTS") && list.contains("(Madry et al. 2018, arXiv 1706.06083)"), "{list}");
    assert!(!list.contains("et al ("), "{list}");
    place.fails("eval --model builtin:mnist-at --attack file:", 2, &["names no file of points", "explain file"]);
}
