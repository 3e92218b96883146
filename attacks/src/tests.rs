//! Every gradient attack against models whose strongest legal point is known in closed form.

use super::*;
use candle_core::{DType, Device, Tensor};
use robust_core::{
    Batch, Draw, Finding, Goal, Input, InputKind, Model, Oracle, Output, Question, RowKey, Site, Stop, TapId, Target,
    Trace, to_host,
};
use std::sync::Arc;

const D: usize = 120;

/// Two classes: z_0 = bias, z_1 = w x.
struct Linear {
    card: Card,
    w: Tensor,
    bias: f32,
}

fn linear(bias: f32) -> Linear {
    let keys = [RowKey::of(0)];
    let w = Draw { seed: 3, stream: 0, turn: 0, rows: &keys }.normal(&[D], &Device::Cpu).unwrap();
    let input = Input { shape: vec![D], domain: Some((0., 1.)), kind: InputKind::Features };
    let usual = Some((Norm::Linf, 0.1));
    let card = Card { default_threat: usual, ..Card::new("linear", input, Output::Logits { k: 2 }) };
    Linear { card, w, bias }
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
        Ok(seeds[0].1.narrow(1, 1, 1)?.matmul(&self.0.w)?)
    }
}

impl Model for Linear {
    fn card(&self) -> &Card {
        &self.card
    }
    fn forward(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
        let one = x.matmul(&self.w.t()?)?;
        Ok(Tensor::cat(&[&one.ones_like()?.affine(f64::from(self.bias), 0.)?, &one], 1)?)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, _: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let out = self.forward(x, draw)?;
        Ok(Box::new(Pull(self, out)))
    }
}

fn points(n: usize, low: f32, high: f32) -> Batch {
    let keys: Vec<RowKey> = (0..n as u64).map(RowKey::of).collect();
    let x = Draw { seed: 9, stream: 7, turn: 0, rows: &keys }.uniform(low, high, &[D], &Device::Cpu).unwrap();
    Batch::new((0..n as u64).collect(), x, None).unwrap()
}

fn attack(text: &str, model: &Arc<Linear>, batch: &Batch, labels: &[u32]) -> Vec<Finding> {
    let ready = resolve(text, &model.card).unwrap();
    let target = Target::white_box(model.clone());
    let keys: Vec<RowKey> = batch.ids.iter().copied().map(RowKey::of).collect();
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let clean = model.forward(&batch.x, &draw).unwrap().to_vec2::<f32>().unwrap();
    let goal = ready.attack.aim(labels, &clean).unwrap();
    let (threat, budget) = (&ready.threat, ready.budget);
    let question = Question {
        target: &target,
        threat,
        batch,
        goal,
        clean: &clean,
        seed: 1,
        path: &ready.path,
        stop: if ready.attack.minimises() { Stop::Nearest } else { Stop::AtFirst },
        budget,
        at_once: 64,
    };
    let mut oracle = Oracle::new(question).unwrap();
    ready.attack.run(&mut oracle).unwrap();
    let findings = oracle.finish().unwrap();
    let most = ready.attack.passes_on(2, 1);
    for f in &findings {
        assert!(f.cost.search.forward <= most.0 && f.cost.search.backward <= most.1, "{text}: {:?} > {most:?}", f.cost);
        if f.found.is_none() {
            assert_eq!((f.cost.search.forward, f.cost.search.backward), most, "{text}: what a held sample costs");
        }
    }
    findings
}

/// The most that w delta can rise by within the ball and the box.
fn largest_rise(norm: Norm, eps: f64, w: &[f32], x: &[f32]) -> f64 {
    let slope: Vec<f64> = w.iter().map(|&v| f64::from(v).abs()).collect();
    let room: Vec<f64> = w.iter().zip(x).map(|(&w, &x)| f64::from(if w > 0. { 1. - x } else { x })).collect();
    match norm {
        Norm::Linf => slope.iter().zip(&room).map(|(s, r)| s * r.min(eps)).sum(),
        Norm::L1 => {
            let mut order: Vec<usize> = (0..w.len()).collect();
            order.sort_by(|&a, &b| slope[b].total_cmp(&slope[a]));
            let mut left = eps;
            order
                .iter()
                .map(|&i| {
                    let used = room[i].min(left);
                    left -= used;
                    used * slope[i]
                })
                .sum()
        }
        _ => {
            let size = |a: f64| slope.iter().zip(&room).map(|(s, r)| (a * s).min(*r).powi(2)).sum::<f64>().sqrt();
            let (mut low, mut high) = (0f64, 1e6f64);
            for _ in 0..200 {
                let middle = 0.5 * (low + high);
                if size(middle) > eps { high = middle } else { low = middle }
            }
            slope.iter().zip(&room).map(|(s, r)| s * (low * s).min(*r)).sum()
        }
    }
}

fn assert_optimal(text: &str, norm: Norm, eps: f64, low: f32, high: f32) {
    assert_near_optimal(text, norm, eps, low, high, 0.99);
}

fn assert_near_optimal(text: &str, norm: Norm, eps: f64, low: f32, high: f32, share: f64) {
    // So far from the boundary that every sample holds: the margin left is the attack's quality.
    let model = Arc::new(linear(1000.));
    let batch = points(16, low, high);
    let (x, _) = to_host(&batch.x).unwrap();
    let (w, _) = to_host(&model.w).unwrap();
    for (f, x) in attack(text, &model, &batch, &[0; 16]).iter().zip(x.chunks(D)) {
        let held = f.held.as_ref().unwrap();
        let before = 1000. - w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>();
        let (rise, best) = (before - held.pred.margin, largest_rise(norm, eps, &w, x));
        assert!(rise >= share * best - 1e-3 && rise <= best + 1e-3, "{text}: {rise} of {best}");
    }
}

#[test]
fn iterated_attacks_reach_the_optimum_of_a_linear_model_at_the_box() {
    for name in ["bim", "pgd", "mi-fgsm"] {
        assert_optimal(&format!("{name}-linf:eps=0.1,steps=40"), Norm::Linf, 0.1, 0., 1.);
        // Steps that add up to epsilon cannot go round the box.
        let extra = if name == "mi-fgsm" { ",step=0.1" } else { "" };
        assert_optimal(&format!("{name}-l2:eps=1.5,steps=60{extra}"), Norm::L2, 1.5, 0., 1.);
        assert_optimal(&format!("{name}-l1:eps=6,steps=100"), Norm::L1, 6., 0., 1.);
    }
}

#[test]
fn apgd_reaches_the_optimum_of_a_linear_model_at_the_box() {
    for name in ["apgd-ce", "apgd-dlr", "apgd-t"] {
        assert_optimal(&format!("{name}-linf:eps=0.1"), Norm::Linf, 0.1, 0., 1.);
        assert_optimal(&format!("{name}-l2:eps=1.5"), Norm::L2, 1.5, 0., 1.);
        // Steps of equal length on entries of unequal slope: at the box the paper's schedule stays short of the optimum.
        assert_near_optimal(&format!("{name}-l1:eps=6"), Norm::L1, 6., 0., 1., 0.85);
    }
}

#[test]
fn fab_finds_the_nearest_point_of_a_linear_model_at_the_box() {
    let model = Arc::new(linear(8.));
    let batch = points(16, 0., 1.);
    let (x, _) = to_host(&batch.x).unwrap();
    let (w, _) = to_host(&model.w).unwrap();
    let mut compared = 0;
    for (norm, most) in [(Norm::Linf, 1.), (Norm::L2, 10.), (Norm::L1, 100.)] {
        for name in ["fab", "fab-t"] {
            // A tiny ball: the nearest success lies outside of it and is kept all the same.
            let text = format!("{name}-{}:eps=0.001,nearest=true", norm.suffix());
            for (f, x) in attack(&text, &model, &batch, &[0; 16]).iter().zip(x.chunks(D)) {
                let gap = 8. - w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>();
                let (mut low, mut high) = (0., most);
                for _ in 0..60 {
                    let middle = 0.5 * (low + high);
                    if largest_rise(norm, middle, &w, x) < gap { low = middle } else { high = middle }
                }
                if gap <= 0. || low > 0.99 * most {
                    continue; // misclassified already, or out of reach
                }
                let nearest = f.nearest.unwrap();
                assert!(nearest >= 0.999 * low && nearest <= 1.01 * low + 1e-4, "{text}: {nearest}, not {low}");
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn ddn_finds_the_nearest_point_of_a_linear_model() {
    // Where the box does not cut, the boundary lies |w x + b| / ||w|| away.
    let model = Arc::new(linear(4.));
    let batch = points(32, 0.4, 0.6);
    let (x, _) = to_host(&batch.x).unwrap();
    let (w, _) = to_host(&model.w).unwrap();
    let length = w.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
    let gaps: Vec<f64> =
        x.chunks(D).map(|x| 4. - w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>()).collect();
    let labels: Vec<u32> = gaps.iter().map(|g| u32::from(*g < 0.)).collect();
    let free = attack("ddn-l2", &model, &batch, &labels);
    for (f, gap) in free.iter().zip(&gaps) {
        let (found, least) = (f.found.as_ref().unwrap(), gap.abs() / length);
        assert_eq!((f.nearest, f.stage.as_ref()), (found.distance, None));
        let distance = found.distance.unwrap();
        assert!(distance >= 0.9999 * least && distance <= 1.01 * least, "{distance}, not {least}");
    }
    // With an epsilon it is fooled where the nearest success lies within, and the nearest is known all the same.
    let eps = {
        let mut sorted: Vec<f64> = free.iter().filter_map(|f| f.nearest).collect();
        sorted.sort_by(f64::total_cmp);
        0.5 * (sorted[15] + sorted[16])
    };
    for (f, free) in attack(&format!("ddn-l2:eps={eps}"), &model, &batch, &labels).iter().zip(&free) {
        assert_eq!((f.found.is_some(), f.nearest), (free.nearest.unwrap() <= eps, free.nearest));
    }
}

#[test]
fn an_attack_without_epsilon_names_itself_and_its_region() {
    let card = linear(0.).card;
    let ready = resolve("ddn", &card).unwrap();
    assert_eq!((ready.label.as_str(), ready.threat.to_string().as_str()), ("ddn-l2", "nearest L2"));
    assert_eq!(ready.threat.region, Region::Nearest { norm: Norm::L2 });
    assert_eq!(resolve("ddn:steps=20,queries=9", &card).unwrap().label, "ddn-l2:queries=9,steps=20");
    let ball = resolve("ddn-l2:steps=20,eps=1/2", &card).unwrap();
    assert_eq!((ball.label.as_str(), ball.threat.eps()), ("ddn-l2:eps=1/2,steps=20", 0.5));
    assert!(minimises("ddn") && !minimises("pgd") && !minimises("file"));
    assert!(is_without_epsilon("ddn-l2").unwrap() && !is_without_epsilon("ddn-l2:eps=1").unwrap());
    assert!(!is_without_epsilon("pgd-l2").unwrap() && is_without_epsilon("ddm").is_err());
    for bad in ["ddn:gamma=1", "ddn:gamma=0", "ddn:init=0", "ddn:steps=0", "ddn-linf", "ddn:eps=much"] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

#[test]
fn one_step_is_enough_where_the_box_does_not_cut() {
    assert_optimal("fgsm:eps=0.1", Norm::Linf, 0.1, 0., 1.);
    assert_optimal("fgsm-l2:eps=0.3", Norm::L2, 0.3, 0.4, 0.6);
}

#[test]
fn samples_within_reach_are_found_and_no_others() {
    // The smallest Linf epsilon that flips a linear model is gap / ||w||_1 where the box does not cut.
    let batch = points(64, 0.35, 0.65);
    let (x, _) = to_host(&batch.x).unwrap();
    let w = to_host(&linear(0.).w).unwrap().0;
    let sums: Vec<f64> = x.chunks(D).map(|x| w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum()).collect();
    let bias = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max) + 1.;
    let model = Arc::new(linear(bias as f32));
    let length: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
    let needed: Vec<f64> = sums.iter().map(|s| (bias - s) / length).collect();
    let mut sorted = needed.clone();
    sorted.sort_by(f64::total_cmp);
    let eps = 0.5 * (sorted[31] + sorted[32]);
    for text in [
        "fgsm",
        "bim",
        "pgd:restarts=2",
        "mi-fgsm",
        "pgd:target=next",
        "pgd:objective=margin",
        "apgd-ce",
        "apgd-dlr:restarts=2",
        "apgd-t",
        "autoattack",
    ] {
        let spec = format!("{text}{}eps={eps}", if text.contains(':') { "," } else { ":" });
        let found: Vec<bool> = attack(&spec, &model, &batch, &[0; 64]).iter().map(|f| f.found.is_some()).collect();
        assert_eq!(found, needed.iter().map(|n| *n < eps).collect::<Vec<_>>(), "{text}");
    }
    // FAB steps 5 % beyond the boundary, Square is blind.
    for (text, sure) in [("fab", 0.95), ("fab-t", 0.95), ("square", 0.8)] {
        for (f, needed) in attack(&format!("{text}:eps={eps}"), &model, &batch, &[0; 64]).iter().zip(&needed) {
            assert!(f.found.is_none() || *needed < eps, "{text} beat the optimum");
            assert!(f.found.is_some() || *needed > sure * eps, "{text} missed what needs {needed} of {eps}");
        }
    }
    for text in ["uniform-noise", "random-sign"] {
        let found = attack(&format!("{text}:eps={eps},draws=20"), &model, &batch, &[0; 64]);
        assert!(found.iter().zip(&needed).all(|(f, n)| f.found.is_none() || *n < eps), "{text} beat the optimum");
    }
}

#[test]
fn noise_finds_what_half_the_ball_is_made_of() {
    // A sample on the boundary: each draw is a coin toss, ten of them fail together once in a thousand.
    let batch = points(64, 0.4, 0.6);
    let (x, _) = to_host(&batch.x).unwrap();
    let w = to_host(&linear(0.).w).unwrap().0;
    for i in [0usize, 13, 40] {
        let sum: f32 = w.iter().zip(&x[i * D..]).map(|(w, x)| w * x).sum();
        let one = Batch::new(vec![i as u64], batch.x.narrow(0, i, 1).unwrap(), None).unwrap();
        let model = Arc::new(linear(sum + 1e-3));
        for text in ["uniform-noise:eps=0.1", "random-sign:eps=0.1", "uniform-noise-l2:eps=1", "random-sign-l1:eps=5"] {
            assert!(attack(text, &model, &one, &[0])[0].found.is_some(), "{text}");
        }
    }
}

#[test]
fn specs_resolve_or_say_what_to_type() {
    let card = linear(0.).card;
    let ready = resolve("PGD-Linf:steps=7,eps=8/255", &card).unwrap();
    assert_eq!(ready.label, "pgd-linf:eps=8/255,steps=7");
    assert_eq!((ready.threat.eps(), ready.params["steps"].as_u64()), (8. / 255., Some(7)));
    assert_eq!(resolve("fgsm", &card).unwrap().label, "fgsm-linf:eps=0.1");
    let error = |text: &str| resolve(text, &card).err().unwrap().to_string();
    assert!(error("pdg").contains("did you mean `pgd`"));
    assert!(error("pgd:stpes=3").contains("did you mean steps=3?"));
    let other = error("pgd-linf:epsilon=8/255");
    assert!(other.contains("no parameter `epsilon`") && other.contains("did you mean eps=8/255?"), "{other}");
    assert!(error("pgd:steps=0").contains("at least 1"));
    assert!(error("pgd:steps=many").contains("steps=many is not a whole number"));
    let target = error("pgd:target=random");
    assert!(target.contains("target=random is not next, second, least or the number of a class"), "{target}");
    assert!(error("pgd:target=1.5").contains("target=1.5 is not next"));
    assert!(error("pgd:objective=mse").contains("objective=mse is not one of `ce`, `margin`, `dlr`"));
    let missing = error("pgd-l2");
    assert!(missing.contains("no epsilon") && missing.contains("write pgd-l2:eps=0.5, say"), "{missing}");
    assert!(error("pgd-l1:steps=3").contains("write pgd-l1:steps=3,eps=12, say"));
    assert!(error("pgd-l0:eps=3").contains("does not work in L0"));
    assert!(error("pgd-l2:eps=1,norm=linf").contains("L2"));
    assert!(error("pgd:eps=8").contains("8/255"));
    assert!(error("pgd:eps=0.1,queries=0.5").contains("queries"));
}

#[test]
fn a_target_out_of_range_is_refused_when_aimed() {
    let ready = resolve("pgd:target=9", &linear(0.).card).unwrap();
    assert!(ready.attack.aim(&[0], &[vec![1., 0.]]).is_err());
    assert_eq!(
        resolve("pgd:target=least", &linear(0.).card).unwrap().attack.aim(&[0], &[vec![1., 0.]]).unwrap(),
        Goal::Targeted(vec![1])
    );
    // A masked class cannot be reached, so no rule goes for it.
    for (rule, class) in [("next", 2), ("second", 2), ("least", 0)] {
        let ready = resolve(&format!("pgd:target={rule}"), &linear(0.).card).unwrap();
        let z = vec![-5., f32::NEG_INFINITY, 1., f32::NEG_INFINITY];
        let label = if rule == "least" { 2 } else { 0 };
        assert_eq!(ready.attack.aim(&[label], &[z]).unwrap(), Goal::Targeted(vec![class]), "{rule}");
    }
}

#[test]
fn spelling_is_checked_before_a_model_is_there() {
    assert!(check("pgd-linf:eps=8/255,steps=7").is_ok() && check("aa").is_ok() && check("fgsm").is_ok());
    for bad in ["pdg:eps=0.1", "pgd:stpes=3", "pgd:steps=0", "pgd:target=random", "pgd-l0:eps=3", "pgd:eps=much"] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_entry_documents_itself_under_the_fixed_headings() {
    for entry in ALL {
        let text = robust_core::documentation(entry.source);
        for heading in ["# Asks", "# Steps", "# Parameters", "# Differs from the paper", "# Cost per sample"] {
            assert!(text.contains(heading), "{} lacks {heading}", entry.name);
        }
        let spec = Spec { name: entry.name.into(), params: vec![] };
        for key in (entry.build)(&spec).unwrap().params.keys() {
            assert!(text.contains(&format!("`{key}`")), "{} does not explain {key}", entry.name);
        }
    }
    let mut names = names();
    names.sort();
    names.windows(2).for_each(|w| assert_ne!(w[0], w[1]));
}

#[test]
fn zero_tensors_have_no_direction() {
    let zero = Tensor::zeros((1, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(to_host(&crate::ascent::normalised(&zero, Norm::L2).unwrap()).unwrap().0, [0.; 4]);
}
