//! ONNX files of one linear layer, written byte by byte: small nets whose exact robustness is known.

use std::path::Path;

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(field: u64, n: u64, out: &mut Vec<u8>) {
    varint(field << 3, out);
    varint(n, out);
}

fn bytes(field: u64, body: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(body.len() as u64, out);
    out.extend(body);
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Vec<u8> {
    let mut t = vec![];
    dims.iter().for_each(|d| number(1, *d as u64, &mut t));
    number(2, 1, &mut t);
    bytes(8, name.as_bytes(), &mut t);
    bytes(9, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(), &mut t);
    t
}

/// A value `[N, row...]` of floats.
fn value(name: &str, row: &[usize]) -> Vec<u8> {
    let mut shape = vec![];
    let mut batch = vec![];
    bytes(2, b"N", &mut batch);
    bytes(1, &batch, &mut shape);
    for d in row {
        let mut dim = vec![];
        number(1, *d as u64, &mut dim);
        bytes(1, &dim, &mut shape);
    }
    let (mut tensor, mut kind, mut info) = (vec![], vec![], vec![]);
    number(1, 1, &mut tensor);
    bytes(2, &shape, &mut tensor);
    bytes(1, &tensor, &mut kind);
    bytes(1, name.as_bytes(), &mut info);
    bytes(2, &kind, &mut info);
    info
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut n = vec![];
    inputs.iter().for_each(|i| bytes(1, i.as_bytes(), &mut n));
    bytes(2, output.as_bytes(), &mut n);
    bytes(4, op.as_bytes(), &mut n);
    n
}

/// `scores = flatten(x) W + b` with rows of shape `row`; `weight` is `[entries, classes]`.
pub fn write(path: &Path, row: &[usize], weight: &[f32], bias: &[f32]) {
    let entries: usize = row.iter().product();
    let mut graph = vec![];
    bytes(1, &node("Flatten", &["x"], "f"), &mut graph);
    bytes(1, &node("Gemm", &["f", "W", "b"], "z"), &mut graph);
    bytes(2, b"g", &mut graph);
    bytes(5, &tensor("W", &[entries, bias.len()], weight), &mut graph);
    bytes(5, &tensor("b", &[bias.len()], bias), &mut graph);
    bytes(11, &value("x", row), &mut graph);
    bytes(12, &value("z", &[bias.len()]), &mut graph);
    let (mut opset, mut model) = (vec![], vec![]);
    bytes(1, b"", &mut opset);
    number(2, 17, &mut opset);
    number(1, 8, &mut model);
    bytes(7, &graph, &mut model);
    bytes(8, &opset, &mut model);
    std::fs::write(path, model).unwrap();
}

/// The nearest of these grey levels (0 to 255) of the mean pixel.
pub fn levels(path: &Path, row: &[usize], levels: &[u8]) {
    let entries: usize = row.iter().product();
    let centres: Vec<f32> = levels.iter().map(|l| f32::from(*l) / 255.).collect();
    let one: Vec<f32> = centres.iter().map(|c| 400. * 2. * c / entries as f32).collect();
    let bias: Vec<f32> = centres.iter().map(|c| -400. * c * c).collect();
    write(path, row, &one.repeat(entries), &bias);
}
