//! Small ONNX files of every op family and opset, against onnx's reference evaluator (`golden/make.py`).

use crate::support::{computes, distance, forward, golden, npz};
use candle_core::DType;
use robust_models::load;

fn names() -> Vec<String> {
    let files = std::fs::read_dir(golden("")).unwrap().flatten();
    let names = files.filter_map(|f| f.file_name().to_string_lossy().strip_suffix(".onnx").map(String::from));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn every_golden_file_computes_what_the_reference_evaluator_does() {
    let expected = golden("expected.npz");
    let names = names();
    assert!(names.len() >= 20);
    for name in names {
        let loaded = load(&golden(&format!("{name}.onnx")).to_string_lossy()).unwrap_or_else(|e| panic!("{name}: {e}"));
        computes(loaded.graph().unwrap(), &expected, &name, [1e-5, 2e-6]);
    }
}

#[test]
fn of_two_outputs_the_one_called_logits_is_used_and_said() {
    let loaded = load(&golden("two_outputs_13.onnx").to_string_lossy()).unwrap();
    assert_eq!(loaded.notes.len(), 1);
    assert!(loaded.notes[0].contains("`logits` is used"), "{}", loaded.notes[0]);
}

#[test]
fn a_gzipped_file_is_the_same_model() {
    use std::io::Write;
    let plain = golden("norms_15.onnx");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("norms.onnx.gz");
    let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::default());
    gz.write_all(&std::fs::read(&plain).unwrap()).unwrap();
    gz.finish().unwrap();
    let (a, b) = (load(&plain.to_string_lossy()).unwrap(), load(&path.to_string_lossy()).unwrap());
    assert_eq!(a.card.digest, b.card.digest);
    assert_eq!(b.name, "norms");
}

#[test]
fn a_mean_and_a_standard_deviation_become_layers_of_the_network() {
    let plain = load(&golden("two_outputs_13.onnx").to_string_lossy()).unwrap();
    let spec = format!("{}?mean=0.25,0.5&std=0.5", golden("two_outputs_13.onnx").display());
    let normalised = load(&spec).unwrap();
    let x = npz(&golden("expected.npz"), "two_outputs_13.input");
    let shift = candle_core::Tensor::new(&[0.25f32, 0.5], x.device()).unwrap().reshape((1, 2, 1, 1)).unwrap();
    let scaled = (x.broadcast_sub(&shift).unwrap() / 0.5).unwrap();
    let gap = distance(
        &forward(normalised.graph().unwrap(), &x, DType::F32),
        &forward(plain.graph().unwrap(), &scaled, DType::F32),
    );
    assert!(gap <= 1e-6, "{gap:e}");
    let wrong = load(&spec.replace("0.25,0.5", "1,2,3")).unwrap_err();
    assert!(wrong.message.contains("mean has 3 values, the model 2 channels"), "{wrong}");
}
