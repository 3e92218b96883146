//! Networks of RobustBench's own classes: what their files say, what users must, and what is wrong with damaged ones.

use crate::support::{Case, cross_entropy, distance, kept_cases, npz};
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Kind};
use robust_engine::Op;
use robust_models::arch::{self, Built};
use robust_models::safetensors::StateDict;
use robust_models::{Options, load};
use std::collections::BTreeMap;
use std::sync::Arc;

type Weights = BTreeMap<String, Tensor>;

const HOMES: [&str; 16] = [
    "peng2023",
    "amini2024",
    "huang202",
    "dai2021",
    "pang2020",
    "ding2020",
    "diffenderfer2021",
    "chen2020",
    "sehwag2021",
    "timm/resnest",
    "torchvision/alexnet",
    "singh2023/vit",
    "xu2024",
    "bai2023",
    "timm/resnetv2_bit",
    "kang2021",
];

fn stored() -> Vec<Case> {
    kept_cases().into_iter().filter(|c| HOMES.iter().any(|h| c.arch.starts_with(h))).collect()
}

fn case(name: &str) -> Case {
    stored().into_iter().find(|c| c.arch == name).unwrap_or_else(|| panic!("no vectors of {name}"))
}

fn weights(case: &Case) -> Weights {
    let dict = case.weights();
    case.shapes.keys().map(|n| (n.clone(), dict.tensor(n).unwrap().clone())).collect()
}

fn changed(case: &Case, options: &Options, change: impl FnOnce(&mut Weights)) -> Result<Built, Error> {
    let mut all = weights(case);
    change(&mut all);
    arch::build(&StateDict::from_tensors(all), options)
}

/// Counters of the statistics' collection, copies of a shared activation, parts that are never called, an optional bias and layer scale.
const OPTIONAL: [&str; 9] =
    [".gamma", "batch_num", "momentum", "epsilon", ".activation.alpha", ".activation.beta", "fc.bias", "mu", "sigma"];

#[test]
fn each_tensor_is_needed_and_has_one_shape() {
    let mut tried = 0;
    for case in stored() {
        let names: Vec<&String> = case
            .shapes
            .keys()
            .filter(|n| !n.starts_with("sub_block1") && !OPTIONAL.iter().any(|o| n.ends_with(o)))
            .collect();
        let step = names.len().div_ceil(14);
        for name in names.iter().skip(tried % step).step_by(step) {
            let error = changed(&case, &case.options, |w| drop(w.remove(*name))).err();
            let error = error.unwrap_or_else(|| panic!("{}: it builds without `{name}`", case.arch));
            assert!([Kind::Load, Kind::Usage].contains(&error.kind), "{}, `{name}`: {error}", case.arch);
            let mut dims = case.shapes[*name].clone();
            match dims.last_mut() {
                Some(last) => *last += 1,
                None => dims.push(2),
            }
            let other = Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
            let error = changed(&case, &case.options, |w| drop(w.insert(name.to_string(), other))).err();
            let error = error.unwrap_or_else(|| panic!("{}: it builds with another `{name}`", case.arch));
            assert_eq!(error.kind, Kind::Load, "{}, `{name}`: {error}", case.arch);
            tried += 1;
        }
    }
    println!("{tried} tensors taken away, and changed");
    assert!(tried > 100);
}

fn layers(built: &Built) -> usize {
    built.network.nodes().iter().filter(|n| matches!(n.op, Op::MeanSparse { .. })).count()
}

#[test]
fn mean_sparse_is_where_the_file_has_it_and_nothing_at_a_threshold_of_zero() {
    // Three a block and one at the end; two a block and two in its perceptron; one in it and one after the block.
    for (name, count) in [
        ("amini2024/wrn_94_16", 10),
        ("amini2024/ra_wrn_70_16", 13),
        ("amini2024/swin-l", 16),
        ("amini2024/convnext-l", 10),
    ] {
        let case = case(name);
        let built = changed(&case, &case.options, |_| {}).unwrap();
        assert_eq!(layers(&built), count, "{name}");
        assert!(built.notes.iter().filter(|n| n.starts_with("MeanSparse layers: ")).count() == 1, "{:?}", built.notes);
        let zero = |w: &mut Weights| {
            w.iter_mut().filter(|(n, _)| n.ends_with(".threshold")).for_each(|(_, t)| *t = t.zeros_like().unwrap());
        };
        let bare = changed(&case, &case.options, zero).unwrap();
        assert_eq!(layers(&bare), 0, "{name}");
        let host = changed(&case, &case.options, |w| {
            let part = |n: &str| n.contains("meansparse") || n.contains(".mlp.act.") || n.contains(".drop_path.");
            w.retain(|n, _| !part(n));
        });
        assert_eq!(robust_engine::digest(&host.unwrap().network), robust_engine::digest(&bare.network), "{name}");
    }
    let wrn = case("amini2024/wrn_94_16");
    let nan = |w: &mut Weights| {
        let broken = Tensor::new(f32::NAN, &Device::Cpu).unwrap();
        w.insert("layer.0.block.0.meansparse_1.threshold".into(), broken);
    };
    let error = changed(&wrn, &wrn.options, nan).unwrap_err();
    assert!(error.message.contains("meansparse_1.threshold") && error.message.contains("NaN"), "{error}");
}

#[test]
fn files_as_they_are_published_load_with_their_counters_and_wrappers() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.safetensors");
    let wrn = case("amini2024/wrn_70_16");
    let mut all: std::collections::HashMap<String, Tensor> =
        weights(&wrn).into_iter().map(|(n, t)| (format!("module.{n}"), t)).collect();
    all.insert("module.meansparse_end.flag_update_statistics".into(), Tensor::new(0i64, &Device::Cpu).unwrap());
    all.insert("module.batchnorm.num_batches_tracked".into(), Tensor::new(7i64, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&all, &file).unwrap();
    let loaded = load(&format!("{}{}", file.display(), wrn.query())).unwrap();
    let plain = changed(&wrn, &wrn.options, |_| {}).unwrap();
    assert_eq!(loaded.card.digest, robust_engine::digest(&plain.network));
    // Scores chose the weights of binary networks in training.
    let card = case("diffenderfer2021/binary");
    let scored = changed(&card, &card.options, |w| {
        let scores = w["layer2.0.conv1.weight"].clone();
        w.insert("layer2.0.conv1.scores".into(), scores);
    });
    assert_eq!(scored.unwrap().ignored, ["layer2.0.conv1.scores"]);
}

#[test]
fn what_no_tensor_tells_is_asked_for_or_said() {
    let with = |name: &str, change: fn(&mut Options)| {
        let case = case(name);
        let mut options = case.options.clone();
        change(&mut options);
        changed(&case, &options, |_| {})
    };
    let checks = [
        (with("pang2020/boosting", |o| o.variant = Some("cos".into())), "is not one of this architecture's"),
        (with("dai2021/pssilu", |o| o.activation = Some("relu".into())), "`activation` is in the file"),
        (with("xu2024/mimir-swin", |o| o.variant = Some("eps1e-5".into())), "`variant=eps1e-6`"),
        (with("bai2023/bit", |o| o.variant = Some("cifar".into())), "`?variant=enlarged`"),
        (with("huang2022/wrn-a4", |o| o.variant = Some("plain".into())), "`variant` is not a parameter"),
    ];
    for (result, part) in checks {
        let error = result.unwrap_err();
        assert!(error.kind == Kind::Usage && error.to_string().contains(part), "`{part}` not in {error}");
    }
    let plain = with("pang2020/boosting", |o| o.variant = None).unwrap();
    assert!(plain.notes.iter().any(|n| n.contains("`?variant=cosine`")), "{:?}", plain.notes);
    // The wrong answer is another function.
    for (name, change) in [
        ("pang2020/boosting", (|o| o.variant = Some("plain".into())) as fn(&mut Options)),
        ("ding2020/mma", |o| o.variant = None),
        ("xu2024/mimir-swin", |o| o.variant = None),
        ("huang2022/wrn-a4", |o| o.activation = Some("relu".into())),
        ("bai2023/bit", |o| o.variant = Some("plain".into())),
        ("timm/resnetv2_bit", |o| o.variant = None),
        ("peng2023/ra_wrn101_2", |o| o.activation = Some("relu".into())),
    ] {
        let network = Arc::new(with(name, change).unwrap().network);
        let case = case(name);
        let (_, _, grad) = cross_entropy(&network, &case.x, &case.labels, DType::F64);
        let gap = distance(&grad, &npz(&case.file, "grad"));
        println!("{name}: {gap:.1e}");
        assert!(gap > 1e-6, "{name}: {gap:e}");
    }
}

#[test]
fn what_networks_expect_of_their_pixels_is_as_published() {
    let bare = |o: &Options| Options { mean: None, std: None, input: None, ..o.clone() };
    for (name, side, note) in [
        ("huang2021/exploring", 32, "as they are"),
        ("huang2022/wrn-a4", 32, "CIFAR-10's"),
        ("amini2024/wrn_94_16", 32, "CIFAR-10's"),
        ("peng2023/ra_wrn70_16", 32, "CIFAR-10's"),
        ("peng2023/ra_wrn101_2", 224, "ImageNet's"),
        ("singh2023/vit_cvst", 64, "as they are"),
        ("bai2023/bit", 32, "enlarged to 128x128"),
    ] {
        let case = case(name);
        let built = changed(&case, &bare(&case.options), |_| {}).unwrap();
        assert_eq!(built.network.input_row(), [3, side, side], "{name}");
        assert!(built.notes.iter().any(|n| n.contains(note)), "{name}: {:?}", built.notes);
    }
    // A hundred classes are CIFAR-100's.
    let wrn = case("amini2024/wrn_70_16");
    let built = changed(&wrn, &bare(&wrn.options), |w| {
        let width = w["logits.weight"].dims()[1];
        w.insert("logits.weight".into(), Tensor::zeros((100, width), DType::F32, &Device::Cpu).unwrap());
        w.insert("logits.bias".into(), Tensor::zeros(100, DType::F32, &Device::Cpu).unwrap());
    });
    assert!(built.unwrap().notes.iter().any(|n| n.starts_with("CIFAR-100's mean")));
    // The masks of shifted windows say how large images were: 4x4 windows of 4x4 patches of 4x4 pixels.
    let mimir = case("xu2024/mimir-swin");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.safetensors");
    let mut all: std::collections::HashMap<String, Tensor> = weights(&mimir).into_iter().collect();
    let spec = format!("{}?variant=eps1e-6&mean=none", file.display());
    candle_core::safetensors::save(&all, &file).unwrap();
    assert_eq!(load(&spec).unwrap().card.input.shape, [3, 128, 128]);
    let mask = Tensor::zeros((16, 16, 16), DType::F32, &Device::Cpu).unwrap();
    all.insert("layers.0.blocks.1.attn_mask".into(), mask);
    candle_core::safetensors::save(&all, &file).unwrap();
    assert_eq!(load(&spec).unwrap().card.input.shape, [3, 64, 64]);
}

const ORTHOGONAL: &str = "1.fc0.linear.parametrizations.weight.original";
const BASE: &str = "1.fc0.linear.parametrizations.weight.0.base";

#[test]
fn a_flow_says_how_exact_it_is_and_reads_its_features_in_either_form() {
    let sodef = case("kang2021/sodef");
    let built = changed(&sodef, &sodef.options, |_| {}).unwrap();
    let note = built.notes.iter().find(|n| n.starts_with("the differential equation")).unwrap();
    assert!(note.contains("scores are within ") && note.contains("1e-3 a step"), "{note}");
    println!("{note}");
    // Of the orthonormal columns themselves nothing else follows.
    let name = "1.fc0.linear.weight";
    let columns = built.network.params().iter().find(|p| p.name == name).unwrap().value.clone();
    let plain = changed(&sodef, &sodef.options, |w| {
        [ORTHOGONAL, BASE].iter().for_each(|n| drop(w.remove(*n)));
        w.insert(name.into(), columns.t().unwrap().contiguous().unwrap());
    });
    assert_eq!(robust_engine::digest(&plain.unwrap().network), robust_engine::digest(&built.network));
    // What follows from the weights is not counted: all but the base and the statistics of norms.
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.safetensors");
    candle_core::safetensors::save(&weights(&sodef).into_iter().collect(), &file).unwrap();
    let loaded = load(&format!("{}{}", file.display(), sodef.query())).unwrap();
    let follows = |n: &str| n == BASE || n.contains("running_");
    let count = |(n, s): (&String, &Vec<usize>)| if follows(n) { 0 } else { s.iter().product::<usize>() as u64 };
    assert_eq!(robust_models::inspect(&loaded).parameters, sodef.shapes.iter().map(count).sum::<u64>());
}

#[test]
fn equations_and_rotations_of_absurd_sizes_are_refused_by_name() {
    let sodef = case("kang2021/sodef");
    let field = "2.0.odefunc.fc1._layer.weight";
    let broken = |name: &str, value: f64| {
        changed(&sodef, &sodef.options, |w| {
            let all = (w[name].ones_like().unwrap() * value).unwrap();
            w.insert(name.into(), all);
        })
    };
    for (name, value, part) in [
        (ORTHOGONAL, f64::NAN, "NaN"),
        (BASE, f64::INFINITY, "infinite"),
        (field, f64::NAN, "NaN"),
        (field, 100., "steps would be needed"),
        (ORTHOGONAL, 1e30, "too much work"),
    ] {
        let error = broken(name, value).unwrap_err();
        assert!(error.kind == Kind::Load && error.message.contains(part) && error.message.contains(name), "{error}");
    }
    // Above the diagonal nothing counts.
    let plain = changed(&sodef, &sodef.options, |_| {}).unwrap();
    let above = changed(&sodef, &sodef.options, |w| {
        let mut rows = w[ORTHOGONAL].to_vec2::<f32>().unwrap();
        rows[3][3..].fill(1e9);
        w.insert(ORTHOGONAL.into(), Tensor::new(rows, &Device::Cpu).unwrap());
    });
    assert_eq!(robust_engine::digest(&above.unwrap().network), robust_engine::digest(&plain.network));
    // More columns than rows, and an equation of other unknowns than there are features.
    for (name, dims) in [(ORTHOGONAL, [64, 80]), (field, [80, 80])] {
        let error = changed(&sodef, &sodef.options, |w| {
            w.insert(name.into(), Tensor::zeros(&dims, DType::F32, &Device::Cpu).unwrap());
        });
        assert_eq!(error.unwrap_err().kind, Kind::Load);
    }
}
