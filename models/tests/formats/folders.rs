//! Damaged and hostile Hugging Face folders: a precise error each. Built from a tiny folder of the repository.

use crate::support::golden;
use candle_core::{Device, Tensor};
use robust_core::Kind;
use robust_models::{convert, load};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

type Weights = BTreeMap<String, Tensor>;

/// The settings and weights of the tiny folder.
fn tiny() -> (Value, Weights) {
    let folder = golden("huggingface");
    let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("w.safetensors");
    convert(&folder.join("pytorch_model.bin"), &file).unwrap();
    (config, candle_core::safetensors::load(&file, &Device::Cpu).unwrap().into_iter().collect())
}

fn write(folder: &Path, config: &Value, weights: &Weights) {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    save(&folder.join("model.safetensors"), weights);
}

fn save(path: &Path, weights: &Weights) {
    let tensors: HashMap<String, Tensor> = weights.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

/// The error of a folder after `spoil` has had its way, which must name all of `parts`.
fn refused(what: &str, parts: &[&str], spoil: impl FnOnce(&mut Value, &mut Weights)) {
    let (mut config, mut weights) = tiny();
    spoil(&mut config, &mut weights);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, &weights);
    expect(what, parts, folder.path());
}

fn expect(what: &str, parts: &[&str], folder: &Path) {
    let error = load(&folder.to_string_lossy()).err().unwrap_or_else(|| panic!("{what}: it loads"));
    assert_eq!(error.kind, Kind::Load, "{what}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{what}: `{part}` not in {error}");
    }
}

const QUERY: &str = "vit.encoder.layer.0.attention.attention.query.weight";

#[test]
fn a_tensor_missing_renamed_or_of_another_shape_is_named() {
    refused("missing", &["`vit.layernorm.bias` [8] is missing"], |_, w| drop(w.remove("vit.layernorm.bias")));
    refused("missing bias", &["query.bias` [8] is missing"], |_, w| drop(w.remove(&QUERY.replace("weight", "bias"))));
    let renamed = QUERY.replace("query", "querry");
    refused(
        "renamed",
        &[&format!("`{QUERY}` [8, 8] is missing (nearest: `{renamed}`)"), "is in the file but not"],
        |_, w| {
            let t = w.remove(QUERY).unwrap();
            w.insert(renamed.clone(), t);
        },
    );
    refused("shape", &[&format!("`{QUERY}` has shape [8, 9], [8, 8]")], |_, w| {
        w.insert(QUERY.into(), Tensor::zeros((8, 9), candle_core::DType::F32, &Device::Cpu).unwrap());
    });
    refused("classifier", &["`classifier.weight` [3, 8] is missing"], |_, w| drop(w.remove("classifier.weight")));
    refused("NaN", &["`classifier.bias`", "NaN"], |_, w| {
        w.insert("classifier.bias".into(), Tensor::new(&[0f32, f32::NAN, 1.], &Device::Cpu).unwrap());
    });
}

#[test]
fn settings_that_are_wrong_or_do_not_fit_the_weights_are_named() {
    refused("typo", &["`vitt` is not known", "did you mean `vit`?"], |c, _| c["model_type"] = json!("vitt"));
    refused("family", &["model_type swin"], |c, _| c["model_type"] = json!("swin"));
    refused("convnext", &["model_type convnext"], |c, _| c["model_type"] = json!("convnext"));
    refused("none", &["no `model_type`"], |c, _| drop(c.as_object_mut().unwrap().remove("model_type")));
    refused("task", &["ViTForObjectDetection"], |c, _| c["architectures"] = json!(["ViTForObjectDetection"]));
    refused("layers", &["encoder.layer.1.", "is missing"], |c, _| c["num_hidden_layers"] = json!(2));
    refused("many layers", &["num_hidden_layers", "at most 512"], |c, _| c["num_hidden_layers"] = json!(100_000));
    refused("width", &["has shape [8"], |c, _| c["hidden_size"] = json!(1 << 20));
    refused("huge", &["`hidden_size`"], |c, _| c["hidden_size"] = json!(1u64 << 60));
    refused("negative", &["`patch_size`", "-4"], |c, _| c["patch_size"] = json!(-4));
    refused("heads", &["heads"], |c, _| c["num_attention_heads"] = json!(3));
    refused("patches", &["fewer than one patch"], |c, _| c["patch_size"] = json!(64));
    refused("activation", &["`gelo`", "nearest: `gelu`"], |c, _| c["hidden_act"] = json!("gelo"));
    for text in ["{", "[]", "", "{\"model_type\": 3}"] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &tiny().0, &tiny().1);
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        expect(text, &["config.json"], folder.path());
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut config, weights) = tiny();
    // So many places, to be resized, that nothing stands in for them.
    config["image_size"] = json!(6000);
    write(folder.path(), &config, &weights);
    let images = json!({ "size": { "height": 8, "width": 8 } });
    std::fs::write(folder.path().join("preprocessor_config.json"), images.to_string()).unwrap();
    expect("places", &["position_embeddings` has shape [1, 5, 8], [1, 2250001, 8] is expected"], folder.path());
    write(folder.path(), &tiny().0, &weights);
    for (text, part) in [
        (json!({ "image_std": [0.5, 0., 0.5] }), "not positive"),
        (json!({ "size": { "height": 0, "width": 8 } }), "`height`"),
        (json!({ "resample": 9 }), "9 is not known"),
        (json!({ "size": "big" }), "`size`"),
    ] {
        std::fs::write(folder.path().join("preprocessor_config.json"), text.to_string()).unwrap();
        expect(part, &[part], folder.path());
    }
}

#[test]
fn weights_that_are_damaged_or_lie_are_refused_before_anything_is_reserved() {
    let (config, weights) = tiny();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, &weights);
    let file = folder.path().join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 4, 8, 100, 1000, whole.len() - 1] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        expect("cut", &["model.safetensors", "damaged or not safetensors"], folder.path());
    }
    let header = |length: u64, text: &str| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let claims = r#"{"vit.layernorm.bias":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}"#;
    let hostile = [
        header(1 << 60, ""),
        header(u64::MAX, "{}"),
        header(claims.len() as u64, claims),
        [header(whole.len() as u64, "").as_slice(), &whole[8..]].concat(),
    ];
    for bytes in hostile {
        std::fs::write(&file, bytes).unwrap();
        expect("hostile", &["model.safetensors"], folder.path());
    }
    std::fs::remove_file(&file).unwrap();
    expect("none", &["it holds neither model.safetensors nor"], folder.path());
    let bare = tempfile::tempdir().unwrap();
    assert!(load(&bare.path().to_string_lossy()).unwrap_err().message.contains("no config.json"));
}

/// The tiny folder's weights in two shards.
fn sharded(folder: &Path) -> Value {
    let (config, weights) = tiny();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut map = BTreeMap::new();
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for (i, name) in names.into_iter().enumerate() {
        let part: Weights =
            weights.iter().enumerate().filter(|(k, _)| k % 2 == i).map(|(_, (n, t))| (n.clone(), t.clone())).collect();
        map.extend(part.keys().map(|n| (n.clone(), name)));
        save(&folder.join(name), &part);
    }
    json!({ "metadata": { "total_size": 1 }, "weight_map": map })
}

#[test]
fn shards_checkpoints_and_single_files_are_the_same_network() {
    let pickled = load(&golden("huggingface").to_string_lossy()).unwrap();
    let (config, weights) = tiny();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, &weights);
    let single = load(&folder.path().to_string_lossy()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let index = sharded(folder.path());
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let shards = load(&folder.path().to_string_lossy()).unwrap();
    assert_eq!(single.card.digest, pickled.card.digest);
    assert_eq!(single.card.digest, shards.card.digest);
    assert!(shards.notes.iter().any(|n| n.contains("2 shards")), "{:?}", shards.notes);
}

#[test]
fn an_index_that_points_elsewhere_or_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let index = sharded(folder.path());
    let place = folder.path().join("model.safetensors.index.json");
    let secret = tempfile::NamedTempFile::new().unwrap();
    let outside = secret.path().display().to_string();
    for name in
        ["../model-00001-of-00002.safetensors", "/etc/passwd", &outside, "a/../../b.safetensors", "..", "", "sub/x"]
    {
        let mut bad = index.clone();
        bad["weight_map"]["vit.layernorm.bias"] = json!(name);
        std::fs::write(&place, bad.to_string()).unwrap();
        expect(name, &["it is not a plain file name", "do not trust"], folder.path());
    }
    let name = index["weight_map"]["vit.layernorm.bias"].as_str().unwrap();
    let other =
        if name.contains("00001") { name.replace("00001", "00002") } else { name.replacen("00002", "00001", 1) };
    let mut bad = index.clone();
    bad["weight_map"]["vit.layernorm.bias"] = json!(other);
    std::fs::write(&place, bad.to_string()).unwrap();
    expect("wrong shard", &["`vit.layernorm.bias`"], folder.path());
    let mut bad = index.clone();
    bad["weight_map"]["not.there"] = json!(name);
    std::fs::write(&place, bad.to_string()).unwrap();
    expect("lost", &["`not.there`", "lacks it"], folder.path());
    let mut bad = index.clone();
    bad["weight_map"]["vit.layernorm.bias"] = json!("absent.safetensors");
    std::fs::write(&place, bad.to_string()).unwrap();
    expect("absent", &["absent.safetensors"], folder.path());
    std::fs::write(&place, "{\"weight_map\": 3}").unwrap();
    expect("no map", &["weight_map"], folder.path());
}

#[test]
fn what_the_processor_says_becomes_preprocessing_and_normalisation() {
    let (config, weights) = tiny();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, &weights);
    let with = |text: Value| {
        std::fs::write(folder.path().join("preprocessor_config.json"), text.to_string()).unwrap();
        let loaded = load(&folder.path().to_string_lossy()).unwrap();
        let facts = robust_models::inspect(&loaded);
        let normal = facts.normalisation.map(|n| [n.mean, n.std]);
        (loaded.card.preprocess.map(|p| p.to_string()), normal)
    };
    let say = |s: &str| Some(s.to_string());
    let plain = json!({ "size": { "height": 8, "width": 8 }, "resample": 3, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1] });
    assert_eq!(
        with(plain),
        (say("resize=8x8&interpolation=bicubic"), Some([vec![0.5, 0.4, 0.3], vec![0.2, 0.2, 0.1]]))
    );
    let cropped = json!({ "size": { "shortest_edge": 10 }, "do_center_crop": true, "crop_size": { "height": 8, "width": 8 }, "resample": 2 });
    assert_eq!(with(cropped).0, say("resize=10&crop=8x8&interpolation=bilinear"));
    let share =
        json!({ "image_processor_type": "ConvNextImageProcessor", "size": { "shortest_edge": 8 }, "crop_pct": 0.8 });
    assert_eq!(with(share).0, say("resize=10&crop=8x8&interpolation=bilinear"));
    // Bytes times 1/127.5 minus 1 are pixels in [-1, 1]: mean and deviation 0.5 of pixels in [0, 1].
    let offset = json!({ "size": 8, "rescale_factor": 1. / 127.5, "rescale_offset": true, "do_normalize": false });
    let [mean, std] = with(offset).1.unwrap();
    assert!((mean[0] - 0.5).abs() < 1e-12 && (std[0] - 0.5).abs() < 1e-12, "{mean:?} {std:?}");
    let twice = json!({ "image_processor_type": "EfficientNetImageProcessor", "size": { "height": 8, "width": 8 }, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5] });
    assert_eq!(with(twice).1.unwrap(), [vec![0.5; 3], vec![0.25, 0.0625, 0.25]]);
}

#[test]
fn an_encoder_pools_as_asked_and_a_head_makes_it_a_classifier() {
    let (mut config, mut weights) = tiny();
    config["architectures"] = json!(["ViTModel"]);
    weights.retain(|n, _| !n.starts_with("classifier"));
    let weights: Weights = weights.into_iter().map(|(n, t)| (n.strip_prefix("vit.").unwrap().to_string(), t)).collect();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, &weights);
    let at = folder.path().display().to_string();
    let class = load(&at).unwrap();
    assert_eq!(class.card.output, robust_core::Output::Embedding { d: 8 });
    let mean = load(&format!("{at}?pool=mean")).unwrap();
    assert_ne!(class.card.digest, mean.card.digest);
    assert_eq!(load(&format!("{at}?pool=max")).unwrap_err().kind, Kind::Usage);
    // The whole model's last layer as a head gives the whole model.
    let whole = load(&golden("huggingface").to_string_lossy()).unwrap();
    let (_, all) = tiny();
    let [weight, bias] = ["classifier.weight", "classifier.bias"].map(|n| all[n].clone());
    let head = robust_models::Head::Linear { weight, bias, centre: None };
    let file = folder.path().join("head.safetensors");
    head.write(&file).unwrap();
    let joined = load(&format!("{at}?head={}", file.display())).unwrap();
    assert_eq!(joined.card.output, robust_core::Output::Logits { k: 3 });
    let x = crate::support::named::image("x", &[2, 3, 8, 8]);
    let [a, b] = [&joined, &whole].map(|m| crate::support::forward(m.graph().unwrap(), &x, candle_core::DType::F64));
    assert!(crate::support::distance(&a, &b) < 1e-12);
    // Cut before its last layer, the whole model is the encoder.
    let cut = load(&format!("{}?output=features", golden("huggingface").display())).unwrap();
    assert_eq!(cut.card.digest, class.card.digest);
    let wide = robust_models::Head::Cosine {
        weight: Tensor::ones((3, 9), candle_core::DType::F32, &Device::Cpu).unwrap(),
        scale: 1.,
        bias: 0.,
    };
    wide.write(&file).unwrap();
    let error = load(&format!("{at}?head={}", file.display())).unwrap_err();
    assert!(error.message.contains("embeddings of 9 entries"), "{error}");
}
