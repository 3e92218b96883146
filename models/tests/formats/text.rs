//! Prompts and text towers against the packages they come from: `scripts/vectors_text.py`, whose weights follow from their names.

use crate::support::{distance, forward, named, npz};
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Kind};
use robust_models::hf::TextTower;
use robust_models::load;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/text");

pub fn entry(name: &str) -> Value {
    let file = std::fs::File::open(Path::new(PLACE).join(format!("{name}.json.gz"))).unwrap();
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap()
}

pub fn list<T: serde::de::DeserializeOwned>(entry: &Value, key: &str) -> T {
    serde_json::from_value(entry[key].clone()).unwrap()
}

pub fn weights(entry: &Value) -> HashMap<String, Tensor> {
    let shapes: BTreeMap<String, Vec<usize>> = list(entry, "shapes");
    shapes.into_iter().map(|(n, s)| (n.clone(), named::weight(&n, &s))).collect()
}

/// A folder of files.
pub fn folder(files: &[(&str, &Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in files {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    }
    folder
}

pub fn save(weights: &HashMap<String, Tensor>, folder: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    candle_core::safetensors::save(weights, &path).unwrap();
    path
}

pub fn open(at: impl AsRef<Path>) -> Result<TextTower, Error> {
    TextTower::open(&at.as_ref().to_string_lossy())
}

pub fn numbers(at: impl AsRef<Path>, prompts: &[String]) -> Result<Vec<Vec<u32>>, Error> {
    open(at)?.tokenised(prompts, None)
}

/// Scores of the entry's images by a model with a head of prompts, against what the package computes.
pub fn scores_match(name: &str, spec: &str, prompts: &[Vec<u32>], shape: &[usize]) {
    let text = TextTower::open(spec).unwrap().embed(prompts).unwrap();
    let file = Path::new(PLACE).join(format!("{name}.npz"));
    let gap = distance(&text.embeddings, &npz(&file, "embeddings"));
    println!("{name}, {spec}: embeddings {gap:.1e}");
    assert!(gap <= 1e-6, "{gap:e}");
    let place = tempfile::tempdir().unwrap();
    let head = place.path().join("head.safetensors");
    text.head().write(&head).unwrap();
    let sign = if spec.contains('?') { '&' } else { '?' };
    let loaded = load(&format!("{spec}{sign}head={}", head.display())).unwrap();
    let x = named::image(&format!("input/text/{name}"), shape);
    for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
        let gap =
            distance(&forward(loaded.graph().unwrap(), &x.to_dtype(dtype).unwrap(), dtype), &npz(&file, "logits"));
        println!("{name}, {spec}: scores {dtype:?} {gap:.1e}");
        assert!(gap <= bound, "{name} {dtype:?}: {gap:e}");
    }
}

#[test]
fn prompts_are_numbered_as_transformers_numbers_them() {
    let config = |kind: &str, longest: usize| json!({ "model_type": kind, "text_config": { "max_position_embeddings": longest } });
    for (name, kind) in [("siglip", "siglip"), ("siglip2", "siglip"), ("clip", "clip")] {
        let entry = entry(name);
        let (prompts, theirs): (Vec<String>, Vec<Vec<u32>>) = (list(&entry, "prompts"), list(&entry, "numbers"));
        let longest = theirs.iter().map(Vec::len).max().unwrap();
        let mut forms = vec![entry["tokenizer"].clone()];
        if let Some(hub) = entry.get("hub") {
            // The hub's file cleans the text itself.
            let mut form = forms[0].clone();
            let steps = form["normalizer"]["normalizers"].as_array_mut().unwrap();
            *steps = hub["before"].as_array().unwrap().iter().chain(&*steps).cloned().collect();
            form["post_processor"] = hub["post_processor"].clone();
            forms.push(form);
        }
        for form in forms {
            let folder = folder(&[("config.json", &config(kind, longest)), ("tokenizer.json", &form)]);
            let ours = numbers(folder.path(), &prompts).unwrap();
            for ((prompt, ours), theirs) in prompts.iter().zip(ours).zip(&theirs) {
                match name {
                    "clip" => assert_eq!(ours[..theirs.len()], theirs[..], "{name}: {prompt}"),
                    _ => assert_eq!(ours, *theirs, "{name}: {prompt}"),
                }
            }
        }
    }
}

#[test]
fn openclip_scores_as_the_package_does_from_folders_and_files() {
    for name in ["openclip", "openclip-quick-bias", "openclip-eos"] {
        let entry = entry(name);
        let weights = weights(&entry);
        let folder = folder(&[("open_clip_config.json", &entry["config"]), ("tokenizer.json", &entry["tokenizer"])]);
        save(&weights, &folder, "open_clip_model.safetensors");
        let spec = folder.path().to_string_lossy().into_owned();
        let prompts = numbers(&spec, &list::<Vec<String>>(&entry, "prompts")).unwrap();
        for (ours, theirs) in prompts.iter().zip(list::<Vec<Vec<u32>>>(&entry, "numbers")) {
            assert_eq!(ours[..theirs.len()], theirs[..], "{name}");
        }
        scores_match(name, &spec, &prompts, &[2, 3, 32, 32]);
        let loaded = load(&spec).unwrap();
        let preprocess = loaded.card.preprocess.unwrap();
        assert_eq!((loaded.card.input.shape, preprocess.crop), (vec![3, 32, 32], Some((32, 32))));
        // Files do not say where else than at the largest number a prompt is read.
        if name != "openclip-eos" {
            let wrapped = weights.into_iter().map(|(n, t)| (format!("module.{n}"), t)).collect();
            let file = save(&wrapped, &folder, "weights.safetensors");
            let quick = if name == "openclip" { "gelu" } else { "quick_gelu" };
            let spec = format!("{}?heads=2&activation={quick}", file.display());
            assert_eq!(numbers(&spec, &list::<Vec<String>>(&entry, "prompts")).unwrap(), prompts);
            scores_match(name, &spec, &prompts, &[2, 3, 32, 32]);
        }
    }
}

#[test]
fn siglip_scores_as_transformers_does() {
    let entry = entry("siglip");
    let images =
        json!({ "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": { "height": 16, "width": 16 } });
    let files = [
        ("config.json", &entry["config"]),
        ("tokenizer.json", &entry["tokenizer"]),
        ("preprocessor_config.json", &images),
    ];
    let folder = folder(&files);
    save(&weights(&entry), &folder, "model.safetensors");
    let prompts = numbers(folder.path(), &list::<Vec<String>>(&entry, "prompts")).unwrap();
    scores_match("siglip", &folder.path().to_string_lossy(), &prompts, &[2, 3, 16, 16]);
}

/// A change to the weights, the settings or the tokenizer, and what must be said of it.
struct Damage {
    weights: fn(&mut HashMap<String, Tensor>),
    files: fn(&mut Value),
    said: &'static [&'static str],
}

impl Damage {
    fn weights(change: fn(&mut HashMap<String, Tensor>), said: &'static [&'static str]) -> Self {
        Self { weights: change, files: |_| {}, said }
    }

    fn files(change: fn(&mut Value), said: &'static [&'static str]) -> Self {
        Self { weights: |_| {}, files: change, said }
    }

    /// What a folder of OpenCLIP says to a prompt after the change.
    fn error(&self, entry: &Value, file: bool) -> Error {
        let mut entry = entry.clone();
        (self.files)(&mut entry);
        let mut all = weights(&entry);
        (self.weights)(&mut all);
        let folder = folder(&[("open_clip_config.json", &entry["config"]), ("tokenizer.json", &entry["tokenizer"])]);
        let path = save(&all, &folder, "open_clip_model.safetensors");
        let run = || {
            let tower = open(if file { &path } else { folder.path() })?;
            tower.embed(&tower.tokenised(&["a photo of a cat".into()], None)?)
        };
        run().err().unwrap_or_else(|| panic!("nothing is said of {:?}", self.said))
    }
}

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap()
}

pub fn put(all: &mut HashMap<String, Tensor>, name: &str, dims: &[usize]) {
    all.insert(name.into(), zeros(dims));
}

#[test]
fn damaged_text_towers_are_named() {
    let whole = entry("openclip");
    let both = [
        Damage::weights(|w| drop(w.remove("ln_final.weight")), &["`ln_final.weight` [128] is missing"]),
        Damage::weights(
            |w| put(w, "text_projection", &[127, 24]),
            &["`text_projection` has shape [127, 24], [128, 24]"],
        ),
        Damage::weights(|w| put(w, "text_projection", &[128]), &["`text_projection` has shape [128], 2 axes"]),
        Damage::weights(|w| drop(w.remove("text_projection")), &["`text_projection` is missing"]),
        Damage::weights(|w| drop(w.remove("logit_scale")), &["`logit_scale` [] is missing"]),
        Damage::weights(
            |w| put(w, "transformer.resblocks.1.attn.in_proj_weight", &[384, 127]),
            &["`transformer.resblocks.1.attn.in_proj_weight` has shape [384, 127]"],
        ),
        Damage::weights(
            |w| put(w, "transformer.resblocks.1.ln_attn.weight", &[128]),
            &["`transformer.resblocks.1.ln_attn.weight`"],
        ),
        Damage::weights(|w| put(w, "cls_emb", &[128]), &["`cls_emb` is in the file but not in the architecture"]),
        Damage::weights(|w| w.retain(|n, _| n.starts_with("visual.")), &["no text tower"]),
        Damage::files(
            |e| e["tokenizer"]["model"]["type"] = json!("WordPiece"),
            &["tokenizer.json", "its model is WordPiece", "BPE"],
        ),
        Damage::files(|e| e["tokenizer"]["model"] = json!(7), &["tokenizer.json", "its model is none"]),
        Damage::files(
            |e| e["tokenizer"]["model"]["vocab"]["a</w>"] = json!(70_000),
            &["tokenizer.json", "makes token 70000 of `a photo of a cat`, the tower knows"],
        ),
        Damage::files(
            |e| {
                let cls = e["tokenizer"]["post_processor"]["cls"].take();
                e["tokenizer"]["post_processor"]["cls"] = e["tokenizer"]["post_processor"]["sep"].take();
                e["tokenizer"]["post_processor"]["sep"] = cls;
            },
            &["tokenizer.json", "it ends `a photo of a cat` with token"],
        ),
    ];
    for damage in &both {
        for file in [false, true] {
            let error = damage.error(&whole, file);
            assert_eq!(error.kind, Kind::Load, "{error}");
            for part in damage.said {
                assert!(error.to_string().contains(part), "{part} not in {error}");
            }
        }
    }
    let settings = [
        Damage::files(
            |e| e["config"]["model_cfg"]["text_cfg"]["no_causal_mask"] = json!(true),
            &["`no_causal_mask` in open_clip_config.json"],
        ),
        Damage::files(
            |e| e["config"]["model_cfg"]["text_cfg"]["pool_type"] = json!("last"),
            &["`pool_type`", "`last`"],
        ),
        Damage::files(|e| e["config"]["model_cfg"]["text_cfg"]["layers"] = json!(3), &["`transformer.resblocks.2."]),
        Damage::files(|e| e["config"]["model_cfg"]["text_cfg"]["layers"] = json!(1), &["`transformer.resblocks.1."]),
        Damage::files(
            |e| e["config"]["model_cfg"]["text_cfg"]["vocab_size"] = json!(1 << 20),
            &["`token_embedding.weight` has shape"],
        ),
        Damage::files(|e| e["config"]["model_cfg"]["text_cfg"]["heads"] = json!(3), &["3 equal heads"]),
        Damage::files(
            |e| e["config"]["model_cfg"]["text_cfg"]["context_length"] = json!(5),
            &["7 tokens, the tower reads 5"],
        ),
        Damage::files(|e| e["config"] = json!({}), &["it has no `model_cfg`"]),
    ];
    for damage in settings {
        let error = damage.error(&whole, false);
        for part in damage.said {
            assert!(error.to_string().contains(part), "{part} not in {error}");
        }
    }
}

#[test]
fn a_tokenizer_cannot_fill_memory() {
    let whole = entry("openclip");
    let long = "x".repeat(1 << 16);
    let bombs: [(&str, Value, &str); 5] = [
        (
            "normalizer",
            json!({ "type": "Sequence", "normalizers": vec![json!({ "type": "NFC" }); 1000] }),
            "1000 steps",
        ),
        (
            "normalizer",
            json!({ "type": "Sequence", "normalizers":
                vec![json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaaaaaaaaaaaaaa" }); 16] }),
            "make more than 65536 bytes",
        ),
        ("normalizer", json!({ "type": "Prepend", "prepend": long }), "puts in more than 64 bytes"),
        (
            "pre_tokenizer",
            json!({ "type": "Sequence", "pretokenizers":
            vec![json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false }); 3] }),
            "more than twice",
        ),
        (
            "post_processor",
            json!({ "type": "TemplateProcessing", "pair": [], "special_tokens": {},
                "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }] }),
            "repeats the text",
        ),
    ];
    for (part, bomb, said) in bombs {
        let mut entry = whole.clone();
        entry["tokenizer"][part] = bomb;
        let folder = folder(&[("open_clip_config.json", &entry["config"]), ("tokenizer.json", &entry["tokenizer"])]);
        let error = numbers(folder.path(), &["a cat".to_string()]).unwrap_err();
        assert!(error.kind == Kind::Load && error.message.contains(said), "{said}: {error}");
    }
}

#[test]
fn a_damaged_table_of_pieces_is_an_answer_or_an_error() {
    let entry = entry("siglip");
    let config = json!({ "model_type": "siglip", "text_config": {} });
    let prompts: Vec<String> = list(&entry, "prompts");
    let whole = entry["tokenizer"].to_string();
    let folder = folder(&[("config.json", &config)]);
    let file = folder.path().join("tokenizer.json");
    let (mut state, mut refused) = (7u64, 0);
    for turn in 0..300 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= 1 << (state >> 60 & 7);
        }
        if turn % 30 == 0 {
            bytes.truncate((state >> 40) as usize % bytes.len());
        }
        std::fs::write(&file, bytes).unwrap();
        if let Err(e) = numbers(folder.path(), &prompts) {
            assert!([Kind::Load, Kind::Usage].contains(&e.kind), "{e}");
            refused += 1;
        }
    }
    println!("{refused} of 300 refused");
    assert!(refused > 10);
}

#[test]
fn what_is_missing_is_said_with_the_way_to_it() {
    let prompts = ["a cat".to_string()];
    let siglip = json!({ "model_type": "siglip", "text_config": {} });
    let pieces = folder(&[("config.json", &siglip), ("spiece.model", &json!(0))]);
    let error = numbers(pieces.path(), &prompts).unwrap_err().to_string();
    assert!(error.contains("there is no tokenizer.json") && error.contains("SpmConverter"), "{error}");
    let entry = entry("openclip");
    let alone = tempfile::tempdir().unwrap();
    let file = save(&weights(&entry), &alone, "a.safetensors");
    let error = numbers(&file, &prompts).unwrap_err().to_string();
    assert!(error.contains("there is no tokenizer.json") && error.contains("--tokenizer"), "{error}");
    let words = alone.path().join("words.json");
    std::fs::write(&words, entry["tokenizer"].to_string()).unwrap();
    let tower = open(&file).unwrap();
    assert_eq!(tower.tokenised(&prompts, Some(&words)).unwrap()[0].len(), 4);
    assert!(tower.notes().iter().any(|n| n.contains("`?activation=quick_gelu`")), "{:?}", tower.notes());
    let vit = folder(&[("config.json", &json!({ "model_type": "vit" }))]);
    assert!(numbers(vit.path(), &prompts).unwrap_err().message.contains("a `vit` folder has no text tower"));
    let naflex = folder(&[("config.json", &json!({ "model_type": "siglip2", "text_config": {} }))]);
    assert!(numbers(naflex.path(), &prompts).unwrap_err().message.contains("of a `siglip2` folder is not known"));
    // Both layouts in one folder: transformers' is read, unless its weights are not there.
    let layouts = folder(&[("config.json", &siglip), ("open_clip_config.json", &entry["config"])]);
    save(&weights(&entry), &layouts, "open_clip_model.safetensors");
    assert_eq!(load(&layouts.path().to_string_lossy()).unwrap().family.as_deref(), Some("clip"));
    save(&weights(&entry), &layouts, "model.safetensors");
    let error = load(&layouts.path().to_string_lossy()).unwrap_err();
    // What its settings leave out is what transformers' do.
    assert!(error.message.contains("siglip") && error.message.contains("[768, 3, 16, 16] is missing"), "{error}");
}

#[test]
fn towers_for_endless_prompts_are_refused_before_anything_is_made() {
    for kind in ["clip", "siglip"] {
        let config =
            |longest: usize| json!({ "model_type": kind, "text_config": { "max_position_embeddings": longest } });
        open(folder(&[("config.json", &config(4096))]).path()).unwrap();
        let error = open(folder(&[("config.json", &config(4097))]).path()).unwrap_err();
        assert!(error.kind == Kind::Load && error.message.contains("for prompts of 4097 tokens"), "{error}");
    }
    let mut entry = entry("openclip");
    entry["config"]["model_cfg"]["text_cfg"]["context_length"] = json!(1 << 20);
    let settings = folder(&[("open_clip_config.json", &entry["config"])]);
    let mut all = weights(&entry);
    put(&mut all, "positional_embedding", &[1 << 20, 1]);
    let file = save(&all, &settings, "open_clip_model.safetensors");
    for at in [settings.path(), &file] {
        let error = open(at).unwrap_err();
        assert!(error.kind == Kind::Load && error.message.contains("for prompts of 1048576 tokens"), "{error}");
    }
    // Within the bound, attention of many heads is another square: a gigabyte here.
    let text = &mut entry["config"]["model_cfg"]["text_cfg"];
    (text["context_length"], text["heads"]) = (json!(4096), json!(8));
    put(&mut all, "positional_embedding", &[4096, 128]);
    let many = folder(&[("open_clip_config.json", &entry["config"])]);
    save(&all, &many, "open_clip_model.safetensors");
    let error = open(many.path()).unwrap().embed(&[vec![1; 4096]]).unwrap_err();
    let part = "`the scores of attention`: it expands to [8, 4096, 4096]";
    assert!(error.kind == Kind::Load && error.message.contains(part), "{error}");
}

#[test]
fn parameters_that_a_model_with_two_towers_does_not_take_are_refused() {
    let entry = entry("openclip");
    let clip = json!({ "model_type": "clip", "text_config": {} });
    let layouts = [folder(&[("config.json", &clip)]), folder(&[("open_clip_config.json", &entry["config"])])];
    for at in &layouts {
        let spec = |query: &str| TextTower::open(&format!("{}?{query}", at.path().display()));
        for query in ["activation=gelu", "heads=2", "key=a", "strip=a.", "arch=clip", "variant=a", "pool=mean"] {
            assert_eq!(spec(query).unwrap_err().kind, Kind::Usage, "{query}");
        }
        // These are the image tower's.
        spec("input=3x48x48&mean=0.5&std=0.5&resize=48x48").unwrap();
    }
    let all = weights(&entry);
    let path = save(&all, &layouts[0], "a.safetensors");
    let spec = |query: &str| TextTower::open(&format!("{}?{query}", path.display()));
    for query in ["arch=vit", "variant=a", "pool=mean", "key=a"] {
        assert_eq!(spec(query).unwrap_err().kind, Kind::Usage, "{query}");
    }
    spec("arch=clip&heads=2&activation=quick_gelu").unwrap();
    let error = spec("strip=modul.").unwrap_err();
    assert!(error.kind == Kind::Load && error.message.contains("no tensor name starts with `modul.`"), "{error}");
    let mut both: HashMap<String, Tensor> = all.iter().map(|(n, t)| (format!("module.{n}"), t.clone())).collect();
    put(&mut both, "logit_scale", &[]);
    let path = save(&both, &layouts[0], "b.safetensors");
    let error = TextTower::open(&format!("{}?strip=module.", path.display())).unwrap_err();
    assert!(error.kind == Kind::Load && error.message.contains("two tensors would have the same name"), "{error}");
}

#[test]
fn images_that_openclip_would_crop_to_a_rectangle_are_refused_by_the_setting() {
    let with = |mode: &str, query: &str| {
        let mut entry = entry("openclip");
        let images = &mut entry["config"]["preprocess_cfg"];
        (images["size"], images["resize_mode"]) = (json!([32, 48]), json!(mode));
        let folder = folder(&[("open_clip_config.json", &entry["config"])]);
        save(&weights(&entry), &folder, "open_clip_model.safetensors");
        load(&format!("{}{query}", folder.path().display())).unwrap_err().to_string()
    };
    let error = with("shortest", "");
    assert!(error.contains("`resize_mode`") && error.contains("32x48") && error.contains("?resize=32x48"), "{error}");
    // What comes next is that its places are for a square.
    for (mode, query) in [("squash", ""), ("shortest", "?resize=32x48"), ("shortest", "?input=3x48x32")] {
        let error = with(mode, query);
        assert!(error.contains("is for an input of 32x32"), "{mode}{query}: {error}");
    }
}
