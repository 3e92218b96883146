//! Folders and files of OpenCLIP whose image tower is timm's, SigLIP's above all, against open_clip (`scripts/vectors_text.py`);
//! what is wrong with such settings and weights.

use crate::support::{cross_entropy, distance, named, npz};
use crate::text::{PLACE, entry, folder, list, numbers, open, put, save, scores_match, weights};
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Kind, Output};
use robust_models::safetensors::StateDict;
use robust_models::{Options, arch, load};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Images of each entry.
const ENTRIES: [(&str, [usize; 4]); 6] = [
    ("openclip-siglip", [2, 3, 36, 36]),
    ("openclip-siglip2", [2, 3, 36, 36]),
    ("openclip-timm-vit", [1, 3, 32, 32]),
    ("openclip-timm-eva", [1, 3, 32, 32]),
    ("openclip-timm-convnext", [1, 3, 32, 32]),
    ("openclip-timm-convnext-mlp", [1, 3, 32, 32]),
];

fn whole(entry: &Value, weights: &HashMap<String, Tensor>) -> tempfile::TempDir {
    let folder = folder(&[("open_clip_config.json", &entry["config"]), ("tokenizer.json", &entry["tokenizer"])]);
    save(weights, &folder, "open_clip_model.safetensors");
    folder
}

#[test]
fn towers_of_timm_embed_and_score_as_open_clip_does() {
    for (name, shape) in ENTRIES {
        let entry = entry(name);
        let weights = weights(&entry);
        let folder = whole(&entry, &weights);
        let spec = folder.path().to_string_lossy().into_owned();
        let loaded = load(&spec).unwrap_or_else(|e| panic!("{name}: {e}"));
        let settings = &entry["config"]["model_cfg"];
        assert_eq!(
            (loaded.family.as_deref(), loaded.card.input.shape.clone()),
            (Some("clip-timm"), shape[1..].to_vec())
        );
        assert_eq!(loaded.card.output, Output::Embedding { d: settings["embed_dim"].as_u64().unwrap() as usize });
        let siglip = name.contains("siglip");
        let images =
            if siglip { "resize=36x36&interpolation=bicubic" } else { "resize=32&crop=32x32&interpolation=bicubic" };
        assert_eq!(loaded.card.preprocess.unwrap().to_string(), images);
        // The embedding and its gradient.
        let x = named::image(&format!("input/text/{name}"), &shape);
        let file = Path::new(PLACE).join(format!("{name}.npz"));
        let labels: Vec<u32> = (0..shape[0] as u32).collect();
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
            let (ours, _, grad) = cross_entropy(loaded.graph().unwrap(), &x, &labels, dtype);
            let gaps = [distance(&ours, &npz(&file, "image")), distance(&grad, &npz(&file, "grad"))];
            println!("{name} {dtype:?}: embedding {:.1e}, gradient {:.1e}", gaps[0], gaps[1]);
            assert!(gaps.iter().all(|g| *g <= bound), "{name} {dtype:?}: {gaps:?}");
        }
        // Prompts: of SigLIP what fills them up counts.
        let (prompts, theirs): (Vec<String>, Vec<Vec<u32>>) = (list(&entry, "prompts"), list(&entry, "numbers"));
        let ours = numbers(&spec, &prompts).unwrap();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let end = if siglip { theirs.len() } else { theirs.iter().position(|t| *t == 0).unwrap_or(theirs.len()) };
            assert_eq!(ours[..end], theirs[..end], "{name}");
        }
        scores_match(name, &spec, &ours, &shape);
        alone(name, &weights, &folder, &spec, shape);
    }
}

/// The weights without settings: the same image tower, and of all but SigLIP the same text tower.
fn alone(name: &str, weights: &HashMap<String, Tensor>, folder: &tempfile::TempDir, spec: &str, shape: [usize; 4]) {
    let wrapped = weights.iter().map(|(n, t)| (format!("module.{n}"), t.clone())).collect();
    let file = save(&wrapped, folder, "weights.safetensors");
    let file = format!("{}?input=3x{1}x{1}", file.display(), shape[2]);
    let loaded = load(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(loaded.card.digest, load(spec).unwrap().card.digest, "{name}");
    let whose = if name.contains("siglip") { "SigLIP's mean" } else { "CLIP's mean" };
    assert!(loaded.notes.iter().any(|n| n.starts_with(whose)), "{name}: {:?}", loaded.notes);
    assert!(loaded.notes.iter().any(|n| n.contains("image embedding")), "{name}: {:?}", loaded.notes);
    assert!(loaded.ignored.iter().any(|n| n == "logit_scale"), "{name}: {:?}", loaded.ignored);
    if name.contains("siglip") {
        let error = open(&file).unwrap_err();
        assert!(error.kind == Kind::Load && error.to_string().contains("open_clip_config.json"), "{error}");
        return;
    }
    let prompts = list::<Vec<String>>(&entry(name), "prompts");
    scores_match(name, &file, &numbers(&file, &prompts).unwrap(), &shape);
}

/// The error of loading a folder, or of its prompts, after a change to settings and weights.
fn refused(name: &str, change: impl FnOnce(&mut Value, &mut HashMap<String, Tensor>), said: &[&str]) {
    let mut entry = entry(name);
    let mut all = weights(&entry);
    change(&mut entry, &mut all);
    let folder = whole(&entry, &all);
    let run = || -> Result<(), Error> {
        load(&folder.path().to_string_lossy())?;
        let tower = open(folder.path())?;
        tower.embed(&tower.tokenised(&["a photo of a cat".into()], None)?)?;
        Ok(())
    };
    let error = run().err().unwrap_or_else(|| panic!("nothing is said of {said:?}"));
    assert_eq!(error.kind, Kind::Load, "{error}");
    said.iter().for_each(|part| assert!(error.to_string().contains(part), "{part} not in {error}"));
}

fn vision(key: &'static str, value: Value) -> impl FnOnce(&mut Value, &mut HashMap<String, Tensor>) {
    move |e, _| e["config"]["model_cfg"]["vision_cfg"][key] = value
}

fn text(key: &'static str, value: Value) -> impl FnOnce(&mut Value, &mut HashMap<String, Tensor>) {
    move |e, _| e["config"]["model_cfg"]["text_cfg"][key] = value
}

#[test]
fn image_towers_that_are_not_known_are_refused_by_their_setting() {
    let siglip = "openclip-siglip";
    for name in ["eva02_base_patch16_clip_224", "fastvit_mci2", "vit_pe_core_base_patch16_224", "convnextv2_base"] {
        refused(siglip, vision("timm_model_name", json!(name)), &[&format!("timm's `{name}`"), "SigLIP's"]);
    }
    refused(
        siglip,
        vision("timm_model_name", json!("vit_base_patch16_siglip_224")),
        &["128 channels and [2] blocks", "768 and [12]"],
    );
    refused(
        siglip,
        vision("timm_model_name", json!("convnext_base")),
        &["`timm_pool` in open_clip_config.json", "`map`"],
    );
    refused(
        "openclip-timm-convnext",
        vision("timm_model_name", json!("convnext_xxlarge")),
        &["16 channels and [1, 1, 2, 1]", "384 and [3, 4, 30, 3]"],
    );
    refused(siglip, vision("timm_pool", json!("avgmax")), &["`timm_pool` in open_clip_config.json", "`avgmax`"]);
    refused(siglip, vision("timm_pool", json!("")), &["`timm_pool` in open_clip_config.json", "``"]);
    refused(siglip, vision("timm_pool", json!("token")), &["`timm_pool`", "`token`"]);
    refused(siglip, vision("timm_pool", json!("avg")), &["they have an attention pool", "says no attention pool"]);
    refused(siglip, vision("timm_pool", json!(1)), &["`timm_pool` in open_clip_config.json", "expected a text"]);
    refused(siglip, vision("timm_proj", json!(false)), &["`timm_proj` in open_clip_config.json", "expected a text"]);
    refused(siglip, vision("timm_proj", json!("attn")), &["`timm_proj` in open_clip_config.json", "`attn`"]);
    refused(siglip, vision("timm_proj", json!("linear")), &["they have no last layer", "`visual.head.proj`"]);
    refused(siglip, vision("timm_proj", json!(null)), &["they have no last layer", "`visual.trunk.head`"]);
    refused(
        "openclip-siglip2",
        vision("timm_proj", json!("mlp")),
        &["they have a last layer `visual.head.proj`", "`visual.head.mlp`"],
    );
    refused(
        siglip,
        vision("patch_size", json!(8)),
        &["`patch_size` in open_clip_config.json, `model_cfg`, `vision_cfg`"],
    );
    refused(
        siglip,
        |e, _| e["config"]["model_cfg"]["embed_dim"] = json!(24),
        &["gives [128] entries", "`embed_dim`", "24"],
    );
    refused(
        siglip,
        |e, _| drop(e["config"]["model_cfg"].as_object_mut().unwrap().remove("embed_dim")),
        &["`embed_dim`"],
    );
    // What a setting leaves out is OpenCLIP's own: a mean, and a linear layer.
    let gone = |e: &mut Value, _: &mut HashMap<String, Tensor>| {
        let vision = e["config"]["model_cfg"]["vision_cfg"].as_object_mut().unwrap();
        ["timm_pool", "timm_proj"].iter().for_each(|k| drop(vision.remove(*k)));
    };
    refused(siglip, gone, &["they have no last layer"]);
}

#[test]
fn text_towers_that_are_not_known_are_refused_by_their_setting() {
    let siglip = "openclip-siglip";
    for (key, value, said) in [
        ("act_kwargs", json!({ "approximate": "sin" }), "`approximate` in open_clip_config.json"),
        ("act_kwargs", json!({ "inplace": true }), "`inplace` in open_clip_config.json"),
        ("act_kwargs", json!(3), "`act_kwargs` in open_clip_config.json"),
        ("norm_kwargs", json!({ "eps": -1. }), "`eps` in open_clip_config.json"),
        ("norm_kwargs", json!({ "eps": "small" }), "`eps` in open_clip_config.json"),
        ("norm_kwargs", json!({ "elementwise_affine": "no" }), "`elementwise_affine`"),
        ("proj_type", json!("mlp"), "`proj_type` in open_clip_config.json"),
        ("proj_type", json!(3), "`proj_type` in open_clip_config.json"),
        ("pool_type", json!(["last"]), "`pool_type` in open_clip_config.json"),
        ("act_kwargs", json!({ "approximate": 1 }), "`approximate` in open_clip_config.json"),
        ("hf_tokenizer_name", json!(1), "`pool_type` in open_clip_config.json"),
        ("pool_type", json!("first"), "`pool_type` in open_clip_config.json"),
        ("pool_type", json!("argmax"), "`no_causal_mask` in open_clip_config.json"),
        ("hf_tokenizer_name", json!(null), "`pool_type` in open_clip_config.json"),
        ("tokenizer_kwargs", json!({ "strip_sep_token": true }), "`strip_sep_token` in open_clip_config.json"),
        ("hf_model_name", json!("roberta-base"), "`hf_model_name` in open_clip_config.json"),
        ("embed_cls", json!(true), "`embed_cls` in open_clip_config.json"),
        // Layers and words that are others.
        ("proj_type", json!("none"), "`text_projection.bias` is in the file but not in the architecture"),
        ("layers", json!(3), "`transformer.resblocks.2."),
        ("context_length", json!(17), "`positional_embedding` has shape [16, 64], [17, 64]"),
    ] {
        refused(siglip, text(key, value), &[said]);
    }
    let quick = |e: &mut Value, _: &mut HashMap<String, Tensor>| e["config"]["model_cfg"]["quick_gelu"] = json!(true);
    refused("openclip-siglip2", quick, &["`act_kwargs` in open_clip_config.json", "quick GELU"]);
    let renamed = |e: &mut Value, _: &mut HashMap<String, Tensor>| {
        let words = e["tokenizer"]["model"]["vocab"].as_object_mut().unwrap();
        let pad = words.remove("<pad>").unwrap();
        words.insert("[pad]".into(), pad);
        e["tokenizer"]["added_tokens"] = json!([]);
    };
    refused("openclip-siglip2", renamed, &["tokenizer.json", "it has no `<pad>`"]);
}

#[test]
fn damaged_towers_of_timm_are_named() {
    let siglip = "openclip-siglip";
    for (part, dims, said) in [
        ("attn_pool.latent", vec![1, 2, 128], "`attn_pool.latent` has shape [1, 2, 128], [1, 1, 128]"),
        ("attn_pool.q.weight", vec![128, 64], "`attn_pool.q.weight` has shape [128, 64]"),
        ("attn_pool.kv.bias", vec![128], "`attn_pool.kv.bias` has shape [128], [256]"),
        ("attn_pool.mlp.fc1.weight", vec![7], "`attn_pool.mlp.fc1.weight` has shape [7], 2 axes"),
        ("attn_pool.pos_embed", vec![16, 128], "`attn_pool.pos_embed` is in the file but not in the architecture"),
        ("attn_pool.q_norm.weight", vec![64], "`attn_pool.q_norm.weight` is in the file"),
        ("pos_embed", vec![1, 17, 128], "17 places are not a square"),
    ] {
        refused(siglip, |_, w| put(w, &format!("visual.trunk.{part}"), &dims), &["`visual.trunk.*`", said]);
    }
    for part in
        ["attn_pool.q.bias", "attn_pool.kv.weight", "attn_pool.norm.bias", "attn_pool.proj.weight", "norm.weight"]
    {
        let gone = format!("visual.trunk.{part}");
        refused(siglip, |_, w| drop(w.remove(&gone)), &["`visual.trunk.*`", &format!("`{part}`"), "is missing"]);
    }
    refused(siglip, |_, w| put(w, "visual.more", &[3]), &["`visual.more` is in the file but not"]);
    refused(
        "openclip-siglip2",
        |_, w| put(w, "visual.head.mlp.fc1.weight", &[3, 3]),
        &["`visual.head.mlp.fc1.weight` is in the file"],
    );
    refused(
        "openclip-timm-convnext-mlp",
        |_, w| drop(w.remove("visual.head.mlp.fc1.bias")),
        &["`visual.head.mlp.fc1.bias`"],
    );
    let strangers = |_: &mut Value, w: &mut HashMap<String, Tensor>| {
        *w = w.drain().map(|(n, t)| (n.replace("visual.trunk.", "visual.trunk.visual.trunk."), t)).collect();
    };
    refused("openclip-timm-vit", strangers, &["they have no last layer"]);
}

fn build(all: &[(&str, Vec<usize>)], options: &Options) -> Result<arch::Built, Error> {
    let zeros = |dims: &Vec<usize>| Tensor::zeros(dims.as_slice(), DType::F32, &Device::Cpu).unwrap();
    let all: BTreeMap<String, Tensor> = all.iter().map(|(n, d)| (n.to_string(), zeros(d))).collect();
    arch::build(&StateDict::from_tensors(all), options)
}

#[test]
fn trunks_of_other_homes_are_refused_and_nest_no_deeper() {
    let nested = "visual.trunk.".repeat(1000);
    let error = build(&[(&format!("{nested}conv1.weight"), vec![4, 3, 3, 3])], &Options::default()).unwrap_err();
    assert!(error.kind == Kind::Load && error.message.contains("neither those of `vit` nor of `convnext`"), "{error}");
    let convnext = entry("openclip-timm-convnext");
    let all: BTreeMap<String, Tensor> = weights(&convnext).into_iter().collect();
    let options = Options { heads: Some("2".into()), ..Options::default() };
    let error = arch::build(&StateDict::from_tensors(all), &options).unwrap_err();
    assert!(error.kind == Kind::Usage && error.message.contains("`heads` is not a parameter of convnext"), "{error}");
    // EVA-02's enormous has the names of others, and its norms elsewhere.
    let enormous = [
        ("pos_embed", vec![1, 5, 1792]),
        ("cls_token", vec![1, 1, 1792]),
        ("patch_embed.proj.weight", vec![1792, 3, 2, 2]),
        ("blocks.0.attn.qkv.weight", vec![1, 1]),
        ("blocks.0.attn.q_bias", vec![1792]),
    ];
    let error = build(&enormous, &Options::default()).unwrap_err();
    assert!(error.kind == Kind::Load && error.message.contains("EVA-02's enormous"), "{error}");
}
