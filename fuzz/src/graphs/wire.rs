//! The few messages of ONNX that the made-up networks need (field numbers of onnx.proto3), and the bytes they are made of.

/// A message as it grows.
#[derive(Default, Clone)]
pub struct Wire(pub Vec<u8>);

impl Wire {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn int(mut self, tag: u64, value: i64) -> Self {
        self.varint(tag << 3);
        self.varint(value as u64);
        self
    }

    pub fn bytes(mut self, tag: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend(value.as_ref());
        self
    }

    pub fn all(self, tag: u64, values: &[impl AsRef<[u8]>]) -> Self {
        values.iter().fold(self, |wire, v| wire.bytes(tag, v))
    }

    pub fn float(mut self, tag: u64, value: f32) -> Self {
        self.varint(tag << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

impl AsRef<[u8]> for Wire {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A tensor without its bytes.
pub fn tensor(name: &str, kind: i64, dims: &[i64]) -> Wire {
    dims.iter().fold(Wire::default(), |wire, &d| wire.int(1, d)).int(2, kind).bytes(8, name)
}

pub enum Attr {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Tensor(Wire),
}

/// A graph as it grows.
#[derive(Default)]
pub struct Network {
    nodes: Vec<Wire>,
    pub weights: Vec<Wire>,
    made: usize,
}

impl Network {
    pub fn name(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }

    pub fn node(&mut self, op: &str, inputs: &[&str], attrs: &[(&str, Attr)]) -> String {
        let out = self.name();
        self.node_to(op, inputs, &[&out], attrs);
        out
    }

    pub fn node_to(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attrs: &[(&str, Attr)]) {
        let attrs: Vec<Wire> = attrs
            .iter()
            .map(|(name, value)| {
                let wire = Wire::default().bytes(1, name);
                match value {
                    Attr::Int(i) => wire.int(3, *i).int(20, 2),
                    Attr::Ints(all) => all.iter().fold(wire, |wire, &i| wire.int(8, i)).int(20, 7),
                    Attr::Float(f) => wire.float(2, *f).int(20, 1),
                    Attr::Tensor(t) => wire.bytes(5, t).int(20, 4),
                }
            })
            .collect();
        self.nodes.push(Wire::default().all(1, inputs).all(2, outputs).bytes(4, op).all(5, &attrs));
    }

    /// A weight whose bytes are in the file.
    pub fn weight(&mut self, kind: i64, dims: &[i64], raw: &[u8]) -> String {
        let name = self.name();
        self.weights.push(tensor(&name, kind, dims).bytes(9, raw));
        name
    }

    /// The whole file: `x` is `[n, row]`, `output` the network's output.
    pub fn file(self, opset: i64, row: &[i64], output: &str) -> Vec<u8> {
        let open = Wire::default().bytes(2, "n");
        let dims = row.iter().map(|&d| Wire::default().int(1, d));
        let dims: Vec<Wire> = std::iter::once(open).chain(dims).collect();
        let typed = |dims: &[Wire]| {
            let shape = Wire::default().all(1, dims);
            Wire::default().bytes(1, Wire::default().int(1, 1).bytes(2, shape))
        };
        let x = Wire::default().bytes(1, "x").bytes(2, typed(&dims));
        let out = Wire::default()
            .bytes(1, output)
            .bytes(2, typed(&[Wire::default().bytes(2, "n"), Wire::default().bytes(2, "k")]));
        let graph =
            Wire::default().all(1, &self.nodes).bytes(2, "made").all(5, &self.weights).bytes(11, x).bytes(12, out);
        let opset = Wire::default().bytes(1, "").int(2, opset);
        Wire::default().int(1, 8).bytes(7, graph).bytes(8, opset).0
    }
}

/// The input, taken from its beginning; zeros when it is used up.
pub struct Take<'a>(pub &'a [u8]);

impl Take<'_> {
    pub fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// True for most bytes.
    pub fn sound(&mut self) -> bool {
        self.byte() < 0xE0
    }

    pub fn some(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
    }
}
