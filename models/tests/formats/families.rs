//! Named architectures as a family: each file is recognised as one, is cut before its head, and says what is wrong with it.

use crate::support::{Case, cross_entropy, distance, forward, kept_cases, named, npz, shared_cases};
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Kind, Output};
use robust_models::arch::{self, ARCHITECTURES, Built};
use robust_models::safetensors::StateDict;
use robust_models::{Options, load};
use std::collections::BTreeMap;
use std::sync::Arc;

type Weights = BTreeMap<String, Tensor>;

fn case(arch: &str) -> Case {
    kept_cases().into_iter().find(|c| c.arch == arch).unwrap_or_else(|| panic!("no vectors of {arch}"))
}

fn tensors(case: &Case) -> Weights {
    case.shapes.iter().map(|(n, s)| (n.clone(), named::weight(n, s))).collect()
}

/// The case's weights after a change, built.
fn changed(case: &Case, options: &Options, change: impl FnOnce(&mut Weights)) -> Result<Built, Error> {
    let mut all = tensors(case);
    change(&mut all);
    arch::build(&StateDict::from_tensors(all), options)
}

/// What a network of that name must be recognised as.
fn family(arch: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 24] = [
        ("openclip/resnet", "clip-resnet"),
        ("bai2023/bit", "bit"),
        ("resnetv2_bit", "bit"),
        ("seer", "regnet"),
        ("ra_wrn", "ra-wide-resnet"),
        ("amini2024/wrn", "dm-wide-resnet"),
        ("huang202", "robust-wide-resnet"),
        ("dai2021", "wide-resnet"),
        ("diffenderfer2021", "card-resnet"),
        ("singh2023/vit", "vit"),
        ("mimir", "swin"),
        ("alexnet", "alexnet"),
        ("resnest", "resnest"),
        ("chen2020", "cifar-resnet"),
        ("densenet", "densenet"),
        ("efficientnet", "efficientnet"),
        ("mobilenet_v3", "mobilenet-v3"),
        ("mobilenetv3", "mobilenet-v3"),
        ("regnet", "regnet"),
        ("convnext", "convnext"),
        ("vision/resnet", "resnet"),
        ("timm/resnet", "resnet"),
        ("timm/resnext", "resnet"),
        ("timm/wide_resnet", "resnet"),
    ];
    KNOWN.iter().find(|(part, _)| arch.contains(part)).map(|(_, family)| *family)
}

#[test]
fn every_state_dict_is_recognised_as_exactly_one_architecture() {
    let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    for case in shared_cases().into_iter().chain(kept_cases()) {
        let shapes = case.shapes.iter();
        let weights = shapes.map(|(n, s)| (n.clone(), zero.broadcast_as(s.as_slice()).unwrap())).collect();
        let dict = StateDict::from_tensors(weights);
        // A prefix that all names share, which the loader takes off.
        let dict = dict.strip("_feature_blocks.").unwrap_or(dict);
        let fits: Vec<_> = ARCHITECTURES.iter().filter(|a| (a.detect)(&dict)).map(|a| a.name).collect();
        assert_eq!(fits.len(), 1, "{}: {fits:?}", case.arch);
        if let Some(family) = family(&case.arch) {
            assert_eq!(fits[0], family, "{}", case.arch);
        }
    }
}

#[test]
fn a_network_cut_before_its_head_gives_what_the_head_reads() {
    let heads = [
        ("torchvision/densenet", "classifier"),
        ("torchvision/efficientnet_v2_s", "classifier.1"),
        ("timm/tf_efficientnet_b0", "classifier"),
        ("torchvision/mobilenet_v3_small", "classifier.3"),
        ("timm/mobilenetv3_small_050", "classifier"),
        ("torchvision/regnet_y", "fc"),
        ("timm/convnextv2", "head.fc"),
        ("facebook/convnextv2", "head"),
        ("singh2023/convnext_t_cvst", "head.fc"),
        ("timm/resnet_d", "fc"),
    ];
    let place = tempfile::tempdir().unwrap();
    for (arch, head) in heads {
        let case = case(arch);
        let weights = tensors(&case);
        let path = place.path().join("model.safetensors");
        candle_core::safetensors::save(&weights.clone().into_iter().collect(), &path).unwrap();
        let spec = format!("{}{}", path.display(), case.query());
        let (whole, cut) = (load(&spec).unwrap(), load(&format!("{spec}&output=features")).unwrap());
        assert_eq!(cut.family, whole.family);
        assert!(matches!(cut.card.output, Output::Embedding { .. }), "{arch}");
        let features = forward(cut.graph().unwrap(), &case.x, DType::F32);
        let scores = features.matmul(&weights[&format!("{head}.weight")].t().unwrap()).unwrap();
        let scores = scores.broadcast_add(&weights[&format!("{head}.bias")]).unwrap();
        let gap = distance(&scores, &forward(whole.graph().unwrap(), &case.x, DType::F32));
        assert!(gap <= 1e-6, "{arch}: {gap:e}");
        // The same weights without the head at all.
        let without = changed(&case, &case.options, |w| w.retain(|n, _| !n.starts_with(&format!("{head}.")))).unwrap();
        assert!(without.embeds, "{arch}");
        let bare = forward(&Arc::new(without.network), &case.x, DType::F32);
        assert_eq!(distance(&bare, &features), 0., "{arch}");
    }
}

/// The same weights under other names compute the same.
fn renamed(case: &Case, rename: impl Fn(&str) -> String) {
    let plain = changed(case, &case.options, |_| {}).unwrap();
    let other = changed(case, &case.options, |all| {
        *all = std::mem::take(all).into_iter().map(|(n, t)| (rename(&n), t)).collect();
    });
    let (plain, other) = (Arc::new(plain.network), Arc::new(other.unwrap().network));
    assert_eq!(distance(&forward(&other, &case.x, DType::F32), &forward(&plain, &case.x, DType::F32)), 0.);
}

#[test]
fn older_files_of_densenet_have_dots_in_their_names() {
    renamed(&case("torchvision/densenet"), |name| {
        let parts = ["norm1.", "norm2.", "conv1.", "conv2."].into_iter();
        let part = parts.filter(|_| name.contains("denselayer")).find(|p| name.contains(p));
        part.map_or(name.to_string(), |p| name.replace(p, &format!("{}.{}", &p[..4], &p[4..])))
    });
}

#[test]
fn what_the_tensors_do_not_tell_must_be_said() {
    for arch in ["timm/tf_efficientnet_b0", "timm/tf_efficientnetv2_b0", "timm/mobilenetv3_small_050"] {
        let case = case(arch);
        let silent = Options { variant: None, ..case.options.clone() };
        let error = changed(&case, &silent, |_| {}).unwrap_err().to_string();
        assert!(error.contains("`?variant=tf`") && error.contains("padding"), "{arch}: {error}");
        let wrong = Options { variant: Some("tensorflow".into()), ..case.options.clone() };
        let error = changed(&case, &wrong, |_| {}).unwrap_err().to_string();
        assert!(error.contains("`tensorflow` is not a variant"), "{arch}: {error}");
    }
    // The wrong answer is another function.
    for (arch, variant) in [
        ("timm/tf_efficientnet_b0", "plain"),
        ("timm/tf_efficientnet_b0", "plain-1e-3"),
        ("timm/efficientnet_b0", "tf"),
        ("torchvision/efficientnet_b5", "plain"),
        ("timm/tf_mobilenetv3_large", "plain-1e-3"),
        ("torchvision/mobilenet_v3_small", "plain"),
    ] {
        let case = case(arch);
        let other = Options { variant: Some(variant.into()), ..case.options.clone() };
        let network = Arc::new(changed(&case, &other, |_| {}).unwrap().network);
        let (_, _, grad) = cross_entropy(&network, &case.x, &case.labels, DType::F64);
        let gap = distance(&grad, &npz(&case.file, "grad"));
        println!("{arch} as {variant}: {gap:.1e}");
        assert!(gap > 1e-3, "{arch} as {variant}: {gap:e}");
    }
    // Depths that torchvision does not have: its epsilon is unknown.
    let b5 = case("torchvision/efficientnet_b5");
    let fewer = |w: &mut Weights| w.retain(|n, _| !n.starts_with("features.1.2."));
    let error = changed(&b5, &b5.options, fewer).unwrap_err();
    assert!(error.message.contains("stages of [2, 5, 5, 7, 7, 9, 3] blocks are none of torchvision's"), "{error}");
    let said = Options { variant: Some("plain-1e-3".into()), ..b5.options.clone() };
    changed(&b5, &said, fewer).unwrap();
    // A parameter that means nothing here.
    let densenet = case("torchvision/densenet");
    let variant = Options { variant: Some("tf".into()), ..densenet.options.clone() };
    assert!(changed(&densenet, &variant, |_| {}).unwrap_err().message.contains("`variant` is not a parameter"));
}

#[test]
fn each_tensor_of_clips_resnet_is_needed_as_it_is() {
    let case = case("openclip/resnet");
    for (name, shape) in &case.shapes {
        let without = changed(&case, &case.options, |w| drop(w.remove(name))).unwrap_err();
        let mut other = shape.clone();
        *other.last_mut().unwrap() += 1;
        let other = changed(&case, &case.options, |w| {
            w.insert(name.clone(), Tensor::zeros(other, DType::F32, &Device::Cpu).unwrap());
        });
        // A tensor that decides what the network is leaves no trace of its name.
        assert!([without.kind, other.unwrap_err().kind].iter().all(|k| *k == Kind::Load), "{name}: {without}");
    }
    let with = |change: fn(&mut Options), stages: usize| {
        let mut options = case.options.clone();
        change(&mut options);
        changed(&case, &options, |w| {
            let first: Vec<_> = w.iter().filter(|(n, _)| n.starts_with("visual.layer1.0.")).collect();
            let more: Vec<(String, Tensor)> = (4..stages)
                .flat_map(|i| {
                    first.iter().map(move |(n, t)| (n.replace("layer1", &format!("layer{}", i + 1)), (*t).clone()))
                })
                .collect();
            w.extend(more);
        })
    };
    let two = with(|o| o.heads = Some("2".into()), 0).unwrap().network;
    assert_eq!(robust_engine::digest(&two), robust_engine::digest(&with(|_| {}, 0).unwrap().network));
    let one = with(|o| o.heads = Some("1".into()), 0).unwrap().network;
    assert_ne!(robust_engine::digest(&two), robust_engine::digest(&one));
    // What the text tower of the same file needs is nothing to the image tower.
    let quick = with(|o| o.activation = Some("quick_gelu".into()), 0).unwrap().network;
    assert_eq!(robust_engine::digest(&two), robust_engine::digest(&quick));
    for (error, part) in [
        (with(|o| o.heads = Some("3".into()), 0), "128 channels are not divided among 3 heads"),
        (with(|o| o.input = Some([3, 96, 96]), 0), "for an input of 64x64"),
        (with(|_| {}, 40), "40 stages, each of half the size"),
    ] {
        let error = error.err().unwrap_or_else(|| panic!("nothing was said of {part}"));
        assert!(error.message.contains(part), "{part}: {error}");
    }
}

/// Weights, a change, and what must be said of it.
type Damage = (&'static str, fn(&mut Weights), &'static [&'static str]);

#[test]
fn damaged_weights_are_named() {
    fn zeros(all: &mut Weights, name: &str, shape: &[usize]) {
        all.insert(name.into(), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
    }
    fn rename(all: &mut Weights, from: &str, to: &str) {
        let tensor = all.remove(from).unwrap();
        all.insert(to.into(), tensor);
    }
    const NORM: &str = "features.denseblock1.denselayer2.norm2.running_var";
    let damages: [Damage; 8] = [
        ("torchvision/densenet", |w| drop(w.remove(NORM)), &["denselayer2.norm2.running_var` [", "is missing"]),
        (
            "torchvision/densenet",
            |w| rename(w, NORM, "features.denseblock1.denselayer2.norm2.running_vra"),
            &["running_var` [", "is missing (nearest: `", "running_vra` is in the file but not in the architecture"],
        ),
        (
            "torchvision/densenet",
            |w| zeros(w, "features.denseblock2.denselayer1.conv2.weight", &[8, 31, 3, 3]),
            &["`features.denseblock2.denselayer1.conv2.weight` has shape [8, 31, 3, 3], [8, 16, 3, 3] is expected"],
        ),
        (
            "torchvision/densenet",
            |w| rename(w, "features.transition1.conv.weight", "features.transition1.convs.weight"),
            &["`features.transition1.conv.weight` is missing (nearest: `features.transition1.convs.weight`)"],
        ),
        (
            "torchvision/mobilenet_v3_small",
            |w| zeros(w, "features.3.block.0.0.weight", &[48, 7, 1, 1]),
            &["`features.3.block.0.0.weight` has shape [48, 7, 1, 1], [48, 16, 1, 1] is expected"],
        ),
        (
            "torchvision/efficientnet_v2_s",
            |w| zeros(w, "features.4.0.block.2.fc1.weight", &[3, 5, 1, 1]),
            &[
                "`features.4.0.block.2.fc1.weight` has shape [3, 5, 1, 1], [3, ",
                "`features.4.0.block.2.fc1.bias` has shape",
            ],
        ),
        (
            "torchvision/regnet_y",
            |w| zeros(w, "trunk_output.block2.block2-0.f.b.0.weight", &[24, 7, 3, 3]),
            &["`trunk_output.block2.block2-0.f.b.0.weight`", "channels do not divide into groups of 7"],
        ),
        (
            "timm/convnextv2",
            |w| rename(w, "stages.2.blocks.1.mlp.grn.weight", "stages.2.blocks.1.mlp.grn.gamma"),
            &["`stages.2.blocks.1.mlp.grn.weight` [", "(nearest: `stages.2.blocks.1.mlp.grn.gamma`)"],
        ),
    ];
    for (arch, damage, said) in damages {
        let case = case(arch);
        let error = changed(&case, &case.options, damage).unwrap_err();
        assert_eq!(error.kind, robust_core::Kind::Load);
        for part in said {
            assert!(error.to_string().contains(part), "{arch}: {part} not in {error}");
        }
    }
}
