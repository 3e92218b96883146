//! One batch under one attack: the clean pass, the attack on what is correct, and an outcome for every sample.

use super::clean::{Anchor, Clean, row_digest};
use super::trial::Trial;
use robust_core::{
    Batch, Cost, Error, Finding, Lap, Oracle, Outcome, Place, Question, Result, SCHEMA, Stop, Target, Verdict, take,
};
use std::sync::atomic::AtomicBool;

/// An outcome and the point behind it.
#[derive(Debug, Clone)]
pub struct Judged {
    pub outcome: Outcome,
    pub point: Option<Vec<f32>>,
}

/// Attacks the correct rows of a batch, at most `at_once` of them at a time; one result per row, in the batch's order.
pub fn attack_batch(
    target: &Target,
    attack: &Trial,
    batch: &Batch,
    clean: &[Clean],
    seed: u64,
    at_once: usize,
) -> Result<Vec<Judged>> {
    attack_watched(&TrialContext { target, trial: attack, seed, at_once, watch: &|_| (), stop: None }, batch, clean)
}

/// What a trial is run with.
pub struct TrialContext<'a> {
    pub target: &'a Target,
    pub trial: &'a Trial,
    pub seed: u64,
    /// Maximum rows per model call.
    pub at_once: usize,
    /// Hears of the attack's parts.
    pub watch: &'a dyn Fn(&Lap),
    /// Set from outside to leave the batch between two passes, with kind `Interrupted`.
    pub stop: Option<&'a AtomicBool>,
}

/// [`attack_batch`], telling of the attack's parts.
pub fn attack_watched(context: &TrialContext, batch: &Batch, clean: &[Clean]) -> Result<Vec<Judged>> {
    let TrialContext { target, trial, at_once, .. } = *context;
    let every = trial.takes_misses();
    let taken = |c: &Clean| c.correct() || (every && c.fault.is_none());
    let correct: Vec<u32> = (0..clean.len() as u32).filter(|&i| taken(&clean[i as usize])).collect();
    let mut findings: Vec<Option<(Finding, Option<u32>)>> = vec![None; clean.len()];
    for rows in correct.chunks(at_once.max(1)) {
        for (&row, finding) in rows.iter().zip(attack_rows(context, batch, clean, rows)?) {
            findings[row as usize] = Some(finding);
        }
    }
    let name = &target.deployed.card().name;
    Ok(clean.iter().zip(findings).map(|(c, f)| conclude(name, trial.label(), c, f)).collect())
}

fn attack_rows(
    context: &TrialContext,
    batch: &Batch,
    clean: &[Clean],
    rows: &[u32],
) -> Result<Vec<(Finding, Option<u32>)>> {
    let TrialContext { target, trial, seed, at_once, watch, stop } = *context;
    let pick = |i: &u32| &clean[*i as usize];
    let output = target.deployed.card().output;
    // Attacks rank classes; a rejection is none.
    let scores: Vec<Vec<f32>> =
        rows.iter().map(|i| pick(i).scores.iter().copied().take(output.classes()).collect()).collect();
    let ids = rows.iter().map(|i| pick(i).id).collect();
    let part = Batch::new(ids, take(&batch.x, rows)?, None)?;
    let goal = match trial.aim() {
        Some(aim) => {
            let anchor = |c: &Clean| c.anchor.as_ref().map(|a| a.embedding(&c.scores));
            let anchors: Option<Vec<Vec<f32>>> = rows.iter().map(|i| anchor(pick(i))).collect();
            aim.goal(anchors.ok_or_else(|| Error::internal("clean samples without anchors"))?)
        }
        None => {
            let labels: Option<Vec<u32>> = rows.iter().map(|i| pick(i).label).collect();
            trial.goal(&labels.ok_or_else(|| Error::internal("clean samples without labels"))?, &scores)?
        }
    };
    let goal = output.guard(goal, trial.rejection());
    let targeted = |i: usize| goal.classes().get(i).copied().filter(|_| goal.is_targeted());
    let targets: Vec<Option<u32>> = (0..rows.len()).map(targeted).collect();
    let mut oracle = Oracle::new(Question {
        target,
        threat: trial.threat(),
        batch: &part,
        goal,
        clean: &scores,
        seed,
        path: trial.path(),
        stop: if trial.minimises() { Stop::Nearest } else { Stop::AtFirst },
        budget: trial.budget(),
        at_once,
    })?;
    oracle.watch(watch);
    if let Some(stop) = stop {
        oracle.leave_when(stop);
    }
    trial.run(&mut oracle)?;
    Ok(oracle.finish()?.into_iter().zip(targets).collect())
}

fn conclude(model: &str, attack: &str, clean: &Clean, finding: Option<(Finding, Option<u32>)>) -> Judged {
    let mut outcome = Outcome {
        schema: SCHEMA.to_string(),
        model: model.to_string(),
        attack: attack.to_string(),
        id: clean.id,
        digest: clean.digest.clone(),
        label: clean.label,
        clean: clean.pred,
        target: None,
        anchor: clean.anchor.as_ref().and_then(Anchor::id),
        verdict: Verdict::CleanMiss,
        why: None,
        best: None,
        fragile: clean.fragile,
        distance: None,
        nearest: None,
        votes: None,
        drawn: None,
        place: None,
        queries: None,
        stage: None,
        cost: Cost { clean: clean.passes(), ..Cost::default() },
        evidence: None,
    };
    if let Some(fault) = &clean.fault {
        (outcome.verdict, outcome.why) = (Verdict::Failed, Some(fault.clone()));
    }
    let Some((finding, target)) = finding else { return Judged { outcome, point: None } };
    outcome.target = target;
    outcome.cost = Cost { clean: clean.passes(), ..finding.cost };
    outcome.queries = finding.queries;
    outcome.stage = finding.stage.clone();
    outcome.nearest = finding.nearest;
    outcome.place = finding.place;
    outcome.verdict = match (&finding.found, &finding.held, finding.broken) {
        (Some(_), ..) => Verdict::Fooled,
        (None, Some(_), false) => Verdict::Held,
        // What was never judged did not hold.
        _ => Verdict::Failed,
    };
    if !clean.correct() && outcome.verdict != Verdict::Failed {
        outcome.verdict = Verdict::CleanMiss;
    }
    if outcome.verdict == Verdict::Failed {
        outcome.why = Some(unjudged(&finding));
    }
    let Some(best) = finding.found.or(finding.held) else { return Judged { outcome, point: None } };
    outcome.best = Some(best.pred);
    outcome.fragile = clean.fragile || best.fragile;
    outcome.distance = best.distance;
    outcome.votes = Some(best.votes).filter(|v| v.1 > 1);
    outcome.drawn = best.drawn;
    outcome.evidence = Some(row_digest(&best.x));
    Judged { outcome, point: Some(best.x) }
}

/// Why nothing can be said of a sample that was attacked.
fn unjudged(finding: &Finding) -> String {
    let said = || finding.remark.clone();
    match finding.place {
        _ if finding.broken => "the model gave NaN or infinite scores for a legal adversarial point".to_string(),
        Some(Place::Outside(by)) => said().unwrap_or_else(|| {
            format!("no point that was context lies within the threat model: the nearest is {by:.3e} outside")
        }),
        _ => said().unwrap_or_else(|| match finding.cost.search.forward {
            0 => "the attack context nothing: its query budget does not pay for one point".to_string(),
            _ => "no legal point was judged".to_string(),
        }),
    }
}

/// The outcome of a sample that could not be read.
pub fn unreadable(model: &str, attack: &str, id: u64, why: &str) -> Judged {
    let clean = Clean {
        id,
        label: None,
        digest: String::new(),
        pred: None,
        fragile: false,
        scores: vec![],
        fault: Some(why.to_string()),
        anchor: None,
    };
    let mut judged = conclude(model, attack, &clean, None);
    judged.outcome.cost = Cost::default();
    judged
}
