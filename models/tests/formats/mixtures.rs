//! Ensembles whose members do not count alike: what says so, and what does not fit.

use crate::ensembles::{Case, opened, vectors};
use candle_core::{DType, Device, Tensor};
use robust_core::Kind;
use robust_models::load;
use std::path::Path;

/// The files of a case under the names that RobustBench gives them, but for their endings.
fn numbered(case: &Case, place: &Path, name: &str) -> Vec<String> {
    let (files, _) = case.lay(place);
    let named = |(i, file): (usize, &String)| {
        let path = place.join(format!("{name}.pt_m{i}.safetensors"));
        std::fs::rename(file, &path).unwrap();
        path.display().to_string()
    };
    files.iter().enumerate().map(named).collect()
}

#[test]
fn files_named_as_robustbenchs_are_joined_as_it_joins_them() {
    // The settings of both cases are the published ones for ten classes.
    for (case, name, way) in
        [("bai2023_whole", "Bai2023Improving_edm", "adaptive-smoothing"), ("bai2024", "Bai2024MixedNUTS", "mixednuts")]
    {
        let case = Case::read(case);
        let place = tempfile::tempdir().unwrap();
        let files = numbered(&case, place.path(), name);
        let plain = opened(&format!("ensemble:{}", files.join("+")));
        assert_eq!((plain.name.as_str(), plain.card.output.width()), (name, 10));
        let star = opened(&format!("ensemble:{}/{name}.pt_m*.safetensors", place.path().display()));
        let said = opened(&format!("mine=ensemble:{}?{}&scores={way}", files.join("+"), case.said));
        assert_eq!([&star.card.digest, &said.card.digest], [&plain.card.digest; 2]);
        let turned: Vec<String> = files.iter().rev().cloned().collect();
        let error = load(&format!("ensemble:{}", turned.join("+"))).unwrap_err();
        assert!(error.kind == Kind::Usage && error.message.contains("not in their order"), "{error}");
        // Names alone do not make other settings right.
        let other = case.said.replace("mix=", "mix=1");
        let other = opened(&format!("ensemble:{}?{other}", files.join("+")));
        assert_ne!(other.card.digest, plain.card.digest);
        assert_eq!(plain.card.jumps, way == "mixednuts");
    }
    let case = Case::read("bai2024");
    let place = tempfile::tempdir().unwrap();
    let files = numbered(&case, place.path(), "Bai2024MixedNUTS");
    let stand_in = opened(&format!("ensemble:{}?scores=mixednuts-bypassed", files.join("+")));
    assert_eq!(stand_in.name, "Bai2024MixedNUTS bypassed");
    assert!(!stand_in.card.jumps && stand_in.notes[0].contains("--bpda"), "{:?}", stand_in.notes);
}

#[test]
fn a_mixing_network_is_read_from_a_checkpoint_of_two_parts() {
    let case = Case::read("bai2023");
    let place = tempfile::tempdir().unwrap();
    let (files, said) = case.lay(place.path());
    let [a, b, c] = &files[..] else { panic!("three files") };
    let digest = |file: &str| opened(&format!("ensemble:{a}+{b}+{file}?{said}&scores=adaptive-smoothing")).card.digest;
    let stored = vectors().join("bai2023_mixing.pth").display().to_string();
    assert_eq!(digest(&stored), digest(c));
    assert_eq!(digest(&format!("[{stored}?key=state_dict]")), digest(c));
}

#[test]
fn mixtures_that_do_not_fit_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let case = Case::read("bai2023");
    let (files, said) = case.lay(place.path());
    let [a, b, c] = &files[..] else { panic!("three files") };
    let changed = |name: &str, change: &dyn Fn(&mut crate::ensembles::Weights)| {
        let mut weights = case.weights(2);
        change(&mut weights);
        let path = at(name);
        candle_core::safetensors::save(&weights, &path).unwrap();
        path
    };
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    let lacks = changed("lacks.safetensors", &|w| drop(w.remove("model.layers.1.0.conv2.weight")));
    let wide = changed("wide.safetensors", &|w| drop(w.insert("model.linear.weight".into(), zeros(&[1, 7]))));
    let more = changed("more.safetensors", &|w| drop(w.insert("model.extra.weight".into(), zeros(&[1]))));
    let negative = changed("negative.safetensors", &|w| {
        w.insert("bn.running_var".into(), (zeros(&[1]) - 1.).unwrap());
    });
    let smooth = "scores=adaptive-smoothing";
    let with = |mix: &str| format!("{a}+{b}+{c}?mix={mix}&{smooth}");
    let pair = |mix: &str| format!("{a}+{b}?mix={mix}&scores=mixednuts");
    let third = |file: &str| format!("{a}+{b}+{file}?{said}&{smooth}");
    for (spec, kind, parts) in [
        (format!("{a}+{b}+{c}?{smooth}"), Kind::Usage, vec!["needs `mix=` with 6 numbers", "gamma's scale"]),
        (with("1,2,3"), Kind::Usage, vec!["`mix` has 3 numbers", "wants 6", "alpha's least"]),
        (with("2,1,0.3,0.8,1,1"), Kind::Usage, vec!["alpha must stay between 0 and 1"]),
        (with("2,1,0,0.8,1,1"), Kind::Usage, vec!["alpha's range"]),
        (with("2,1,nan,0.8,1,1"), Kind::Usage, vec!["not a list of numbers"]),
        (format!("{a}+{b}?mix=1"), Kind::Usage, vec!["`mix` says nothing under `scores=log-probabilities`"]),
        (format!("{a}+{b}?{said}&{smooth}"), Kind::Usage, vec!["joins an accurate model", "_m2.pt"]),
        (format!("{b}+{b}+{b}+{c}?{said}&{smooth}"), Kind::Usage, vec!["joins an accurate model"]),
        (format!("{a}?scores=mixednuts"), Kind::Usage, vec!["joins an accurate model and a robust one"]),
        (pair("5,-1,1.5,0.9,0.9"), Kind::Usage, vec!["the power must be 1 or from 2 to 16, not 1.5"]),
        (pair("5,-1,2,1,0.9"), Kind::Usage, vec!["both shares between 0 and 1"]),
        (third(&lacks), Kind::Load, vec!["the mixing network", "model.layers.1.0.conv2.weight"]),
        (third(&wide), Kind::Load, vec!["the mixing network", "model.linear.weight", "[1, 7]"]),
        (third(&more), Kind::Load, vec!["the mixing network", "model.extra.weight"]),
        (third(&negative), Kind::Load, vec!["the mixing network", "variance"]),
        (third(a), Kind::Load, vec!["the mixing network", "model."]),
        (third(&at("none.pth")), Kind::Load, vec!["the mixing network", "no such file"]),
        (
            third(&crate::support::golden("vgg.pth").display().to_string()),
            Kind::Load,
            vec!["the mixing network", "two parts, `model`"],
        ),
        (third("builtin:mnist-at"), Kind::Usage, vec!["the mixing network", "neither a .pth nor"]),
    ] {
        let error = load(&format!("ensemble:{spec}")).unwrap_err();
        assert_eq!(error.kind, kind, "{spec}: {error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{spec}: `{part}` is not in: {error}");
        }
    }
    let error = load(&format!("ensemble:{b}+{a}+{c}?{said}&{smooth}")).unwrap_err();
    assert!(error.message.contains("member 1 is dm-wide-resnet"), "{error}");
    // Members that hold other things inside.
    let chen = Case::read("chen2020");
    let other = place.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let file = &chen.lay(&other).0[0];
    let error = load(&format!("ensemble:{a}+{file}+{c}?{said}&{smooth}")).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.message.contains("member 2 is cifar-resnet"), "{error}");
}
