//! Every mistake is planted once and must be named; a healthy pair must not be accused.

use super::*;
use crate::doctor::SAMPLES;
use crate::eval::plan::spread;
use candle_core::Device;
use robust_core::{Card, Output};
use robust_engine::{Binary, Builder, NetworkModel, Op};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const ROW: [usize; 3] = [3, 4, 4];
const D: usize = 48;
const K: usize = 6;
/// A pattern that does not resemble itself when channels are read last.
const SEED: u64 = 4;

fn noise(id: u64, low: f32, high: f32, n: usize) -> Vec<f32> {
    let keys = row_keys(&[id]);
    let draw = Draw { seed: 4, stream: 2, turn: 0, rows: &keys };
    draw.uniform(low, high, &[n], &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Three levels of brightness times a pattern and its negative: the level is lost when pixels are scaled wrongly, the
/// pattern when they are moved.
fn templates() -> Vec<Vec<f32>> {
    // Red minus blue: swapping the channels turns it round.
    let red = noise(SEED, -0.2, 0.2, 16);
    let pattern: Vec<f32> = red.iter().copied().chain([0.; 16]).chain(red.iter().map(|v| -v)).collect();
    let template = |k: usize| {
        let (level, sign) = (0.25 * (1 + k / 2) as f32, if k.is_multiple_of(2) { 1. } else { -1. });
        pattern.iter().map(|p| level + sign * p).collect()
    };
    (0..K).map(template).collect()
}

fn batch() -> Batch {
    let n = SAMPLES;
    let templates = templates();
    let rows = (0..n).flat_map(|i| {
        let wobble = noise(100 + i as u64, -0.04, 0.04, D);
        templates[i % K].iter().zip(wobble).map(|(t, w)| t + w).collect::<Vec<_>>()
    });
    let x = Tensor::from_vec(rows.collect::<Vec<f32>>(), (n, 3, 4, 4), &Device::Cpu).unwrap();
    Batch::new((0..n as u64).collect(), x, Some((0..n as u32).map(|i| i % K as u32).collect())).unwrap()
}

/// The nearest of the templates after `see`, the way the model was trained to see pixels; `before` are layers in front.
fn nearest(see: impl Fn(&[f32]) -> Vec<f32>, before: &[([f32; 3], [f32; 3])], softmax: bool) -> NetworkModel {
    let mut net = Builder::new();
    let mut x = net.input("x", &ROW).unwrap();
    for (mean, std) in before {
        for (value, op) in [(mean, Binary::Sub), (std, Binary::Div)] {
            let param = net.param("v", Tensor::new(&value[..], &Device::Cpu).unwrap().reshape((1, 3, 1, 1)).unwrap());
            let value = net.node("v", Op::Param(param), &[]).unwrap();
            x = net.node("n", Op::Binary(op), &[x, value]).unwrap();
        }
    }
    let seen: Vec<Vec<f32>> = templates().iter().map(|t| see(t)).collect();
    // The scale keeps scores moderate whatever the range of `see`.
    let top = seen.iter().flatten().fold(0f32, |a, v| a.max(v.abs()));
    let weight: Vec<f32> = seen.iter().flatten().map(|v| v / top / top).collect();
    let bias: Vec<f32> = seen.iter().map(|t| -t.iter().map(|v| v * v).sum::<f32>() / 2. / top / top).collect();
    let weight = net.param("w", Tensor::from_vec(weight, (K, D), &Device::Cpu).unwrap());
    let bias = Some(net.param("b", Tensor::from_vec(bias, K, &Device::Cpu).unwrap()));
    let flat = net.node("flat", Op::Reshape { row: vec![D] }, &[x]).unwrap();
    let mut out = net.node("z", Op::Linear { weight, bias }, &[flat]).unwrap();
    if softmax {
        out = net.node("p", Op::Softmax { axis: 1 }, &[out]).unwrap();
    }
    let net = Arc::new(net.finish(out).unwrap());
    NetworkModel::new(net, "nearest", Input::image(3, 4, 4), Output::Logits { k: K }).unwrap()
}

fn codes(model: &dyn Model) -> Vec<Code> {
    let found = examine(model, &batch()).unwrap();
    found.iter().for_each(|f| assert!(!f.advice.is_empty() && !f.evidence.is_empty()));
    found.into_iter().map(|f| f.code).collect()
}

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn normalised(t: &[f32]) -> Vec<f32> {
    t.iter().enumerate().map(|(i, v)| (v - MEAN[i / 16]) / STD[i / 16]).collect()
}

#[test]
fn a_healthy_pair_is_not_accused() {
    assert_eq!(codes(&nearest(|t| t.to_vec(), &[], false)), []);
    assert_eq!(codes(&nearest(normalised, &[(MEAN, STD)], false)), []);
}

#[test]
fn pixels_in_255_are_named() {
    assert_eq!(codes(&nearest(|t| t.iter().map(|v| 255. * v).collect(), &[], false)), [Code::InputRange]);
}

#[test]
fn missing_and_doubled_normalisation_are_named() {
    assert_eq!(codes(&nearest(normalised, &[], false)), [Code::MissingNormalisation]);
    let dark = |t: &[f32]| normalised(t);
    assert_eq!(codes(&nearest(dark, &[(MEAN, STD), (MEAN, STD)], false)), [Code::DoubledNormalisation]);
}

#[test]
fn statistics_that_scripts_copy_and_means_of_bytes_are_named() {
    const COPIED: [f32; 3] = [0.2023, 0.1994, 0.2010];
    const CIFAR: [f32; 3] = [0.4914, 0.4822, 0.4465];
    let seen = |t: &[f32]| t.iter().enumerate().map(|(i, v)| (v - CIFAR[i / 16]) / COPIED[i / 16]).collect();
    assert_eq!(codes(&nearest(seen, &[(CIFAR, COPIED), (CIFAR, COPIED)], false)), [Code::DoubledNormalisation]);
    let bytes = |t: &[f32]| t.iter().enumerate().map(|(i, v)| 255. * (v - MEAN[i / 16])).collect();
    let found = examine(&nearest(bytes, &[], false), &batch()).unwrap();
    assert_eq!(found[0].code, Code::MissingNormalisation);
    assert!(found[0].advice.contains("?mean=0.485,0.456,0.406&std=1/255"), "{}", found[0].advice);
    let scaled = nearest(|t| t.to_vec(), &[([0.; 3], [1. / 255.; 3])], false);
    assert_eq!(codes(&scaled), [Code::InputRange]);
}

#[test]
fn what_raises_a_weak_models_accuracy_is_a_warning_with_its_statistics() {
    // Half of the labels are wrong: the right input gets 46 % of them.
    let weak = |of: Batch| {
        let shifted = |(i, y): (usize, u32)| if i % 25 < 13 { (y + 1 + (i % 4) as u32) % K as u32 } else { y };
        let labels = of.labels.unwrap().into_iter().enumerate().map(shifted).collect();
        Batch::new(of.ids, of.x, Some(labels)).unwrap()
    };
    let found = examine(&nearest(normalised, &[], false), &weak(batch())).unwrap();
    assert_eq!((found[0].code, found[0].severity), (Code::MissingNormalisation, Severity::Warning));
    assert!(found[0].advice.ends_with("add ?mean=imagenet"), "{}", found[0].advice);
    // As it should be, the same model is not accused.
    assert_eq!(examine(&nearest(normalised, &[(MEAN, STD)], false), &weak(batch())).unwrap(), []);
}

#[test]
fn channel_order_and_channels_last_are_named() {
    let swapped = |t: &[f32]| [&t[32..], &t[16..32], &t[..16]].concat();
    assert_eq!(codes(&nearest(swapped, &[], false)), [Code::ChannelOrder]);
    let last = |t: &[f32]| (0..16).flat_map(|p| [t[p], t[16 + p], t[32 + p]]).collect();
    assert_eq!(codes(&nearest(last, &[], false)), [Code::ChannelsLast]);
}

#[test]
fn labels_that_are_one_off_are_named_with_the_shift_that_mends_them() {
    let model = nearest(|t| t.to_vec(), &[], false);
    for (by, offset) in [(1, "`?offset=-1`"), (K as u32 - 1, "`?offset=1`")] {
        let mut batch = batch();
        // Classes that fall off the end are left out, as a folder without them would.
        let moved: Vec<u32> = batch.labels.iter().flatten().map(|y| (y + by) % K as u32).collect();
        let kept: Vec<u32> =
            (0..batch.len() as u32).filter(|i| moved[*i as usize] != if by == 1 { 0 } else { K as u32 - 1 }).collect();
        batch.x = robust_core::take(&batch.x, &kept).unwrap();
        batch.ids = kept.iter().map(|i| u64::from(*i)).collect();
        batch.labels = Some(kept.iter().map(|i| moved[*i as usize]).collect());
        let found = examine(&model, &batch).unwrap();
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(finding.code, Code::LabelOffset);
        assert!(finding.advice.contains(offset), "{}", finding.advice);
        assert!(
            finding.evidence.contains("(100.0 %)") && finding.evidence.contains(" 0 as given"),
            "{}",
            finding.evidence
        );
    }
}

#[test]
fn a_softmax_at_the_end_is_named() {
    assert_eq!(codes(&nearest(|t| t.to_vec(), &[], true)), [Code::Softmax]);
}

#[test]
fn a_model_that_guesses_is_named() {
    // Classes in another order than the data's: every one is taken for the next brighter one with the pattern reversed.
    let wrong = |t: &[f32]| {
        let level = t.iter().sum::<f32>() / D as f32;
        t.iter().map(|v| level - v + if level > 0.6 { 0.25 } else { level + 0.25 }).collect()
    };
    assert_eq!(codes(&nearest(wrong, &[], false)), [Code::AtChance]);
}

/// A model with a fault that no network of ours can have.
struct Faulty {
    inner: NetworkModel,
    card: Card,
    calls: AtomicU64,
    train_mode: bool,
}

impl Model for Faulty {
    fn card(&self) -> &Card {
        &self.card
    }
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        let z = self.inner.forward(x, draw)?;
        if self.train_mode {
            // Batch normalisation in training mode: every row sees the mean of its neighbours.
            return Ok(z.broadcast_sub(&(z.mean_keepdim(0)? * 0.2)?)?);
        }
        Ok((z * (1. + 0.01 * self.calls.fetch_add(1, SeqCst) as f64))?)
    }
}

#[test]
fn neighbours_and_state_are_named() {
    for (train_mode, code) in [(true, Code::CoupledRows), (false, Code::NonDeterministic)] {
        let inner = nearest(|t| t.to_vec(), &[], false);
        let card = inner.card().clone();
        assert_eq!(codes(&Faulty { inner, card, calls: AtomicU64::new(0), train_mode }), [code]);
    }
}

#[test]
fn samples_are_spread_over_a_sorted_folder() {
    let ids: Vec<u64> = (0..5000).collect();
    let chosen = spread(&ids, SAMPLES);
    assert_eq!(chosen.len(), SAMPLES);
    assert_eq!(chosen.iter().map(|id| id / 500).collect::<std::collections::BTreeSet<_>>().len(), 10);
    assert_eq!(spread(&ids[..3], SAMPLES), [0, 1, 2]);
    assert_eq!(spread(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5]);
    assert!(spread(&[], 3).is_empty() && spread(&ids, 0).is_empty());
}
