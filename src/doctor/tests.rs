//! Broken defences, each planted once: it must be named, with the grade that follows; healthy models must not be accused.

use super::*;
use candle_core::{Device, Tensor};
use robust_core::{Batch, Card, Draw, Model, Outcome, Result, Site, StandIn, TapId, Target, Trace, Votes};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What is wrong with the model in front of, or behind, a healthy network.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Pixels rounded to four levels, differentiated as what they are: nothing.
    Quantised,
    /// The same with the gradient of the identity: not its derivative.
    StraightThrough,
    /// Scores through a steep sigmoid.
    Saturated,
    /// Scores times a large number.
    Exploding,
    /// Noise in the scores that the card does not tell of.
    Randomised,
    /// The graph is cut: gradients are zero.
    Detached,
    /// Gradients are NaN.
    Broken,
    /// No gradient at all.
    Opaque,
    /// Batch normalisation in training mode.
    TrainMode,
    /// Scores depend on how often the model was asked.
    Stateful,
    /// A small, very fast wave on the scores.
    Shattered,
    /// A slower one: a tenth of a small step follows it, a small step passes over it.
    Wavy,
}

impl Fault {
    /// Of the wave, in radians per unit of the sum of half an image's pixels.
    fn rate(self) -> f64 {
        if self == Fault::Wavy { 25. } else { 1e4 }
    }
}

struct Planted {
    inner: Arc<dyn Model>,
    card: Card,
    fault: Fault,
    calls: AtomicU64,
}

const LEVELS: f64 = 3.;

/// How much of a wave each score gets: no two the same, so that no margin is spared.
fn spread_out() -> Result<Tensor> {
    Ok(Tensor::from_vec((0..10).map(|k| k as f32 / 8.).collect::<Vec<_>>(), (1, 10), &Device::Cpu)?)
}

/// The upper and the lower half of the images: a mask, and the sum of the pixels under it.
fn halves(x: &Tensor) -> Result<Vec<(Tensor, Tensor)>> {
    let upper: Vec<f32> = (0..784).map(|i| if i < 392 { 1. } else { 0. }).collect();
    let upper = Tensor::from_vec(upper, (1, 1, 28, 28), &Device::Cpu)?;
    let lower = (1. - &upper)?;
    let sum = |mask: &Tensor| Ok(x.broadcast_mul(mask)?.flatten_from(1)?.sum_keepdim(1)?);
    [upper, lower].into_iter().map(|mask| sum(&mask).map(|s| (mask, s))).collect()
}

impl Planted {
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self.fault {
            Fault::Quantised | Fault::StraightThrough => ((x * LEVELS)?.round()? / LEVELS)?,
            _ => x.clone(),
        })
    }

    fn scores(&self, x: &Tensor, z: Tensor, draw: &Draw) -> Result<Tensor> {
        Ok(match self.fault {
            Fault::Saturated => (((z.affine(50., -350.)?).tanh()? + 1.)? * 0.5)?,
            Fault::Exploding => (z * 1e4)?,
            Fault::Randomised => {
                let turn = self.calls.fetch_add(1, SeqCst);
                let noise = Draw { turn: draw.turn + turn, ..*draw }.normal(&z.dims()[1..], &Device::Cpu)?;
                (z + noise)?
            }
            Fault::TrainMode => z.broadcast_sub(&(z.mean_keepdim(0)? * 0.5)?)?,
            Fault::Stateful => (z * (1. + 0.01 * self.calls.fetch_add(1, SeqCst) as f64))?,
            Fault::Shattered | Fault::Wavy => {
                let wave = halves(x)?.into_iter().try_fold(z.zeros_like()?.narrow(1, 0, 1)?, |sum, (_, s)| {
                    sum + (s * self.fault.rate())?.sin()?
                })?;
                (z + wave.matmul(&spread_out()?)?)?
            }
            _ => z,
        })
    }
}

impl Model for Planted {
    fn card(&self) -> &Card {
        &self.card
    }

    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.scores(x, self.inner.forward(&self.input(x)?, draw)?, draw)
    }

    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        if self.fault == Fault::Opaque {
            return Err(robust_core::Error::usage("no gradients here"));
        }
        let inner = self.inner.trace(&self.input(x)?, draw, taps)?;
        let plain = inner.output().clone();
        let output = self.scores(x, plain.clone(), draw)?;
        Ok(Box::new(PlantedTrace { inner, plain, output, x: x.clone(), fault: self.fault }))
    }
}

struct PlantedTrace<'a> {
    inner: Box<dyn Trace + 'a>,
    plain: Tensor,
    output: Tensor,
    x: Tensor,
    fault: Fault,
}

impl Trace for PlantedTrace<'_> {
    fn output(&self) -> &Tensor {
        &self.output
    }
    fn tap(&self, _: TapId) -> Result<&Tensor> {
        Err(robust_core::Error::usage("no taps"))
    }
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        let seed = seeds[0].1.to_dtype(self.plain.dtype())?;
        let through = |seed: Tensor, inner: &mut Box<dyn Trace>| inner.pull(&[(Site::Output, seed)]);
        Ok(match self.fault {
            Fault::Quantised | Fault::Detached => self.x.zeros_like()?,
            Fault::Broken => (self.x.zeros_like()? / 0.)?,
            // d tanh = 1 - tanh^2, in single precision as a tape has it.
            Fault::Saturated => {
                let t = self.plain.affine(50., -350.)?.tanh()?;
                let slope = (t.sqr()?.neg()? + 1.)?.affine(25., 0.)?;
                through((seed * slope)?, &mut self.inner)?
            }
            Fault::Exploding => through((seed * 1e4)?, &mut self.inner)?,
            Fault::Shattered | Fault::Wavy => {
                let own = through(seed.clone(), &mut self.inner)?;
                let lead = seed.matmul(&spread_out()?.t()?)?;
                let mut wave = own.zeros_like()?;
                for (mask, s) in halves(&self.x)? {
                    let rate = ((s * self.fault.rate())?.cos()? * self.fault.rate())?;
                    let rate = (rate * &lead)?.reshape((self.x.dims()[0], 1, 1, 1))?;
                    wave = (wave + rate.broadcast_mul(&mask)?)?;
                }
                (own + wave)?
            }
            _ => through(seed, &mut self.inner)?,
        })
    }
}

fn healthy(name: &str, n: u64) -> (Arc<dyn Model>, Batch) {
    let loaded = robust_models::load(name).unwrap();
    let data = robust_benchmarks::data::open("builtin:mnist").unwrap();
    let ids: Vec<u64> = (0..n).collect();
    let batch = data.load(&ids, &loaded.card.view(), &Device::Cpu).unwrap().batch.unwrap();
    (loaded.model, batch)
}

fn planted(fault: Fault, n: u64) -> (Arc<dyn Model>, Batch) {
    let (inner, batch) = healthy("builtin:mnist-at", n);
    let card = inner.card().clone();
    (Arc::new(Planted { inner, card, fault, calls: AtomicU64::new(0) }), batch)
}

fn probe(model: &dyn Model, batch: &Batch) -> Diagnosis {
    let mut found = examine(model, batch).unwrap();
    found.extend(examine_gradients(model, batch).unwrap());
    Diagnosis::new("m", found)
}

fn codes(d: &Diagnosis) -> Vec<Code> {
    d.findings.iter().map(|f| f.code).collect()
}

#[test]
fn every_planted_fault_is_named_and_graded() {
    for (fault, code, grade) in [
        (Fault::Quantised, Code::ZeroGradient, Grade::Unreliable),
        (Fault::StraightThrough, Code::GradientMismatch, Grade::Unreliable),
        (Fault::Saturated, Code::ZeroGradient, Grade::Unreliable),
        (Fault::Exploding, Code::SaturatedLoss, Grade::Doubtful),
        (Fault::Randomised, Code::NonDeterministic, Grade::Unreliable),
        (Fault::Detached, Code::ZeroGradient, Grade::Unreliable),
        (Fault::Broken, Code::NotFiniteGradient, Grade::Unreliable),
        (Fault::Opaque, Code::NoGradient, Grade::Unreliable),
        (Fault::TrainMode, Code::CoupledRows, Grade::Unreliable),
        (Fault::Stateful, Code::NonDeterministic, Grade::Unreliable),
        (Fault::Shattered, Code::ShatteredGradient, Grade::Doubtful),
        (Fault::Wavy, Code::GradientMismatch, Grade::Unreliable),
    ] {
        let (model, batch) = planted(fault, 16);
        let d = probe(model.as_ref(), &batch);
        assert!(codes(&d).contains(&code), "{code:?} is not among {:?}", d.findings);
        assert!(d.grade >= Some(grade), "{code:?}: {:?}", d);
        assert!(d.findings.iter().all(|f| !f.evidence.is_empty() && !f.advice.is_empty()));
    }
}

#[test]
fn healthy_networks_are_not_accused() {
    for name in ["builtin:mnist-std", "builtin:mnist-at"] {
        let (model, batch) = healthy(name, 24);
        let d = probe(model.as_ref(), &batch);
        assert_eq!((d.grade, d.findings.len()), (Some(Grade::Reliable), 0), "{name}: {d:?}");
        let mut trials = Trials::new("pgd-linf:eps=0.3,steps=40", 0);
        trials.queries = 200;
        let (held, found) = run_trials(&Target::white_box(model), &batch, &trials).unwrap();
        assert!(found.iter().all(|f| f.severity < Severity::Critical), "{name}: {found:?}");
        assert_eq!(held.iter().find(|h| h.name == "unbounded").unwrap().count(), 0);
    }
}

#[test]
fn an_attack_without_gradients_beats_one_on_a_detached_graph_and_a_stand_in_helps() {
    let (model, batch) = planted(Fault::Detached, 12);
    let (soft, _) = healthy("builtin:mnist-at", 1);
    let target = Target::white_box(model);
    let trials = Trials { queries: 2000, ..Trials::new("pgd-linf:eps=0.35,steps=10,random=false", 0) };
    let (held, found) = run_trials(&target, &batch, &trials).unwrap();
    let codes: Vec<Code> = found.iter().map(|f| f.code).collect();
    assert!(codes.contains(&Code::UnboundedHolds) && codes.contains(&Code::BlackBoxBeatsWhiteBox), "{found:?}");
    let tried = counter_measures(&target, &batch, ("pgd-linf:eps=0.35", 0), &held[0], &found, Some(&soft)).unwrap();
    let bpda = tried.iter().find(|t| t.counter == Counter::Bpda).unwrap();
    assert!(bpda.alone < held[0].accuracy(), "{bpda:?} against {}", held[0].accuracy());
}

#[test]
fn a_stand_in_keeps_the_value_and_lends_the_gradient() {
    let (hard, batch) = planted(Fault::Quantised, 4);
    let (soft, _) = healthy("builtin:mnist-at", 1);
    let bpda = StandIn::new(hard.clone(), soft).unwrap();
    let keys = crate::eval::clean::row_keys(&batch.ids);
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let value = |t: &Tensor| t.to_vec2::<f32>().unwrap();
    let mut trace = bpda.trace(&batch.x, &draw, &[]).unwrap();
    assert_eq!(value(trace.output()), value(&hard.forward(&batch.x, &draw).unwrap()));
    let dx = trace.pull(&[(Site::Output, trace.output().ones_like().unwrap())]).unwrap();
    assert!(dx.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.);
}

#[test]
fn expectation_over_draws_is_the_remedy_for_randomness() {
    let (model, batch) = planted(Fault::Randomised, 6);
    let target = Target { votes: Votes { k: 5, m: 10 }, ..Target::white_box(model.clone()) };
    let found = examine(model.as_ref(), &batch).unwrap();
    let own = run_trials(&target, &batch, &Trials { queries: 50, steps: 20, ..Trials::new("fgsm:eps=0.1", 0) });
    let own = own.unwrap().0.remove(0);
    let tried = counter_measures(&target, &batch, ("fgsm:eps=0.1", 0), &own, &found, None).unwrap();
    assert_eq!(tried.iter().map(|t| t.counter).collect::<Vec<_>>(), [Counter::Eot]);
}

/// Outcomes of a run of two attacks: which of ten samples each fooled, and by what stage.
fn outcomes(run: &[(&str, &[u64], Option<&str>)]) -> Vec<Outcome> {
    let line = |attack: &str, id: u64, fooled: bool, stage: Option<&str>| -> Outcome {
        let verdict = if fooled { "fooled" } else { "held" };
        let mut value = serde_json::json!({
            "schema": "robust.outcome/1", "model": "m", "attack": attack, "id": id, "digest": "", "label": 0,
            "clean": { "label": 0, "margin": 1.0 }, "verdict": verdict, "best": null, "distance": null, "nearest": null,
            "queries": null, "cost": { "search": { "forward": 1, "backward": 0 }, "clean": 1, "confirm": 0 },
            "evidence": null,
        });
        if let (Some(stage), true) = (stage, fooled) {
            value["stage"] = stage.into();
        }
        serde_json::from_value(value).unwrap()
    };
    run.iter().flat_map(|(a, fooled, stage)| (0..10).map(move |id| line(a, id, fooled.contains(&id), *stage))).collect()
}

fn plan(target: &Target, specs: &[&str]) -> crate::eval::plan::Plan {
    let attacks = specs.iter().map(|spec| {
        let ready = crate::eval::trial::Trial::attack(spec, target.deployed.card()).unwrap();
        crate::eval::plan::PlannedAttack {
            label: spec.to_string(),
            ..crate::eval::plan::PlannedAttack::new(&ready, target).unwrap()
        }
    });
    crate::eval::plan::Plan {
        models: vec![crate::eval::plan::PlannedModel {
            name: "m".into(),
            source: String::new(),
            digest: String::new(),
            preprocess: None,
            head: None,
            attacks: attacks.collect(),
        }],
        ..crate::eval::plan::tests::plan()
    }
}

fn contradictions(run: &[(&str, &[u64], Option<&str>)]) -> Vec<Code> {
    let (model, _) = healthy("builtin:mnist-at", 1);
    let specs: Vec<&str> = run.iter().map(|(spec, ..)| *spec).collect();
    let plan = plan(&Target::white_box(model), &specs);
    compare(&plan, &outcomes(run)).remove(0).1.into_iter().map(|f| f.code).collect()
}

#[test]
fn attacks_of_a_run_that_contradict_each_other_are_named() {
    let agree: &[(&str, &[u64], Option<&str>)] =
        &[("pgd:eps=0.3", &[1, 2, 3, 4], None), ("square:eps=0.3", &[1, 2], None)];
    assert_eq!(contradictions(agree), []);
    for (weak, code) in [
        ("square:eps=0.3", Code::BlackBoxBeatsWhiteBox),
        ("uniform-noise:eps=0.3", Code::NoiseBeatsAttack),
        ("fgsm:eps=0.3", Code::SingleStepBeatsIterated),
        ("pgd:eps=0.2", Code::NotMonotone),
    ] {
        assert_eq!(contradictions(&[("pgd:eps=0.3", &[1, 2], None), (weak, &[3, 4, 5], None)]), [code], "{weak}");
        // Under another threat it says nothing.
        if code != Code::NotMonotone {
            let other = weak.replace("0.3", "0.4");
            assert_eq!(contradictions(&[("pgd:eps=0.3", &[1, 2], None), (&other, &[3, 4, 5], None)]), []);
        }
    }
    // To be driven toward one class is harder than to be driven away from one.
    assert_eq!(
        contradictions(&[("pgd:eps=0.3,target=3", &[1, 2], None), ("uniform-noise:eps=0.3", &[3, 4, 5], None)]),
        []
    );
    assert_eq!(contradictions(&[("autoattack:eps=0.3", &[1, 2, 3], Some("square"))]), [Code::BlackBoxBeatsWhiteBox]);
    assert_eq!(contradictions(&[("autoattack:eps=0.3", &[1, 2, 3], Some("apgd-t"))]), []);
}

#[test]
fn a_random_model_that_is_attacked_draw_by_draw_is_never_reliable() {
    let (model, _) = healthy("builtin:mnist-at", 1);
    let said = |votes, eot, attack: &str| {
        let target = Target { eot, votes, ..Target::white_box(model.clone()) };
        foresee(&plan(&target, &[attack])).into_iter().map(|f| f.code).collect::<Vec<_>>()
    };
    let (random, plain) = (robust_core::Votes { k: 5, m: 10 }, robust_core::Votes { k: 1, m: 1 });
    for attack in ["aa:eps=0.1", "pgd:eps=0.1"] {
        assert_eq!(said(random, 1, attack), [Code::OneDraw]);
        assert_eq!(said(plain, 1, attack), []);
        assert_eq!(said(random, 20, attack), []);
    }
    assert_eq!(said(random, 1, "aa:eps=0.1,version=rand"), []);
    assert_eq!(said(random, 1, "square:eps=0.1"), []);
    let target = Target { votes: random, ..Target::white_box(model.clone()) };
    let (_, found) = compare(&plan(&target, &["pgd:eps=0.1"]), &[]).remove(0);
    assert_eq!(Grade::of(&found), Grade::Doubtful);
}
