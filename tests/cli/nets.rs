//! Small ONNX networks and images written byte by byte, so that right values are known beforehand.

use crate::support::Place;

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n > 127 {
        out.push((n & 127) as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A number under a protobuf field.
fn number(field: u64, n: u64) -> Vec<u8> {
    let mut out = vec![];
    varint(field << 3, &mut out);
    varint(n, &mut out);
    out
}

/// Bytes, a text or a message under a protobuf field.
fn part(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![];
    varint(field << 3 | 2, &mut out);
    varint(bytes.as_ref().len() as u64, &mut out);
    out.extend(bytes.as_ref());
    out
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let dims = dims.iter().flat_map(|d| number(1, *d as u64)).collect::<Vec<_>>();
    [dims, number(2, 1), part(8, name), part(9, raw)].concat()
}

/// A value of rows of this shape.
fn value(name: &str, row: &[usize]) -> Vec<u8> {
    let dims = row.iter().flat_map(|d| part(1, number(1, *d as u64)));
    let shape: Vec<u8> = part(1, part(2, "N")).into_iter().chain(dims).collect();
    let float = part(1, [number(1, 1), part(2, shape)].concat());
    [part(1, name), part(2, float)].concat()
}

/// Nodes after the scores `z` of a linear layer, as (operator, inputs, output), with constants; the last output is the
/// network's.
pub struct Tail<'a> {
    pub nodes: &'a [(&'a str, &'a [&'a str], &'a str)],
    pub constants: &'a [(&'a str, &'a [usize], &'a [f32])],
}

/// Images `[3, side, side]` under a linear layer of `k` classes, `w` `[3 side^2, k]`, then the tail.
pub fn linear(place: &Place, name: &str, side: usize, (w, b): (&[f32], &[f32]), tail: &Tail) {
    let k = b.len();
    let node = |op: &str, inputs: &[&str], output: &str| {
        let inputs = inputs.iter().flat_map(|i| part(1, i)).collect::<Vec<_>>();
        part(1, [inputs, part(2, output), part(3, format!("n_{output}")), part(4, op)].concat())
    };
    let mut graph = [node("Flatten", &["x"], "f"), node("Gemm", &["f", "w", "b"], "z")].concat();
    graph.extend(tail.nodes.iter().flat_map(|(op, inputs, output)| node(op, inputs, output)));
    graph.extend(part(2, "g"));
    let (wide, narrow) = ([3 * side * side, k], [k]);
    let own = [("w", &wide[..], w), ("b", &narrow[..], b)];
    graph.extend(own.iter().chain(tail.constants).flat_map(|(name, dims, v)| part(5, tensor(name, dims, v))));
    graph.extend(part(11, value("x", &[3, side, side])));
    graph.extend(part(12, value(tail.nodes.last().map_or("z", |n| n.2), &[k])));
    let model = [number(1, 8), part(8, [part(1, ""), number(2, 17)].concat()), part(7, graph)].concat();
    std::fs::write(place.path(name), model).unwrap();
}

/// An array as NumPy writes it.
pub fn npy(place: &Place, name: &str, descr: &str, dims: &[usize], bytes: &[u8]) {
    let dims: String = dims.iter().map(|d| format!("{d}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}\n");
    let file = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat();
    std::fs::write(place.path(name), file).unwrap();
}

/// Pseudo-random numbers, the same everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// From -1 to 1.
    pub fn signed(&mut self) -> f32 {
        self.bits() as f32 / (1u32 << 30) as f32 - 1.
    }
}

/// Images of whole 8-bit levels, a linear network that sees them all rightly, and what it computes.
pub struct Planted {
    pub side: usize,
    pub k: usize,
    pub levels: Vec<Vec<u8>>,
    pub w: Vec<f32>,
    pub b: Vec<f32>,
    pub labels: Vec<u32>,
}

impl Planted {
    /// `n` images `[3, side, side]`, written to `d.npy` (uint8) and `y.npy` (int64).
    pub fn new(place: &Place, n: usize, side: usize, k: usize) -> Self {
        let (mut numbers, d) = (Numbers(7), 3 * side * side);
        let levels: Vec<Vec<u8>> = (0..n).map(|_| (0..d).map(|_| (numbers.bits() >> 5) as u8).collect()).collect();
        let w: Vec<f32> = (0..d * k).map(|_| numbers.signed()).collect();
        // The middle image is on no side: classes come out about equally often.
        let b = (0..k).map(|c| -0.5 * (0..d).map(|i| w[i * k + c]).sum::<f32>()).collect();
        let mut planted = Self { side, k, levels, w, b, labels: vec![] };
        planted.labels = planted.pixels().iter().map(|x| top(&planted.scores(x))).collect();
        npy(place, "d.npy", "|u1", &[n, 3, side, side], &planted.levels.concat());
        let y: Vec<u8> = planted.labels.iter().flat_map(|y| i64::from(*y).to_le_bytes()).collect();
        npy(place, "y.npy", "<i8", &[n], &y);
        planted
    }

    pub fn net(&self, place: &Place, name: &str, tail: &Tail) {
        linear(place, name, self.side, (&self.w, &self.b), tail);
    }

    pub fn pixels(&self) -> Vec<Vec<f32>> {
        self.levels.iter().map(|x| x.iter().map(|v| f32::from(*v) / 255.).collect()).collect()
    }

    pub fn scores(&self, x: &[f32]) -> Vec<f64> {
        let score = |c: usize| {
            let dot = x.iter().enumerate().map(|(i, v)| f64::from(*v) * f64::from(self.w[i * self.k + c]));
            dot.sum::<f64>() + f64::from(self.b[c])
        };
        (0..self.k).map(score).collect()
    }

    /// The steepest way from a class to another.
    pub fn uphill(&self, from: u32, to: u32) -> Vec<f32> {
        let at = |i: usize, c: u32| self.w[i * self.k + c as usize];
        (0..self.w.len() / self.k).map(|i| at(i, to) - at(i, from)).collect()
    }
}

/// The largest score's class.
pub fn top(z: &[f64]) -> u32 {
    (0..z.len()).fold(0, |best, c| if z[c] > z[best] { c } else { best }) as u32
}
