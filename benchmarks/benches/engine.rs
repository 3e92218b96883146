//! Kernels of the CPU plan and whole networks, forward and with the input gradient, by criterion:
//!
//! `cargo bench -p robust-benchmarks --features bench --bench engine [-- FILTER]`
//!
//! `ROBUST_KERNELS=portable|avx2|avx512` forces a set of kernels. For the comparison with PyTorch see `bench-peers`.
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use robust_engine::{Activation, Builder, CpuPlan, Network, NodeId, Op, Pads, Precision, Reduction, Reference, Window};
use std::hint::black_box;
use std::sync::Arc;

/// Values without a pattern, the same each time, of deviation about `size`.
fn values(dims: &[usize], size: f32) -> Tensor {
    let mut state = 0x2545_F491u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 - 0.5) * 3.46 * size
    };
    let all: Vec<f32> = (0..dims.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(all, dims, &Device::Cpu).unwrap()
}

/// A network in the making.
struct Net {
    b: Builder,
    count: usize,
}

impl Net {
    fn new(input: &[usize]) -> (Self, NodeId) {
        let mut b = Builder::new();
        let x = b.input("x", input).unwrap();
        (Self { b, count: 0 }, x)
    }

    fn node(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        self.count += 1;
        self.b.node(format!("n{}", self.count), op, inputs).unwrap()
    }

    fn relu(&mut self, x: NodeId) -> NodeId {
        self.node(Op::Act(Activation::Relu), &[x])
    }

    /// A convolution with bias, which is what batch norm folds into.
    fn conv(&mut self, x: NodeId, out: usize, kernel: usize, stride: usize, groups: usize) -> NodeId {
        let inner = self.b.shape(x).row[0] / groups;
        let size = (2. / (inner * kernel * kernel) as f32).sqrt();
        let weight = self.b.param(format!("w{}", self.count), values(&[out, inner, kernel, kernel], size));
        let bias = self.b.param(format!("b{}", self.count), values(&[out], 0.1));
        let pads: Pads = [kernel / 2; 4];
        let (stride, dilation) = ([stride; 2], [1; 2]);
        self.node(Op::Conv2d { weight, bias: Some(bias), stride, dilation, pads, groups }, &[x])
    }

    fn linear(&mut self, x: NodeId, out: usize) -> NodeId {
        let inner = *self.b.shape(x).row.last().unwrap();
        let weight = self.b.param(format!("w{}", self.count), values(&[out, inner], (1. / inner as f32).sqrt()));
        let bias = self.b.param(format!("b{}", self.count), values(&[out], 0.1));
        self.node(Op::Linear { weight, bias: Some(bias) }, &[x])
    }

    fn flat(&mut self, x: NodeId) -> NodeId {
        let row = vec![self.b.shape(x).row.iter().product()];
        self.node(Op::Reshape { row }, &[x])
    }

    fn mean(&mut self, x: NodeId) -> NodeId {
        self.node(Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[x])
    }

    fn add(&mut self, x: NodeId, y: NodeId) -> NodeId {
        self.node(Op::Binary(robust_engine::Binary::Add), &[x, y])
    }

    fn norm(&mut self, x: NodeId) -> NodeId {
        let d = *self.b.shape(x).row.last().unwrap();
        let gamma = Some(self.b.param(format!("g{}", self.count), values(&[d], 0.5)));
        let beta = Some(self.b.param(format!("c{}", self.count), values(&[d], 0.1)));
        self.node(Op::LayerNorm { gamma, beta, eps: 1e-6 }, &[x])
    }

    fn finish(self, out: NodeId) -> Arc<Network> {
        Arc::new(self.b.finish(out).unwrap())
    }
}

/// Times forward, and forward with the gradient, of a batch of `n`.
fn time(c: &mut Criterion, group: &str, name: &str, net: &Arc<Network>, n: usize) {
    let reference = Reference::new(Arc::clone(net), DType::F32).unwrap();
    let plan = CpuPlan::new(&reference, Precision::Fast, &[]).unwrap();
    let dims = |row: &[usize]| std::iter::once(n).chain(row.iter().copied()).collect::<Vec<_>>();
    let (x, seed) = (values(&dims(net.input_row()), 1.), values(&dims(net.output_row()), 1.));
    let mut group = c.benchmark_group(group);
    group.sample_size(10).throughput(Throughput::Elements(n as u64));
    group.bench_function(BenchmarkId::new(name, "forward"), |b| b.iter(|| plan.forward(black_box(&x)).unwrap()));
    group.bench_function(BenchmarkId::new(name, "gradient"), |b| {
        b.iter(|| plan.trace(black_box(&x)).unwrap().pull(&[(net.output(), seed.clone())]).unwrap());
    });
}

fn kernels(c: &mut Criterion) {
    // (name, channels in, out, side, kernel, stride, groups)
    for (name, from, to, side, kernel, stride, groups) in [
        ("3x3 64 at 32", 64, 64, 32, 3, 1, 1),
        ("3x3 512 at 4", 512, 512, 4, 3, 1, 1),
        ("3x3 stride 2", 64, 128, 32, 3, 2, 1),
        ("1x1 256", 256, 64, 28, 1, 1, 1),
        ("5x5 32", 32, 32, 28, 5, 1, 1),
        ("7x7 stem", 3, 64, 64, 7, 2, 1),
        ("depthwise 7x7", 96, 96, 28, 7, 1, 96),
        ("grouped 32", 128, 128, 28, 3, 1, 32),
    ] {
        let (mut net, x) = Net::new(&[from, side, side]);
        let y = net.conv(x, to, kernel, stride, groups);
        let y = net.relu(y);
        time(c, "conv", name, &net.finish(y), 8);
    }
    for (name, rows, from, to) in [("197 x 384 to 1536", 197, 384, 1536), ("one 1568 to 128", 1, 1568, 128)] {
        let (mut net, x) = Net::new(&[rows, from]);
        let y = net.linear(x, to);
        let y = net.node(Op::Act(Activation::Gelu), &[y]);
        time(c, "linear", name, &net.finish(y), 8);
    }
    let (mut net, x) = Net::new(&[197, 384]);
    let [q, k, v] = [0; 3].map(|_| net.linear(x, 384));
    let y = net.node(Op::Attention { heads: 6, scale: 0.125 }, &[q, k, v]);
    time(c, "tokens", "attention 197 x 384", &net.finish(y), 8);
    let (mut net, x) = Net::new(&[197, 384]);
    let y = net.norm(x);
    time(c, "tokens", "layer norm 197 x 384", &net.finish(y), 8);
    let (mut net, x) = Net::new(&[197, 384]);
    let y = net.node(Op::Softmax { axis: 2 }, &[x]);
    time(c, "tokens", "softmax 197 x 384", &net.finish(y), 8);
}

fn mnist_cnn() -> Arc<Network> {
    let (mut net, mut x) = Net::new(&[1, 28, 28]);
    let window = Window { kernel: [2; 2], stride: [2; 2], pads: [0; 4], ceil: false };
    for out in [16, 32] {
        x = net.conv(x, out, 5, 1, 1);
        x = net.relu(x);
        x = net.node(Op::MaxPool(window), &[x]);
    }
    let x = net.flat(x);
    let x = net.linear(x, 128);
    let x = net.relu(x);
    let x = net.linear(x, 10);
    net.finish(x)
}

/// Basic blocks with projections where the shape changes; batch norm is folded away.
fn residual(widths: &[usize], blocks: usize, stem: usize) -> Arc<Network> {
    let (mut net, x) = Net::new(&[3, 32, 32]);
    let x = net.conv(x, stem, 3, 1, 1);
    let (mut x, mut from) = (net.relu(x), stem);
    for (stage, &width) in widths.iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let y = net.conv(x, width, 3, stride, 1);
            let y = net.relu(y);
            let y = net.conv(y, width, 3, 1, 1);
            let side = if stride == 1 && from == width { x } else { net.conv(x, width, 1, stride, 1) };
            let y = net.add(y, side);
            (x, from) = (net.relu(y), width);
        }
    }
    let x = net.mean(x);
    let x = net.linear(x, 10);
    net.finish(x)
}

fn networks(c: &mut Criterion) {
    time(c, "networks", "MNIST CNN, 256", &mnist_cnn(), 256);
    let resnet = residual(&[64, 128, 256, 512], 2, 64);
    time(c, "networks", "CIFAR ResNet-18, 32", &resnet, 32);
    time(c, "networks", "CIFAR ResNet-18, 128", &resnet, 128);
    time(c, "networks", "wide residual net 28-10, 4", &residual(&[160, 320, 640], 4, 16), 4);
}

criterion_group!(benches, kernels, networks);
criterion_main!(benches);
