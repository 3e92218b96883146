//! Holds a model against numbers that other software computed for it.
//!
//! `cargo run --release --example onnx_check -- NET.onnx VECTORS.safetensors`
//!
//! The vectors are `x` `[n, ...]`, `y` `[n, k]` (what the network gives), `g` `[n, k]` and `dx` (the gradient of `<g, y>` in `x`). One line
//! of JSON comes back: the largest difference relative to the largest entry of outputs (fast and exact) and gradients, and the
//! share of gradient entries with equal signs; or why the file was refused. `scripts/onnx_zoo.py` makes such files.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use candle_core::{DType, Device, Tensor};
use robust::core::{Draw, Error, Model, Result, RowKey, Site};
use std::collections::HashMap;

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

/// The largest difference over the largest entry of `theirs`; infinite for NaN.
fn distance(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let (ours, theirs) = (flat(ours)?, flat(theirs)?);
    let top = theirs.iter().fold(0f64, |m, v| m.max(v.abs()));
    let largest = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0f64, |m, d| if d >= m || d.is_nan() { d } else { m });
    Ok(if largest.is_nan() { f64::INFINITY } else { largest / top })
}

/// The share of entries whose signs are equal, of those that are at least a hundred-thousandth of the largest.
fn signs(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let (ours, theirs) = (flat(ours)?, flat(theirs)?);
    let least = 1e-5 * theirs.iter().fold(0f64, |m, v| m.max(v.abs()));
    let counted: Vec<bool> =
        ours.iter().zip(&theirs).filter(|(_, b)| b.abs() >= least).map(|(a, b)| a * b > 0.).collect();
    Ok(counted.iter().filter(|same| **same).count() as f64 / counted.len().max(1) as f64)
}

fn compare(model: &dyn Model, vectors: &Vectors) -> Result<serde_json::Value> {
    let x = vectors.get("x")?;
    let keys: Vec<RowKey> = (0..x.dims()[0] as u64).map(RowKey::of).collect();
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let y = vectors.get("y")?;
    let mut trace = model.trace(&x, &draw, &[])?;
    let fast = distance(trace.output(), &y)?;
    let exact = distance(&model.exact(&x, &draw)?, &y)?;
    let dx = trace.pull(&[(Site::Output, vectors.get("g")?)])?;
    let theirs = vectors.get("dx")?;
    let (gradient, signs) = (distance(&dx, &theirs)?, signs(&dx, &theirs)?);
    Ok(serde_json::json!({ "fast": fast, "exact": exact, "gradient": gradient, "signs": signs }))
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, vectors] = &args[..] else {
        return Err(Error::usage("expected a model and a file of vectors"));
    };
    let vectors = Vectors(candle_core::safetensors::load(vectors, &Device::Cpu)?);
    let said = match robust::models::load(model) {
        Err(error) => serde_json::json!({ "refused": error.message }),
        Ok(loaded) => compare(loaded.model.as_ref(), &vectors)?,
    };
    println!("{said}");
    Ok(())
}
