//! Checkpoints that PyTorch itself wrote (`golden/make_pth.py`): what the networks in them compute, what is said of them,
//! and what they become as safetensors.

use crate::support::{computes, distance, golden, named, npz};
use candle_core::DType;
use robust_core::Kind;
use robust_engine::Reference;
use robust_models::{LoadedModel, convert, inspect, load};

fn open(spec: &str) -> LoadedModel {
    load(&golden(spec).to_string_lossy()).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

fn names() -> Vec<String> {
    let reader = ndarray_npy::NpzReader::new(std::fs::File::open(golden("expected_pth.npz")).unwrap());
    let names = reader.unwrap().names().unwrap();
    let mut names: Vec<String> = names.iter().filter_map(|n| n.strip_suffix(".input").map(String::from)).collect();
    names.sort();
    names
}

fn check(model: &LoadedModel, name: &str) {
    let expected = golden("expected_pth.npz");
    computes(model.graph().unwrap(), &expected, name, [1e-5, 1e-6]);
}

/// The parameter that says the images' size, which is not the family's usual one.
fn size(name: &str) -> String {
    match *npz(&golden("expected_pth.npz"), &format!("{name}.input")).dims() {
        [_, c, h, w] => format!("?input={c}x{h}x{w}"),
        ref other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_checkpoint_computes_what_pytorch_did() {
    let names = names();
    assert!(names.len() >= 14);
    names.iter().for_each(|name| check(&open(&format!("{name}.pth{}", size(name))), name));
}

#[test]
fn a_checkpoint_as_safetensors_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for name in names() {
        let (input, output) = (golden(&format!("{name}.pth")), folder.path().join(format!("{name}.safetensors")));
        let notes = convert(&input, &output).unwrap();
        assert!(notes.last().unwrap().contains("tensors written to"), "{notes:?}");
        let at = |path: &std::path::Path| load(&format!("{}{}", path.display(), size(&name))).unwrap();
        assert_eq!(at(&input).card.digest, at(&output).card.digest, "{name}");
        // Once more changes nothing.
        let again = folder.path().join("again.safetensors");
        convert(&output, &again).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), std::fs::read(&again).unwrap());
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().flatten().all(|f| !f.path().ends_with("partial")));
    let refused = convert(&golden("quantised.pth"), &folder.path().join("refused.safetensors")).unwrap_err();
    assert_eq!(refused.kind, Kind::Load);
    assert!(!folder.path().join("refused.safetensors").exists());
    assert_eq!(convert(&golden("mnist_nested.pth"), &folder.path().join("a.pth")).unwrap_err().kind, Kind::Usage);
    let by_key = folder.path().join("ema.safetensors");
    convert(&golden("mnist_strided.pth?key=ema"), &by_key).unwrap();
    assert_eq!(load(&by_key.to_string_lossy()).unwrap().card.digest, open("mnist_strided.pth?key=ema").card.digest);
    let nowhere = convert(&golden("mnist_nested.pth"), &folder.path().join("no/a.safetensors")).unwrap_err();
    assert_eq!(nowhere.kind, Kind::Write);
}

#[test]
fn what_was_decided_is_said() {
    for (spec, parts) in [
        ("mnist_nested.pth", &["the file's `state_dict`", "prefix `module.`"][..]),
        ("mnist_strided.pth", &["the file's `net`; also there: `ema` (`?key=ema`)"]),
        ("mnist_foreign.pth", &["`model_state_dict`"]),
        ("cifar_half.pth", &["`last`", "`module.`", "`_orig_mod.`", "as they are"]),
        ("cifar_normalised.pth", &["`model.`", "`normalize.mean` and `normalize.std` normalise"]),
        ("preact_input.pth", &["read the input side", "`?variant=activated`"]),
        ("preact_activated.pth", &["read the activated side", "`?variant=input`"]),
        ("wide.pth", &["`sub_block1.*` are left out"]),
        ("grouped.pth", &["ImageNet's mean and standard deviation are applied", "`?mean=none`"]),
        ("dm_preact.pth", &["SiLU", "`mean` and `std` normalise"]),
    ] {
        let notes = open(spec).notes.join("\n");
        parts.iter().for_each(|part| assert!(notes.contains(part), "{part} not in {notes}"));
    }
}

#[test]
fn parameters_choose_what_the_file_leaves_open() {
    let digest = |spec: &str| open(spec).card.digest;
    assert_eq!(digest("mnist_strided.pth"), digest("mnist_strided.pth?key=net"));
    assert_ne!(digest("mnist_strided.pth"), digest("mnist_strided.pth?key=ema"));
    assert_eq!(digest("mnist_nested.pth"), digest("mnist_nested.pth?key=state_dict&strip=module."));
    check(&open("preact_input.pth?variant=input&input=3x8x8"), "preact_input");
    assert_ne!(digest("preact_input.pth"), digest("preact_input.pth?variant=activated"));
    assert_ne!(digest("dm_preact.pth"), digest("dm_preact.pth?activation=relu"));
    let fails = |spec: &str| load(&golden(spec).to_string_lossy()).unwrap_err();
    for (spec, kind, part) in [
        ("mnist_nested.pth?key=state_dic", Kind::Usage, "did you mean `state_dict`"),
        ("mnist_nested.pth?key=epoch", Kind::Load, "`epoch` is a number"),
        ("mnist_foreign.pth?key=args", Kind::Load, "`__main__.Opt`"),
        ("mnist_foreign.pth?key=args", Kind::Load, "d['args'].state_dict()"),
        ("mnist_foreign.pth?key=args", Kind::Load, "torch.onnx.export("),
        ("quantised.pth", Kind::Load, "tensor `w`: it is made by global `torch._utils._rebuild_qtensor`"),
        ("cifar_half.pth?activation=relu", Kind::Usage, "`activation` is not a parameter of cifar-resnet"),
        ("cifar_half.pth?arch=vgg", Kind::Load, "`features.0.weight` is missing"),
        ("cifar_normalised.pth?mean=0.5", Kind::Usage, "already normalises"),
        ("preact_input.pth?variant=x", Kind::Usage, "variant=activated"),
        ("dm_preact.pth?activation=rely", Kind::Usage, "known: relu"),
    ] {
        let error = fails(spec);
        assert!(error.kind == kind && error.to_string().contains(part), "{spec}: {part}: {error}");
    }
}

#[test]
fn what_is_no_part_of_the_function_is_listed() {
    let ignored = inspect(&open("wide.pth")).ignored;
    assert!(ignored.len() == 10 && ignored.iter().all(|n| n.starts_with("sub_block1.")), "{ignored:?}");
}

#[test]
fn the_usual_normalisation_can_be_changed_and_turned_off() {
    let normalisation = |spec: &str| inspect(&open(spec)).normalisation.map(|n| n.mean);
    assert_eq!(normalisation("grouped.pth"), Some(vec![0.485, 0.456, 0.406]));
    assert_eq!(normalisation("grouped.pth?mean=0.5&std=0.25"), Some(vec![0.5]));
    assert_eq!(normalisation("grouped.pth?mean=none"), None);
    assert_eq!(normalisation("cifar_half.pth"), None);
}

#[test]
fn maps_of_any_size_are_averaged_to_the_classifiers_as_torchs_adaptive_pool_does() {
    let model = open("vgg.pth?input=3x60x92");
    let net = model.graph().unwrap();
    let out = net.find("avgpool.rows.turned").unwrap();
    let map = net.nodes()[net.find("avgpool.columns").unwrap().0].inputs[0];
    let reference = Reference::new(net.clone(), DType::F64).unwrap();
    let tape = reference.trace(&named::image("adaptive", &[1, 3, 60, 92]), &[map, out]).unwrap();
    let (from, to) = (tape.value(map).unwrap(), tape.value(out).unwrap());
    let [_, channels, height, width] = from.dims()[..] else { panic!("{from:?}") };
    assert_eq!((height, width, to.dims()), (15, 23, &[1, channels, 7, 7][..]));
    let span = |i: usize, size: usize| (i * size / 7, ((i + 1) * size).div_ceil(7));
    for (i, j) in (0..7).flat_map(|i| (0..7).map(move |j| (i, j))) {
        let ((top, bottom), (left, right)) = (span(i, height), span(j, width));
        let window = from.narrow(2, top, bottom - top).unwrap().narrow(3, left, right - left).unwrap();
        let mean = window.mean((2, 3)).unwrap();
        let found = to.narrow(2, i, 1).unwrap().narrow(3, j, 1).unwrap();
        assert!(distance(&found, &mean) < 1e-12, "window {i}, {j}");
    }
}

#[test]
fn facts_add_up() {
    let facts = inspect(&open("cifar_normalised.pth?input=3x8x8"));
    assert_eq!((facts.format.as_str(), facts.family.as_deref(), facts.classes), ("pth", Some("cifar-resnet"), 10));
    assert_eq!(facts.input.shape, [3, 8, 8]);
    let normalisation = facts.normalisation.as_ref().unwrap();
    assert_eq!(normalisation.mean.iter().map(|v| *v as f32).collect::<Vec<_>>(), [0.5, 0.4, 0.3]);
    // Stem, two blocks (3x3s and one 1x1 shortcut), linear; norms have a scale and a shift.
    let convs = [4 * 27, 4 * 36, 4 * 36, 6 * 36, 6 * 54, 6 * 4];
    let norms = 2 * (4 + 4 + 4 + 6 + 6 + 6);
    assert_eq!(facts.parameters, convs.iter().sum::<u64>() + norms + 70);
    let positions = [64, 64, 64, 16, 16, 16];
    let products: u64 = convs.iter().zip(positions).map(|(c, p)| c * p).sum();
    let conv = facts.ops.iter().find(|o| o.op == "conv2d").unwrap();
    assert_eq!((conv.count, conv.multiply_adds, conv.interpreter.as_str()), (6, products, "cpu plan"));
    assert_eq!(facts.multiply_adds, products + 60);
    let json = serde_json::to_value(&facts).unwrap();
    assert_eq!(json["input"]["shape"], serde_json::json!([3, 8, 8]));
    assert_eq!(inspect(&load("builtin:mnist-at").unwrap()).format, "builtin");
}
