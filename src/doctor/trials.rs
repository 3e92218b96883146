//! Short attacks on a few samples whose results must agree with each other.

use super::{Code, Finding};
use crate::eval::attacked::attack_batch;
use crate::eval::clean::{Clean, judge_clean, row_keys, stack};
use crate::eval::trial::Trial;
use robust_attacks::resolve;
use robust_core::{Access, Batch, Error, Goal, Norm, Region, Result, Target, Verdict, to_host};
use robust_imaging::level;

/// What is tried: the attack in question, and how long the others take.
#[derive(Debug, Clone)]
pub struct Trials {
    /// Such as `pgd-l2:eps=2`.
    pub attack: String,
    /// Forwards of the attack that sees scores only.
    pub queries: u64,
    /// Steps that attack any sample when everything is allowed.
    pub steps: u64,
    pub seed: u64,
}

impl Trials {
    pub fn new(attack: impl Into<String>, seed: u64) -> Self {
        Self { attack: attack.into(), queries: 1000, steps: 50, seed }
    }
}

/// Which samples an attack left standing, of those classified rightly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub name: String,
    pub held: Vec<bool>,
    /// Samples that could not be judged neither held nor were fooled.
    pub fooled: Vec<bool>,
    /// All samples, for accuracies.
    pub of: usize,
}

impl Held {
    pub fn count(&self) -> usize {
        self.held.iter().filter(|h| **h).count()
    }

    pub fn accuracy(&self) -> f64 {
        self.count() as f64 / self.of.max(1) as f64
    }
}

/// A true class, and a point that is taken for another.
type Labelled = (u32, Vec<f32>);

/// One batch under several attacks.
pub(super) struct Bench<'a> {
    pub target: &'a Target,
    pub batch: &'a Batch,
    pub clean: Vec<Clean>,
    pub seed: u64,
}

impl<'a> Bench<'a> {
    pub fn new(target: &'a Target, batch: &'a Batch, seed: u64) -> Result<Self> {
        Ok(Self { target, batch, clean: judge_clean(target, batch, seed)?, seed })
    }

    pub fn run(&self, name: &str, spec: &str, target: &Target) -> Result<Held> {
        self.attack(name, &Trial::attack(spec, self.target.deployed.card())?, target).map(|(held, _)| held)
    }

    /// What was left, and what fooled.
    fn attack(&self, name: &str, trial: &Trial, target: &Target) -> Result<(Held, Vec<Labelled>)> {
        let judged = attack_batch(target, trial, self.batch, &self.clean, self.seed, self.batch.len())?;
        // Of one batch and one clean pass, every attack takes the same samples.
        let tried = self.clean.iter().zip(&judged).filter(|(c, _)| c.fault.is_none());
        let tried = tried.filter(|(_, j)| j.outcome.verdict != Verdict::CleanMiss);
        let verdicts: Vec<Verdict> = tried.map(|(_, j)| j.outcome.verdict).collect();
        let are = |wanted: Verdict| -> Vec<bool> { verdicts.iter().map(|v| *v == wanted).collect() };
        let (held, fooled_ones) = (are(Verdict::Held), are(Verdict::Fooled));
        let fooled = judged.iter().filter(|j| j.outcome.verdict == Verdict::Fooled);
        let points = fooled.filter_map(|j| Some((j.outcome.label?, j.point.clone()?))).collect();
        Ok((Held { name: name.to_string(), held, fooled: fooled_ones, of: judged.len() }, points))
    }
}

/// Attacks the samples of a labelled batch in the ways that must not contradict each other. The attack's own result is the
/// first of the answers.
///
/// # Errors
/// Those of the specs and of the model.
pub fn run(target: &Target, batch: &Batch, trials: &Trials) -> Result<(Vec<Held>, Vec<Finding>)> {
    let bench = Bench::new(target, batch, trials.seed)?;
    let card = target.deployed.card();
    let ready = resolve(&trials.attack, card)?;
    if let Region::Nearest { .. } = ready.threat.region {
        return Err(Error::usage(format!("the trials compare attacks at one epsilon, `{}` has none", ready.label))
            .hint("give it an eps, or choose another attack"));
    }
    let mut found = vec![];
    let (needs, region) = (ready.entry.needs, ready.threat.region.clone());
    let (label, trial) = (ready.label.clone(), Trial::Attack(ready));
    let (own, points) = bench.attack(&label, &trial, target)?;
    found.extend(survival(target, needs, &points)?);
    let mut all = vec![own];
    let Region::Ball { norm, eps } = region else { return Ok((all, found)) };
    found.extend(unbounded(&bench, trials, &mut all)?);
    if norm != Norm::L0 {
        let noise = format!("uniform-noise-{}:eps={eps},draws=25", norm.suffix());
        let noise = bench.run("noise", &noise, target)?;
        found.extend(beats(Code::NoiseBeatsAttack, &all[0], &noise, "random noise"));
        all.push(noise);
        let square = format!("square-{}:eps={eps},queries={}", norm.suffix(), trials.queries);
        let square = bench.run("square", &square, target)?;
        found.extend(beats(Code::BlackBoxBeatsWhiteBox, &all[0], &square, "an attack that sees scores only"));
        all.push(square);
        found.extend(longer(&bench, (norm, eps), &mut all)?);
    }
    Ok((all, found))
}

/// Everything may change: whatever still stands was not attacked.
fn unbounded(bench: &Bench, trials: &Trials, all: &mut Vec<Held>) -> Result<Option<Finding>> {
    let Some((low, high)) = bench.target.deployed.card().input.domain else { return Ok(None) };
    if (low, high) != (0., 1.) {
        return Ok(None);
    }
    let free = bench.run("unbounded", &format!("pgd-linf:eps=1,steps={}", trials.steps), bench.target)?;
    let (left, n) = (free.count(), free.held.len());
    all.push(free);
    let text = format!("{left} of {n} samples stand against PGD that may change every pixel to anything");
    let advice = "the attack does not work on this model, so its number says nothing about the model";
    Ok((left > 0)
        .then(|| Finding::new(Code::UnboundedHolds, text, advice).with("held", left as f64).with("samples", n as f64)))
}

/// Ten times the steps must not find many more.
fn longer(bench: &Bench, (norm, eps): (Norm, f64), all: &mut Vec<Held>) -> Result<Option<Finding>> {
    let pgd = |steps: u64| {
        bench.run(
            &format!("pgd {steps} steps"),
            &format!("pgd-{}:eps={eps},steps={steps}", norm.suffix()),
            bench.target,
        )
    };
    let (short, long) = (pgd(20)?, pgd(200)?);
    let standing = |h: &Held| h.fooled.iter().filter(|f| !**f).count();
    let (a, b, n) = (standing(&short), standing(&long), short.held.len());
    all.extend([short, long]);
    let gain = a.saturating_sub(b);
    let text = format!("PGD leaves {a} of {n} samples after 20 steps and {b} after 200");
    let advice = "use more steps and restarts, or AutoAttack, until the number stops falling";
    Ok((gain > 1 && gain as f64 > 0.05 * n as f64)
        .then(|| Finding::new(Code::MoreStepsHelp, text, advice).with("gain", gain as f64).with("samples", n as f64)))
}

/// Whether a weaker attack finds what the stronger one leaves, beyond one sample by luck.
fn beats(code: Code, own: &Held, weaker: &Held, what: &str) -> Option<Finding> {
    let only = own.held.iter().zip(&weaker.fooled).filter(|(own, weak)| **own && **weak).count();
    let n = own.held.len();
    let text = format!("{what} fools {only} of the {} samples that {} left standing", own.count(), own.name);
    let advice = "gradients are masked: report the worst case over both, and try counter-measures with `--adaptive`";
    (only > 1 && only as f64 > 0.02 * n as f64)
        .then(|| Finding::new(code, text, advice).with("only_weaker", only as f64).with("samples", n as f64))
}

/// What is left of adversarial points once pixels are bytes.
fn survival(target: &Target, needs: Access, points: &[Labelled]) -> Result<Option<Finding>> {
    let card = target.deployed.card();
    if points.is_empty() || needs == Access::Nothing || card.input.domain != Some((0., 1.)) {
        return Ok(None);
    }
    let rounded: Vec<Vec<f32>> =
        points.iter().map(|(_, x)| x.iter().map(|&v| f32::from(level(v)) / 255.).collect()).collect();
    let x = stack(&rounded, &card.input.shape)?;
    let keys = row_keys(&(0..points.len() as u64).collect::<Vec<_>>());
    let draw = robust_core::Draw { seed: 0, stream: robust_core::stream("doctor/bytes"), turn: 0, rows: &keys };
    let (scores, width) = to_host(&target.deployed.exact(&x, &draw)?)?;
    let goal = Goal::Untargeted(points.iter().map(|(y, _)| *y).collect());
    let alive = scores.chunks(width).enumerate().filter(|(i, z)| goal.judge(*i, z).is_some_and(|p| goal.reached(p)));
    let share = alive.count() as f64 / points.len() as f64;
    let text = format!("{:.0} % of the adversarial points are still adversarial as 8-bit pixels", 100. * share);
    let advice = "points that need fractions of a level cannot be stored as images: report both numbers";
    Ok((share < 0.5).then(|| Finding::new(Code::LostIn8Bits, text, advice).with("share", share)))
}
