//! Our side of `bench-peers`: loads a model, reads an input, and runs forward and input gradient whenever it is asked.
//!
//! Arguments: MODEL SHAPE X SEED, where SHAPE is `n,c,h,w` and the files hold little-endian f32; SEED is the gradient of
//! what is climbed with respect to the output. Each line on stdin is an order: `both` or `forward` runs once and prints
//! milliseconds; `out FILE` and `grad FILE` write what the last run gave; `memory` prints the bytes of values and
//! workspace.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a stopwatch")]

use candle_core::{DType, Device, Tensor};
use robust_engine::{CpuPlan, Precision, Reference};
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

fn floats(path: &str, dims: &[usize]) -> Tensor {
    let bytes = std::fs::read(path).unwrap();
    let values: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn write(path: &str, values: &Tensor) {
    let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    std::fs::write(path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [model, shape, x, seed] = &args[..] else {
        println!("run `bench-peers`, which runs this");
        return;
    };
    let dims: Vec<usize> = shape.split(',').map(|d| d.parse().unwrap()).collect();
    let net = Arc::clone(robust_models::load(model).unwrap().graph().unwrap());
    let x = floats(x, &dims);
    let seed = floats(seed, &[dims[0], net.output_row()[0]]);
    let reference = Reference::new(Arc::clone(&net), DType::F32).unwrap();
    let plan = CpuPlan::new(&reference, Precision::Fast, &[]).unwrap();
    let (mut out, mut grad) = (x.clone(), x.clone());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["both"] => {
                let start = Instant::now();
                let mut trace = plan.trace(&x).unwrap();
                grad = trace.pull(&[(net.output(), seed.clone())]).unwrap();
                let time = start.elapsed();
                out = trace.output().clone();
                println!("{:.4}", time.as_secs_f64() * 1e3);
            }
            ["forward"] => {
                let start = Instant::now();
                out = plan.forward(&x).unwrap();
                println!("{:.4}", start.elapsed().as_secs_f64() * 1e3);
            }
            ["out", path] => {
                write(path, &out);
                println!("written");
            }
            ["grad", path] => {
                write(path, &grad);
                println!("written");
            }
            ["memory"] => println!("{}", plan.workspace()),
            _ => println!("unknown order"),
        }
    }
}
