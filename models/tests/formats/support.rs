//! Fixtures, networks run both ways, and the metric of all parity tests.

use candle_core::{DType, Device, Tensor};
use flate2::read::GzDecoder;
use ndarray::IxDyn;
use ndarray_npy::NpzReader;
use robust_engine::{Network, NodeId, Reference};
use robust_models::Options;
use robust_models::safetensors::StateDict;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The shared fixtures, or `None` (with a printed reason) where they are not installed.
pub fn fixtures() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root = PathBuf::from(std::env::var("ROBUST_FIXTURES").unwrap_or(default.into()));
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: no fixtures at {} (set ROBUST_FIXTURES)", root.display());
    None
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn index(path: &Path) -> Vec<serde_json::Value> {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One architecture with weights by name, and what PyTorch makes of it.
pub struct Case {
    pub arch: String,
    pub shapes: BTreeMap<String, Vec<usize>>,
    pub options: Options,
    pub x: Tensor,
    pub labels: Vec<u32>,
    pub loss: f64,
    /// Holds `output` and `grad`.
    pub file: PathBuf,
}

impl Case {
    fn new(entry: &Value, shapes: Value, folder: &Path) -> Self {
        let shape: Vec<usize> = serde_json::from_value(entry["input_shape"].clone()).unwrap();
        let text = |key: &str| entry["options"].get(key).map(|v| v.as_str().unwrap().to_string());
        let options = Options {
            mean: serde_json::from_value(entry["mean"].clone()).unwrap(),
            std: serde_json::from_value(entry["std"].clone()).unwrap(),
            input: Some([shape[1], shape[2], shape[3]]),
            variant: text("variant"),
            heads: text("heads"),
            activation: text("activation"),
            ..Options::default()
        };
        Self {
            arch: entry["arch"].as_str().unwrap().to_string(),
            shapes: serde_json::from_value(shapes).unwrap(),
            options,
            x: named::image(entry["input"].as_str().unwrap(), &shape),
            labels: serde_json::from_value(entry["labels"].clone()).unwrap(),
            loss: entry["loss"].as_f64().unwrap(),
            file: folder.join(entry["file"].as_str().unwrap()),
        }
    }

    /// What the loader is told, as the parameters of a spec.
    pub fn query(&self) -> String {
        let [c, h, w] = self.options.input.unwrap();
        let mut query = format!("?input={c}x{h}x{w}");
        let listed = |v: &Vec<f64>| v.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        for (key, values) in [("mean", &self.options.mean), ("std", &self.options.std)] {
            query += &values.as_ref().map_or(String::new(), |v| format!("&{key}={}", listed(v)));
        }
        let Options { variant, heads, activation, .. } = &self.options;
        for (key, value) in [("variant", variant), ("heads", heads), ("activation", activation)] {
            query += &value.as_ref().map_or(String::new(), |v| format!("&{key}={v}"));
        }
        query
    }

    pub fn weights(&self) -> StateDict {
        StateDict::from_tensors(self.shapes.iter().map(|(n, s)| (n.clone(), named::weight(n, s))).collect())
    }
}

/// The shared fixtures, where they are installed.
pub fn shared_cases() -> Vec<Case> {
    let Some(root) = fixtures() else { return vec![] };
    let folder = root.join("parity");
    let case = |entry: Value| {
        let shapes = std::fs::read_to_string(folder.join(entry["tensors"].as_str().unwrap())).unwrap();
        Case::new(&entry, serde_json::from_str(&shapes).unwrap(), &folder)
    };
    index(&folder.join("index.json")).into_iter().map(case).collect()
}

/// The vectors kept here (`scripts/vectors.py`).
pub fn kept_cases() -> Vec<Case> {
    let read = |path: &PathBuf| {
        let entry: Value = serde_json::from_reader(GzDecoder::new(std::fs::File::open(path).unwrap())).unwrap();
        Case::new(&entry, entry["shapes"].clone(), &vectors())
    };
    kept(".json.gz").iter().map(read).collect()
}

/// The files of that ending in the folder of vectors, sorted.
pub fn kept(ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(vectors()).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|f| f.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// An array of an npz file as an f32 tensor.
pub fn npz(path: &Path, name: &str) -> Tensor {
    let mut reader = NpzReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let array: ndarray::Array<f32, IxDyn> = reader.by_name(name).unwrap();
    let dims = array.shape().to_vec();
    Tensor::from_iter(array.iter().copied(), &Device::Cpu).unwrap().reshape(dims).unwrap()
}

pub fn host(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// `max|a - b| / max|b|`.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.elem_count(), b.elem_count(), "{:?} against {:?}", a.dims(), b.dims());
    let (a, b) = (host(a), host(b));
    let gap = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0., f64::max);
    assert!(a.iter().all(|v| v.is_finite()));
    gap / b.iter().map(|v| v.abs()).fold(f64::MIN_POSITIVE, f64::max)
}

pub fn forward(net: &Arc<Network>, x: &Tensor, dtype: DType) -> Tensor {
    Reference::new(Arc::clone(net), dtype).unwrap().forward(x).unwrap()
}

/// The output, and the gradient of the cross-entropy summed over rows.
pub fn cross_entropy(net: &Arc<Network>, x: &Tensor, labels: &[u32], dtype: DType) -> (Tensor, f64, Tensor) {
    let reference = Reference::new(Arc::clone(net), dtype).unwrap();
    let mut tape = reference.trace(&x.to_dtype(dtype).unwrap(), &[]).unwrap();
    let output = tape.output().clone();
    let (loss, seed) = slope(&output, labels);
    let grad = tape.pull(&[(net.output(), seed)]).unwrap();
    (output, loss, grad)
}

/// The cross-entropy summed over rows and its slope at the output.
pub fn slope(output: &Tensor, labels: &[u32]) -> (f64, Tensor) {
    let k = output.dims()[1];
    let (mut loss, mut seed) = (0., vec![]);
    for (row, &label) in host(output).chunks(k).zip(labels) {
        let top = row.iter().fold(f64::MIN, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
        loss += sum.ln() + top - row[label as usize];
        seed.extend(
            row.iter().enumerate().map(|(i, v)| (v - top).exp() / sum - f64::from(u8::from(i == label as usize))),
        );
    }
    let seed = Tensor::from_vec(seed, output.dims(), &Device::Cpu).unwrap().to_dtype(output.dtype()).unwrap();
    (loss, seed)
}

/// ReLU units that are on in f32 and off in f64 or the other way round: each changes the gradient by a finite amount.
pub fn flipped(net: &Arc<Network>, x: &Tensor) -> usize {
    let relu = |n: &robust_engine::Node| matches!(n.op, robust_engine::Op::Act(robust_engine::Activation::Relu));
    let units: Vec<NodeId> = (0..net.nodes().len()).filter(|&i| relu(&net.nodes()[i])).map(NodeId).collect();
    let on = |dtype: DType| -> Vec<bool> {
        let reference = Reference::new(Arc::clone(net), dtype).unwrap();
        let tape = reference.trace(x, &units).unwrap();
        units.iter().flat_map(|&u| host(tape.value(u).unwrap())).map(|v| v > 0.).collect()
    };
    on(DType::F32).into_iter().zip(on(DType::F64)).filter(|(a, b)| a != b).count()
}

/// As [`flipped`], of the fast plan.
pub fn switched(net: &Arc<Network>, x: &Tensor) -> usize {
    let relu = |n: &robust_engine::Node| matches!(n.op, robust_engine::Op::Act(robust_engine::Activation::Relu));
    let units: Vec<NodeId> = (0..net.nodes().len()).filter(|&i| relu(&net.nodes()[i])).map(NodeId).collect();
    let reference = Reference::new(Arc::clone(net), DType::F32).unwrap();
    let plan = robust_engine::CpuPlan::new(&reference, robust_engine::Precision::Fast, &units).unwrap();
    let trace = plan.trace(x).unwrap();
    let wide = Reference::new(Arc::clone(net), DType::F64).unwrap();
    let tape = wide.trace(x, &units).unwrap();
    let on = |t: &Tensor| host(t).into_iter().map(|v| v > 0.).collect::<Vec<bool>>();
    let differ = |u: &NodeId| {
        let (a, b) = (on(trace.value(*u).unwrap()), on(tape.value(*u).unwrap()));
        a.iter().zip(&b).filter(|(a, b)| a != b).count()
    };
    units.iter().map(differ).sum()
}

/// Deterministic tensors by name, as the fixtures' `weights.py` defines them.
pub mod named {
    use super::*;

    fn stream(name: &str, n: usize) -> Vec<f64> {
        let start =
            name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let unit = |i: u64| {
            let mut z = start.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f64 / f64::from(1u32 << 23) - 1.
        };
        (0..n as u64).map(unit).collect()
    }

    fn build(name: &str, shape: &[usize], map: impl Fn(f64) -> f64) -> Tensor {
        let values: Vec<f32> = stream(name, shape.iter().product()).into_iter().map(|u| map(u) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub fn weight(name: &str, shape: &[usize]) -> Tensor {
        let fan_in = shape.iter().skip(1).product::<usize>() as f64;
        build(name, shape, |u| match name {
            n if n.ends_with("running_var") => 1. + 0.5 * u.abs(),
            n if n.ends_with("running_mean") => 0.1 * u,
            n if n.ends_with("threshold") => 0.2 + 0.1 * u.abs(),
            _ if shape.len() >= 2 => u * (3. / fan_in).sqrt(),
            n if n.ends_with("weight") || n.ends_with("gamma") => 1. + 0.1 * u,
            _ => 0.1 * u,
        })
    }

    pub fn image(name: &str, shape: &[usize]) -> Tensor {
        build(name, shape, |u| (u + 1.) / 2.)
    }
}

/// Holds a network against the `NAME.input` and `NAME.output` of a file, within these distances in f32 and f64.
pub fn computes(network: &Arc<Network>, expected: &Path, name: &str, bounds: [f64; 2]) {
    let (x, y) = (npz(expected, &format!("{name}.input")), npz(expected, &format!("{name}.output")));
    for (dtype, bound) in [DType::F32, DType::F64].into_iter().zip(bounds) {
        let gap = distance(&forward(network, &x, dtype), &y);
        println!("{name} {dtype:?}: {gap:.1e}");
        assert!(gap <= bound, "{name} {dtype:?}: {gap:e}");
    }
}
