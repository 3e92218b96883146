//! A random, defended model that may reject: evaluated, written down, and judged again with the draws of its judge.

use candle_core::{Device, Tensor};
use robust::benchmarks::data;
use robust::core::{
    Batch, Card, Dataset, Defended, Detector, Draw, Model, Outcome, Result, TapId, Target, Through, Trace, Transform,
    Verdict, Votes,
};
use robust::eval::attacked::attack_batch;
use robust::eval::clean::judge_clean;
use robust::eval::evidence;
use robust::eval::plan::{self, Keep, Plan, PlannedAttack, PlannedData, PlannedModel};
use robust::eval::record::{RECORD_SCHEMA, RunRecord};
use robust::eval::trial::Trial;
use robust::eval::verify::verify;
use robust::models::LoadedModel;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Gaussian noise on the pixels.
struct Noise(f64);

impl Transform for Noise {
    fn name(&self) -> String {
        format!("noise:sigma={}", self.0)
    }
    fn apply(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        Ok((x + (draw.normal(&x.dims()[1..], x.device())? * self.0)?)?.clamp(0f32, 1f32)?)
    }
    fn is_random(&self) -> bool {
        true
    }
}

/// The mean of the pixels: bright images are suspicious.
struct Brightness;

impl Detector for Brightness {
    fn name(&self) -> String {
        "brightness".into()
    }
    fn score(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        Ok(x.flatten_from(1)?.mean(1)?)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw) -> Result<(Tensor, robust::core::Pullback<'a>)> {
        let dims = x.dims().to_vec();
        let entries: usize = dims[1..].iter().product();
        let back: robust::core::Pullback = Box::new(move |seed| {
            let rows = seed.reshape((dims[0], 1))?.broadcast_as((dims[0], entries))?;
            Ok((rows.reshape(dims.clone())? / entries as f64)?)
        });
        Ok((self.score(x, draw)?, back))
    }
    fn has_gradient(&self) -> bool {
        true
    }
}

/// A model that has no form in double precision.
struct Single(Arc<dyn Model>);

impl Model for Single {
    fn card(&self) -> &Card {
        self.0.card()
    }
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.0.forward(x, draw)
    }
    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.0.exact(x, draw)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        self.0.trace(x, draw, taps)
    }
}

const ATTACK: &str = "pgd-linf:eps=0.15,steps=6,restarts=2";

/// The standard net behind noise, with a detector or without.
fn model(threshold: Option<f64>) -> Arc<dyn Model> {
    let inner = robust::models::load("builtin:mnist-std").unwrap().model;
    let model = Defended::new(vec![(Arc::new(Noise(0.05)), Through::Identity)], inner).unwrap();
    match threshold {
        Some(threshold) => Arc::new(model.guarded(Arc::new(Brightness), threshold).unwrap()),
        None => Arc::new(model),
    }
}

struct Run {
    record: RunRecord,
    outcomes: Vec<Outcome>,
    model: LoadedModel,
    data: Box<dyn Dataset>,
}

/// Evaluates 16 digits as a run of one unit, and writes its points.
fn run(root: &Path, model: Arc<dyn Model>) -> Run {
    let data = data::open("builtin:mnist").unwrap();
    let ids: Vec<u64> = (0..16).collect();
    let batch: Batch = data.load(&ids, &model.card().view(), &Device::Cpu).unwrap().batch.unwrap();
    let target = Target { votes: Votes { k: 3, m: 6 }, ..Target::white_box(model.clone()) };
    let ready = Trial::attack(ATTACK, model.card()).unwrap();
    let clean = judge_clean(&target, &batch, 7).unwrap();
    let judged = attack_batch(&target, &ready, &batch, &clean, 7, 16).unwrap();
    let card = model.card().clone();
    let planned = PlannedModel {
        name: card.name.clone(),
        source: String::new(),
        digest: card.digest.clone(),
        preprocess: None,
        head: None,
        attacks: vec![PlannedAttack::new(&ready, &target).unwrap()],
    };
    let plan = Plan {
        schema: plan::SCHEMA.into(),
        robust: String::new(),
        models: vec![planned],
        dataset: PlannedData::of("builtin:mnist", data.as_ref()),
        ids,
        pick: "first 16".into(),
        seed: 7,
        unit: 16,
        evidence: Keep::All,
        shard: None,
        interpreter: card.interpreter.clone(),
    };
    let points: Vec<(u64, Vec<f32>)> = judged.iter().filter_map(|j| Some((j.outcome.id, j.point.clone()?))).collect();
    let unit = plan.units()[0].name();
    std::fs::create_dir_all(root.join("evidence")).unwrap();
    evidence::write(root, &unit, &card.name, ready.label(), &card.input.shape, &points).unwrap();
    let record =
        RunRecord { schema: RECORD_SCHEMA.into(), fingerprint: plan.fingerprint().unwrap(), plan, sessions: vec![] };
    let outcomes = judged.into_iter().map(|j| j.outcome).collect();
    let (name, network, notes, ignored) = (card.name.clone(), None, vec![], vec![]);
    let model = LoadedModel { name, format: "defended", family: None, card, network, model, notes, ignored };
    Run { record, outcomes, model, data }
}

/// What is wrong with which samples, and how many points were judged again.
fn wrong(root: &Path, run: &Run, outcomes: &[Outcome]) -> (Vec<(u64, String)>, u64) {
    let models = std::slice::from_ref(&run.model);
    let stop = AtomicBool::new(false);
    let checked = verify(root, &run.record, outcomes, models, run.data.as_ref(), None, &stop).unwrap();
    assert_eq!(checked[0].same_path, run.model.model.in_double().unwrap().is_none());
    (checked[0].wrong.clone(), checked[0].evidence)
}

#[test]
fn a_random_defence_is_judged_again_with_the_draws_of_its_judge() {
    let place = tempfile::tempdir().unwrap();
    let run = run(place.path(), model(None));
    assert!(run.model.card.stochastic && run.model.graph().is_err());
    let attacked: Vec<&Outcome> = run.outcomes.iter().filter(|o| o.best.is_some()).collect();
    let split = |o: &&&Outcome| o.votes.is_some_and(|(k, m)| m == 6 && k > 0 && k < 6);
    assert!(attacked.iter().filter(split).count() > 0, "no vote is divided: the test shows nothing");
    assert!(attacked.iter().all(|o| o.drawn.as_ref().is_some_and(|d| d.path.starts_with("pgd-linf"))));
    assert_eq!(wrong(place.path(), &run, &run.outcomes), (vec![], attacked.len() as u64));
    // Written and read, a line is the same.
    let text = serde_json::to_string(attacked[0]).unwrap();
    assert_eq!(&serde_json::from_str::<Outcome>(&text).unwrap(), attacked[0]);
    // Other draws, other votes; a line that does not say its draws proves nothing.
    let at = run.outcomes.iter().position(|o| split(&&o)).unwrap();
    let mut other = run.outcomes.clone();
    other[at].votes = other[at]
        .votes
        .map(|(k, m)| if k >= 3 { (if k == 5 { 4 } else { k + 1 }, m) } else { (if k == 1 { 2 } else { k - 1 }, m) });
    let said = wrong(place.path(), &run, &other).0;
    assert!(said.len() == 1 && said[0].1.contains("draws are fooled, the line says"), "{said:?}");
    let mut silent = run.outcomes.clone();
    silent[at].drawn = None;
    let said = wrong(place.path(), &run, &silent).0;
    assert!(said.len() == 1 && said[0].1.contains("does not say where its judge drew"), "{said:?}");
}

#[test]
fn a_model_without_a_form_in_double_precision_is_asked_once_more_and_that_is_said() {
    let place = tempfile::tempdir().unwrap();
    let run = run(place.path(), Arc::new(Single(model(Some(0.2)))));
    let (wrong, evidence) = wrong(place.path(), &run, &run.outcomes);
    assert!(wrong.is_empty() && evidence > 0, "{wrong:?}");
}

#[test]
fn a_rejected_clean_sample_is_a_miss_and_a_rejected_point_fools_nobody() {
    let place = tempfile::tempdir().unwrap();
    let free = run(&place.path().join("free"), model(None));
    // So low that some clean digits are rejected, and most points that PGD would like are.
    let guarded = run(&place.path().join("guarded"), model(Some(0.13)));
    let count = |run: &Run, verdict: Verdict| run.outcomes.iter().filter(|o| o.verdict == verdict).count();
    let rejected = |o: &&Outcome| o.clean.is_some_and(|p| p.rejected);
    let missed: Vec<&Outcome> = guarded.outcomes.iter().filter(rejected).collect();
    assert!(!missed.is_empty() && missed.iter().all(|o| o.verdict == Verdict::CleanMiss && o.best.is_none()));
    assert!(missed.iter().any(|o| o.clean.unwrap().label == o.label), "rejected, though the class was right");
    for o in &guarded.outcomes {
        let best = o.best.filter(|_| o.verdict == Verdict::Fooled);
        assert!(best.is_none_or(|p| !p.rejected && p.label != o.label), "{o:?}");
    }
    let fell = |run: &Run| count(run, Verdict::Fooled);
    assert!(fell(&guarded) < fell(&free), "{} {}", fell(&guarded), fell(&free));
    assert_eq!(wrong(&place.path().join("guarded"), &guarded, &guarded.outcomes).0, vec![]);
    // A rejection that is not said is found out.
    let at = guarded.outcomes.iter().position(|o| rejected(&o)).unwrap();
    let mut lie = guarded.outcomes.clone();
    lie[at].clean = lie[at].clean.map(|p| robust::core::Pred { rejected: false, ..p });
    let said = wrong(&place.path().join("guarded"), &guarded, &lie).0;
    assert_eq!(said.len(), 1, "{said:?}");
}
