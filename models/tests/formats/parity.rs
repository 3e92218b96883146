//! Named architectures against PyTorch: outputs and input gradients, in f32 and f64.

use crate::support::{
    Case, cross_entropy, distance, fixtures, flipped, forward, host, kept_cases, named, npz, shared_cases, slope,
    switched,
};
use candle_core::{DType, Device, Tensor};
use flate2::read::GzDecoder;
use robust_core::{Draw, RowKey};
use robust_engine::{CpuPlan, Network, Precision, Reference};
use robust_models::safetensors::StateDict;
use robust_models::{Options, arch, load};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The same weights in a safetensors file and, where `scripts/parity_pth.py` made one, in a checkpoint of PyTorch's: the
/// same function, to the bit.
fn read_back(case: &Case, dict: &StateDict, net: &Network) {
    let (file, query) = (Path::new(case.file.file_name().unwrap()), case.query());
    let tensors: Vec<(String, Tensor)> =
        dict.names().map(|n| (n.to_string(), dict.tensor(n).unwrap().clone())).collect();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(file).with_extension("safetensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path).unwrap();
    let mut files = vec![path];
    match std::env::var_os("ROBUST_PARITY_PTH") {
        Some(folder) => files.push(Path::new(&folder).join(file).with_extension("pth")),
        None => println!("    read back from .pth: skipped, ROBUST_PARITY_PTH names no folder (scripts/parity_pth.py)"),
    }
    for path in files {
        let loaded = load(&format!("{}{query}", path.display())).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(loaded.card.digest, robust_engine::digest(net), "{}", path.display());
        println!("    read back from {}", path.extension().unwrap().display());
    }
}

#[test]
fn named_architectures_match_pytorch() {
    for case in shared_cases() {
        let dict = case.weights();
        if let Some(net) = matches(&case, &dict) {
            read_back(&case, &dict, &net);
        }
    }
}

#[test]
fn named_architectures_match_the_vectors_kept_here() {
    let cases = kept_cases();
    assert!(cases.len() >= 20);
    for case in cases {
        matches(&case, &case.weights()).unwrap();
    }
}

/// The network of a case, which computes what PyTorch does; `None` if it is not built yet.
fn matches(case: &Case, dict: &StateDict) -> Option<Arc<Network>> {
    let name = case.arch.as_str();
    let net = match arch::build(dict, &case.options) {
        Ok(built) => Arc::new(built.network),
        Err(e) if e.message.contains("fit no known architecture") => {
            println!("{name}: skipped, not built yet");
            return None;
        }
        Err(e) => panic!("{name}: {e}"),
    };
    let (output, grad) = (npz(&case.file, "output"), npz(&case.file, "grad"));
    for (dtype, bound) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
        let (ours, loss, our_grad) = cross_entropy(&net, &case.x, &case.labels, dtype);
        let gaps = [distance(&ours, &output), distance(&our_grad, &grad), (loss - case.loss).abs() / case.loss];
        println!("{name} {dtype:?}: output {:.1e}, gradient {:.1e}, loss {:.1e}", gaps[0], gaps[1], gaps[2]);
        // A ReLU within f32's rounding of zero takes the other branch; nothing but f64 is exact there.
        let kinks = if dtype == DType::F32 && gaps[1] > bound { flipped(&net, &case.x) } else { 0 };
        println!("    {kinks} ReLU units differ from f64");
        let gradient_bound = if kinks > 0 { 2e-2 } else { bound };
        assert!(gaps[0] <= bound && gaps[2] <= bound && gaps[1] <= gradient_bound, "{name} {dtype:?}: {gaps:?}");
    }
    plans_match(name, &net, &case.x, &case.labels, [&output, &grad]);
    Some(net)
}

/// The cpu plan on the same vectors: its exact form, then its fast one with the gradient.
pub fn plans_match(name: &str, net: &Arc<Network>, x: &Tensor, labels: &[u32], [output, grad]: [&Tensor; 2]) {
    let reference = Reference::new(Arc::clone(net), DType::F32).unwrap();
    let judge = CpuPlan::new(&reference, Precision::Exact, &[]).unwrap();
    let exact = judge.forward(x).unwrap();
    let fast = CpuPlan::new(&reference, Precision::Fast, &[]).unwrap();
    let mut trace = fast.trace(x).unwrap();
    let (_, seed) = slope(trace.output(), labels);
    let dx = trace.pull(&[(net.output(), seed)]).unwrap();
    let gaps = [distance(&exact, output), distance(trace.output(), output), distance(&dx, grad)];
    let signs = host(&dx).iter().zip(host(grad)).filter(|(a, b)| (**a > 0.) == (*b > 0.)).count() as f64;
    let signs = signs / dx.elem_count() as f64;
    println!(
        "{name} plan: exact {:.1e}, fast {:.1e}, gradient {:.1e}, equal signs {:.3} %",
        gaps[0],
        gaps[1],
        gaps[2],
        100. * signs
    );
    drop(trace);
    let foreseen = x.dims()[0] * CpuPlan::row_bytes(&reference).unwrap();
    let memory = (fast.workspace() + judge.workspace()) as f64 / foreseen as f64;
    println!("    memory: {memory:.2} of what was foreseen");
    // Few rows share small buffers less well than the whole unit that is counted.
    assert!(memory > 0.2 && memory < 1.25, "{name}: {memory}");
    let left = CpuPlan::left(&reference).unwrap().len();
    println!("    {left} nodes by the reference, {} ReLU units differ from f64", switched(net, x));
    assert!(gaps[0] <= 1e-5 && gaps[1] <= 1e-4, "{name}: {gaps:?}");
    // As for the reference: where rounding switches a ReLU the gradient is another one.
    let (bound, least) = if gaps[2] > 1e-4 && switched(net, x) > 0 { (5e-2, 0.98) } else { (1e-4, 0.999) };
    assert!(gaps[2] <= bound && signs >= least, "{name}: {gaps:?}, {signs}");
}

#[test]
fn onnx_files_and_their_state_dicts_are_the_same_function() {
    let Some(root) = fixtures() else { return };
    let mut compared = 0;
    for file in std::fs::read_dir(root.join("models")).unwrap().flatten() {
        let path = file.path();
        if path.extension().is_none_or(|e| e != "onnx") || !path.with_extension("safetensors").exists() {
            continue;
        }
        let onnx = load(&path.to_string_lossy()).unwrap();
        let weights = load(&path.with_extension("safetensors").to_string_lossy()).unwrap();
        assert_eq!(onnx.card.input, weights.card.input);
        let rows: Vec<RowKey> = (0..4).map(RowKey::of).collect();
        let draw = Draw { seed: 1, stream: robust_core::stream("twins"), turn: 0, rows: &rows };
        let x = draw.uniform(0., 1., &onnx.card.input.shape, &Device::Cpu).unwrap();
        let gap = distance(&onnx.model.forward(&x, &draw).unwrap(), &weights.model.forward(&x, &draw).unwrap());
        println!("{}: {gap:.1e}", path.display());
        assert!(gap <= 1e-5, "{}: {gap:e}", path.display());
        compared += 1;
    }
    assert!(compared > 0, "no twins found");
}

#[test]
fn a_built_in_model_is_the_file_it_was_made_from() {
    let Some(root) = fixtures() else { return };
    for builtin in robust_models::builtin::BUILTINS {
        let path = root.join("models").join(format!("{}.safetensors", builtin.name.replace('-', "_")));
        if path.exists() {
            let file = load(&path.to_string_lossy()).unwrap();
            assert_eq!(load(&format!("builtin:{}", builtin.name)).unwrap().card.digest, file.card.digest);
        }
    }
}

/// The first `n` MNIST test images and their labels.
fn digits(folder: &Path, n: usize) -> Option<(Tensor, Vec<u8>)> {
    let unpack = |name: &str| -> Option<Vec<u8>> {
        let mut bytes = vec![];
        GzDecoder::new(std::fs::File::open(folder.join(name)).ok()?).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let pixels = unpack("t10k-images-idx3-ubyte.gz")?[16..].iter().take(n * 784).map(|&b| b as f32 / 255.).collect();
    let labels = unpack("t10k-labels-idx1-ubyte.gz")?[8..8 + n].to_vec();
    Some((Tensor::from_vec::<_, f32>(pixels, (n, 1, 28, 28), &Device::Cpu).unwrap(), labels))
}

#[test]
fn built_in_models_classify_each_digit_as_the_reference_says() {
    let Some(root) = fixtures() else { return };
    let Ok(text) = std::fs::read_to_string(root.join("models/mnist_at-open-Linf.json")) else {
        return println!("skipped: no reference results");
    };
    let reference: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected: Vec<bool> = reference["clean_correct"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_bool().unwrap_or_else(|| v.as_u64() == Some(1)))
        .collect();
    let Some((x, labels)) = digits(&root.join("../data/mnist"), expected.len()) else {
        return println!("skipped: no MNIST beside the fixtures");
    };
    let loaded = load("builtin:mnist-at").unwrap();
    let logits = forward(loaded.graph().unwrap(), &x, DType::F32).to_vec2::<f32>().unwrap();
    let right = |(row, &label): (&Vec<f32>, &u8)| (0..10).all(|k| k == label as usize || row[k] < row[label as usize]);
    assert_eq!(logits.iter().zip(&labels).map(right).collect::<Vec<bool>>(), expected);
}

fn mnist() -> BTreeMap<String, Tensor> {
    let shapes: [(&str, &[usize]); 8] = [
        ("conv1.weight", &[2, 1, 5, 5]),
        ("conv1.bias", &[2]),
        ("conv2.weight", &[3, 2, 5, 5]),
        ("conv2.bias", &[3]),
        ("fc1.weight", &[4, 27]),
        ("fc1.bias", &[4]),
        ("fc2.weight", &[5, 4]),
        ("fc2.bias", &[5]),
    ];
    shapes.iter().map(|(n, s)| (n.to_string(), named::weight(n, s))).collect()
}

#[test]
fn a_shared_prefix_is_taken_off_by_itself_and_buffers_normalise() {
    let plain = Arc::new(arch::build(&StateDict::from_tensors(mnist()), &Options::default()).unwrap().network);
    assert_eq!(plain.input_row(), [1, 12, 12]);
    let mut wrapped: BTreeMap<String, Tensor> =
        mnist().into_iter().map(|(n, t)| (format!("module.m.{n}"), t)).collect();
    wrapped.insert("mean".into(), Tensor::new(&[0.5f32], &Device::Cpu).unwrap());
    wrapped.insert("std".into(), Tensor::new(&[[[[0.25f32]]]], &Device::Cpu).unwrap());
    let wrapped = StateDict::from_tensors(wrapped);
    let net = Arc::new(arch::build(&wrapped, &Options::default()).unwrap().network);
    let x = named::image("x", &[2, 1, 12, 12]);
    let by_hand = ((&x - 0.5).unwrap() / 0.25).unwrap();
    let gap = distance(&forward(&net, &x, DType::F64), &forward(&plain, &by_hand, DType::F64));
    assert!(gap <= 1e-6, "{gap:e}");
    let twice = Options { mean: Some(vec![0.5]), ..Options::default() };
    assert!(arch::build(&wrapped, &twice).unwrap_err().message.contains("already normalises"));
    let strip = Options { strip: Some("modul.".into()), ..Options::default() };
    assert!(arch::build(&wrapped, &strip).unwrap_err().message.contains("no tensor name starts with `modul.`"));
}

/// MNIST weights under other names.
fn renamed(name: impl Fn(&str) -> String) -> BTreeMap<String, Tensor> {
    mnist().into_iter().map(|(n, t)| (name(&n), t)).collect()
}

#[test]
fn wrappers_of_all_kinds_are_taken_off() {
    let build = |weights: BTreeMap<String, Tensor>| arch::build(&StateDict::from_tensors(weights), &Options::default());
    let plain = robust_engine::digest(&build(mnist()).unwrap().network);
    for prefix in
        ["module.", "model.", "m.", "encoder.", "backbone.", "_orig_mod.", "module._orig_mod.", "module.0.model."]
    {
        let built = build(renamed(|n| format!("{prefix}{n}"))).unwrap();
        assert_eq!(robust_engine::digest(&built.network), plain, "{prefix}");
        assert!(built.notes[0].contains(prefix.split_inclusive('.').next().unwrap()), "{:?}", built.notes);
    }
    // A head beside a wrapped body.
    let head = |n: &str| if n.starts_with("fc2") { n.to_string() } else { format!("backbone.{n}") };
    assert_eq!(robust_engine::digest(&build(renamed(head)).unwrap().network), plain);
    // Sequential(normalize, model), by number, by name, and under DataParallel.
    for (mean, std, prefix) in [
        ("0.mean", "0.std", "1."),
        ("normalize.mean", "normalize.std", "model."),
        ("module.normalizer.new_mean", "module.normalizer.new_std", "module.model."),
        ("mu", "sigma", "module."),
    ] {
        let mut weights = renamed(|n| format!("{prefix}{n}"));
        weights.insert(mean.into(), Tensor::new(&[0.5f32], &Device::Cpu).unwrap());
        weights.insert(std.into(), Tensor::new(&[0.25f32], &Device::Cpu).unwrap());
        let built = build(weights.clone()).unwrap();
        assert!(built.notes.iter().any(|n| n.contains("normalise the input")), "{mean}: {:?}", built.notes);
        assert_ne!(robust_engine::digest(&built.network), plain);
        // The `robustness` package keeps the network twice.
        if mean.contains("new_mean") {
            weights.extend(renamed(|n| format!("module.attacker.model.{n}")));
            let again = build(weights).unwrap();
            assert_eq!(again.ignored.len(), 8);
            assert_eq!(robust_engine::digest(&again.network), robust_engine::digest(&built.network));
        }
    }
}

#[test]
fn a_prefix_whose_removal_would_merge_two_networks_is_refused() {
    let mut both = renamed(|n| format!("teacher.{n}"));
    both.extend(mnist());
    let dict = StateDict::from_tensors(both);
    let strip = Options { strip: Some("teacher.".into()), ..Options::default() };
    assert!(arch::build(&dict, &strip).unwrap_err().message.contains("the same name"));
    let error = arch::build(&dict, &Options::default()).unwrap_err();
    assert!(error.message.contains("`teacher.conv1.bias` is in the file but not in the architecture"), "{error}");
}

#[test]
fn weights_that_do_not_fit_an_architecture_are_all_named() {
    let mut weights = mnist();
    weights.remove("fc2.bias");
    weights.insert("fc2.bais".into(), Tensor::new(&[0f32; 5], &Device::Cpu).unwrap());
    weights.insert("fc1.bias".into(), Tensor::new(&[0f32; 9], &Device::Cpu).unwrap());
    let error = arch::build(&StateDict::from_tensors(weights.clone()), &Options::default()).unwrap_err();
    assert_eq!(error.kind, robust_core::Kind::Load);
    for part in [
        "`fc2.bias` [5] is missing (nearest: `fc2.bais`)",
        "`fc1.bias` has shape [9], [4]",
        "`fc2.bais` is in the file",
    ] {
        assert!(error.message.contains(part), "{part} not in {error}");
    }
    weights.remove("fc2.weight");
    let unknown = arch::build(&StateDict::from_tensors(weights), &Options::default()).unwrap_err();
    for part in [
        "(hint: weights carry no code: export",
        "torch.onnx.export(model.eval(), torch.zeros(1, 3, 32, 32), 'net.onnx', dynamo=True)",
        ": mnist-cnn, ",
    ] {
        assert!(unknown.to_string().contains(part), "{part} not in {unknown}");
    }
    let named = Options { arch: Some("cifar-resnt".into()), ..Options::default() };
    let error = arch::build(&StateDict::from_tensors(mnist()), &named).unwrap_err();
    assert!(error.to_string().contains("did you mean `cifar-resnet`"), "{error}");
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let mut weights = mnist();
    weights.insert("fc1.bias".into(), Tensor::new(&[0f32, f32::NAN, 1., 2.], &Device::Cpu).unwrap());
    let error = arch::build(&StateDict::from_tensors(weights), &Options::default()).unwrap_err();
    assert!(error.message.contains("`fc1.bias`") && error.message.contains("NaN"), "{error}");
}
