//! Files of torch.save before 1.6, whole modules, weights in parts and networks told by their layers (`golden/make_legacy.py`): they
//! compute what PyTorch computed.

use crate::support::{computes, fixtures, golden};
use robust_core::Kind;
use robust_models::{LoadedModel, convert, inspect, load};

fn open(spec: &str) -> LoadedModel {
    load(&golden(spec).to_string_lossy()).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

fn check(spec: &str, name: &str) -> LoadedModel {
    let model = open(spec);
    computes(model.graph().unwrap(), &golden("expected_legacy.npz"), name, [1e-5, 1e-6]);
    model
}

fn has(model: &LoadedModel, parts: &[&str]) {
    let notes = model.notes.join("\n");
    parts.iter().for_each(|part| assert!(notes.contains(part), "{part} not in {notes}"));
}

#[test]
fn files_of_before_1_6_compute_what_pytorch_did() {
    computes(
        open("legacy.pth?input=1x8x8").graph().unwrap(),
        &golden("expected_pth.npz"),
        "mnist_nested",
        [1e-5, 1e-6],
    );
    assert_eq!(check("trades.pth", "trades").family.as_deref(), Some("trades-cnn"));
    let large = check("wong_large.pth", "wong_large");
    assert_eq!(large.family.as_deref(), Some("wong-kolter"));
    has(&large, &["Wong and Kolter's mean and standard deviation", "kernels of 4 have stride 2"]);
    assert_eq!(inspect(&large).normalisation.unwrap().std, [0.225; 3]);
    has(
        &check("old_sequential.pth", "old_sequential"),
        &["whole module, global `torch.nn.modules.container.Sequential`"],
    );
}

#[test]
fn a_list_of_networks_asks_which_one() {
    let error = load(&golden("old_list.pth").to_string_lossy()).unwrap_err();
    assert!(error.kind == Kind::Load && error.to_string().contains("`state_dict.0`, `state_dict.1`"), "{error}");
    assert!(error.hint.unwrap().contains("?key=state_dict.0"));
    check("old_list.pth?key=state_dict.0", "old_list");
    let (first, second) = (open("old_list.pth?key=state_dict.0"), open("old_list.pth?key=state_dict.1"));
    assert_ne!(first.card.digest, second.card.digest);
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("first.safetensors");
    convert(&golden("old_list.pth?key=state_dict.0"), &output).unwrap();
    assert_eq!(load(&output.to_string_lossy()).unwrap().card.digest, first.card.digest);
}

#[test]
fn the_tensors_of_whole_modules_are_those_of_their_state_dicts() {
    has(&check("whole_sequential.pth", "whole_sequential"), &["the file's `model`", "whole module"]);
    check("whole_sequential.pth?key=model", "whole_sequential");
    // Of a class that is not PyTorch's own the names decide, as with any state dict, and the class is said.
    has(&check("whole_class.pth?input=1x8x8", "whole_class"), &["global `__main__.Mnist`", "its code is not run"]);
    let inner = load(&golden("whole_sequential.pth?key=model.0").to_string_lossy()).unwrap_err();
    assert!(inner.to_string().contains("torch.onnx.export(model.eval()"), "{inner}");
}

#[test]
fn weights_in_parts_are_folded_to_what_pytorch_multiplies_by() {
    let parts = check("parts.pth?input=1x8x8", "parts");
    let said = ["2 weights are made of their parts (weight norm)", "1 weights are made of their parts (spectral norm)"];
    has(&parts, &said);
    has(&parts, &["2 weights are made of their parts (pruning masks)"]);
    let new = check("parametrised.pth?input=1x8x8", "parametrised");
    has(
        &new,
        &["3 weights are made of their parts (weight norm)", "1 weights are made of their parts (spectral norm)"],
    );
}

#[test]
fn ones_own_sequential_is_told_by_its_layers() {
    let layers = "conv(s=2,p=1),bn,leakyrelu(0.2),maxpool(3,s=2,p=1),conv(p=2,d=2,g=2),silu,avgpool(2),flatten,dropout,linear,tanh,linear";
    let spec = format!("own_layers.pth?input=3x16x16&layers={layers}");
    assert_eq!(check(&spec, "own_layers").family.as_deref(), Some("layers"));
    // Names instead of places, and a wrapper's prefix.
    let named = layers.replacen("conv", "0:conv", 1).replacen("bn", "1:bn", 1);
    check(&format!("own_layers.pth?input=3x16x16&layers={named}"), "own_layers");
    // Wong and Kolter's small net, its image size found by itself.
    let wong = open(
        "old_list.pth?key=state_dict.0&input=1x8x8&layers=conv(s=2,p=1),relu,conv(s=2,p=1),relu,flatten,linear,relu,linear",
    );
    computes(wong.graph().unwrap(), &golden("expected_legacy.npz"), "old_list", [1e-5, 1e-6]);
    for (layers, kind, part) in [
        ("conv(s=2,p=1),bn,rely", Kind::Usage, "did you mean `relu`"),
        ("conv(stride=2)", Kind::Usage, "`conv` takes numbers: `s=`, `p=`, `d=`, `g=`"),
        ("conv(s=0)", Kind::Usage, "not a whole number"),
        ("relu", Kind::Usage, "none of the `layers` has weights"),
        ("conv(s=2,p=1),bn", Kind::Load, "in the file but not in the architecture"),
        ("conv(s=2,p=1),linear", Kind::Load, "1.weight"),
        ("conv(s=2", Kind::Usage, "has no `)`"),
    ] {
        let error =
            load(&golden(&format!("own_layers.pth?input=3x16x16&layers={layers}")).to_string_lossy()).unwrap_err();
        assert!(error.kind == kind && error.to_string().contains(part), "{layers}: {part}: {error}");
    }
}

#[test]
fn published_nets_of_wong_and_kolter_load_as_they_are() {
    let Some(file) = fixtures().map(|f| f.join("published/mnist.pth")) else { return };
    let mnist = load(&file.to_string_lossy()).unwrap();
    assert_eq!((mnist.family.as_deref(), &mnist.card.input.shape[..]), (Some("wong-kolter"), &[1, 28, 28][..]));
    let spec = |name: &str| format!("{}?key=state_dict.0", file.with_file_name(name).display());
    assert_eq!(load(&spec("mnist_small_0_3.pth")).unwrap().card.input.shape, [1, 28, 28]);
    let cifar = load(&spec("cifar_small_8px.pth")).unwrap();
    assert_eq!(cifar.card.input.shape, [3, 32, 32]);
    assert_eq!(inspect(&cifar).normalisation.unwrap().mean, [0.485, 0.456, 0.406]);
}
