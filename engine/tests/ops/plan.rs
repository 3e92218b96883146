//! The cpu plan against the reference in f64, on every op, odd sizes, every set of kernels; its row bits; its taps.

use crate::cases::{self, Case, Gen, normals};
use crate::parity::distance;
use candle_core::{DType, Tensor};
use proptest::prelude::*;
use robust_core::take;
use robust_engine::*;
use std::sync::Arc;

/// Output and input gradient of the reference in f64.
fn expected(net: &Arc<Network>, x: &Tensor, seed: &Tensor) -> [Tensor; 2] {
    let reference = Reference::new(Arc::clone(net), DType::F64).unwrap();
    let mut tape = reference.trace(&x.to_dtype(DType::F64).unwrap(), &[]).unwrap();
    let dx = tape.pull(&[(net.output(), seed.clone())]).unwrap();
    [tape.output().clone(), dx]
}

fn seed_for(net: &Network, n: usize) -> Tensor {
    let dims: Vec<usize> = std::iter::once(n).chain(net.output_row().iter().copied()).collect();
    normals(5, 5, &dims)
}

fn check(name: &str, net: &Arc<Network>, x: &Tensor) {
    let n = x.dims()[0];
    let seed = seed_for(net, n);
    let [output, dx] = expected(net, x, &seed);
    let reference = Reference::new(Arc::clone(net), DType::F32).unwrap();
    for kernels in CpuPlan::kernels() {
        let exact = CpuPlan::named(&reference, Precision::Exact, &[], kernels).unwrap();
        let gap = distance(&exact.forward(x).unwrap(), &output);
        assert!(gap <= 1e-5, "{name}, {kernels}: exact output {gap:e}");
        let fast = CpuPlan::named(&reference, Precision::Fast, &[], kernels).unwrap();
        let mut trace = fast.trace(x).unwrap();
        let gap = distance(trace.output(), &output);
        assert!(gap <= 1e-4, "{name}, {kernels}: fast output {gap:e}");
        let first = trace.pull(&[(net.output(), seed.clone())]).unwrap();
        let gap = distance(&first, &dx);
        assert!(gap <= 1e-4, "{name}, {kernels}: fast gradient {gap:e}");
        let again = trace.pull(&[(net.output(), seed.clone())]).unwrap();
        assert_eq!(distance(&first, &again), 0., "{name}, {kernels}: a second pull differs");
        assert_eq!(distance(&fast.forward(x).unwrap(), trace.output()), 0., "{name}: forward and trace differ");
    }
}

#[test]
fn the_plan_agrees_with_the_reference_on_every_op_and_every_set_of_kernels() {
    for case in cases::all() {
        check(&case.name, &case.net, &case.input(3));
    }
}

/// Output and gradient rows as bits.
fn bits(plan: &CpuPlan, x: &Tensor, seeds: &Tensor) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut trace = plan.trace(x).unwrap();
    let dx = trace.pull(&[(plan.network().output(), seeds.clone())]).unwrap();
    let rows = |t: &Tensor| -> Vec<Vec<u32>> {
        let row = |i| t.get(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (0..x.dims()[0]).map(|i| row(i).into_iter().map(f32::to_bits).collect()).collect()
    };
    rows(trace.output()).into_iter().zip(rows(&dx)).collect()
}

fn check_rows(case: &Case, n: u32, kernels: &str) {
    let reference = Reference::new(case.net.clone(), DType::F32).unwrap();
    let plan = CpuPlan::named(&reference, Precision::Fast, &[], kernels).unwrap();
    let (x, seeds) = (case.input(n as usize), seed_for(&case.net, n as usize));
    let threads = |k| rayon::ThreadPoolBuilder::new().num_threads(k).build().unwrap();
    let whole = threads(2).install(|| bits(&plan, &x, &seeds));
    assert_eq!(whole, threads(1).install(|| bits(&plan, &x, &seeds)), "{}: one thread against two", case.name);
    let order: Vec<u32> = (0..n).map(|i| (i * 7 + 3) % n).rev().collect();
    let mixed = threads(3).install(|| bits(&plan, &take(&x, &order).unwrap(), &take(&seeds, &order).unwrap()));
    for (at, &i) in order.iter().enumerate() {
        assert_eq!(mixed[at], whole[i as usize], "{}, {kernels}: row {i} at place {at}", case.name);
    }
    for i in [0, n - 1] {
        let one = bits(&plan, &take(&x, &[i]).unwrap(), &take(&seeds, &[i]).unwrap());
        assert_eq!(one[0], whole[i as usize], "{}, {kernels}: row {i} alone", case.name);
    }
}

#[test]
fn the_plan_gives_a_row_the_same_bits_wherever_it_stands() {
    for kernels in CpuPlan::kernels() {
        for case in cases::all() {
            check_rows(&case, 5, kernels);
        }
    }
}

#[test]
fn the_plan_gives_a_row_the_same_bits_in_large_batches() {
    for kernels in CpuPlan::kernels() {
        let net = Arc::new(cases::mnist(20, [16, 24], 40, 5));
        check_rows(&Case { name: "digit net".into(), net, positive: false }, 41, kernels);
    }
}

/// A convolution (with what may follow it) of any size.
#[derive(Debug, Clone)]
struct Any {
    size: [usize; 2],
    channels: [usize; 2],
    groups: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: Pads,
    batch: usize,
    norm: bool,
    residual: bool,
    relu: bool,
    /// A maximum pool, and whether it comes before the ReLU.
    pool: Option<(Window, bool)>,
}

fn any_pool() -> impl Strategy<Value = Option<(Window, bool)>> {
    let halves = Window { kernel: [2, 2], stride: [2, 2], pads: [0; 4], ceil: false };
    let window = (prop::array::uniform2(1..4usize), prop::array::uniform2(1..4usize), prop::array::uniform4(0..3usize));
    let window = window.prop_map(move |(kernel, stride, pads)| {
        let pad = |i: usize| pads[i].min(kernel[i % 2] - 1);
        Window { kernel, stride, pads: [pad(0), pad(1), pad(2), pad(3)], ..halves }
    });
    let window = prop_oneof![2 => Just(halves), 1 => window];
    let pool = (window, any::<[bool; 2]>()).prop_map(|(w, [ceil, first])| (Window { ceil, ..w }, first));
    prop_oneof![1 => Just(None), 1 => pool.prop_map(Some)]
}

fn any_conv() -> impl Strategy<Value = Any> {
    let sizes = (prop::array::uniform2(1..19usize), prop::array::uniform2(1..40usize), 1..4usize, 1..4usize);
    let window = (
        prop_oneof![Just([3, 3]), Just([5, 5]), prop::array::uniform2(1..6usize)],
        prop_oneof![2 => Just([1, 1]), 1 => prop::array::uniform2(1..4usize)],
        prop_oneof![3 => Just([1, 1]), 1 => prop::array::uniform2(1..3usize)],
        prop::array::uniform4(0..4usize),
    );
    let grouped = prop_oneof![3 => Just(1usize), 1 => 2..5usize];
    let all = (sizes, window, grouped, any::<[bool; 3]>(), any_pool());
    all.prop_map(|((size, channels, batch, _), window, groups, flags, pool)| Any {
        size,
        channels: channels.map(|c| c * groups),
        groups,
        kernel: window.0,
        stride: window.1,
        dilation: window.2,
        pads: window.3,
        batch,
        norm: flags[0],
        residual: flags[1],
        relu: flags[2],
        pool,
    })
}

fn build(a: &Any) -> Option<Network> {
    let mut g = Gen::new(99);
    let mut b = Builder::new();
    let [i, o] = a.channels;
    let x = b.input("x", &[i, a.size[0], a.size[1]]).ok()?;
    let per_group = i / a.groups;
    let scale = 1. / ((per_group * a.kernel[0] * a.kernel[1]) as f64).sqrt();
    let weight = (g.tensor(&[o, per_group, a.kernel[0], a.kernel[1]]) * scale).unwrap();
    let op = Op::Conv2d {
        weight: b.param("w", weight),
        bias: Some(b.param("b", g.tensor(&[o]))),
        stride: a.stride,
        dilation: a.dilation,
        pads: a.pads,
        groups: a.groups,
    };
    let first = b.node("conv", op.clone(), &[x]).ok()?;
    let mut y = first;
    if a.norm {
        let (mean, var) = (b.param("mean", g.tensor(&[o])), b.param("var", g.positive(&[o])));
        let (gamma, beta) = (Some(b.param("gamma", g.positive(&[o]))), Some(b.param("beta", g.tensor(&[o]))));
        y = b.node("norm", Op::BatchNorm { mean, var, gamma, beta, eps: 1e-3 }, &[y]).ok()?;
    }
    if a.residual {
        let other = b.node("other", op, &[x]).ok()?;
        y = b.node("add", Op::Binary(Binary::Add), &[y, other]).ok()?;
    }
    let first = a.pool.is_some_and(|(_, first)| first);
    for pools in [first, !first] {
        match a.pool {
            Some((window, _)) if pools => y = b.node("pool", Op::MaxPool(window), &[y]).ok()?,
            None if pools => {}
            _ if a.relu => y = b.node("relu", Op::Act(Activation::Relu), &[y]).ok()?,
            _ => {}
        }
    }
    b.finish(y).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn convolutions_of_any_size_agree_with_the_reference(a in any_conv()) {
        if let Some(net) = build(&a) {
            let net = Arc::new(net);
            let dims: Vec<usize> = std::iter::once(a.batch).chain(net.input_row().iter().copied()).collect();
            check(&format!("{a:?}"), &net, &normals(1, 2, &dims));
        }
    }
}

/// Attention over parts of its input: tokens that ask and are asked, heads and their depth, windows, and a bias of which
/// windows and heads have one of their own or share it.
type Attention = ([usize; 2], [usize; 2], Option<usize>, Option<[bool; 2]>);

fn any_attention() -> impl Strategy<Value = Attention> {
    let bias = prop_oneof![1 => Just(None), 3 => any::<[bool; 2]>().prop_map(Some)];
    let windows = prop_oneof![Just(None), (1..4usize).prop_map(Some)];
    (prop::array::uniform2(1..36usize), (1..5usize, 1..19usize).prop_map(|(h, d)| [h, d]), windows, bias)
}

fn attention(([asking, asked], [heads, depth], windows, bias): Attention) -> Network {
    let (mut g, mut b) = (Gen::new(98), Builder::new());
    let lead: Vec<usize> = windows.into_iter().collect();
    let x = b.input("x", &[&lead[..], &[asking + 2 * asked, heads * depth]].concat()).unwrap();
    let ends = [0, asking, asking + asked, asking + 2 * asked];
    let mut inputs: Vec<NodeId> = (0..3)
        .map(|i| Op::Slice { axis: lead.len() + 1, start: ends[i], end: ends[i + 1], step: 1 })
        .map(|op| b.node("part", op, &[x]).unwrap())
        .collect();
    if let Some([by_window, by_head]) = bias {
        let own = |has: bool, size: usize| if has { size } else { 1 };
        let lead = windows.map(|w| own(by_window, w));
        let dims: Vec<usize> = [1].into_iter().chain(lead).chain([own(by_head, heads), asking, asked]).collect();
        let bias = b.param("bias", g.tensor(&dims));
        inputs.push(b.node("bias", Op::Param(bias), &[]).unwrap());
    }
    let y = b.node("y", Op::Attention { heads, scale: 0.5 }, &inputs).unwrap();
    b.finish(y).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn attention_of_any_size_agrees_with_the_reference(a in any_attention(), batch in 1..4usize) {
        let net = Arc::new(attention(a));
        let dims: Vec<usize> = std::iter::once(batch).chain(net.input_row().iter().copied()).collect();
        check(&format!("{a:?}"), &net, &normals(1, 2, &dims));
    }
}

#[test]
fn of_equal_values_the_first_has_the_gradient_of_a_pool() {
    // Whole numbers are exact in every order of summing; most windows hold their largest value several times.
    for (first, ceil) in [(false, false), (true, true)] {
        let whole = |seed: u64, dims: &[usize]| normals(seed, 8, dims).round().unwrap();
        let mut b = Builder::new();
        let x = b.input("x", &[1, 9, 9]).unwrap();
        let weight = b.param("w", whole(7, &[18, 1, 3, 3]));
        let conv = Op::Conv2d { weight, bias: None, stride: [1; 2], dilation: [1; 2], pads: [1; 4], groups: 1 };
        let mut y = b.node("conv", conv, &[x]).unwrap();
        let window = Window { kernel: [2, 2], stride: [2, 2], pads: [0; 4], ceil };
        let mut ops = [Op::MaxPool(window), Op::Act(Activation::Relu)];
        if first {
            ops.reverse();
        }
        for op in ops {
            y = b.node("y", op, &[y]).unwrap();
        }
        let net = Arc::new(b.finish(y).unwrap());
        check("ties", &net, &whole(1, &[3, 1, 9, 9]));
    }
}

#[test]
fn sines_are_right_however_far_the_angle() {
    let turns = [0., 1e-30, 1e-4, 0.5, 1., 1.5, 2., 3.5, 99.5, 1000., 2607., 2608.5, 1e5, 3e7, 1e30];
    let near = |t: f64| [-2e-7, -1e-7, 0., 1e-7, 2e-7].map(|d| (t * std::f64::consts::PI * (1. + d)) as f32);
    let mut angles: Vec<f32> = turns.into_iter().flat_map(near).flat_map(|a| [a, -a]).collect();
    angles.extend(robust_core::stream("angles").to_le_bytes().map(|b| f32::from(b) * 80.));
    angles.extend([f32::INFINITY, f32::NAN, 8192., 8192.001, f32::MIN_POSITIVE / 2.]);
    let x = Tensor::from_vec(angles.clone(), (1, angles.len()), &candle_core::Device::Cpu).unwrap();
    let function = |kind| {
        let mut b = Builder::new();
        let x = b.input("x", &[angles.len()]).unwrap();
        let y = b.node("y", Op::Act(kind), &[x]).unwrap();
        Arc::new(b.finish(y).unwrap())
    };
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    type Of = fn(f64) -> f64;
    let (sin, cos): (Of, Of) = (f64::sin, f64::cos);
    for (kind, value, slope) in [(Activation::Sin, sin, cos), (Activation::Cos, cos, |a| -f64::sin(a))] {
        let reference = Reference::new(function(kind), DType::F32).unwrap();
        for kernels in CpuPlan::kernels() {
            let plan = CpuPlan::named(&reference, Precision::Fast, &[], kernels).unwrap();
            let mut trace = plan.trace(&x).unwrap();
            let seed = x.ones_like().unwrap();
            let (y, dx) = (flat(trace.output()), flat(&trace.pull(&[(plan.network().output(), seed)]).unwrap()));
            for ((&angle, y), dx) in angles.iter().zip(y).zip(dx) {
                for (got, wanted) in [(y, value(f64::from(angle))), (dx, slope(f64::from(angle)))] {
                    let same = got.is_nan() && wanted.is_nan();
                    assert!(same || (f64::from(got) - wanted).abs() <= 2e-7, "{kind:?}({angle}) {kernels}: {got}");
                }
                // Near zero to the last bits.
                if kind == Activation::Sin && angle.abs() < 1e-3 {
                    assert!((y - angle).abs() <= 2e-7 * angle.abs(), "sin({angle}) {kernels}: {y}");
                }
            }
        }
    }
}

#[test]
fn windows_far_larger_than_the_image_are_no_more_work() {
    let pads = [(1 << 14) - 1, 3, 0, 0];
    let window = Window { kernel: [1 << 14, 4], stride: [1, 2], pads, ceil: false };
    let mut b = Builder::new();
    let x = b.input("x", &[2, 3, 5]).unwrap();
    let pools =
        [Op::AvgPool { window, count_pads: true }, Op::AvgPool { window, count_pads: false }, Op::MaxPool(window)];
    let parts: Vec<NodeId> = pools.into_iter().map(|op| b.node("pool", op, &[x]).unwrap()).collect();
    let y = b.node("y", Op::Concat { axis: 1 }, &parts).unwrap();
    let net = Arc::new(b.finish(y).unwrap());
    check("wide windows", &net, &normals(1, 2, &[2, 2, 3, 5]));
}

#[test]
fn exposed_values_can_be_read_and_seeded() {
    let net = Arc::new(cases::mnist(12, [3, 4], 9, 3));
    let reference = Reference::new(net.clone(), DType::F32).unwrap();
    let x = normals(1, 1, &[2, 1, 12, 12]);
    for name in ["conv0", "act1", "flat"] {
        let node = net.find(name).unwrap();
        let plan = CpuPlan::new(&reference, Precision::Fast, &[node]).unwrap();
        let (mut trace, mut tape) = (plan.trace(&x).unwrap(), reference.trace(&x, &[node]).unwrap());
        assert!(distance(trace.value(node).unwrap(), tape.value(node).unwrap()) <= 1e-5, "{name}");
        let seeds = [
            (node, normals(2, 2, trace.value(node).unwrap().dims())),
            (net.output(), normals(2, 3, trace.output().dims())),
        ];
        for seeds in [&seeds[..1], &seeds[1..], &seeds[..]] {
            let gap = distance(&trace.pull(seeds).unwrap(), &tape.pull(seeds).unwrap());
            assert!(gap <= 1e-4, "{name}: {gap:e}");
        }
        assert!(trace.value(NodeId(0)).is_err());
    }
}

#[test]
fn runs_of_several_sizes_reuse_memory_and_do_not_disturb_each_other() {
    let net = Arc::new(cases::mnist(12, [3, 4], 9, 3));
    let reference = Reference::new(net.clone(), DType::F32).unwrap();
    let plan = CpuPlan::new(&reference, Precision::Fast, &[]).unwrap();
    let inputs: Vec<Tensor> = [7, 2, 5].iter().map(|&n| normals(1, n as u64, &[n, 1, 12, 12])).collect();
    let round = || -> Vec<_> { inputs.iter().map(|x| bits(&plan, x, &seed_for(&net, x.dims()[0]))).collect() };
    let first = round();
    let made = plan.workspace();
    assert!(made > 0);
    // A trace that is alive keeps its buffers to itself.
    let mut open = plan.trace(&inputs[0]).unwrap();
    assert_eq!(first, round());
    let seed = seed_for(&net, 7);
    let dx = open.pull(&[(net.output(), seed.clone())]).unwrap();
    drop(open);
    let rows = bits(&plan, &inputs[0], &seed);
    let flat: Vec<u32> = dx.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    assert_eq!(flat, rows.into_iter().flat_map(|r| r.1).collect::<Vec<_>>());
    let settled = plan.workspace();
    (0..3).for_each(|_| assert_eq!(first, round()));
    assert_eq!(settled, plan.workspace(), "memory grows from run to run");
    // What is foreseen for a batch holds, and is not far off.
    let (x, seed) = (normals(1, 9, &[64, 1, 12, 12]), seed_for(&net, 64));
    let alone = [Precision::Fast, Precision::Exact].map(|p| CpuPlan::new(&reference, p, &[]).unwrap());
    alone[0].trace(&x).unwrap().pull(&[(net.output(), seed)]).unwrap();
    alone[1].forward(&x).unwrap();
    let (taken, foreseen) = (alone.iter().map(CpuPlan::workspace).sum(), 64 * CpuPlan::row_bytes(&reference).unwrap());
    assert!((taken..taken + taken / 2).contains(&foreseen), "{taken} taken, {foreseen} foreseen");
}

#[test]
fn a_wrong_input_or_seed_is_an_error() {
    let net = Arc::new(cases::mnist(12, [3, 4], 9, 3));
    let reference = Reference::new(net.clone(), DType::F32).unwrap();
    let plan = CpuPlan::new(&reference, Precision::Fast, &[]).unwrap();
    let error = plan.forward(&normals(1, 1, &[2, 3, 12, 12])).unwrap_err();
    assert!(error.message.contains("[n, 1, 12, 12]") && error.message.contains("[2, 3, 12, 12]"), "{error}");
    let mut trace = plan.trace(&normals(1, 1, &[2, 1, 12, 12])).unwrap();
    assert!(trace.pull(&[(net.output(), normals(1, 1, &[3, 10]))]).is_err());
    assert!(trace.pull(&[(NodeId(1), normals(1, 1, &[2, 3, 12, 12]))]).is_err());
    assert!(CpuPlan::named(&reference, Precision::Fast, &[], "mmx").is_err());
}

#[test]
fn rows_with_nan_show_it_and_leave_their_neighbours_alone() {
    let net = Arc::new(cases::mnist(20, [16, 24], 40, 5));
    let reference = Reference::new(net.clone(), DType::F32).unwrap();
    for kernels in CpuPlan::kernels() {
        let plan = CpuPlan::named(&reference, Precision::Fast, &[], kernels).unwrap();
        let x = normals(1, 1, &[3, 1, 20, 20]);
        let clean = plan.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        let mut values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[400 + 210] = f32::NAN;
        let broken = Tensor::from_vec(values, x.dims(), &candle_core::Device::Cpu).unwrap();
        let out = plan.forward(&broken).unwrap().to_vec2::<f32>().unwrap();
        assert!(out[1].iter().any(|v| v.is_nan()), "{kernels}");
        assert_eq!((&out[0], &out[2]), (&clean[0], &clean[2]), "{kernels}");
    }
}
