//! Quantised networks: QuantizeLinear and DequantizeLinear around weights and activations, and the operators that compute
//! with integers; element types, scales, zero points, axes and shapes are the input's.

use super::wire::{Attr, Network, Take};

const SCALES: [f32; 12] = [0.02, 1. / 255., 1., 0.5, 0., -0.25, f32::INFINITY, f32::NAN, 1e-45, 3e38, -0., 1. / 128.];
/// Kind and bytes of an entry (of two for four bits): int8, uint8, int32, int16, uint16, float8, int4, uint4, float.
const KINDS: [(i64, usize); 12] =
    [(3, 1), (2, 1), (3, 1), (2, 1), (6, 4), (5, 2), (4, 2), (17, 1), (22, 1), (21, 1), (1, 4), (7, 8)];

/// A network as it grows: the value at its end and that value's row.
struct Net<'a> {
    input: Take<'a>,
    net: Network,
    x: String,
    row: Vec<usize>,
    /// Values before, for sums.
    past: Vec<(String, Vec<usize>)>,
}

/// Five bytes say what the image and the opset are; then come up to ten layers.
pub fn quantised(bytes: &[u8]) -> Vec<u8> {
    let mut input = Take(bytes);
    let opset = input.pick(&[13, 10, 19, 21, 23, 18, 25]);
    let row = vec![input.below(4) + 1, input.below(9) + 1, input.below(9) + 1];
    let lines = input.byte() >= 0xF0;
    let begin = row.iter().map(|&d| d as i64).collect::<Vec<_>>();
    let mut it = Net { input, net: Network::default(), x: "x".into(), row, past: vec![] };
    for _ in 0..10 {
        if it.input.0.is_empty() {
            break;
        }
        it.layer();
    }
    if !lines && it.row.len() == 3 {
        it.plain("GlobalAveragePool", &[]);
        it.flatten();
    }
    it.net.file(opset, &begin, &it.x)
}

impl Net<'_> {
    fn layer(&mut self) {
        self.past.push((self.x.clone(), self.row.clone()));
        match self.input.below(16) {
            0..3 => self.rounded(),
            3 | 4 => self.conv(),
            5 | 6 => self.product(),
            7 => self.plain("Relu", &[]),
            8 => {
                let window = || Attr::Ints(vec![2, 2]);
                let op = self.input.pick(&["MaxPool", "AveragePool"]);
                if self.row.len() == 3 && self.row[1] > 1 && self.row[2] > 1 {
                    self.plain(op, &[("kernel_shape", window()), ("strides", window())]);
                    self.row = vec![self.row[0], (self.row[1] - 2) / 2 + 1, (self.row[2] - 2) / 2 + 1];
                }
            }
            9 => self.flatten(),
            10 => self.sum(),
            11 => self.integer_product(),
            12 => self.dynamic(),
            13 => self.integer_conv(),
            14 => self.turned(),
            _ => {
                let op = self.input.pick(&["Sigmoid", "HardSwish", "Identity", "Softmax", "Neg", "LeakyRelu"]);
                let slope = || ("alpha", Attr::Float(SCALES[self.row[0] % 12]));
                let attrs: Vec<_> = (op == "LeakyRelu").then(slope).into_iter().collect();
                self.plain(op, &attrs);
            }
        }
    }

    fn plain(&mut self, op: &str, attrs: &[(&str, Attr)]) {
        self.x = self.net.node(op, &[&self.x], attrs);
    }

    fn flatten(&mut self) {
        self.plain("Flatten", &[]);
        self.row = vec![self.row.iter().product()];
    }

    /// A scale and a zero point, one for all or one for each of `n`, and the axis they are said to belong to.
    fn grid(&mut self, n: usize, axis: i64) -> (String, Option<String>, Vec<(&'static str, Attr)>) {
        let each = self.input.below(3) == 0;
        let mut dims = if each { vec![n as i64] } else { vec![] };
        if !self.input.sound() {
            dims = self.input.pick(&[&[1][..], &[2], &[0], &[1, 1], &[3], &[1, 4]]).to_vec();
        }
        let entries = dims.iter().product::<i64>() as usize;
        let scales: Vec<u8> = match self.input.byte() {
            0xF0.. => self.input.some(4).into_iter().cycle().take(4 * entries).collect(),
            b => (0..entries)
                .flat_map(|i| SCALES[if b < 0x80 { i % 4 } else { (i + usize::from(b)) % 12 }].to_le_bytes())
                .collect(),
        };
        let kind = if self.input.sound() { 1 } else { self.input.pick(&[10, 16, 11]) };
        let size = [2, 4, 8][[1, 11].iter().position(|k| *k == kind).map_or(0, |i| i + 1)];
        let scales = scales.into_iter().cycle().take(size * entries).collect::<Vec<_>>();
        let scale = self.net.weight(kind, &dims, &scales);
        let zero = self.input.sound().then(|| {
            let (kind, size) = self.kind();
            let dims = if self.input.sound() { dims } else { vec![self.input.below(5) as i64] };
            let entries = dims.iter().product::<i64>() as usize;
            let level = self.input.byte();
            let bytes: Vec<u8> =
                (0..entries * size).map(|i| if i % size == 0 { level } else { level & 0x80 }).collect();
            self.net.weight(kind, &dims, &bytes)
        });
        let mut attrs = vec![];
        match self.input.byte() {
            0..0xC0 if each => attrs.push(("axis", Attr::Int(axis))),
            0xC0..0xE0 => attrs.push(("axis", Attr::Int(self.input.byte() as i8 as i64))),
            0xE0..0xE8 => attrs.push(("block_size", Attr::Int(self.input.below(5) as i64))),
            0xE8..0xF0 => attrs.push(("output_dtype", Attr::Int(self.input.pick(&KINDS).0))),
            0xF0..0xF8 => attrs.push(("saturate", Attr::Int(self.input.below(2) as i64))),
            _ => {}
        }
        (scale, zero, attrs)
    }

    /// Mostly eight bits.
    fn kind(&mut self) -> (i64, usize) {
        let b = self.input.byte();
        KINDS[if b < 0xC0 { usize::from(b) % 2 } else { usize::from(b) % 12 }]
    }

    fn call(
        &mut self,
        op: &str,
        x: &str,
        (scale, zero, attrs): &(String, Option<String>, Vec<(&'static str, Attr)>),
    ) -> String {
        let inputs = [Some(x), Some(scale), zero.as_deref()];
        let inputs: Vec<&str> = inputs.into_iter().flatten().collect();
        self.net.node(op, &inputs, attrs)
    }

    /// The value rounded to a grid and back, mostly to the same one.
    fn rounded(&mut self) {
        let grid = self.grid(self.row[0], 1);
        let which = self.input.byte();
        let x = self.x.clone();
        let q = if which == 0xFF { x } else { self.call("QuantizeLinear", &x, &grid) };
        let back = if which < 0xE0 { grid } else { self.grid(self.row[0], 1) };
        self.x = if which == 0xFE { q } else { self.call("DequantizeLinear", &q, &back) };
    }

    /// Weights of these dimensions: integers, or numbers that are rounded to integers in the graph.
    fn weights(&mut self, dims: &[usize], axis: usize) -> String {
        let (kind, size) = self.kind();
        let mut own: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        if self.input.byte() >= 0xF8 {
            let at = self.input.below(own.len());
            own[at] = self.input.below(12) as i64;
        }
        let entries = own.iter().product::<i64>() as usize;
        let (first, step) = (self.input.byte(), self.input.byte());
        let level = |i: usize| first.wrapping_add((i as u8).wrapping_mul(step | 1)) as i8;
        let grid = self.grid(dims[axis], axis as i64);
        if self.input.sound() {
            let raw: Vec<u8> =
                (0..entries).flat_map(|i| i64::from(level(i)).to_le_bytes().into_iter().take(size)).collect();
            let q = self.net.weight(kind, &own, &raw);
            return self.call("DequantizeLinear", &q, &grid);
        }
        let raw: Vec<u8> = (0..entries).flat_map(|i| (f32::from(level(i)) / 64.).to_le_bytes()).collect();
        let w = self.net.weight(1, &own, &raw);
        let q = self.call("QuantizeLinear", &w, &grid);
        self.call("DequantizeLinear", &q, &grid)
    }

    fn conv(&mut self) {
        let [c, h, w] = self.row[..] else { return self.product() };
        let (out, k) = (self.input.below(6) + 1, self.input.below(3) + 1);
        if k > h.min(w) {
            return;
        }
        let weight = self.weights(&[out, c, k, k], 0);
        let mut inputs = vec![self.x.clone(), weight];
        if self.input.sound() {
            let bias = self.weights(&[out], 0);
            inputs.push(bias);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.x = self.net.node("Conv", &inputs, &[]);
        self.row = vec![out, h - k + 1, w - k + 1];
    }

    fn product(&mut self) {
        if self.row.len() != 1 {
            self.flatten();
        }
        let out = self.input.below(8) + 1;
        let (op, turned) = self.input.pick(&[("MatMul", false), ("Gemm", true), ("Gemm", false)]);
        let dims = if turned { [out, self.row[0]] } else { [self.row[0], out] };
        let weight = self.weights(&dims, usize::from(!turned));
        let attrs = if turned { vec![("transB", Attr::Int(1))] } else { vec![] };
        self.x = self.net.node(op, &[&self.x, &weight], &attrs);
        self.row = vec![out];
    }

    /// With the newest value before that has the same row; with itself where there is none.
    fn sum(&mut self) {
        let other = self.past.iter().rev().skip(1).find(|(_, row)| *row == self.row);
        let other = other.map_or(self.x.clone(), |(name, _)| name.clone());
        let op = self.input.pick(&["Add", "Mul", "Sub", "Concat", "Div", "Max"]);
        let attrs = if op == "Concat" { vec![("axis", Attr::Int(1))] } else { vec![] };
        self.x = self.net.node(op, &[&self.x, &other], &attrs);
        self.row[0] *= if op == "Concat" { 2 } else { 1 };
    }

    /// Integers of a weight as they are.
    fn integers(&mut self, dims: &[usize]) -> String {
        let (kind, size) = self.kind();
        let (first, step) = (self.input.byte(), self.input.byte() | 1);
        let entries: usize = dims.iter().product();
        let level = |i: usize| i64::from(first.wrapping_add((i as u8).wrapping_mul(step)) as i8);
        let raw: Vec<u8> = (0..entries).flat_map(|i| level(i).to_le_bytes().into_iter().take(size)).collect();
        self.net.weight(kind, &dims.iter().map(|&d| d as i64).collect::<Vec<_>>(), &raw)
    }

    /// QLinearMatMul between its QuantizeLinear and DequantizeLinear, or MatMulInteger.
    fn integer_product(&mut self) {
        if self.row.len() != 1 {
            self.flatten();
        }
        let out = self.input.below(8) + 1;
        let w = self.integers(&[self.row[0], out]);
        self.integer("MatMul", &w, out);
        self.row = vec![out];
    }

    fn integer_conv(&mut self) {
        let [c, h, width] = self.row[..] else { return self.integer_product() };
        let (out, k) = (self.input.below(6) + 1, self.input.below(3) + 1);
        if k > h.min(width) {
            return;
        }
        let w = self.integers(&[out, c, k, k]);
        self.integer("Conv", &w, out);
        self.row = vec![out, h - k + 1, width - k + 1];
    }

    fn integer(&mut self, op: &str, w: &str, out: usize) {
        let grid = self.grid(self.row[0], 1);
        let x = self.x.clone();
        let q = self.call("QuantizeLinear", &x, &grid);
        let zero = grid.1.clone().unwrap_or_default();
        if self.input.below(3) == 0 {
            let name = format!("{op}Integer");
            let made = self.net.node(&name, &[&q, w, &zero], &[]);
            let back = self.net.node("Cast", &[&made], &[("to", Attr::Int(1))]);
            self.x = self.net.node("Mul", &[&back, &grid.0], &[]);
            return;
        }
        let (of_w, of_y) = (self.grid(out, 0), self.grid(out, 1));
        let zeros = [&of_w.1, &of_y.1].map(|z| z.clone().unwrap_or_default());
        let name = format!("QLinear{op}");
        let inputs = [&q, &grid.0, &zero, w, &of_w.0, &zeros[0], &of_y.0, &zeros[1]];
        let y = self.net.node(&name, &inputs.map(|i| i as &str), &[]);
        self.x = self.call("DequantizeLinear", &y, &of_y);
    }

    /// A grid that follows the values.
    fn dynamic(&mut self) {
        let names = [(); 3].map(|()| self.net.name());
        let [q, scale, zero] = names.each_ref().map(String::as_str);
        self.net.node_to("DynamicQuantizeLinear", &[&self.x], &[q, scale, zero], &[]);
        self.x = self.net.node("DequantizeLinear", &[q, scale, zero], &[]);
    }

    /// Layouts between the two halves of a rounding.
    fn turned(&mut self) {
        let grid = self.grid(self.row[0], 1);
        let x = self.x.clone();
        let q = self.call("QuantizeLinear", &x, &grid);
        let moved = match self.row[..] {
            [c, h, w] => {
                self.row = vec![h, w, c];
                self.net.node("Transpose", &[&q], &[("perm", Attr::Ints(vec![0, 2, 3, 1]))])
            }
            _ => self.net.node("Relu", &[&q], &[]),
        };
        self.x = self.call("DequantizeLinear", &moved, &grid);
    }
}
