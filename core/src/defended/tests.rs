//! Transforms of known derivative before models of known gradient.

use super::*;
use crate::{Goal, Input, InputKind, Objective, Rejection, RowKey};
use candle_core::{DType, Device};

const D: usize = 4;

fn input() -> Input {
    Input { shape: vec![D], domain: Some((0., 1.)), kind: InputKind::Features }
}

fn row(values: [f32; D]) -> Tensor {
    Tensor::from_slice(&values, (1, D), &Device::Cpu).unwrap()
}

fn draw(keys: &[RowKey]) -> Draw<'_> {
    Draw { seed: 5, stream: 1, turn: 0, rows: keys }
}

/// z = (0, sum of x^2): its gradient 2 x differs everywhere.
struct Quadratic(Card);

fn quadratic() -> Arc<dyn Model> {
    let card = Card { digest: "d".into(), ..Card::new("quadratic", input(), Output::Logits { k: 2 }) };
    Arc::new(Quadratic(card))
}

struct Pull(Tensor, Tensor);

impl Trace for Pull {
    fn output(&self) -> &Tensor {
        &self.1
    }
    fn tap(&self, _: TapId) -> Result<&Tensor> {
        Err(Error::internal("no taps"))
    }
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        Ok((self.0.broadcast_mul(&seeds[0].1.narrow(1, 1, 1)?)? * 2.)?)
    }
}

impl Model for Quadratic {
    fn card(&self) -> &Card {
        &self.0
    }
    fn forward(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        let sum = x.sqr()?.sum_keepdim(1)?;
        Ok(Tensor::cat(&[&sum.zeros_like()?, &sum], 1)?)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, _: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        Ok(Box::new(Pull(x.clone(), self.forward(x, draw)?)))
    }
    fn in_double(&self) -> Result<Option<Arc<dyn Model>>> {
        Ok(Some(Arc::new(Double(self.0.clone()))))
    }
}

struct Double(Card);

impl Model for Double {
    fn card(&self) -> &Card {
        &self.0
    }
    fn forward(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        let sum = x.to_dtype(DType::F64)?.sqr()?.sum_keepdim(1)?;
        Ok(Tensor::cat(&[&sum.zeros_like()?, &sum], 1)?)
    }
}

/// Rounds to multiples of a quarter: no derivative.
struct Quantise;

impl Transform for Quantise {
    fn name(&self) -> String {
        "quantise:levels=5".into()
    }
    fn apply(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        Ok(((x * 4.)?.round()? / 4.)?)
    }
    fn jumps(&self) -> bool {
        true
    }
}

/// y = x B with a row of B per entry of x; not symmetric, so that a transpose shows.
struct Blur(Tensor);

fn blur() -> Arc<Blur> {
    let b = [[0.5f32, 0.5, 0., 0.], [0., 0.75, 0.25, 0.], [0., 0., 1., 0.], [0.25, 0., 0., 0.5]];
    Arc::new(Blur(Tensor::new(&b, &Device::Cpu).unwrap()))
}

impl Transform for Blur {
    fn name(&self) -> String {
        "blur".into()
    }
    fn apply(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        Ok(x.matmul(&self.0)?)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, through: Through) -> Result<(Tensor, Pullback<'a>)> {
        let y = self.apply(x, draw)?;
        let by = if through == Through::Identity { Tensor::eye(D, DType::F32, &Device::Cpu)? } else { self.0.t()? };
        Ok((y, Box::new(move |seed| Ok(seed.matmul(&by)?))))
    }
}

/// Adds uniform noise.
struct Noisy;

impl Transform for Noisy {
    fn name(&self) -> String {
        "noise".into()
    }
    fn apply(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        Ok((x + draw.uniform(-0.1, 0.1, &[D], x.device())?)?)
    }
    fn is_random(&self) -> bool {
        true
    }
    fn cost(&self) -> Passes {
        Passes { forward: 3, backward: 1 }
    }
}

/// The sum of a row; `slope` says whether it gives gradients.
struct Sum {
    slope: bool,
}

impl Detector for Sum {
    fn name(&self) -> String {
        "sum".into()
    }
    fn score(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        Ok(x.sum(1)?)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw) -> Result<(Tensor, Pullback<'a>)> {
        let back: Pullback = Box::new(|seed| Ok(seed.unsqueeze(1)?.broadcast_as((seed.dim(0)?, D))?.contiguous()?));
        Ok((self.score(x, draw)?, back))
    }
    fn has_gradient(&self) -> bool {
        self.slope
    }
}

/// Scores and the gradient of class 1's score at `x`.
fn at(model: &Defended, x: &Tensor) -> (Vec<f32>, Vec<f32>) {
    let keys = [RowKey::of(3)];
    let draw = draw(&keys);
    let mut trace = model.trace(x, &draw, &[]).unwrap();
    let bits = |t: &Tensor| t.to_vec2::<f32>().unwrap()[0].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    // The trace's value is the forward's to the bit.
    assert_eq!(bits(trace.output()), bits(&model.forward(x, &draw).unwrap()));
    let mut seed = vec![0f32; model.card().output.width()];
    seed[1] = 1.;
    let seed = Tensor::from_vec(seed, (1, model.card().output.width()), &Device::Cpu).unwrap();
    let out = trace.output().to_vec2::<f32>().unwrap()[0].clone();
    (out, trace.pull(&[(Site::Output, seed)]).unwrap().to_vec2::<f32>().unwrap()[0].clone())
}

#[test]
fn behind_a_quantisation_the_gradient_is_that_at_the_quantised_point() {
    let model = Defended::new(vec![(Arc::new(Quantise), Through::Identity)], quadratic()).unwrap();
    let (scores, gradient) = at(&model, &row([0.3, 0.6, 0.9, 0.1]));
    // g(x) = (0.25, 0.5, 1, 0): the value is there, and so is the gradient; at x it would be (0.6, 1.2, 1.8, 0.2).
    assert_eq!(scores, [0., 0.0625 + 0.25 + 1.]);
    assert_eq!(gradient, [0.5, 1., 2., 0.]);
    assert!(model.card().jumps && !model.card().stochastic);
    // A stand-in pulls a whole model at x instead.
    let standin = crate::StandIn::new(Arc::new(model), quadratic()).unwrap();
    let keys = [RowKey::of(3)];
    let mut trace = standin.trace(&row([0.3, 0.6, 0.9, 0.1]), &draw(&keys), &[]).unwrap();
    let seed = Tensor::new(&[[0f32, 1.]], &Device::Cpu).unwrap();
    let there = trace.pull(&[(Site::Output, seed)]).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(there[0], [0.6, 1.2, 1.8, 0.2]);
}

#[test]
fn a_linear_blur_is_pulled_back_by_its_transpose() {
    let b = blur();
    let exact = Defended::new(vec![(b.clone(), Through::Exact)], quadratic()).unwrap();
    let x = row([0.5, 0.25, 1., 0.75]);
    let y = x.matmul(&b.0).unwrap();
    let expected = (y.matmul(&b.0.t().unwrap()).unwrap() * 2.).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(at(&exact, &x).1, expected[0]);
    let through = Defended::new(vec![(b, Through::Identity)], quadratic()).unwrap();
    assert_eq!(at(&through, &x).1, (y * 2.).unwrap().to_vec2::<f32>().unwrap()[0]);
}

#[test]
fn two_transforms_compose_in_order_and_come_back_in_reverse() {
    let stages: Vec<(Arc<dyn Transform>, Through)> =
        vec![(blur(), Through::Exact), (Arc::new(Quantise), Through::Identity)];
    let model = Defended::new(stages, quadratic()).unwrap();
    let x = row([0.5, 0.25, 1., 0.75]);
    let b = blur();
    let keys = [RowKey::of(3)];
    let y = Quantise.apply(&x.matmul(&b.0).unwrap(), &draw(&keys)).unwrap();
    let expected = (y.matmul(&b.0.t().unwrap()).unwrap() * 2.).unwrap().to_vec2::<f32>().unwrap();
    let (scores, gradient) = at(&model, &x);
    assert_eq!(scores[1], y.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
    assert_eq!(gradient, expected[0]);
    // The other order is another function with another name and digest.
    let stages: Vec<(Arc<dyn Transform>, Through)> =
        vec![(Arc::new(Quantise), Through::Identity), (blur(), Through::Exact)];
    let other = Defended::new(stages, quadratic()).unwrap();
    assert_ne!(at(&other, &x).0, scores);
    assert_eq!(model.card().name, "blur+quantise:levels=5+quadratic");
    assert_ne!(model.card().digest, other.card().digest);
}

#[test]
fn a_transform_without_a_derivative_says_so_instead_of_giving_zeros() {
    let model = Defended::new(vec![(Arc::new(Quantise), Through::Exact)], quadratic()).unwrap();
    let keys = [RowKey::of(3)];
    let error = model.trace(&row([0.; D]), &draw(&keys), &[]).err().unwrap();
    assert!(error.kind == crate::Kind::Usage && error.message.contains("`quantise:levels=5` (exact)"), "{error}");
}

#[test]
fn random_transforms_draw_apart_and_the_same_again() {
    let stages = || -> Vec<(Arc<dyn Transform>, Through)> {
        vec![(Arc::new(Noisy), Through::Identity), (Arc::new(Noisy), Through::Identity)]
    };
    let (twice, once) = (Defended::new(stages(), quadratic()).unwrap(), stages().remove(0));
    assert!(twice.card().stochastic);
    assert_eq!(twice.cost(), Passes { forward: 6, backward: 2 });
    let once = Defended::new(vec![once], quadratic()).unwrap();
    let (x, keys) = (row([0.5; D]), [RowKey::of(3)]);
    let moved =
        |model: &Defended| (model.transformed(&x, &draw(&keys)).unwrap() - &x).unwrap().to_vec2::<f32>().unwrap();
    let (a, b) = (moved(&once)[0].clone(), moved(&twice)[0].clone());
    // Were the second noise the first again, it would have moved twice as far.
    assert!(a.iter().zip(&b).any(|(a, b)| (2. * a - b).abs() > 1e-3), "{a:?} {b:?}");
    assert_eq!(moved(&twice)[0], b);
    let others = [RowKey { draw: 1, ..RowKey::of(3) }];
    let again = twice.transformed(&x, &draw(&others)).unwrap();
    assert_ne!((again - &x).unwrap().to_vec2::<f32>().unwrap()[0], b);
}

#[test]
fn a_detector_adds_its_rejection_and_its_gradient() {
    let model = Defended::new(vec![(Arc::new(Quantise), Through::Identity)], quadratic()).unwrap();
    let model = model.guarded(Arc::new(Sum { slope: true }), 1.5).unwrap();
    assert_eq!((model.card().output, model.card().access), (Output::LogitsReject { k: 2 }, Access::Gradient));
    let x = row([0.3, 0.6, 0.9, 0.1]);
    let (scores, gradient) = at(&model, &x);
    assert!((scores[2] - 0.4).abs() < 1e-6 && scores[..2] == [0., 1.3125], "{scores:?}");
    assert_eq!(gradient, [0.5, 1., 2., 0.], "a seed at the classes alone");
    let keys = [RowKey::of(3)];
    let mut trace = model.trace(&x, &draw(&keys), &[]).unwrap();
    let seed = Tensor::new(&[[0f32, 1., 10.]], &Device::Cpu).unwrap();
    let both = trace.pull(&[(Site::Output, seed)]).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(both[0], [10.5, 11., 12., 10.]);
    // Class 1 wins and is the label: right, but rejected, so wrong when clean and caught when attacked.
    let goal = |rejection| model.card().output.guard(Goal::Untargeted(vec![0]), rejection);
    let pred = goal(Rejection::Caught).judge(0, &scores).unwrap();
    assert!(pred.rejected && !goal(Rejection::Caught).reached(pred));
    assert!(Objective::Margin.climb(&goal(Rejection::Caught), 0, 0, &scores).slope[2] < 0.);
}

#[test]
fn a_detector_without_gradients_leaves_scores_alone() {
    let model = Defended::new(vec![], quadratic()).unwrap().guarded(Arc::new(Sum { slope: false }), 1.5).unwrap();
    assert_eq!(model.card().access, Access::Scores);
    let twice = model.guarded(Arc::new(Sum { slope: true }), 1.).err().unwrap();
    assert!(twice.message.contains("LogitsReject"), "{twice}");
    let nan = Defended::new(vec![], quadratic()).unwrap().guarded(Arc::new(Sum { slope: true }), f64::NAN);
    assert!(nan.is_err());
}

#[test]
fn in_double_precision_the_transforms_stay_and_the_model_changes() {
    let model = Defended::new(vec![(Arc::new(Quantise), Through::Identity)], quadratic()).unwrap();
    let model = model.guarded(Arc::new(Sum { slope: true }), 1.5).unwrap();
    let keys = [RowKey::of(3)];
    let out = model.in_double().unwrap().unwrap().forward(&row([0.3, 0.6, 0.9, 0.1]), &draw(&keys)).unwrap();
    assert_eq!(out.dtype(), DType::F64);
    assert_eq!(out.to_vec2::<f64>().unwrap()[0][..2], [0., 1.3125]);
}
