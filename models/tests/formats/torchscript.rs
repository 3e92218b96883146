//! TorchScript programs that PyTorch wrote with the module trees of OpenAI's CLIP files (`golden/make_torchscript.py`): what the
//! image towers in them compute, and what they become as safetensors.

use crate::support::{computes, golden};
use robust_core::{Kind, Output};
use robust_models::{LoadedModel, convert, inspect, load};

fn open(spec: &str) -> LoadedModel {
    load(&golden(spec).to_string_lossy()).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

#[test]
fn image_towers_in_programs_compute_what_openclip_does() {
    let expected = golden("expected_torchscript.npz");
    for name in ["clip_vit", "clip_resnet"] {
        let model = open(&format!("{name}_script.pt"));
        assert!(matches!(model.card.output, Output::Embedding { d: 12 }));
        computes(model.graph().unwrap(), &expected, name, [1e-5, 1e-6]);
    }
}

#[test]
fn what_was_understood_of_a_program_is_said() {
    let vit = open("clip_vit_script.pt");
    assert_eq!((vit.format, vit.family.as_deref(), vit.name.as_str()), ("pth", Some("clip"), "clip_vit_script"));
    let notes = vit.notes.join("\n");
    for part in ["TorchScript program", "quick GELU of OpenAI's weights", "`token_embedding.*` are left out"] {
        assert!(notes.contains(part), "{part} not in {notes}");
    }
    assert!(!notes.contains("are not tensors"), "{notes}");
    assert!(inspect(&vit).ignored.iter().any(|n| n == "text_projection"));
    let resnet = open("clip_resnet_script.pt");
    assert_eq!(resnet.family.as_deref(), Some("clip-resnet"));
    assert_eq!(inspect(&resnet).input.shape, [3, 32, 32]);
    // OpenCLIP's activation is another function.
    assert_ne!(open("clip_vit_script.pt?activation=gelu").card.digest, vit.card.digest);
    let size = load(&golden("clip_resnet_script.pt?input=3x64x64").to_string_lossy()).unwrap_err();
    assert!(size.kind == Kind::Usage && size.message.contains("for an input of 32x32"), "{size}");
}

#[test]
fn a_program_as_safetensors_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["clip_vit", "clip_resnet"] {
        let (input, output) = (golden(&format!("{name}_script.pt")), folder.path().join(format!("{name}.safetensors")));
        convert(&input, &output).unwrap();
        assert_eq!(
            load(&output.to_string_lossy()).unwrap().card.digest,
            open(&format!("{name}_script.pt")).card.digest
        );
    }
    let part = folder.path().join("visual.safetensors");
    let notes = convert(&golden("clip_vit_script.pt?key=visual"), &part).unwrap();
    assert!(notes.last().unwrap().starts_with("20 tensors written"), "{notes:?}");
}

#[test]
fn programs_that_are_no_known_network_say_what_they_hold() {
    for (spec, parts) in [
        ("stranger_script.pt", &["`layer.kernel`", "fit no known architecture"][..]),
        ("stranger_script.pt?arch=clip", &["`visual.conv1.weight` is missing"]),
        ("empty_script.pt", &["the file holds no tensors"]),
        ("packed_script.pt", &["the module `packed`", "whose state is a tuple", "torch.jit.load"]),
    ] {
        let error = load(&golden(spec).to_string_lossy()).unwrap_err();
        assert_eq!(error.kind, Kind::Load, "{spec}: {error}");
        parts.iter().for_each(|part| assert!(error.to_string().contains(part), "{spec}: {part} not in {error}"));
    }
}
