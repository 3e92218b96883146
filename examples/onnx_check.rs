//! Holds models against numbers that other software computed for them.
//!
//! `cargo run --example onnx_check -- NET.onnx VECTORS.safetensors`
//! `cargo run --example onnx_check -- --list FILE`
//!
//! The vectors are `x` `[n, ...]` and `y` `[n, k]` (what the network gives), and `g` `[n, k]` with or without `dx` (the gradient of
//! `<g, y>` in `x`). A list has a line `NET.onnx<tab>VECTORS.safetensors` for each model. One line of JSON comes back for each: the
//! largest difference relative to the largest entry of outputs (`fast` and `exact`) and of gradients (`gradient`, and the share of
//! entries with equal `signs`; without `dx`, `slope`: of the gradient's products with random directions, to differences in f64); or why the
//! file was refused. `scripts/onnx_zoo.py` and `scripts/onnx_nodes.py` make such files.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use candle_core::{DType, Device, Tensor};
use robust::core::{Draw, Error, Result, RowKey, Site};
use robust::engine::{Network, Reference};
use robust::models::LoadedModel;
use std::collections::HashMap;
use std::sync::Arc;

struct Vectors(HashMap<String, Tensor>);

impl Vectors {
    fn get(&self, name: &str) -> Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::usage(format!("the vectors hold no `{name}`")))?;
        Ok(tensor.to_dtype(DType::F32)?)
    }
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The largest difference over the largest entry of `theirs`; infinite where one is a number and the other is not.
fn distance(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    if ours.elem_count() != theirs.elem_count() {
        return Ok(f64::INFINITY);
    }
    let (ours, theirs) = (flat(ours)?, flat(theirs)?);
    let top = theirs.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let gap = |(a, b): (&f64, &f64)| match () {
        () if a == b || a.is_nan() && b.is_nan() => 0.,
        () if a.is_finite() && b.is_finite() => (a - b).abs() / top.max(1e-30),
        () => f64::INFINITY,
    };
    Ok(ours.iter().zip(&theirs).map(gap).fold(0., f64::max))
}

/// The share of entries whose signs are equal, of those that are at least a hundred-thousandth of the largest.
fn signs(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let (ours, theirs) = (flat(ours)?, flat(theirs)?);
    let least = 1e-5 * theirs.iter().fold(0f64, |m, v| m.max(v.abs()));
    let counted: Vec<bool> =
        ours.iter().zip(&theirs).filter(|(_, b)| b.abs() >= least).map(|(a, b)| a * b > 0.).collect();
    Ok(counted.iter().filter(|same| **same).count() as f64 / counted.len().max(1) as f64)
}

/// How far `<dx, d>` is from the difference of `<g, y>` along `d`, for a few random directions, relative to the largest of them.
fn slope(network: &Arc<Network>, x: &Tensor, g: &Tensor, dx: &Tensor) -> Result<f64> {
    const STEP: f64 = 1e-5;
    let (x, g, dx) = (x.to_dtype(DType::F64)?, flat(g)?, flat(dx)?);
    let exact = Reference::new(Arc::clone(network), DType::F64)?;
    let loss = |x: &Tensor| -> Result<f64> { Ok(flat(&exact.forward(x)?)?.iter().zip(&g).map(|(y, g)| y * g).sum()) };
    let (mut state, mut pairs) = (1u64, vec![]);
    for _ in 0..4 {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        let d: Vec<f64> = (0..dx.len()).map(|_| next()).collect();
        let ours: f64 = dx.iter().zip(&d).map(|(a, b)| a * b).sum();
        let d = (Tensor::from_vec(d, x.dims(), &Device::Cpu)? * STEP)?;
        pairs.push((ours, (loss(&(&x + &d)?)? - loss(&(&x - &d)?)?) / (2. * STEP)));
    }
    let top = pairs.iter().fold(1e-9f64, |m, (a, b)| m.max(a.abs()).max(b.abs()));
    Ok(pairs.iter().fold(0f64, |m, (a, b)| if (a - b).is_nan() { f64::INFINITY } else { m.max((a - b).abs() / top) }))
}

fn compare(loaded: &LoadedModel, vectors: &Vectors) -> Result<serde_json::Value> {
    let (model, x) = (&loaded.model, vectors.get("x")?);
    let keys: Vec<RowKey> = (0..x.dims()[0] as u64).map(RowKey::of).collect();
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let y = vectors.get("y")?;
    let mut trace = model.trace(&x, &draw, &[])?;
    let fast = distance(trace.output(), &y)?;
    let exact = distance(&model.exact(&x, &draw)?, &y)?;
    let finite = |v: f64| if v.is_finite() { v } else { f64::MAX };
    let (fast, exact) = (finite(fast), finite(exact));
    if y.dims() != trace.output().dims() {
        return Ok(serde_json::json!({ "fast": fast, "exact": exact, "shape": trace.output().dims() }));
    }
    let g = vectors.get("g")?;
    let dx = trace.pull(&[(Site::Output, g.clone())])?;
    if !vectors.0.contains_key("dx") {
        let slope = finite(slope(loaded.graph()?, &x, &g, &dx)?);
        return Ok(serde_json::json!({ "fast": fast, "exact": exact, "slope": slope }));
    }
    let theirs = vectors.get("dx")?;
    let (gradient, signs) = (finite(distance(&dx, &theirs)?), signs(&dx, &theirs)?);
    Ok(serde_json::json!({ "fast": fast, "exact": exact, "gradient": gradient, "signs": signs }))
}

fn look(model: &str, vectors: &str) -> Result<serde_json::Value> {
    let vectors = Vectors(candle_core::safetensors::load(vectors, &Device::Cpu)?);
    match robust::models::load(model) {
        Err(error) => Ok(serde_json::json!({ "refused": error.message, "hint": error.hint })),
        Ok(loaded) => compare(&loaded, &vectors),
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, vectors] = &args[..] else {
        return Err(Error::usage("expected a model and a file of vectors, or --list and a file"));
    };
    if model != "--list" {
        println!("{}", look(model, vectors)?);
        return Ok(());
    }
    let list = std::fs::read_to_string(vectors).map_err(|e| Error::usage(format!("cannot read {vectors}: {e}")))?;
    for line in list.lines() {
        let (model, vectors) = line.split_once('\t').unwrap_or((line, ""));
        let said = look(model, vectors).unwrap_or_else(|e| serde_json::json!({ "failed": e.message }));
        println!("{said}");
    }
    Ok(())
}
