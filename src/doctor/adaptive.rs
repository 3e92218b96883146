//! Counter-measures to what the doctor found, each tried on the same samples: the attack's number beside the adaptive one.

use super::trials::Bench;
use super::{Code, Finding, Held};
use robust_attacks::resolve;
use robust_core::{Batch, Model, Norm, Region, Result, Smoothed, StandIn, Target};
use serde::Serialize;
use std::sync::Arc;

/// What can be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// Climb the margin in place of cross-entropy.
    OtherLoss,
    /// Average gradients over the model's own randomness.
    Eot,
    /// Average them over noise in the input.
    SmoothedGradient,
    /// The value of the model, the gradient of a stand-in.
    Bpda,
    MoreSteps,
    /// Scores only.
    BlackBox,
}

/// A counter-measure and what it left standing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    pub counter: Counter,
    pub attack: String,
    /// What its gradients are averaged over, or come from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub through: String,
    /// Of all samples; `alone` by this attack, `with_the_others` together with everything before it.
    pub alone: f64,
    pub with_the_others: f64,
}

/// Draws per averaged gradient.
const DRAWS: u32 = 8;

fn remedies(code: Code) -> &'static [Counter] {
    use Counter::{BlackBox, Bpda, Eot, MoreSteps, OtherLoss, SmoothedGradient};
    match code {
        Code::NonDeterministic => &[Eot],
        Code::SaturatedLoss | Code::Softmax => &[OtherLoss],
        Code::MoreStepsHelp | Code::SingleStepBeatsIterated | Code::NotMonotone => &[MoreSteps],
        Code::NoGradient => &[Bpda, BlackBox],
        Code::ShatteredGradient | Code::UnstablePrediction => &[SmoothedGradient],
        Code::ZeroGradient
        | Code::GradientMismatch
        | Code::UnboundedHolds
        | Code::NoiseBeatsAttack
        | Code::BlackBoxBeatsWhiteBox
        | Code::NotFiniteGradient => &[OtherLoss, Bpda, SmoothedGradient, MoreSteps, BlackBox],
        _ => &[],
    }
}

/// Tries what answers `findings` on the samples that the attack `spec` left standing: `own` is its result, `soft` a
/// differentiable stand-in if there is one.
///
/// # Errors
/// Those of the model.
pub fn counter_measures(
    target: &Target,
    batch: &Batch,
    (spec, seed): (&str, u64),
    own: &Held,
    findings: &[Finding],
    soft: Option<&Arc<dyn Model>>,
) -> Result<Vec<Tried>> {
    let mut wanted: Vec<Counter> = findings.iter().flat_map(|f| remedies(f.code).iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if target.deployed.card().stochastic && !wanted.contains(&Counter::Eot) {
        wanted.insert(0, Counter::Eot);
    }
    let Region::Ball { norm, eps } = resolve(spec, target.deployed.card())?.threat.region else { return Ok(vec![]) };
    let bench = Bench::new(target, batch, seed)?;
    let mut worst = own.held.clone();
    let mut tried = vec![];
    for counter in wanted {
        for (attack, how, through) in ways(counter, target, norm, eps, soft)? {
            let Ok(left) = bench.run(&attack, &attack, &through) else { continue };
            worst.iter_mut().zip(&left.held).for_each(|(w, h)| *w &= *h);
            let together = Held { name: String::new(), held: worst.clone(), fooled: vec![], of: own.of };
            tried.push(Tried {
                counter,
                attack,
                through: how,
                alone: left.accuracy(),
                with_the_others: together.accuracy(),
            });
        }
    }
    Ok(tried)
}

/// The attacks of one counter-measure, each with what it climbs.
fn ways(
    counter: Counter,
    target: &Target,
    norm: Norm,
    eps: f64,
    soft: Option<&Arc<dyn Model>>,
) -> Result<Vec<(String, String, Target)>> {
    let p = norm.suffix();
    let through = |model: Arc<dyn Model>, eot| Target { surrogates: vec![model], eot, ..target.clone() };
    let plain = |attack: String| vec![(attack, String::new(), target.clone())];
    Ok(match counter {
        Counter::OtherLoss => plain(format!("pgd-{p}:eps={eps},steps=100,objective=margin")),
        Counter::MoreSteps => plain(format!("pgd-{p}:eps={eps},steps=200,restarts=5")),
        Counter::BlackBox => plain(format!("square-{p}:eps={eps},queries=5000")),
        Counter::Eot => {
            let eot = 2 * DRAWS;
            let attack = format!("pgd-{p}:eps={eps},steps=40");
            vec![(attack, format!("{eot} draws"), Target { eot, ..target.clone() })]
        }
        Counter::Bpda => match soft {
            Some(soft) => {
                let model: Arc<dyn Model> = Arc::new(StandIn::new(target.deployed.clone(), soft.clone())?);
                let attack = format!("pgd-{p}:eps={eps},steps=100");
                vec![(attack, format!("gradients of {}", soft.card().name), through(model, target.eot))]
            }
            None => vec![],
        },
        Counter::SmoothedGradient => {
            let smooth = |share: f64| -> Result<_> {
                let sigma = share * reach(norm, eps, target.deployed.card().input.len());
                let model: Arc<dyn Model> = Arc::new(Smoothed::new(target.deployed.clone(), sigma)?);
                let attack = format!("pgd-{p}:eps={eps},steps=50,restarts=3");
                Ok((attack, format!("{DRAWS} draws of noise of deviation {sigma:.3}"), through(model, DRAWS)))
            };
            vec![smooth(1.)?, smooth(4.)?]
        }
    })
}

/// What one entry moves when all move alike at this distance.
fn reach(norm: Norm, eps: f64, entries: usize) -> f64 {
    match norm {
        Norm::Linf => eps,
        Norm::L2 => eps / (entries as f64).sqrt(),
        Norm::L1 => eps / entries as f64,
        Norm::L0 => 0.1,
    }
}
