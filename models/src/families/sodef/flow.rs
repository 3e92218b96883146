//! The flow of `z' = sin(-(W z + b))`, to a proven accuracy, laid out of linear layers and sines.
//!
//! In each step of length `h` the curve is known by `u = W z + b` at the [`NODES`] Gauss-Legendre nodes of the step. Picard's
//! iteration `u_i = u_0 - h W sum_j a_ij sin(u_j)` starts at the constant `u_0`, and `z` moves by `-h sum_j b_j sin(u_j)`.
//!
//! How far that is from the flow: let `L` be the norm of `W` and `S` the largest sum of sizes in a row of it. The Taylor
//! coefficients of `sin(u(t))` at any point of any solution are at most `S^p` in size, by induction from `|sin| <= 1` and the same
//! for its derivatives. So interpolation at the nodes errs by at most `(S h)^m` times the integral of `|(t - c_1) ... (t - c_m)|`.
//! Iterations shrink their error by `L h |a|`, from `L c_i h` at the start; sizes are root mean squares over the entries. Errors
//! of steps are carried on by the flow itself, which stretches distances by at most `exp(L t)`.
//!
//! All that weights follow from is computed with `libm`, the same bits on every platform, so that digests agree.

use super::finite::finite;
use super::norms::spectral;
use crate::compose::MADE;
use crate::layers::stack::Stack;
use crate::layers::tokens::last;
use candle_core::{Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Activation, NodeId, Op, ParamId};

/// The length of the flow.
const TIME: f64 = 5.;
/// Nodes in a step.
const NODES: usize = 10;
/// The error that is wanted at the end, as a root mean square over the entries of `z`.
const GOAL: f64 = 1e-6;
/// The error that is wanted of a unit of time where the flow may stretch it so far that the goal is out of reach: well below f32's
/// rounding, which it stretches as well.
const FINEST: f64 = 1e-9;
/// Steps that are laid; published weights would need their rows' sums to be 80 for so many.
const MOST_STEPS: f64 = 1024.;
/// Nodes that are laid for any file, entries of it for each further one, and nodes at most; a network of the published width and a
/// norm of 6 has 7,000.
const NODES_FREE: usize = 4096;
const ENTRIES_A_NODE: usize = 16;
const MOST_NODES: usize = 16_384;
/// Unknowns, as many as published: the weights grow with their square.
const WIDEST: usize = 64;

/// What was laid, and what is proven of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    steps: usize,
    iterations: usize,
    /// Error of a unit of time, and what all of it may grow to.
    rate: f64,
    growth: f64,
}

impl Flow {
    /// Says what was done, where scores move by at most `steep` for each unit of error in `z`.
    pub(crate) fn note(&self, steep: f64) -> String {
        let Self { steps, iterations, rate, growth } = self;
        let error = rate * growth * steep;
        let proven = match error <= 1e-3 {
            true => format!("scores are within {} of the exact solution's, rounding apart", at_most(error)),
            false => {
                let [rate, growth] = [*rate, *growth].map(at_most);
                format!(
                    "a unit of time adds an error of at most {rate}, which the equation itself may stretch {growth}-fold"
                )
            }
        };
        format!(
            "the differential equation is solved for every image by itself, in {steps} steps of {iterations} Picard iterations at \
             {NODES} Gauss-Legendre nodes: {proven}; the published code's solver allows itself 1e-3 a step and chooses steps by the \
             whole batch"
        )
    }

    /// Steps and iterations for the equation of a matrix of this norm and these row sums, in at most so many nodes.
    fn plan(gauss: &Gauss, norm: f64, sums: f64, most: usize) -> Result<Self> {
        let growth = if norm > 0. { libm::expm1(norm * TIME) / norm } else { TIME };
        let wanted = (GOAL / growth).max(FINEST);
        // Half of it for the interpolation, which iterations of at most half their size repeat once.
        let length = libm::pow(wanted / (4. * gauss.gap), 1. / NODES as f64) / sums;
        let steps = (TIME / length.min(0.5 / (gauss.largest() * norm))).ceil().max(1.);
        if steps > MOST_STEPS || steps.is_nan() {
            return Err(Error::load(
                "the equation",
                format!("its rows sum up to {sums:.1e}: {steps:.0} steps would be needed"),
            )
            .hint(format!("up to {MOST_STEPS} are built; does the file come from where you think?")));
        }
        let h = TIME / steps;
        let interpolation = (sums * h).powi(NODES as i32) * gauss.gap * (1. + 2. * norm * h);
        let (mut gaps, mut size, mut iterations) = (gauss.places.to_vec(), norm * h, 0);
        let left = loop {
            gaps = gauss.shrink(&gaps);
            size *= norm * h;
            iterations += 1;
            let left = size * gauss.mean(&gaps);
            if left <= wanted / 2. {
                break left;
            }
        };
        let nodes = steps as usize * (3 * iterations + 5);
        if nodes > most {
            let why = format!(
                "{steps} steps of {iterations} iterations are {nodes} nodes; up to {most} are laid of a file of this size"
            );
            return Err(Error::load("the equation", why).hint("does the file come from where you think?"));
        }
        Ok(Self { steps: steps as usize, iterations, rate: interpolation + left, growth })
    }
}

/// One digit, rounded up.
fn at_most(v: f64) -> String {
    if v == 0. {
        return "0".into();
    }
    let one = 10f64.powi(v.log10().floor() as i32);
    // A digit that is already one must not be rounded up for its last bit.
    let up = (v / one - 1e-9).ceil() * one;
    if up.is_finite() { format!("{up:.0e}") } else { "over 1e300".into() }
}

/// Lays the flow from `z`, with `name`'s weight and bias.
pub(crate) fn lay(stack: &mut Stack, z: NodeId, name: &str) -> Result<(NodeId, Flow)> {
    let k = last(stack, z);
    let names = ["weight", "bias"].map(|part| format!("{name}.{part}"));
    let (weight, bias) = (stack.dict.take(&names[0], &[k, k])?, stack.dict.take(&names[1], &[k])?);
    if k > WIDEST {
        return Err(Error::load(format!("`{}`", names[0]), format!("{k} unknowns; up to {WIDEST} are built")));
    }
    let values = finite(&weight, &names[0], &[k, k])?;
    finite(&bias, &names[1], &[k])?;
    let gauss = Gauss::new();
    let most = MOST_NODES.min(NODES_FREE + stack.dict.held() / ENTRIES_A_NODE);
    let flow = Flow::plan(&gauss, spectral(&values, k), row_sums(&values, k), most)
        .map_err(|e| e.within(format!("`{}`", names[0])))?;
    let layers = Layers::new(stack, &names, [weight, bias], &values, &gauss, TIME / flow.steps as f64)?;
    let mut z = z;
    for step in 0..flow.steps {
        z = layers.step(stack, z, step, flow.iterations)?;
    }
    Ok((z, flow))
}

/// The weights of a step. Signs and lengths are inside; all steps share them.
struct Layers {
    field: [ParamId; 2],
    /// The same value at every node.
    spread: ParamId,
    /// From the sines at the start, or at all nodes, to what they add to `u` at the nodes.
    first: ParamId,
    again: ParamId,
    /// From the sines at the nodes to what they add to `z`.
    out: ParamId,
}

impl Layers {
    fn new(
        stack: &mut Stack,
        names: &[String; 2],
        field: [Tensor; 2],
        w: &[f64],
        gauss: &Gauss,
        h: f64,
    ) -> Result<Self> {
        let k = field[1].elem_count();
        let wide = NODES * k;
        // All four, twice as wide as weights are.
        stack.dict.spend(&names[0], &[2, wide, wide + 3 * k])?;
        let same = |r: usize, c: usize| f64::from(u8::from(r % k == c % k));
        let mut made =
            |name: &str, rows: usize, columns: usize, entry: &dyn Fn(usize, usize) -> f64| -> Result<ParamId> {
                let all = (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect();
                Ok(stack.net.param(format!("{MADE}flow.{name}"), Tensor::from_vec(all, (rows, columns), &Device::Cpu)?))
            };
        let spread = made("spread", wide, k, &same)?;
        let first = made("first", wide, k, &|r, c| -h * gauss.places[r / k] * w[r % k * k + c])?;
        let again = made("again", wide, wide, &|r, c| -h * gauss.sums[r / k][c / k] * w[r % k * k + c % k])?;
        let out = made("out", k, wide, &|r, c| -h * gauss.weights[c / k] * same(r, c))?;
        let [weight, bias] = field;
        let field = [stack.net.param(names[0].clone(), weight), stack.net.param(names[1].clone(), bias)];
        Ok(Self { field, spread, first, again, out })
    }

    fn step(&self, stack: &mut Stack, z: NodeId, step: usize, iterations: usize) -> Result<NodeId> {
        let at = |part: &str| format!("flow.{step}.{part}");
        let [weight, bias] = self.field;
        let start = stack.net.node(at("field"), Op::Linear { weight, bias: Some(bias) }, &[z])?;
        let linear = |stack: &mut Stack, x, weight, name: &str| -> Result<NodeId> {
            stack.net.node(at(name), Op::Linear { weight, bias: None }, &[x])
        };
        let base = linear(stack, start, self.spread, "spread")?;
        let mut u = start;
        for i in 0..iterations {
            let sines = stack.act(u, &at(&format!("sines.{i}")), Activation::Sin)?;
            let weight = if i == 0 { self.first } else { self.again };
            let moved = linear(stack, sines, weight, &format!("moved.{i}"))?;
            u = stack.add(moved, base, &at(&format!("u.{i}")))?;
        }
        let sines = stack.act(u, &at("sines"), Activation::Sin)?;
        let moved = linear(stack, sines, self.out, "moved")?;
        stack.add(moved, z, &at("z"))
    }
}

/// Gauss-Legendre quadrature on `[0, 1]`.
struct Gauss {
    places: [f64; NODES],
    weights: [f64; NODES],
    /// Integrals from 0 to each place: row `i` sums up to `places[i]`.
    sums: [[f64; NODES]; NODES],
    /// At least the integral of `|(t - c_1) ... (t - c_m)|`, by Cauchy and Schwarz: the length of the monic Legendre polynomial.
    gap: f64,
}

impl Gauss {
    fn new() -> Self {
        let m = NODES as f64;
        let (mut places, mut weights) = ([0.; NODES], [0.; NODES]);
        for i in 0..NODES {
            // On [-1, 1] the places are near these cosines; Newton's iteration squares the distance each time.
            let mut x = -libm::cos(std::f64::consts::PI * (i as f64 + 0.75) / (m + 0.5));
            for _ in 0..8 {
                let (value, slope) = legendre(x);
                x -= value / slope;
            }
            let (_, slope) = legendre(x);
            places[i] = (1. + x) / 2.;
            weights[i] = 1. / ((1. - x * x) * slope * slope);
        }
        let mut sums = [[0.; NODES]; NODES];
        for (i, row) in sums.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                // The quadrature is exact for what it interpolates with.
                let part = |t: f64| {
                    let others = (0..NODES).filter(|l| *l != j);
                    others.map(|l| (t - places[l]) / (places[j] - places[l])).product::<f64>()
                };
                *sum = (0..NODES).map(|q| places[i] * weights[q] * part(places[i] * places[q])).sum();
            }
        }
        let monic: f64 = (1..=NODES).map(|i| i as f64 / (m + i as f64)).product();
        Self { places, weights, sums, gap: monic / (2. * m + 1.).sqrt() }
    }

    /// The sizes of the sums, times a vector.
    fn shrink(&self, v: &[f64]) -> Vec<f64> {
        self.sums.iter().map(|row| row.iter().zip(v).map(|(s, v)| s.abs() * v).sum()).collect()
    }

    fn mean(&self, v: &[f64]) -> f64 {
        self.weights.iter().zip(v).map(|(w, v)| w * v).sum()
    }

    /// The greatest sum of sizes in a row.
    fn largest(&self) -> f64 {
        self.shrink(&[1.; NODES]).into_iter().fold(0., f64::max)
    }
}

/// The Legendre polynomial of degree [`NODES`] and its derivative.
fn legendre(x: f64) -> (f64, f64) {
    let (mut before, mut here) = (1., x);
    for n in 1..NODES {
        let n = n as f64;
        (before, here) = (here, ((2. * n + 1.) * x * here - n * before) / (n + 1.));
    }
    (here, NODES as f64 * (x * here - before) / (x * x - 1.))
}

/// The largest sum of sizes in a row.
fn row_sums(w: &[f64], k: usize) -> f64 {
    w.chunks(k.max(1)).map(|row| row.iter().map(|v| v.abs()).sum()).fold(0., f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::norms::tests::numbers;
    use super::*;
    use crate::weights::StateDict;
    use robust_engine::{Builder, Reference};

    /// Where rows of `z` flow to.
    fn flowed(w: &[f64], b: &[f64], z: &[f64]) -> Result<(Vec<f64>, Flow)> {
        let k = b.len();
        let tensor = |v: &[f64], dims: &[usize]| Tensor::from_vec(v.to_vec(), dims, &Device::Cpu).unwrap();
        let tensors = [("f.weight".to_string(), tensor(w, &[k, k])), ("f.bias".to_string(), tensor(b, &[k]))];
        let (mut dict, mut net) = (StateDict::from_tensors(tensors.into()), Builder::new());
        let x = net.input("z", &[k])?;
        let (out, flow) = lay(&mut Stack { dict: &mut dict, net: &mut net }, x, "f")?;
        let net = std::sync::Arc::new(net.finish(out)?);
        let out = Reference::new(net, candle_core::DType::F64)?.forward(&tensor(z, &[z.len() / k, k]))?;
        Ok((crate::layers::tokens::values(&out)?, flow))
    }

    #[test]
    fn one_unknown_flows_as_its_closed_form_says() {
        for w in [0., 0.01, 0.8, -0.8, 3., -2., 9., -1.2] {
            let starts = [-0.9, -0.2, 0.3, 1.];
            let (ends, flow) = flowed(&[w], &[0.4], &starts).unwrap();
            let proven = flow.rate * flow.growth;
            assert!(w.abs() > 1.5 || proven <= GOAL, "{w}: {proven:e}");
            for (z, end) in starts.into_iter().zip(ends) {
                let u = w * z + 0.4;
                let turns = (u / std::f64::consts::TAU).round() * std::f64::consts::TAU;
                let last = turns + 2. * (((u - turns) / 2.).tan() * (-w * TIME).exp()).atan();
                let wanted = if w == 0. { z - TIME * 0.4f64.sin() } else { z + (last - u) / w };
                assert!((end - wanted).abs() <= proven + 1e-13, "{w}, {z}: {end} {wanted}, {flow:?}");
            }
        }
    }

    /// The classic method of Runge and Kutta, in so many steps.
    fn runge_kutta(w: &[f64], b: &[f64], z: &[f64], steps: usize) -> Vec<f64> {
        let (k, h) = (b.len(), TIME / steps as f64);
        let field = |z: &[f64]| -> Vec<f64> {
            let u = w.chunks(k).zip(b).map(|(row, b)| row.iter().zip(z).map(|(w, z)| w * z).sum::<f64>() + b);
            u.map(|u| -u.sin()).collect()
        };
        let moved = |z: &[f64], by: f64, v: &[f64]| z.iter().zip(v).map(|(z, v)| z + by * v).collect::<Vec<f64>>();
        let mut z = z.to_vec();
        for _ in 0..steps {
            let a = field(&z);
            let b = field(&moved(&z, h / 2., &a));
            let c = field(&moved(&z, h / 2., &b));
            let d = field(&moved(&z, h, &c));
            z = (0..k).map(|i| z[i] + h / 6. * (a[i] + 2. * b[i] + 2. * c[i] + d[i])).collect();
        }
        z
    }

    #[test]
    fn several_unknowns_flow_as_another_method_says() {
        for (k, size) in [(6, 0.3), (6, 1.), (9, 1.5)] {
            let w: Vec<f64> = numbers(k * k).iter().map(|v| v * size).collect();
            let (b, z) = (numbers(k + 3)[3..].to_vec(), numbers(k));
            let (end, flow) = flowed(&w, &b, &z).unwrap();
            let wanted = runge_kutta(&w, &b, &z, 20_000);
            let error = end.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / k as f64;
            let way = z.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / k as f64;
            println!("{k}, {size}: way {:.2}, error {:.1e}, {flow:?}", way.sqrt(), error.sqrt());
            assert!(way.sqrt() > 0.5 && error.sqrt() <= (flow.rate * flow.growth).min(1e-9) + 1e-12);
        }
    }

    #[test]
    fn sums_at_the_nodes_are_integrals() {
        let gauss = Gauss::new();
        for p in 0..2 * NODES as i32 {
            let powers = gauss.places.map(|c| c.powi(p));
            assert!((gauss.mean(&powers) - 1. / f64::from(p + 1)).abs() < 1e-14);
            for (row, c) in gauss.sums.iter().zip(gauss.places).filter(|_| p < NODES as i32) {
                let sum: f64 = row.iter().zip(powers).map(|(a, v)| a * v).sum();
                assert!((sum - c.powi(p + 1) / f64::from(p + 1)).abs() < 1e-14);
            }
        }
        // The bound on the gap holds, and is near.
        let product = |t: f64| gauss.places.iter().map(|c| (t - c).abs()).product::<f64>();
        let integral = (0..100_000).map(|i| product((f64::from(i) + 0.5) / 1e5)).sum::<f64>() / 1e5;
        assert!(integral <= gauss.gap && gauss.gap <= 1.3 * integral, "{integral:e} {:e}", gauss.gap);
    }

    #[test]
    fn what_a_note_says_is_never_below_what_is_proven() {
        for (v, said) in
            [(1.4e-6, "2e-6"), (2e-6, "2e-6"), (9.6e-7, "1e-6"), (0., "0"), (5., "5e0"), (f64::INFINITY, "over 1e300")]
        {
            assert_eq!(at_most(v), said);
        }
        let flow = Flow { steps: 3, iterations: 2, rate: 1e-9, growth: 1e4 };
        assert!(flow.note(2.).contains("within 2e-5 of") && flow.note(1e3).contains("at most 1e-9, which"));
    }

    #[test]
    fn equations_that_are_too_steep_or_broken_are_refused() {
        for (w, part) in [(150., "steps would be needed"), (1e300, "steps would be needed"), (f64::NAN, "NaN")] {
            let error = flowed(&[w], &[0.], &[1.]).unwrap_err();
            assert!(error.kind == robust_core::Kind::Load && error.message.contains(part), "{error}");
        }
        let error = flowed(&[1.], &[f64::INFINITY], &[1.]).unwrap_err();
        assert!(error.message.contains("`f.bias`"), "{error}");
        let k = WIDEST + 1;
        let error = flowed(&vec![0.; k * k], &vec![0.; k], &vec![0.; k]).unwrap_err();
        assert!(error.message.contains("unknowns"), "{error}");
    }
}
