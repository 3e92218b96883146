//! Files of both PyTorch exporters.

use crate::support::{cross_entropy, distance, fixtures, index, kept, kept_cases, npz};
use candle_core::DType;
use robust_models::load;

#[test]
fn exported_models_match_their_framework() {
    let Some(root) = fixtures() else { return };
    let folder = root.join("onnx");
    let labels = index(&root.join("huggingface/index.json"));
    let mut matched = 0;
    for entry in index(&folder.join("index.json")) {
        let file = entry["file"].as_str().unwrap();
        let loaded = load(&folder.join(file).to_string_lossy()).unwrap_or_else(|e| panic!("{file}: {e}"));
        matched += 1;
        let expected = folder.join(entry["expected"].as_str().unwrap());
        let source = entry["source"].as_str().unwrap().rsplit('/').next().unwrap();
        let labels = labels.iter().find(|e| e["name"] == source).unwrap()["labels"].as_array().unwrap();
        let labels: Vec<u32> = labels.iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let (output, grad) = (npz(&expected, "output"), npz(&expected, "grad"));
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 2e-6)] {
            let (ours, _, our_grad) = cross_entropy(loaded.graph().unwrap(), &npz(&expected, "input"), &labels, dtype);
            let gaps = [distance(&ours, &output), distance(&our_grad, &grad)];
            println!("{file} {dtype:?}: output {:.1e}, gradient {:.1e}", gaps[0], gaps[1]);
            assert!(gaps.iter().all(|&g| g <= bound), "{file} {dtype:?}: {gaps:?}");
        }
    }
    assert!(matched > 0, "no file could be loaded");
}

#[test]
fn exported_convolutional_networks_match_the_vectors_of_their_names() {
    let (files, cases) = (kept(".onnx.gz"), kept_cases());
    assert!(files.len() >= 4);
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().split('.').next().unwrap().replace("__", "/");
        let case = cases.iter().find(|c| c.arch == name).unwrap();
        // The file brings no normalisation, and its own size.
        let query = case.query();
        let query = query.split_once('&').map_or(query.as_str(), |(_, rest)| rest);
        let loaded = load(&format!("{}?{query}", file.display())).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (output, grad) = (npz(&case.file, "output"), npz(&case.file, "grad"));
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
            let (ours, _, our_grad) = cross_entropy(loaded.graph().unwrap(), &case.x, &case.labels, dtype);
            let gaps = [distance(&ours, &output), distance(&our_grad, &grad)];
            println!("{} {dtype:?}: output {:.1e}, gradient {:.1e}", loaded.name, gaps[0], gaps[1]);
            assert!(gaps.iter().all(|&g| g <= bound), "{}: {gaps:?}", file.display());
        }
    }
}
