//! A network whose weights lie in files beside it: how many bytes, from where and in which file the input says.

use super::wire::{Attr, Network, Take, Wire, tensor};

/// A graph and the file beside it, `a.onnx.data`.
pub struct Outside {
    pub graph: Vec<u8>,
    pub data: Vec<u8>,
}

/// Names of the file beside the graph, of a link to it, of another one, and of what must not be opened.
const NAMES: [&str; 12] = [
    "a.onnx.data",
    "a.onnx.data",
    "./a.onnx.data",
    "sub/w.bin",
    "link",
    "././sub/./w.bin",
    "a.onnx",
    "up/outside/a.onnx.data",
    "zero",
    "sub",
    "sub/../a.onnx.data",
    "missing",
];
/// Kind and bytes of the element types that weights have; the last ones are refused.
const KINDS: [(i64, usize); 10] = [(1, 4), (1, 4), (10, 2), (16, 2), (11, 8), (3, 1), (2, 1), (7, 8), (22, 1), (8, 1)];
const NUMBERS: [&str; 10] =
    ["0", "1", "-1", "+8", "08", " 8", "1099511627776", "9223372036854775807", "18446744073709551615", ""];

/// After a byte of 1: two bytes for the length of a graph, the graph, and the data. After any other: a network whose
/// weights are as large as they should be and lie behind each other, but where the input says otherwise.
pub fn external(bytes: &[u8]) -> Outside {
    let mut input = Take(bytes);
    if input.byte() == 1 {
        let cut = u16::from_le_bytes([input.byte(), input.byte()]);
        let (graph, data) = input.0.split_at(input.0.len().min(usize::from(cut)));
        return Outside { graph: graph.to_vec(), data: data.to_vec() };
    }
    let row = [input.below(3) + 1, input.below(5) + 1, input.below(5) + 1];
    let mut width = row.iter().product::<usize>();
    let mut net = Network::default();
    let mut x = net.node("Flatten", &["x"], &[]);
    let mut end = 0;
    for _ in 0..input.below(8) + 1 {
        let op = input.pick(&["MatMul", "MatMul", "Gemm", "Add", "Mul", "Sub"]);
        let products = matches!(op, "MatMul" | "Gemm");
        let columns = if products { input.below(16) + 1 } else { width };
        let mut dims = if products { vec![width as i64, columns as i64] } else { vec![columns as i64] };
        if !input.sound() {
            let at = input.below(dims.len());
            dims[at] = input.pick(&[0, 1, -1, 7, 255, 1 << 20, 1 << 40, i64::MAX, i64::MIN]);
        }
        let weight = weight(&mut net, &mut input, &dims, &mut end);
        x = net.node(op, &[&x, &weight], &[]);
        width = columns;
    }
    let fills = input.sound();
    let left = input.0;
    let graph = net.file(18, &row.map(|d| d as i64), &x);
    let len = if fills { end.min(1 << 16).max(left.len()) } else { left.len() };
    let data = left.iter().copied().chain([0x3C, 0x01, 0xBE]).cycle().take(len).collect();
    Outside { graph, data }
}

/// One weight, as a tensor of the graph or of a node; small integers go through DequantizeLinear.
fn weight(net: &mut Network, input: &mut Take, dims: &[i64], end: &mut usize) -> String {
    let (kind, size) = input.pick(&KINDS);
    let entries = dims.iter().fold(1usize, |n, &d| n.saturating_mul(usize::try_from(d).unwrap_or(0)));
    let needed = entries.saturating_mul(size);
    let name = net.name();
    let place = place(input, *end, needed);
    *end = end.saturating_add(needed);
    let made = tensor(&name, kind, dims).all(13, &place).int(14, 1);
    let name = match input.sound() {
        true => {
            net.weights.push(made);
            name
        }
        false => net.node("Constant", &[], &[("value", Attr::Tensor(made))]),
    };
    if ![2, 3].contains(&kind) {
        return name;
    }
    let scale = net.weight(1, &[], &0.02f32.to_le_bytes());
    net.node("DequantizeLinear", &[&name, &scale], &[])
}

fn place(input: &mut Take, start: usize, length: usize) -> Vec<Wire> {
    let entry = |key: &str, value: &[u8]| Wire::default().bytes(1, key).bytes(2, value);
    let mut all = vec![];
    let name = match input.byte() {
        b @ 0..0xF0 => NAMES[if b < 0x80 { 0 } else { usize::from(b) % NAMES.len() }].as_bytes().to_vec(),
        b => input.some(usize::from(b & 15)),
    };
    all.push(entry("location", &name));
    for (key, right) in [("offset", start), ("length", length)] {
        match input.byte() {
            0..0xC0 => all.push(entry(key, right.to_string().as_bytes())),
            0xC0..0xD0 => all.push(entry(key, input.byte().to_string().as_bytes())),
            0xD0..0xF0 => all.push(entry(key, input.pick(&NUMBERS).as_bytes())),
            0xF0..0xF8 => all.push(entry(key, &input.some(5))),
            _ => {}
        }
    }
    if !input.sound() {
        let again = input.pick(&["location", "offset", "checksum", "length", ""]);
        let times = input.below(20);
        all.extend((0..times).map(|_| entry(again, &[b'0'; 3])));
    }
    all
}
