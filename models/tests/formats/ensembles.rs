//! Several files as one network: RobustBench's numbers, what does not fit, and what users type.

use crate::parity::plans_match;
use crate::support::{cross_entropy, distance, flipped, forward, golden, host, named, npz, switched};
use candle_core::{DType, Device, Tensor};
use flate2::read::GzDecoder;
use robust_core::{Kind, Output};
use robust_models::{LoadedModel, inspect, load};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub type Weights = HashMap<String, Tensor>;

#[derive(Deserialize)]
pub struct Case {
    input: String,
    input_shape: Vec<usize>,
    mean: Vec<f64>,
    std: Vec<f64>,
    /// What else a user says.
    pub said: String,
    labels: Vec<u32>,
    members: Vec<BTreeMap<String, Vec<usize>>>,
}

pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ensembles")
}

impl Case {
    pub fn read(name: &str) -> Self {
        let file = std::fs::File::open(vectors().join(format!("{name}.json.gz"))).unwrap();
        serde_json::from_reader(GzDecoder::new(file)).unwrap()
    }

    pub fn weights(&self, member: usize) -> Weights {
        let tensor = |(n, s): (&String, &Vec<usize>)| (n.clone(), named::weight(&format!("members.{member}.{n}"), s));
        self.members[member].iter().map(tensor).collect()
    }

    /// One file a member, and what is said for all.
    pub fn lay(&self, place: &Path) -> (Vec<String>, String) {
        let files = (0..self.members.len()).map(|i| {
            let path = place.join(format!("net_m{i}.safetensors"));
            candle_core::safetensors::save(&self.weights(i), &path).unwrap();
            path.display().to_string()
        });
        let listed = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        let sizes = self.input_shape[1..].iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let said = format!("input={sizes}&mean={}&std={}&{}", listed(&self.mean), listed(&self.std), self.said);
        (files.collect(), said)
    }
}

pub fn opened(spec: &str) -> LoadedModel {
    load(spec).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

const MEANS: &[&str] = &["log-probabilities", "probabilities", "logits"];
const SMOOTHING: &[&str] = &["adaptive-smoothing"];
const NUTS: &[&str] = &["mixednuts", "mixednuts-bypassed"];

#[test]
fn ensembles_give_what_robustbench_gives() {
    for (name, family, ways) in [
        ("chen2020", "3 x cifar-resnet", MEANS),
        ("diffenderfer2021", "6 x card-resnet", MEANS),
        ("bai2023", "bit + dm-wide-resnet", SMOOTHING),
        ("bai2023_whole", "bit + dm-wide-resnet", SMOOTHING),
        ("bai2024", "bit + ra-wide-resnet", NUTS),
        ("bai2024_many", "2 x convnext", NUTS),
    ] {
        let case = Case::read(name);
        let place = tempfile::tempdir().unwrap();
        let (files, said) = case.lay(place.path());
        let x = named::image(&case.input, &case.input_shape);
        let expected = |what: &str, way: &str| npz(&vectors().join(format!("{name}.npz")), &format!("{what}_{way}"));
        for way in ways {
            let model = opened(&format!("ensemble:{}?{said}&scores={way}", files.join("+")));
            assert_eq!((model.family.as_deref(), model.format), (Some(family), "ensemble"));
            let (output, grad) = (expected("output", way), expected("grad", way));
            for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
                let (ours, _, our_grad) = cross_entropy(model.graph().unwrap(), &x, &case.labels, dtype);
                let gaps = [distance(&ours, &output), distance(&our_grad, &grad)];
                let kinks = if dtype == DType::F32 { flipped(model.graph().unwrap(), &x) } else { 0 };
                println!("{name} {way} {dtype:?}: output {:.1e}, gradient {:.1e}, {kinks} kinks", gaps[0], gaps[1]);
                let bound_grad = if kinks > 0 && gaps[1] > bound { 2e-2 } else { bound };
                assert!(gaps[0] <= bound && gaps[1] <= bound_grad, "{name} {way} {dtype:?}: {gaps:?}");
            }
            println!("{name} {way}: {} units differ in the plan", switched(model.graph().unwrap(), &x));
            plans_match(name, model.graph().unwrap(), &x, &case.labels, [&output, &grad]);
        }
        if *ways != *MEANS {
            continue;
        }
        // Without a word it is the logarithm, and the mean is what it is of.
        let plain = opened(&format!("ensemble:{}?{said}", files.join("+")));
        let gap = distance(
            &forward(plain.graph().unwrap(), &x, DType::F64).exp().unwrap(),
            &expected("output", "probabilities"),
        );
        assert!(gap < 1e-6, "{gap:e}");
        let facts = inspect(&plain);
        assert_eq!(facts.normalisation.unwrap().mean, case.mean);
        let one = inspect(&opened(&format!("{}?{said}", files[0])));
        assert_eq!(facts.parameters, files.len() as u64 * one.parameters);
        assert_eq!(facts.multiply_adds, files.len() as u64 * one.multiply_adds);
    }
}

/// The first member of the vectors, changed.
fn small(place: &Path, name: &str, change: impl FnOnce(&mut Weights)) -> String {
    let mut weights = Case::read("chen2020").weights(0);
    change(&mut weights);
    let path = place.join(name);
    candle_core::safetensors::save(&weights, &path).unwrap();
    path.display().to_string()
}

#[test]
fn an_ensemble_of_one_or_of_equals_decides_by_the_same_margins() {
    let place = tempfile::tempdir().unwrap();
    // Scores so far apart that probabilities underflow, in f32 and partly in f64.
    let sharp = small(place.path(), "sharp.safetensors", |w| {
        let weight = w["linear.weight"].affine(2e3, 0.).unwrap();
        w.insert("linear.weight".into(), weight);
    });
    let case = Case::read("chen2020");
    let x = named::image(&case.input, &case.input_shape);
    let alone = opened(&sharp);
    for spec in [format!("ensemble:{sharp}"), format!("ensemble:{sharp}+{sharp}+[{sharp}]")] {
        let model = opened(&spec);
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
            let (a, _, da) = cross_entropy(model.graph().unwrap(), &x, &case.labels, dtype);
            let (b, _, db) = cross_entropy(alone.graph().unwrap(), &x, &case.labels, dtype);
            let margins = |t: &Tensor| t.broadcast_sub(&t.narrow(1, 0, 1).unwrap()).unwrap();
            let spread = host(&margins(&b)).into_iter().map(f64::abs).fold(0., f64::max);
            assert!(spread > 200., "{spread}");
            let gaps = [distance(&margins(&a), &margins(&b)), distance(&da, &db)];
            assert!(gaps[0] < bound && gaps[1] < bound, "{spec} {dtype:?}: {gaps:?}");
        }
    }
    let twice = opened(&format!("ensemble:{sharp}+{sharp}"));
    assert!(twice.notes.iter().any(|n| n.contains("members 1 and 2 are the same network")), "{:?}", twice.notes);
}

#[test]
fn the_digest_is_of_all_members_and_of_how_they_are_joined() {
    let place = tempfile::tempdir().unwrap();
    let (files, said) = Case::read("chen2020").lay(place.path());
    let digest = |spec: &str| opened(spec).card.digest;
    let [a, b, c] = &files[..] else { panic!("three members") };
    let all = digest(&format!("ensemble:{a}+{b}+{c}?{said}"));
    for same in [
        format!("ensemble:{}/net_m*.safetensors?{said}", place.path().display()),
        format!("other name=ensemble:[{a}?{said}]+{b}+[{c}?mean=0.485,0.456,0.406]?{said}"),
        format!("ensemble:[{a}?{said}]+[{b}?{said}]+[{c}?{said}]?scores=log-probabilities"),
    ] {
        assert_eq!(digest(&same), all, "{same}");
    }
    for other in [
        format!("ensemble:{a}+{b}?{said}"),
        format!("ensemble:{a}+{b}+{b}?{said}"),
        format!("ensemble:{a}+{b}+[{c}?mean=none&std=none]?{said}"),
        format!("ensemble:{a}+{b}+{c}?{said}&scores=logits"),
        format!("ensemble:{a}+{b}+{c}?{said}&scores=probabilities"),
    ] {
        assert_ne!(digest(&other), all, "{other}");
    }
    let mixed = opened(&format!("ensemble:{a}+{b}+[{c}?mean=none&std=none]?{said}"));
    assert!(mixed.notes.iter().any(|n| n.contains("normalise their pixels differently")), "{:?}", mixed.notes);
    assert_eq!(inspect(&mixed).normalisation, None);
    assert_eq!(mixed.name, "net_m0+net_m1+net_m2");
    assert_eq!(opened(&format!("other name=ensemble:{a}+{b}?{said}")).name, "other name");
    // As RobustBench calls its files.
    let numbered: Vec<String> =
        (0..2).map(|i| format!("{}/Chen2020Adversarial.pt_m{i}.pt", place.path().display())).collect();
    for file in &numbered {
        std::fs::copy(golden("dm_preact.pth"), file).unwrap();
    }
    let deck = opened(&format!("ensemble:{}", numbered.join("+")));
    assert_eq!((deck.name.as_str(), &deck.card.taps[..]), ("Chen2020Adversarial", &[][..]));
}

#[test]
fn members_that_do_not_fit_are_refused_by_their_number_and_name() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let a = small(place.path(), "a.safetensors", |_| {});
    let more = small(place.path(), "more.safetensors", |w| {
        let linear = |rows: &[usize]| Tensor::zeros(rows, DType::F32, &Device::Cpu).unwrap();
        w.insert("linear.weight".into(), linear(&[12, 40]));
        w.insert("linear.bias".into(), linear(&[12]));
    });
    let bare = small(place.path(), "bare.safetensors", |w| w.retain(|n, _| !n.starts_with("linear.")));
    for (spec, kind, parts) in [
        (format!("{a}+{more}"), Kind::Usage, vec!["member 2", &more[..], "12 classes, the first member 10"]),
        (format!("{a}+[{a}?input=3x64x64]"), Kind::Usage, vec!["member 2", "[3, 64, 64]", "[3, 32, 32]"]),
        (format!("{a}+builtin:mnist-at"), Kind::Usage, vec!["member 2", "[1, 28, 28]"]),
        (format!("{a}+{bare}"), Kind::Usage, vec!["member 2", "embedding of 40 entries", "?head="]),
        (format!("{a}?output=features"), Kind::Usage, vec!["member 1", "embedding"]),
        (format!("{a}+{}", at("b.safetensors")), Kind::Load, vec!["member 2", "no such file"]),
        (format!("{a}+{a}?men=1"), Kind::Usage, vec!["member 1", "did you mean `mean`"]),
        (format!("{a}+[{a}?resize=32]+[{a}?resize=40]"), Kind::Usage, vec!["different ways", "resize"]),
        (format!("{a}+ensemble:{a}"), Kind::Usage, vec!["a member is one model"]),
        (format!("{a}+[ensemble:{a}]"), Kind::Usage, vec!["a member is one model"]),
        (format!("{a}++{a}"), Kind::Usage, vec!["member 2 has no name"]),
        (String::new(), Kind::Usage, vec!["member 1 has no name", "dir/name.pt_m*.pt"]),
        (format!("{a}+[{a}?mean=none"), Kind::Usage, vec!["never closed"]),
        (format!("[{a}]{a}"), Kind::Usage, vec!["`+` or `?` is wanted"]),
        (format!("{a}?scores=votes"), Kind::Usage, vec!["`scores=votes`", "log-probabilities, probabilities, logits"]),
        (at("x*.safetensors"), Kind::Load, vec!["no file has such a name"]),
        (at("*x*.safetensors"), Kind::Usage, vec!["a `*` too many"]),
        (vec![&a[..]; 65].join("+"), Kind::Usage, vec!["65 members", "64"]),
    ] {
        let error = load(&format!("ensemble:{spec}")).unwrap_err();
        assert_eq!(error.kind, kind, "{spec}: {error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{spec}: `{part}` is not in: {error}");
        }
    }
    // A head makes a member of an encoder; what is said for one is not said for all.
    let head = robust_models::Head::Linear {
        weight: Tensor::ones((10, 40), DType::F64, &Device::Cpu).unwrap(),
        bias: Tensor::zeros(10, DType::F64, &Device::Cpu).unwrap(),
        centre: None,
    };
    head.write(&place.path().join("head.safetensors")).unwrap();
    let model = opened(&format!("ensemble:{a}+[{bare}?head={}]", at("head.safetensors")));
    assert_eq!(model.card.output, Output::Logits { k: 10 });
    assert_eq!(model.graph().unwrap().input_row(), [3, 32, 32]);
}
