//! Zero-shot heads from prompts, through the command.

use crate::support::{Place, images};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// A network of OpenCLIP with both towers, one block each, of pseudo-random weights.
fn weights() -> Vec<u8> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("visual.class_embedding".into(), vec![64]),
        ("visual.positional_embedding".into(), vec![5, 64]),
        ("visual.conv1.weight".into(), vec![64, 3, 8, 8]),
        ("visual.proj".into(), vec![64, 12]),
        ("token_embedding.weight".into(), vec![12, 64]),
        ("positional_embedding".into(), vec![8, 64]),
        ("text_projection".into(), vec![64, 12]),
        ("logit_scale".into(), vec![]),
    ];
    let norm = |name: &str| [(format!("{name}.weight"), vec![64]), (format!("{name}.bias"), vec![64])];
    let linear = |name: &str, out: usize, inner: usize| {
        [(format!("{name}weight"), vec![out, inner]), (format!("{name}bias"), vec![out])]
    };
    for (tower, norms) in [("visual.", &["visual.ln_pre", "visual.ln_post"][..]), ("", &["ln_final"])] {
        let block = format!("{tower}transformer.resblocks.0");
        shapes.extend(norms.iter().flat_map(|n| norm(n)));
        shapes.extend([1, 2].iter().flat_map(|i| norm(&format!("{block}.ln_{i}"))));
        shapes.extend(linear(&format!("{block}.attn.in_proj_"), 192, 64));
        shapes.extend(linear(&format!("{block}.attn.out_proj."), 64, 64));
        shapes.extend(linear(&format!("{block}.mlp.c_fc."), 128, 64));
        shapes.extend(linear(&format!("{block}.mlp.c_proj."), 64, 128));
    }
    let mut state = 1u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.
    };
    let bytes: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(name, dims)| {
            let fan_in = dims.iter().skip(1).product::<usize>() as f32;
            let spread = if dims.len() > 1 { (3. / fan_in).sqrt() } else { 0.1 };
            let centre = if name.contains("ln_") && name.ends_with("weight") { 1. } else { 0. };
            let scale = if name == "logit_scale" { 3. } else { centre };
            (0..dims.iter().product()).flat_map(|_| (scale + spread * number()).to_le_bytes()).collect()
        })
        .collect();
    let views = shapes.iter().zip(&bytes).map(|((n, d), b)| (n, TensorView::new(Dtype::F32, d.clone(), b).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// As CLIP's, of four letters.
fn tokenizer() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "[a-z]+" }, "behavior": "Removed", "invert": true },
        "post_processor": { "type": "RobertaProcessing", "sep": ["<end>", 11], "cls": ["<start>", 10],
            "trim_offsets": false, "add_prefix_space": false },
        "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<end>", "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "merges": ["c a", "ca t</w>"],
            "vocab": { "a": 0, "c": 1, "t": 2, "a</w>": 3, "t</w>": 4, "s</w>": 5, "ca": 6, "cat</w>": 7, "s": 8, "c</w>": 9,
                "<start>": 10, "<end>": 11 },
        },
    })
}

fn folder(place: &Place) {
    let settings = json!({
        "model_cfg": {
            "embed_dim": 12, "quick_gelu": true,
            "vision_cfg": { "image_size": 16, "layers": 1, "width": 64, "head_width": 64, "patch_size": 8 },
            "text_cfg": { "context_length": 8, "vocab_size": 12, "width": 64, "heads": 1, "layers": 1 },
        },
        "preprocess_cfg": { "size": 16, "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic" },
    });
    std::fs::create_dir(place.path("clip")).unwrap();
    for (name, text) in [("open_clip_config.json", settings), ("tokenizer.json", tokenizer())] {
        std::fs::write(place.path(&format!("clip/{name}")), text.to_string()).unwrap();
    }
    std::fs::write(place.path("clip/open_clip_model.safetensors"), weights()).unwrap();
    std::fs::copy(place.path("clip/open_clip_model.safetensors"), place.path("net.safetensors")).unwrap();
}

#[test]
fn prompts_make_a_head_that_is_attacked_and_verified() {
    let place = Place::new();
    folder(&place);
    std::fs::write(place.path("prompts.txt"), "a cat\nCats\na a a\n").unwrap();
    let x: Vec<f32> = (0..6 * 768).map(|i| ((i * 7919) % 256) as f32 / 255.).collect();
    images(&place, "six.safetensors", &x, [6, 3, 16, 16], &[0, 1, 2, 0, 1, 2]);
    let probe = "probe --method text --prompts prompts.txt --test six.safetensors --json";
    let file = "net.safetensors?activation=quick_gelu&mean=0.48,0.46,0.41&std=0.27,0.26,0.28";
    let mut accuracies = vec![];
    for (model, head, more) in [("clip", "folder.head", ""), (file, "file.head", "--tokenizer clip/tokenizer.json")] {
        let said = place.ok(&format!("{probe} --model {model} {more} -o {head}.safetensors"));
        let json: Value = serde_json::from_str(&said.out).unwrap();
        accuracies.push(json["test_accuracy"].as_f64().unwrap());
        let sign = if model.contains('?') { '&' } else { '?' };
        let eval = format!("eval --model {model}{sign}head={head}.safetensors --dataset six.safetensors --no-doctor");
        place.ok(&format!("{eval} --attack pgd-linf:eps=8/255,steps=3 --out {head}"));
        place.ok(&format!("verify {head}"));
    }
    // Two ways to one network.
    assert_eq!(accuracies[0], accuracies[1]);
    let rows = |head: &str| {
        let bytes = std::fs::read(place.path(head)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("weight").unwrap().data().to_vec()
    };
    assert_eq!(rows("folder.head.safetensors"), rows("file.head.safetensors"));
    let outcomes = ["folder.head", "file.head"].map(|d| place.read(&format!("{d}/outcomes.jsonl")));
    let verdicts = outcomes
        .map(|o| o.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["verdict"].clone()).collect::<Vec<_>>());
    assert_eq!(verdicts[0], verdicts[1]);
}

#[test]
fn what_is_missing_for_prompts_is_said() {
    let place = Place::new();
    folder(&place);
    std::fs::write(place.path("prompts.txt"), "a cat\n").unwrap();
    let probe = |model: &str, more: &str| format!("probe --model {model} --method text -o head.safetensors {more}");
    place.fails(
        &probe("net.safetensors", "--prompts prompts.txt"),
        4,
        &["there is no tokenizer.json", "--tokenizer FILE"],
    );
    place.fails(&probe("builtin:mnist-std", "--prompts prompts.txt"), 4, &["has no text tower"]);
    place.fails(&probe("net.safetensors", "--tokenizer clip/tokenizer.json"), 2, &["--prompts"]);
    std::fs::write(place.path("prompts.txt"), "a cat\n\n").unwrap();
    place.fails(&probe("clip", "--prompts prompts.txt"), 2, &["has 0 bytes"]);
    std::fs::write(place.path("tokens.json"), "[[10, 3, 99]]").unwrap();
    place.fails(&probe("clip", "--tokens tokens.json"), 2, &["token 99 is not one of the 12"]);
}
