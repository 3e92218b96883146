//! The two rules every attack stands on (a row's bits do not depend on its neighbours; nothing is retired
//! unconfirmed), then books, budgets and order.

use super::*;
use crate::{
    Access, Batch, Card, Cost, Draw, Error, Goal, Input, InputKind, Model, Norm, Objective, Output, Region, Result,
    RowKey, Site, TapId, Target, ThreatModel, Trace, take, to_host,
};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// z = W x + b on flat features in `[0,1]`, with switches for lying, noise and counting.
struct Linear {
    card: Card,
    w: Tensor,
    b: Tensor,
    /// Added to class 0 by the search path alone: 0 for an honest model.
    lie: f64,
    /// Standard deviation of score noise from the draw.
    noise: f64,
    rows: AtomicU64,
    exact_rows: AtomicU64,
    pulls: AtomicU64,
}

const D: usize = 6;
const K: usize = 3;

fn linear(lie: f64, noise: f64) -> Linear {
    let keys = [RowKey::of(0)];
    let draw = Draw { seed: 3, stream: 0, turn: 0, rows: &keys };
    let w = draw.normal(&[K, D], &Device::Cpu).unwrap().squeeze(0).unwrap();
    let input = Input { shape: vec![D], domain: Some((0., 1.)), kind: InputKind::Features };
    let card = Card { stochastic: noise > 0., ..Card::new("linear", input, Output::Logits { k: K }) };
    let b = Tensor::zeros(K, DType::F32, &Device::Cpu).unwrap();
    let count = || AtomicU64::new(0);
    Linear { card, w, b, lie, noise, rows: count(), exact_rows: count(), pulls: count() }
}

impl Linear {
    fn scores(&self, x: &Tensor, draw: &Draw, lie: f64) -> Result<Tensor> {
        // Row by row: the reference for row-bit invariance.
        let rows = (0..x.dim(0)?).map(|i| Ok(x.narrow(0, i, 1)?.matmul(&self.w.t()?)?.broadcast_add(&self.b)?));
        let z = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
        let lie = Tensor::new(&[-lie as f32, 0., 0.], x.device())?;
        let noise = (draw.normal(&[K], x.device())? * self.noise)?;
        Ok(z.broadcast_add(&lie)?.add(&noise)?)
    }
}

struct Pull<'a>(&'a Linear, Tensor);

impl Trace for Pull<'_> {
    fn output(&self) -> &Tensor {
        &self.1
    }
    fn tap(&self, _: TapId) -> Result<&Tensor> {
        Err(Error::internal("no taps"))
    }
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        self.0.pulls.fetch_add(seeds[0].1.dim(0)? as u64, SeqCst);
        Ok(seeds[0].1.matmul(&self.0.w)?)
    }
}

impl Model for Linear {
    fn card(&self) -> &Card {
        &self.card
    }
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.rows.fetch_add(x.dim(0)? as u64, SeqCst);
        self.scores(x, draw, self.lie)
    }
    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.exact_rows.fetch_add(x.dim(0)? as u64, SeqCst);
        self.scores(x, draw, 0.)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, _: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let out = self.forward(x, draw)?;
        Ok(Box::new(Pull(self, out)))
    }
}

fn batch(ids: &[u64]) -> Batch {
    let keys: Vec<RowKey> = ids.iter().copied().map(RowKey::of).collect();
    let x = Draw { seed: 9, stream: 7, turn: 0, rows: &keys }.uniform(0., 1., &[D], &Device::Cpu).unwrap();
    Batch::new(ids.to_vec(), x, None).unwrap()
}

/// The exact path's prediction is the label, so every sample starts correct.
fn labelled(model: &Linear, ids: &[u64]) -> (Batch, Vec<u32>) {
    let mut batch = batch(ids);
    let keys: Vec<RowKey> = ids.iter().copied().map(RowKey::of).collect();
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let z = model.scores(&batch.x, &Draw { rows: &keys, ..draw }, 0.).unwrap();
    let labels: Vec<u32> = z.to_vec2::<f32>().unwrap().iter().map(|z| crate::argmax(z).unwrap()).collect();
    batch.labels = Some(labels.clone());
    (batch, labels)
}

fn threat(eps: f64, access: Access) -> ThreatModel {
    let input = Input { shape: vec![D], domain: Some((0., 1.)), kind: InputKind::Features };
    ThreatModel::new(Region::Ball { norm: Norm::Linf, eps }, input, access).unwrap()
}

/// Sign ascent with a random start: enough of an attack to exercise everything the oracle does.
fn ascend(oracle: &mut Oracle, steps: u64, eps: f64) -> Result<()> {
    let noise = oracle.draw(0).uniform(-eps as f32, eps as f32, &[D], &Device::Cpu)?;
    let mut x = oracle.threat().project(&(oracle.x() + noise)?, oracle.x())?;
    for _ in 0..steps {
        let of: Vec<u32> = (0..oracle.len() as u32).collect();
        let slope = oracle.gradient(&x, &of, &Objective::Ce)?;
        x = oracle.threat().project(&(x + (slope.dx.sign()? * (eps / 4.))?)?, oracle.x())?;
        if !oracle.advance(&mut [&mut x])? {
            return Ok(());
        }
    }
    Ok(())
}

/// An untargeted question that stops at the first success, without a budget.
fn plain<'a>(
    target: &'a Target,
    threat: &'a ThreatModel,
    batch: &'a Batch,
    labels: Vec<u32>,
    clean: &'a [Vec<f32>],
) -> Question<'a> {
    let (goal, stop, budget) = (Goal::Untargeted(labels), Stop::AtFirst, Budget::default());
    Question { target, threat, batch, goal, clean, seed: 1, path: "p", stop, budget, at_once: 64 }
}

struct Case {
    eps: f64,
    steps: u64,
    stop: Stop,
    budget: Budget,
}

fn run(model: &Arc<Linear>, ids: &[u64], case: &Case) -> Vec<Finding> {
    let (batch, labels) = labelled(model, ids);
    let target = Target::white_box(model.clone());
    let threat = threat(case.eps, Access::Gradient);
    let clean = vec![vec![0.; K]; ids.len()];
    let mut oracle = Oracle::new(Question {
        target: &target,
        threat: &threat,
        batch: &batch,
        goal: Goal::Untargeted(labels),
        clean: &clean,
        seed: 1,
        path: "ascent",
        stop: case.stop,
        budget: case.budget,
        at_once: 64,
    })
    .unwrap();
    ascend(&mut oracle, case.steps, case.eps).unwrap();
    oracle.finish().unwrap()
}

fn bits(f: &Finding) -> (u64, bool, Vec<u32>, Cost) {
    let point = f.found.as_ref().or(f.held.as_ref());
    (f.id, f.found.is_some(), point.map_or(vec![], |c| c.x.iter().map(|v| v.to_bits()).collect()), f.cost)
}

const PLAIN: Case = Case { eps: 0.1, steps: 12, stop: Stop::AtFirst, budget: Budget { queries: None } };

#[test]
fn a_row_keeps_its_bits_whatever_its_neighbours() {
    for noise in [0., 0.05] {
        let model = Arc::new(linear(0., noise));
        let ids: Vec<u64> = (0..40).collect();
        let whole = run(&model, &ids, &PLAIN);
        assert!(whole.iter().any(|f| f.found.is_some()) && whole.iter().any(|f| f.found.is_none()));
        let reference: Vec<_> = whole.iter().map(bits).collect();
        for size in [1, 7, 64] {
            let parts: Vec<_> = ids.chunks(size).flat_map(|c| run(&model, c, &PLAIN)).map(|f| bits(&f)).collect();
            assert_eq!(parts, reference, "batch size {size}, noise {noise}");
        }
        let backwards: Vec<u64> = ids.iter().rev().copied().collect();
        let mut reversed: Vec<_> = run(&model, &backwards, &PLAIN).iter().map(bits).collect();
        reversed.reverse();
        assert_eq!(reversed, reference);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_is_retired_unconfirmed(lie in 0.0..8.0f64, eps in 0.001..0.3f64, never in any::<bool>()) {
        // The search path says class 0 is lower than it is: it sees successes that are none.
        let model = Arc::new(linear(lie, 0.));
        let stop = if never { Stop::Never } else { Stop::AtFirst };
        let steps = 9;
        let ids: Vec<u64> = (0..20).collect();
        let (batch, labels) = labelled(&model, &ids);
        for (i, f) in run(&model, &ids, &Case { eps, steps, stop, budget: Budget::default() }).iter().enumerate() {
            match &f.found {
                Some(c) => {
                    let x = Tensor::from_slice(&c.x, (1, D), &Device::Cpu).unwrap();
                    let keys = [RowKey::of(f.id)];
                    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
                    let z = model.scores(&x, &draw, 0.).unwrap().to_vec2::<f32>().unwrap();
                    let goal = Goal::Untargeted(vec![labels[i]]);
                    prop_assert!(goal.reached(goal.judge(0, &z[0]).unwrap()), "{} is not fooled", f.id);
                    let clean = to_host(&batch.x).unwrap().0[i * D..][..D].to_vec();
                    prop_assert!(threat(eps, Access::Gradient).admits(&clean, &c.x));
                }
                // Unconfirmed, the attack went on to its last step.
                None => prop_assert_eq!(f.cost.search.forward, steps),
            }
        }
    }
}

#[test]
fn a_lying_search_path_is_overruled() {
    let model = Arc::new(linear(50., 0.));
    let ids: Vec<u64> = (0..30).collect();
    let findings = run(&model, &ids, &Case { eps: 0.001, steps: 3, ..PLAIN });
    assert!(findings.iter().any(|f| f.cost.confirm > 1), "the lie was never put before the judge");
    assert!(findings.iter().filter(|f| f.found.is_none()).count() > 20);
}

#[test]
fn the_books_agree_with_the_models_own_count() {
    let model = Arc::new(linear(0.3, 0.));
    let ids: Vec<u64> = (0..25).collect();
    assert_booked(&model, &run(&model, &ids, &PLAIN));
}

/// The books against what the model has counted itself.
fn assert_booked(model: &Linear, findings: &[Finding]) {
    let sum = |of: fn(&Cost) -> u64| findings.iter().map(|f| of(&f.cost)).sum::<u64>();
    assert_eq!(sum(|c| c.search.forward), model.rows.load(SeqCst));
    assert_eq!(sum(|c| c.search.backward), model.pulls.load(SeqCst));
    assert_eq!(sum(|c| c.confirm), model.exact_rows.load(SeqCst));
}

#[test]
fn eot_and_surrogates_book_every_draw() {
    let models: Vec<Arc<Linear>> = (0..3).map(|_| Arc::new(linear(0., 0.1))).collect();
    let (batch, labels) = labelled(&models[0], &[1, 2, 3]);
    let mut target = Target::white_box(models[0].clone());
    target.eot = 4;
    target.surrogates = vec![models[1].clone(), models[2].clone()];
    let threat = threat(0.1, Access::Gradient);
    let clean = vec![vec![0.; K]; 3];
    let question = Question { stop: Stop::Never, ..plain(&target, &threat, &batch, labels, &clean) };
    let mut oracle = Oracle::new(question).unwrap();
    oracle.gradient(&batch.x, &[0, 1, 2], &Objective::Margin).unwrap();
    oracle.ask(&batch.x, &[0, 1, 2]).unwrap();
    let findings = oracle.finish().unwrap();
    assert!(findings.iter().all(|f| f.cost.search.forward == 4 * 2 + 2 && f.cost.search.backward == 8), "{findings:?}");
    assert_eq!(models[1].pulls.load(SeqCst) + models[2].pulls.load(SeqCst), 24);
    // The deployed model was asked by the judge alone: one vote of ten draws for each sample's strongest point.
    assert_eq!((models[0].rows.load(SeqCst), models[0].exact_rows.load(SeqCst)), (0, 30));
}

#[test]
fn an_attack_is_left_before_the_next_pass_once_it_is_told_to() {
    let model = Arc::new(linear(0., 0.));
    let (batch, labels) = labelled(&model, &[1, 2, 3]);
    let target = Target::white_box(model.clone());
    let threat = threat(0.1, Access::Gradient);
    let clean = vec![vec![0.; K]; 3];
    let (of, leave) = ([0, 1, 2], std::sync::atomic::AtomicBool::new(false));
    let mut oracle = Oracle::new(plain(&target, &threat, &batch, labels, &clean)).unwrap();
    oracle.leave_when(&leave);
    oracle.gradient(&batch.x, &of, &Objective::Margin).unwrap();
    leave.store(true, SeqCst);
    let asked = (model.rows.load(SeqCst), model.pulls.load(SeqCst));
    let seed = Tensor::ones((3, K), candle_core::DType::F32, &Device::Cpu).unwrap();
    let kinds = [
        oracle.ask(&batch.x, &of).err().map(|e| e.kind),
        oracle.gradient(&batch.x, &of, &Objective::Margin).err().map(|e| e.kind),
        oracle.jacobian(&batch.x, &of, &[seed]).err().map(|e| e.kind),
        ascend(&mut oracle, 5, 0.1).err().map(|e| e.kind),
        oracle.finish().err().map(|e| e.kind),
    ];
    assert_eq!(kinds, [Some(crate::Kind::Interrupted); 5]);
    assert_eq!((model.rows.load(SeqCst), model.pulls.load(SeqCst)), asked, "no model was asked any more");
}

#[test]
fn a_budget_is_exact_for_every_sample() {
    for queries in [0, 1, 5, 11, 12, 13] {
        let model = Arc::new(linear(0., 0.));
        let ids: Vec<u64> = (0..20).collect();
        let free = run(&model, &ids, &PLAIN);
        let capped = run(&model, &ids, &Case { budget: Budget { queries: Some(queries) }, ..PLAIN });
        for (free, capped) in free.iter().zip(&capped) {
            assert_eq!(capped.cost.search.forward, free.cost.search.forward.min(queries));
        }
    }
}

#[test]
fn populations_are_granted_row_by_row_and_labels_only_hide_scores() {
    let model = Arc::new(linear(0., 0.));
    let (batch, labels) = labelled(&model, &[4, 5]);
    let target = Target::white_box(model.clone());
    let threat = threat(0.1, Access::Label);
    let clean = vec![vec![0.; K]; 2];
    let budget = Budget { queries: Some(2) };
    let question = Question { budget, ..plain(&target, &threat, &batch, labels.clone(), &clean) };
    let mut oracle = Oracle::new(question).unwrap();
    let rows = take(&batch.x, &[0, 0, 1, 0]).unwrap();
    let answer = oracle.ask(&rows, &[0, 0, 1, 0]).unwrap();
    assert_eq!(answer.granted, [true, true, true, false]);
    assert!(answer.scores.is_none());
    assert_eq!(answer.labels[..3], [labels[0], labels[0], labels[1]]);
    assert!(oracle.gradient(&rows, &[0, 0, 1, 0], &Objective::Ce).is_err());
    assert!(oracle.clean_scores().is_err());
    assert_eq!(oracle.settle().unwrap(), [true, false]);
}

#[test]
fn stages_keep_what_they_found_and_give_the_others_back() {
    let model = Arc::new(linear(0., 0.));
    let ids: Vec<u64> = (0..30).collect();
    let (batch, labels) = labelled(&model, &ids);
    let (target, threat) = (Target::white_box(model.clone()), threat(0.1, Access::Gradient));
    let clean = vec![vec![0.; K]; ids.len()];
    let question = plain(&target, &threat, &batch, labels, &clean);
    let mut oracle = Oracle::new(question).unwrap();
    let mut seen = vec![];
    for stage in ["r0", "r1", "r2"] {
        let result = oracle.stage(stage, Stop::AtFirst, Budget { queries: Some(4) }, |o| {
            seen.push(o.len());
            ascend(o, 10, 0.1)
        });
        result.unwrap();
        assert_eq!(oracle.len(), 30);
    }
    let findings = oracle.finish().unwrap();
    assert!(seen[1] < seen[0] && seen[2] <= seen[1]);
    assert_eq!(findings.iter().filter(|f| f.found.is_none()).map(|f| f.cost.search.forward).max(), Some(12));
    assert!(findings.iter().all(|f| f.cost.search.forward <= 12));
}

#[test]
fn a_jacobian_is_the_weights_and_costs_one_backward_a_seed() {
    let model = Arc::new(linear(0., 0.));
    let (batch, labels) = labelled(&model, &[1, 2]);
    let (target, threat) = (Target::white_box(model.clone()), threat(0.1, Access::Gradient));
    let clean = vec![vec![0.; K]; 2];
    let question = Question { stop: Stop::Never, ..plain(&target, &threat, &batch, labels, &clean) };
    let mut oracle = Oracle::new(question).unwrap();
    let unit = |k: usize| {
        let row = (0..K).map(|i| if i == k { 1f32 } else { 0. }).collect::<Vec<_>>();
        Tensor::from_vec([row.clone(), row].concat(), (2, K), &Device::Cpu).unwrap()
    };
    let jacobian = oracle.jacobian(&batch.x, &[0, 1], &[unit(0), unit(1), unit(2)]).unwrap();
    let w = model.w.to_vec2::<f32>().unwrap();
    for (k, j) in jacobian.pulled.iter().enumerate() {
        assert_eq!(j.to_vec2::<f32>().unwrap(), [w[k].clone(), w[k].clone()]);
    }
    assert!(oracle.finish().unwrap().iter().all(|f| f.cost.search == crate::Passes { forward: 1, backward: 3 }));
}

/// Twelve restarts of three steps, abreast or one after the other.
fn restarts(model: &Arc<Linear>, ids: &[u64], at_once: usize, queries: Option<u64>, abreast: bool) -> Vec<Finding> {
    let (batch, labels) = labelled(model, ids);
    let (target, threat) = (Target::white_box(model.clone()), threat(0.1, Access::Gradient));
    let clean = vec![vec![0.; K]; ids.len()];
    let question = Question { at_once, budget: Budget { queries }, ..plain(&target, &threat, &batch, labels, &clean) };
    let mut oracle = Oracle::new(question).unwrap();
    let labels: Vec<String> = (0..12).map(|r| format!("r{r}")).collect();
    if abreast {
        oracle.abreast(&labels, |o| ascend(o, 3, 0.1)).unwrap();
    } else {
        for label in &labels {
            oracle.stage(label, Stop::AtFirst, Budget::default(), |o| ascend(o, 3, 0.1)).unwrap();
        }
    }
    assert_eq!((oracle.len(), oracle.runs()), (ids.len(), vec![0; ids.len()].as_slice()));
    oracle.finish().unwrap()
}

#[test]
fn runs_abreast_find_what_runs_in_turn_find() {
    let model = Arc::new(linear(0., 0.));
    let ids: Vec<u64> = (0..60).collect();
    let both = [true, false].map(|abreast| restarts(&model, &ids, 64, None, abreast));
    let found = |f: &Finding| f.found.is_some();
    let [abreast, in_turn] = both.each_ref().map(|all| all.iter().map(found).collect::<Vec<_>>());
    assert_eq!(abreast, in_turn);
    let late = |f: &&Finding| f.stage.as_deref().is_some_and(|s| s.starts_with("rest"));
    assert!(both[0].iter().filter(late).count() > 1, "no restart found anything: the test shows nothing");
    for (a, b) in both[0].iter().zip(&both[1]) {
        match &a.stage {
            // Who falls to the first run falls as ever.
            Some(stage) if stage == "r0" => assert_eq!((bits(a), &b.stage), (bits(b), &a.stage)),
            Some(stage) => assert!(b.stage.as_ref().is_some_and(|s| s != "r0") && stage != "rest/r0"),
            None => assert_eq!((a.cost, a.cost.search.forward), (b.cost, 36)),
        }
    }
}

#[test]
fn runs_abreast_do_not_depend_on_neighbours_or_on_rows_at_once() {
    for noise in [0., 0.05] {
        let model = Arc::new(linear(0., noise));
        let ids: Vec<u64> = (0..40).collect();
        let reference: Vec<_> = restarts(&model, &ids, 64, None, true).iter().map(bits).collect();
        for (size, at_once) in [(40, 1), (40, 3), (1, 64), (1, 1), (7, 10)] {
            let parts = ids.chunks(size).flat_map(|c| restarts(&model, c, at_once, None, true));
            assert_eq!(
                parts.map(|f| bits(&f)).collect::<Vec<_>>(),
                reference,
                "{size} samples, {at_once} rows at once"
            );
        }
    }
}

#[test]
fn runs_abreast_are_booked_as_the_model_counts_them() {
    let model = Arc::new(linear(0.3, 0.));
    assert_booked(&model, &restarts(&model, &(0..25).collect::<Vec<_>>(), 6, None, true));
}

#[test]
fn under_a_budget_runs_follow_each_other() {
    let ids: Vec<u64> = (0..30).collect();
    let model = Arc::new(linear(0., 0.));
    let [abreast, in_turn] = [true, false].map(|abreast| restarts(&model, &ids, 64, Some(7), abreast));
    assert_eq!(abreast.iter().map(bits).collect::<Vec<_>>(), in_turn.iter().map(bits).collect::<Vec<_>>());
    assert!(abreast.iter().all(|f| f.cost.search.forward <= 7));
}
