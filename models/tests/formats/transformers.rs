//! Transformers by name: what files say beside their weights, and what is wrong with damaged ones.

use crate::support::{Case, kept_cases};
use candle_core::{DType, Device, Tensor};
use robust_core::Kind;
use robust_models::safetensors::StateDict;
use robust_models::{Options, arch, load};
use std::collections::BTreeMap;

const HOMES: [&str; 8] = ["timm/vit", "timm/deit", "timm/beit", "xcit", "swin", "clip-vit", "openclip/vit", "dinov2/"];

/// Stored vectors of transformers; RobustBench's have tests of their own.
fn stored() -> impl Iterator<Item = Case> {
    let own = |c: &Case| ["amini2024", "xu2024"].iter().any(|h| c.arch.starts_with(h));
    kept_cases().into_iter().filter(move |c| HOMES.iter().any(|h| c.arch.contains(h)) && !own(c))
}

fn case(name: &str) -> Case {
    stored().find(|c| c.arch == name).unwrap_or_else(|| panic!("no vectors of {name}"))
}

fn weights(case: &Case) -> BTreeMap<String, Tensor> {
    let dict = case.weights();
    case.shapes.keys().map(|n| (n.clone(), dict.tensor(n).unwrap().clone())).collect()
}

fn digest(all: BTreeMap<String, Tensor>, options: &Options) -> String {
    robust_engine::digest(&arch::build(&StateDict::from_tensors(all), options).unwrap().network)
}

/// What is left out here changes nothing, or is another network that is as whole.
const OPTIONAL: [&str; 6] =
    ["mask_token", "relative_coords_table", "visual.proj", "cls_token", "reg_token", "register_tokens"];

#[test]
fn a_transformer_without_one_of_its_tensors_is_refused_by_its_name() {
    let mut tried = 0;
    for case in stored() {
        let whole = weights(&case);
        let names: Vec<&String> = whole.keys().filter(|n| !OPTIONAL.iter().any(|o| n.ends_with(o))).collect();
        let step = names.len().div_ceil(12);
        for name in names.iter().skip(tried % step).step_by(step) {
            let mut all = whole.clone();
            all.remove(*name);
            let error = arch::build(&StateDict::from_tensors(all), &case.options).err();
            let error = error.unwrap_or_else(|| panic!("{}: it builds without `{name}`", case.arch));
            // A tensor that decides what the network is leaves no trace of its name.
            assert!([Kind::Load, Kind::Usage].contains(&error.kind), "{}, `{name}`: {error}", case.arch);
            let mut all = whole.clone();
            let mut dims = all[*name].dims().to_vec();
            *dims.last_mut().unwrap() += 1;
            all.insert(name.to_string(), Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap());
            let error = arch::build(&StateDict::from_tensors(all), &case.options).err();
            let error = error.unwrap_or_else(|| panic!("{}: it builds with another `{name}`", case.arch));
            assert_eq!(error.kind, Kind::Load, "{}, `{name}`: {error}", case.arch);
            tried += 1;
        }
    }
    println!("{tried} tensors taken away, and changed");
    assert!(tried > 100);
}

#[test]
fn integers_beside_the_weights_say_what_the_network_is() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.safetensors");
    let with = |case: &Case, extra: &[(&str, Vec<usize>)], query: &str| {
        let mut all: std::collections::HashMap<String, Tensor> = weights(case).into_iter().collect();
        for (name, dims) in extra {
            all.insert(name.to_string(), Tensor::zeros(dims.as_slice(), DType::I64, &Device::Cpu).unwrap());
        }
        candle_core::safetensors::save(&all, &file).unwrap();
        load(&format!("{}?input=3x{1}x{1}{query}", file.display(), case.x.dims()[2]))
    };
    // OpenAI's files hold three sizes, and have the quick GELU.
    let clip = case("openclip/vit");
    let sizes = ["input_resolution", "context_length", "vocab_size"].map(|n| (n, vec![]));
    let plain = with(&clip, &[], "").unwrap();
    assert!(plain.notes.iter().any(|n| n.contains("quick_gelu")), "{:?}", plain.notes);
    let quick = with(&clip, &[], "&activation=quick_gelu").unwrap();
    let openai = with(&clip, &sizes, "").unwrap();
    assert_eq!(openai.card.digest, quick.card.digest);
    assert_ne!(openai.card.digest, plain.card.digest);
    assert!(matches!(plain.card.output, robust_core::Output::Embedding { d: 24 }));
    // Old files of Swin hold an index whose size tells the window's.
    let swin = case("timm/swin_v2");
    let index = [("layers.0.blocks.0.attn.relative_position_index", vec![16, 16])];
    let told = with(&swin, &index, "").unwrap();
    assert_eq!(told.card.digest, with(&swin, &[], "&variant=window4").unwrap().card.digest);
    for (query, why) in [
        ("", "how large the windows are"),
        ("&variant=window0", "is not known"),
        ("&variant=window99999999999999999999", "is not known"),
        ("&variant=big", "is not known"),
    ] {
        let error = with(&swin, &[], query).unwrap_err();
        assert!(error.kind == Kind::Usage && error.message.contains(why), "{query}: {error}");
    }
    let error = with(&swin, &index, "&variant=window8").unwrap_err();
    assert!(error.message.contains("the file has windows of 4"), "{error}");
}

#[test]
fn a_text_tower_is_set_aside() {
    let clip = case("openai/clip-vit");
    let bare = digest(weights(&clip), &clip.options);
    let mut both = weights(&clip);
    for (name, dims) in [
        ("token_embedding.weight", vec![9, 4]),
        ("positional_embedding", vec![3, 4]),
        ("transformer.resblocks.0.ln_1.weight", vec![4]),
        ("ln_final.bias", vec![4]),
        ("text_projection", vec![4, 24]),
        ("logit_scale", vec![]),
    ] {
        both.insert(name.into(), Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap());
    }
    let built = arch::build(&StateDict::from_tensors(both), &clip.options).unwrap();
    assert_eq!(robust_engine::digest(&built.network), bare);
    assert!(built.embeds && built.ignored.len() == 6, "{:?}", built.ignored);
}

#[test]
fn what_a_user_says_of_a_transformer_must_fit() {
    let with = |name: &str, change: fn(&mut Options)| {
        let case = case(name);
        let mut options = case.options.clone();
        change(&mut options);
        arch::build(&case.weights(), &options).unwrap_err()
    };
    let checks = [
        (with("robustbench/xcit", |o| o.variant = Some("patch3".into())), "`patchN`"),
        (with("robustbench/xcit", |o| o.variant = Some("patch512".into())), "up to 16"),
        (with("timm/beit", |o| o.input = Some([3, 64, 64])), "must be 32x32"),
        (with("torchvision/swin", |o| o.variant = Some("window4".into())), "for Swin v2"),
        (with("openclip/vit", |o| o.activation = Some("quick".into())), "`quick` is not known"),
        (with("openclip/vit", |o| o.heads = Some("5".into())), "not divided among 5 heads"),
    ];
    for (error, part) in checks {
        assert!(error.to_string().contains(part), "`{part}` not in {error}");
    }
}
