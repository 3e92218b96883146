//! Checkpoints of self-supervised training under the names their methods write: the encoder inside is found, and is the same
//! network as the bare one.

use crate::support::named;
use candle_core::Tensor;
use robust_models::Options;
use robust_models::arch::{self, Built};
use robust_models::safetensors::StateDict;
use std::collections::BTreeMap;

type Weights = BTreeMap<String, Tensor>;

fn weights<S: AsRef<str>>(shapes: impl IntoIterator<Item = (S, Vec<usize>)>) -> Weights {
    shapes.into_iter().map(|(n, s)| (n.as_ref().to_string(), named::weight(n.as_ref(), &s))).collect()
}

/// torchvision's names, one basic block, no last layer.
fn resnet(stem: usize) -> Weights {
    let mut all = vec![("conv1.weight".to_string(), vec![4, 3, stem, stem])];
    for i in [1, 2] {
        all.push((format!("layer1.0.conv{i}.weight"), vec![4, 4, 3, 3]));
    }
    for bn in ["bn1", "layer1.0.bn1", "layer1.0.bn2"] {
        all.extend(["weight", "bias", "running_mean", "running_var"].map(|p| (format!("{bn}.{p}"), vec![4])));
    }
    weights(all)
}

/// timm's names, one block, no last layer.
fn vit() -> Weights {
    let mut all = vec![
        ("cls_token".to_string(), vec![1, 1, 64]),
        ("pos_embed".into(), vec![1, 5, 64]),
        ("patch_embed.proj.weight".into(), vec![64, 3, 8, 8]),
        ("patch_embed.proj.bias".into(), vec![64]),
    ];
    for (name, out, inner) in [("attn.qkv", 192, 64), ("attn.proj", 64, 64), ("mlp.fc1", 96, 64), ("mlp.fc2", 64, 96)] {
        all.push((format!("blocks.0.{name}.weight"), vec![out, inner]));
        all.push((format!("blocks.0.{name}.bias"), vec![out]));
    }
    for norm in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
        all.extend(["weight", "bias"].map(|p| (format!("{norm}.{p}"), vec![64])));
    }
    weights(all)
}

fn prefixed(body: &Weights, prefix: &str) -> Weights {
    body.iter().map(|(n, t)| (format!("{prefix}{n}"), t.clone())).collect()
}

fn build(all: Weights) -> Built {
    arch::build(&StateDict::from_tensors(all), &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn same(what: &str, body: &Weights, prefix: &str, beside: &[&str]) {
    let bare = build(body.clone());
    assert!(bare.embeds, "{what}");
    let mut all = prefixed(body, prefix);
    all.extend(weights(beside.iter().map(|n| (*n, vec![3, 5]))));
    let found = build(all);
    assert!(found.embeds, "{what}");
    assert_eq!(robust_engine::digest(&found.network), robust_engine::digest(&bare.network), "{what}");
    assert_eq!(found.ignored.len(), beside.len(), "{what}: {:?}", found.ignored);
}

#[test]
fn the_encoder_inside_a_training_checkpoint_is_the_bare_encoder() {
    let moco = [
        "module.encoder_q.fc.0.weight",
        "module.encoder_q.fc.2.weight",
        "module.encoder_k.conv1.weight",
        "module.queue",
        "module.queue_ptr2",
    ];
    same("MoCo v2", &resnet(7), "module.encoder_q.", &moco);
    let moco3 =
        ["module.base_encoder.fc.0.weight", "module.momentum_encoder.conv1.weight", "module.predictor.0.weight"];
    same("MoCo v3", &resnet(7), "module.base_encoder.", &moco3);
    same(
        "MoCo v3 ViT",
        &vit(),
        "module.base_encoder.",
        &["module.base_encoder.head.0.weight", "module.predictor.0.weight"],
    );
    same("SimSiam", &resnet(7), "module.encoder.", &["module.encoder.fc.0.weight", "module.predictor.0.weight"]);
    same("SwAV", &resnet(7), "module.", &["module.projection_head.0.weight", "module.prototypes.weight"]);
    same("Barlow Twins", &resnet(7), "module.backbone.", &["module.projector.0.weight", "module.bn.weight2"]);
    same("VICReg", &resnet(7), "", &[]);
    same("DINO", &vit(), "module.backbone.", &["module.head.mlp.0.weight", "module.head.last_layer.weight_v"]);
    same("DINO teacher", &vit(), "backbone.", &["head.mlp.0.weight", "head.last_layer.weight_v"]);
    same(
        "solo-learn",
        &resnet(3),
        "backbone.",
        &["projector.0.weight", "classifier.weight", "momentum_backbone.conv1.weight"],
    );
    same(
        "BYOL",
        &resnet(7),
        "online_encoder.net.",
        &["target_encoder.net.conv1.weight", "online_predictor.net.0.weight"],
    );
    same("MSN", &vit(), "module.", &["module.fc.fc1.weight", "module.fc.fc2.weight"]);
    same(
        "MAE",
        &vit(),
        "",
        &["mask_token", "decoder_embed.weight", "decoder_pred.weight", "decoder_blocks.0.norm1.weight"],
    );
}

#[test]
fn heads_are_as_many_as_said_and_divide_the_width() {
    let with = |heads: Option<&str>| {
        let options = Options { heads: heads.map(Into::into), ..Options::default() };
        arch::build(&StateDict::from_tensors(vit()), &options)
    };
    let digest = |heads| robust_engine::digest(&with(heads).unwrap().network);
    assert_eq!(digest(None), digest(Some("1")));
    assert_ne!(digest(None), digest(Some("2")));
    for (bad, why) in [("3", "64 channels are not divided among 3 heads"), ("0", "0 heads"), ("x", "not a number")] {
        let error = with(Some(bad)).err().unwrap();
        assert!(error.message.contains(why), "{error}");
    }
    let all = prefixed(&vit(), "module.base_encoder.");
    assert!(build(all).notes.iter().any(|n| n.contains("?heads=12")));
}

/// timm's names and no weights but zeros: the heads of a transformer of this width, and its notes.
fn heads_of(width: usize, class: bool, said: Option<&str>) -> robust_core::Result<(usize, Vec<String>)> {
    heads_with(vec![], width, class, said)
}

/// The same with a pool of attention.
fn heads_pooled(width: usize) -> robust_core::Result<(usize, Vec<String>)> {
    let mut pool = vec![("attn_pool.latent", vec![1, 1, width]), ("attn_pool.kv.weight", vec![2 * width, width])];
    pool.extend([("attn_pool.kv.bias", vec![2 * width]), ("attn_pool.mlp.fc1.bias", vec![2])]);
    pool.extend(["attn_pool.q.weight", "attn_pool.proj.weight"].map(|n| (n, vec![width, width])));
    pool.extend([("attn_pool.mlp.fc1.weight", vec![2, width]), ("attn_pool.mlp.fc2.weight", vec![width, 2])]);
    pool.extend(["attn_pool.q.bias", "attn_pool.proj.bias", "attn_pool.mlp.fc2.bias"].map(|n| (n, vec![width])));
    pool.extend(["attn_pool.norm.weight", "attn_pool.norm.bias"].map(|n| (n, vec![width])));
    heads_with(pool, width, false, None)
}

fn heads_with(
    beside: Vec<(&str, Vec<usize>)>,
    width: usize,
    class: bool,
    said: Option<&str>,
) -> robust_core::Result<(usize, Vec<String>)> {
    let mut all: Vec<(&str, Vec<usize>)> = vec![
        ("pos_embed", vec![1, 4 + usize::from(class), width]),
        ("patch_embed.proj.weight", vec![width, 3, 2, 2]),
        ("blocks.0.attn.qkv.weight", vec![3 * width, width]),
        ("blocks.0.attn.proj.weight", vec![width, width]),
        ("blocks.0.mlp.fc1.weight", vec![2, width]),
        ("blocks.0.mlp.fc2.weight", vec![width, 2]),
        ("blocks.0.mlp.fc1.bias", vec![2]),
    ];
    for name in ["patch_embed.proj.bias", "blocks.0.attn.proj.bias", "blocks.0.mlp.fc2.bias"] {
        all.push((name, vec![width]));
    }
    for name in ["blocks.0.norm1.weight", "blocks.0.norm1.bias", "blocks.0.norm2.weight", "blocks.0.norm2.bias"] {
        all.push((name, vec![width]));
    }
    all.extend([("norm.weight", vec![width]), ("norm.bias", vec![width])]);
    all.extend(class.then(|| ("cls_token", vec![1, 1, width])));
    all.extend(beside);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let dict = all.into_iter().map(|(n, s)| (n.to_string(), zeros(&s))).collect();
    let options = Options { heads: said.map(Into::into), ..Options::default() };
    let built = arch::build(&StateDict::from_tensors(dict), &options)?;
    let heads = built.network.nodes().iter().find_map(|n| match n.op {
        robust_engine::Op::Attention { heads, .. } => Some(heads),
        _ => None,
    });
    Ok((heads.unwrap(), built.notes))
}

#[test]
fn heads_are_as_timm_has_them_at_each_width_and_asked_for_where_its_families_differ() {
    for (width, class, heads) in
        [(192, true, 3), (384, true, 6), (768, false, 12), (1152, false, 16), (1280, true, 16), (1536, true, 24)]
    {
        let (found, notes) = heads_of(width, class, None).unwrap();
        assert_eq!(found, heads, "{width}");
        let note = format!("attention has {heads} heads, as is usual for {width} channels");
        assert!(notes.iter().any(|n| n.contains(&note)), "{notes:?}");
        // Those of SigLIP 2 have no class token, and another activation.
        assert_eq!(notes.iter().any(|n| n.contains("`?activation=gelu_pytorch_tanh`")), !class, "{notes:?}");
    }
    let error = heads_of(1536, false, None).unwrap_err();
    let hint = "`?heads=24` for DINOv2's giant, `?heads=16` for SigLIP's";
    assert!(error.kind == robust_core::Kind::Load && error.to_string().contains(hint), "{error}");
    // With a pool there is one giant alone.
    let (found, notes) = heads_pooled(1536).unwrap();
    assert!(found == 16 && notes.iter().any(|n| n.contains("attention has 16 heads")), "{notes:?}");
    let (found, notes) = heads_of(1536, false, Some("16")).unwrap();
    assert!(found == 16 && !notes.iter().any(|n| n.contains("attention has")), "{notes:?}");
    let error = heads_of(96, true, None).unwrap_err();
    assert!(error.to_string().contains("no tensor tells how many heads 96 channels"), "{error}");
    assert_eq!(heads_of(96, true, Some("3")).unwrap().0, 3);
}

#[test]
fn a_network_with_its_last_layer_is_no_encoder() {
    let mut all = resnet(7);
    all.extend(weights([("fc.weight", vec![6, 4]), ("fc.bias", vec![6])]));
    let built = build(all.clone());
    assert!(!built.embeds && built.network.output_row() == [6]);
    // Half a last layer is a damaged file.
    all.remove("fc.weight");
    let error = arch::build(&StateDict::from_tensors(all), &Options::default()).unwrap_err();
    assert!(error.message.contains("`fc.weight`"), "{error}");
    let mut all = vit();
    all.extend(weights([("head.weight", vec![6, 64]), ("head.bias", vec![6])]));
    assert!(!build(all).embeds);
}
