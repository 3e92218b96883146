//! Folders as transformers writes them: outputs and input gradients against its numbers.

use crate::parity::plans_match;
use crate::support::{cross_entropy, distance, fixtures, flipped, index, named, npz};
use candle_core::{DType, Tensor};
use robust_core::Output;
use robust_models::hf::TextTower;
use robust_models::load;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// The zero-shot head of a folder whose entry has prompts, as a file.
fn text_head(folder: &Path, entry: &serde_json::Value, place: &Path) -> Option<String> {
    let prompts: Vec<Vec<u32>> = serde_json::from_value(entry.get("input_ids")?.clone()).unwrap();
    let text = TextTower::open(&folder.to_string_lossy()).unwrap().embed(&prompts).unwrap();
    let gap = distance(&text.embeddings, &npz(&folder.join("towers.npz"), "text_embeds"));
    println!("    text tower {gap:.1e}");
    assert!(gap <= 1e-6, "{gap:e}");
    let path = place.join("text.safetensors");
    text.head().write(&path).unwrap();
    Some(path.display().to_string())
}

/// Folders of `scripts/vectors_huggingface.py`, whose weights follow from their names.
#[test]
fn stored_folders_match_transformers() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/huggingface");
    let mut files: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "gz"));
    assert!(files.len() >= 5);
    for file in files {
        let entry: serde_json::Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap())).unwrap();
        let name = entry["name"].as_str().unwrap();
        let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_value(entry["shapes"].clone()).unwrap();
        let weights: HashMap<String, Tensor> = shapes.iter().map(|(n, s)| (n.clone(), named::weight(n, s))).collect();
        let folder = tempfile::tempdir().unwrap();
        let write = |weights: &HashMap<String, Tensor>| {
            candle_core::safetensors::save(weights, folder.path().join("model.safetensors")).unwrap();
        };
        let shape: Vec<usize> = serde_json::from_value(entry["input_shape"].clone()).unwrap();
        std::fs::write(folder.path().join("config.json"), entry["config"].to_string()).unwrap();
        let images = serde_json::json!({
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            "size": { "height": shape[2], "width": shape[3] },
        });
        std::fs::write(folder.path().join("preprocessor_config.json"), images.to_string()).unwrap();
        write(&weights);
        let loaded = load(&folder.path().to_string_lossy()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let x = named::image(&format!("input/{name}"), &shape);
        let labels: Vec<u32> = serde_json::from_value(entry["labels"].clone()).unwrap();
        let vectors = file.with_extension("").with_extension("npz");
        let (output, grad) = (npz(&vectors, "output"), npz(&vectors, "grad"));
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
            let (ours, _, our_grad) = cross_entropy(loaded.graph().unwrap(), &x, &labels, dtype);
            let gaps = [distance(&ours, &output), distance(&our_grad, &grad)];
            println!("{name} {dtype:?}: output {:.1e}, gradient {:.1e}", gaps[0], gaps[1]);
            assert!(gaps.iter().all(|g| *g <= bound), "{name} {dtype:?}: {gaps:?}");
        }
        plans_match(name, loaded.graph().unwrap(), &x, &labels, [&output, &grad]);
        // Without any one of its tensors a folder is refused, by that tensor's name.
        for lost in weights.keys().filter(|n| !n.contains("mask_token") && !n.contains("pooler")).step_by(5) {
            let mut part = weights.clone();
            part.remove(lost);
            write(&part);
            let error = load(&folder.path().to_string_lossy()).err();
            let error = error.unwrap_or_else(|| panic!("{name}: it loads without `{lost}`"));
            assert!(error.kind == robust_core::Kind::Load, "{name}: {error}");
            assert!(error.message.contains(lost) || error.message.contains("is missing"), "{name}, `{lost}`: {error}");
        }
    }
}

#[test]
fn folders_match_transformers() {
    let Some(root) = fixtures() else { return };
    let root = root.join("huggingface");
    let mut failed = vec![];
    for entry in index(&root.join("index.json")) {
        let name = entry["name"].as_str().unwrap();
        let folder = root.join(name);
        let place = tempfile::tempdir().unwrap();
        let head = text_head(&folder, &entry, place.path()).map_or(String::new(), |h| format!("?head={h}"));
        let loaded = match load(&format!("{}{head}", folder.display())) {
            Ok(loaded) => loaded,
            Err(e) => {
                println!("{name}: {e}");
                failed.push(name.to_string());
                continue;
            }
        };
        assert_eq!(loaded.family.as_deref(), entry["model_type"].as_str());
        let embeds = matches!(loaded.card.output, Output::Embedding { .. });
        assert_eq!(embeds, ["cls", "mae"].contains(&entry["kind"].as_str().unwrap()), "{name}");
        let file = folder.join("expected.npz");
        let (x, output, grad) = (npz(&file, "input"), npz(&file, "output"), npz(&file, "grad"));
        assert_eq!(loaded.card.input.shape, x.dims()[1..], "{name}");
        let labels: Vec<u32> = entry["labels"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let loss = entry["loss"].as_f64().unwrap();
        let net = Arc::clone(loaded.graph().unwrap());
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
            let (ours, our_loss, our_grad) = cross_entropy(&net, &x, &labels, dtype);
            let gaps = [distance(&ours, &output), distance(&our_grad, &grad), (our_loss - loss).abs() / loss];
            println!("{name} {dtype:?}: output {:.1e}, gradient {:.1e}, loss {:.1e}", gaps[0], gaps[1], gaps[2]);
            let kinks = if gaps[1] > bound { flipped(&net, &x) } else { 0 };
            let gradient_bound = if kinks > 0 { 2e-2 } else { bound };
            if gaps[0] > bound || gaps[1] > gradient_bound || gaps[2] > bound {
                failed.push(format!("{name} {dtype:?} {gaps:?} {kinks}"));
            }
        }
        if !failed.iter().any(|f| f.starts_with(name)) {
            plans_match(name, &net, &x, &labels, [&output, &grad]);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
