//! Networks and candle modules as models: cards, taps, digests, and the gradient check of the adapter.

use crate::cases::{Gen, mnist, normals};
use crate::parity::distance;
use candle_core::{DType, Device, Module, Result, Tensor};
use robust_core::{Access, Card, Draw, Input, InputKind, Kind, Model, Output, Site, TapId};
use robust_engine::*;
use std::sync::Arc;

const DRAW: Draw<'static> = Draw { seed: 0, stream: 0, turn: 0, rows: &[] };

fn small() -> Arc<Network> {
    Arc::new(mnist(12, [3, 4], 9, 3))
}

#[test]
fn a_network_model_shows_its_taps_and_pulls_back_from_them() {
    let net = small();
    let model = NetworkModel::new(net.clone(), "digits", Input::image(1, 12, 12), Output::Logits { k: 10 }).unwrap();
    let card = model.card();
    assert_eq!((card.access, card.couples_rows), (Access::Gradient, false));
    let tap = TapId(card.taps.iter().position(|t| t == "flat").unwrap());
    let x = normals(1, 1, &[3, 1, 12, 12]);
    let mut trace = model.trace(&x, &DRAW, &[tap]).unwrap();
    assert_eq!(distance(trace.output(), &model.exact(&x, &DRAW).unwrap()), 0.);
    let seeds = [
        (Site::Tap(tap), normals(1, 2, trace.tap(tap).unwrap().dims())),
        (Site::Output, normals(1, 3, trace.output().dims())),
    ];
    let dx = trace.pull(&seeds).unwrap();
    let reference = Reference::new(net.clone(), DType::F64).unwrap();
    let nodes = [(net.find("flat").unwrap(), seeds[0].1.clone()), (net.output(), seeds[1].1.clone())];
    assert!(distance(&dx, &reference.trace(&x, &[]).unwrap().pull(&nodes).unwrap()) < 1e-5);
    assert!(trace.tap(TapId(0)).is_err(), "a tap that was not asked for");
    assert!(model.trace(&x, &DRAW, &[TapId(99)]).is_err());
}

#[test]
fn a_network_model_says_what_computes_it_and_has_a_form_in_double_precision() {
    let net = small();
    let card = Card::new("digits", Input::image(1, 12, 12), Output::Logits { k: 10 });
    let lie = Card { jumps: true, interpreter: "a lie".into(), ..card };
    let model = NetworkModel::with_card(net.clone(), lie.clone()).unwrap();
    assert_eq!(
        (model.card().interpreter.as_str(), model.card().jumps),
        (Cpu::chosen().unwrap().name().as_str(), false)
    );
    let other = NetworkModel::on(&OpByOp(DType::F32), net.clone(), lie).unwrap();
    assert_eq!(other.card().interpreter, "reference/f32");
    let x = normals(1, 1, &[3, 1, 12, 12]);
    let double = model.in_double().unwrap().unwrap();
    let out = double.exact(&x, &DRAW).unwrap();
    assert_eq!((out.dtype(), double.card().interpreter.as_str()), (DType::F64, "reference/f64"));
    assert_eq!(distance(&out, &Reference::new(net, DType::F64).unwrap().forward(&x).unwrap()), 0.);
    assert_eq!(double.card().digest, model.card().digest);
    assert!(double.trace(&x, &DRAW, &[]).is_err());
    // What jumps says so in its card.
    let mut b = Builder::new();
    let at = b.input("x", &[2]).unwrap();
    let out = b.node("z", Op::Act(Activation::Relu), &[at]).unwrap();
    b.steep();
    let steep = Arc::new(b.finish(out).unwrap());
    let input = Input { shape: vec![2], domain: None, kind: InputKind::Features };
    assert!(NetworkModel::new(steep, "steep", input, Output::Logits { k: 2 }).unwrap().card().jumps);
}

#[test]
fn a_card_that_does_not_fit_its_network_is_refused() {
    let new = |input, output| NetworkModel::new(small(), "m", input, output).map(|_| ()).unwrap_err().kind;
    assert_eq!(new(Input::image(3, 12, 12), Output::Logits { k: 10 }), Kind::Load);
    assert_eq!(new(Input::image(1, 12, 12), Output::Embedding { d: 9 }), Kind::Load);
    let fits = NetworkModel::new(small(), "m", Input::image(1, 12, 12), Output::Logits { k: 10 }).unwrap();
    let mut card = fits.card().clone();
    card.taps = vec!["flatt".into()];
    let error = NetworkModel::with_card(small(), card.clone()).map(|_| ()).unwrap_err();
    assert!(error.hint.unwrap().contains("`flat`"));
    card.taps = vec!["flat".into()];
    card.digest = "a lie".into();
    assert_eq!(NetworkModel::with_card(small(), card).unwrap().card().digest, fits.card().digest);
}

/// A dense layer and a clip, built with its weight declared first or last.
fn tiny(weight: &[f32], high: f64, weight_first: bool, name: &str) -> Network {
    let mut b = Builder::new();
    let w = Tensor::from_slice(weight, (2, 2), &Device::Cpu).unwrap();
    let bias = Tensor::new(&[0f32, 1.], &Device::Cpu).unwrap();
    let (w, bias) = if weight_first {
        (b.param("w", w), b.param("b", bias))
    } else {
        let bias = b.param("bias", bias);
        (b.param("weight", w), bias)
    };
    let x = b.input("x", &[2]).unwrap();
    let y = b.node(name, Op::Linear { weight: w, bias: Some(bias) }, &[x]).unwrap();
    let z = b.node("z", Op::Act(Activation::Clip(0., high)), &[y]).unwrap();
    b.finish(z).unwrap()
}

#[test]
fn a_digest_changes_with_every_bit_of_the_function_and_with_nothing_else() {
    let base = digest(&tiny(&[1., 2., 3., 4.], 6., true, "y"));
    // Baselines and run folders of earlier versions hold digests: this one stays.
    assert_eq!(base, "4b06c7cbd89674bfeb1f08aaf3b7d7fe1fc6a1b3217e4b59f988717286e0289f");
    assert_eq!(base, digest(&tiny(&[1., 2., 3., 4.], 6., false, "renamed")));
    let others = [
        tiny(&[1., 2., 3., f32::from_bits(4f32.to_bits() + 1)], 6., true, "y"),
        tiny(&[1., 2., 4., 3.], 6., true, "y"),
        tiny(&[1., 2., 3., -4.], 6., true, "y"),
        tiny(&[1., 2., 3., 4.], 6.000001, true, "y"),
    ];
    let mut seen: Vec<String> = others.iter().map(digest).chain([base]).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    assert_ne!(digest(&tiny(&[0., 2., 3., 4.], 6., true, "y")), digest(&tiny(&[-0., 2., 3., 4.], 6., true, "y")));
}

/// Two dense layers on flat rows with something between them.
struct Net {
    first: Tensor,
    second: Tensor,
    middle: fn(&Tensor) -> Result<Tensor>,
}

impl Module for Net {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        (self.middle)(&x.flatten_from(1)?.matmul(&self.first)?)?.flatten_from(1)?.matmul(&self.second)
    }
}

fn net(inner: usize, middle: fn(&Tensor) -> Result<Tensor>) -> Net {
    let mut g = Gen::new(77);
    let first = (g.tensor(&[48, 16]) * 0.3).unwrap();
    Net { first, second: g.tensor(&[inner, 4]), middle }
}

fn adapt(inner: usize, middle: fn(&Tensor) -> Result<Tensor>) -> robust_core::Result<ModuleModel<Net>> {
    let sample = normals(9, 1, &[3, 3, 4, 4]).abs().unwrap().clamp(0f32, 1f32).unwrap();
    ModuleModel::new(net(inner, middle), "net", Input::image(3, 4, 4), Output::Logits { k: 4 }, &sample)
}

#[test]
fn a_module_with_right_gradients_becomes_a_white_box() {
    for middle in [Tensor::tanh, Tensor::gelu_erf, Tensor::relu, Tensor::sqr] as [fn(&Tensor) -> Result<Tensor>; 4] {
        let model = adapt(16, middle).unwrap();
        assert_eq!((model.card().access, model.card().couples_rows), (Access::Gradient, false));
        assert_eq!(model.card().digest.len(), 64);
        let x = normals(9, 2, &[2, 3, 4, 4]);
        let mut trace = model.trace(&x, &DRAW, &[]).unwrap();
        let seed = normals(9, 3, &[2, 4]);
        let once = trace.pull(&[(Site::Output, seed.clone())]).unwrap();
        let twice = trace.pull(&[(Site::Output, seed.clone()), (Site::Output, seed)]).unwrap();
        assert_eq!(once.dims(), x.dims());
        assert!(distance(&twice, &(once * 2.).unwrap()) < 1e-6);
        assert_eq!(distance(trace.output(), &model.forward(&x, &DRAW).unwrap()), 0.);
        assert!(model.trace(&x, &DRAW, &[TapId(0)]).is_err());
    }
}

#[test]
fn modules_whose_gradients_are_cut_or_wrong_are_refused() {
    fn cut(h: &Tensor) -> Result<Tensor> {
        candle_nn::ops::softmax_last_dim(h)
    }
    fn partly_cut(h: &Tensor) -> Result<Tensor> {
        (h.tanh()? * 0.3)? + (candle_nn::ops::softmax_last_dim(h)? * 3.)?
    }
    fn pooled(h: &Tensor) -> Result<Tensor> {
        h.reshape(((), 1, 4, 4))?.max_pool2d(2)
    }
    for (name, inner, middle, word) in [
        ("softmax_last_dim", 16, cut as fn(&Tensor) -> Result<Tensor>, "gradient"),
        ("a cut branch", 16, partly_cut, "% apart"),
        ("max_pool2d", 4, pooled, "% apart"),
    ] {
        let error = adapt(inner, middle).map(|_| ()).expect_err(name);
        assert_eq!(error.kind, Kind::Load, "{name}: {error}");
        assert!(error.message.contains(word) && error.hint.is_some(), "{name}: {error}");
    }
}

#[test]
fn a_module_without_gradients_is_a_black_box() {
    let sample = Tensor::ones((1, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let module = net(16, candle_nn::ops::softmax_last_dim);
    let model =
        ModuleModel::without_gradients(module, "box", Input::image(3, 4, 4), Output::Logits { k: 4 }, &sample).unwrap();
    assert_eq!(model.card().access, Access::Scores);
    assert_eq!(model.forward(&sample, &DRAW).unwrap().dims(), [1, 4]);
    let error = model.trace(&sample, &DRAW, &[]).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert_eq!(model.forward(&sample.flatten_from(2).unwrap(), &DRAW).unwrap_err().kind, Kind::Load);
}

#[test]
fn a_module_that_mixes_rows_says_so() {
    let model = adapt(16, |h| h.broadcast_sub(&h.mean_keepdim(0)?)).unwrap();
    assert!(model.card().couples_rows);
}

#[test]
fn a_module_of_another_width_is_refused() {
    let input = Input { shape: vec![48], domain: None, kind: InputKind::Features };
    let sample = normals(9, 4, &[2, 48]);
    let refused = ModuleModel::new(net(16, Tensor::tanh), "net", input.clone(), Output::Logits { k: 5 }, &sample);
    let message = refused.map(|_| ()).unwrap_err().message;
    assert!(message.contains("[2, 4]") && message.contains("[2, 5]"), "{message}");
    assert!(ModuleModel::new(net(16, Tensor::tanh), "net", input, Output::Embedding { d: 4 }, &sample).is_ok());
}

#[test]
fn a_constant_module_cannot_be_checked() {
    let error = adapt(16, |h| (h - 1e3)?.relu()).map(|_| ()).unwrap_err();
    assert!(error.message.contains("cannot be checked"), "{error}");
}
