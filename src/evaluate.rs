//! One batch under one attack: the clean pass, the attack on what is correct, and an outcome for every sample.

use crate::label_free::Anchor;
use candle_core::{DType, Tensor};
use robust_attacks::Ready;
use robust_core::{
    Batch, Cost, Draw, Error, Finding, Goal, Kind, Lap, Oracle, Outcome, Place, Pred, Question, Rejection, Result,
    RowKey, SCHEMA, Stop, Target, Verdict, fragile, stream, take, to_host,
};
use std::sync::atomic::AtomicBool;

/// What the judge says of one clean sample.
#[derive(Debug, Clone)]
pub struct Clean {
    pub id: u64,
    /// `None` where no labels are asked for.
    pub label: Option<u32>,
    /// blake3 of the row's little-endian f32 bytes, hex.
    pub digest: String,
    /// `None` when the scores are not numbers, see [`robust_core::readable`].
    pub pred: Option<Pred>,
    pub fragile: bool,
    /// Scores, or the embedding.
    pub scores: Vec<f32>,
    /// Why the sample cannot be judged.
    pub fault: Option<String>,
    /// For goals without labels.
    pub anchor: Option<Anchor>,
}

impl Clean {
    fn correct(&self) -> bool {
        self.fault.is_none() && self.pred.is_some_and(|p| p.margin > 0.)
    }

    /// Forwards it took to judge it clean: another sample's embedding is one more.
    fn passes(&self) -> u64 {
        1 + u64::from(self.anchor.as_ref().is_some_and(|a| a.id().is_some()))
    }
}

/// An outcome and the point behind it.
#[derive(Debug, Clone)]
pub struct Judged {
    pub outcome: Outcome,
    pub point: Option<Vec<f32>>,
}

/// blake3 of a row's little-endian f32 bytes, hex.
pub fn row_digest(row: &[f32]) -> String {
    let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// What names the rows of these samples to a model's randomness: the first lane, the first draw.
pub fn row_keys(ids: &[u64]) -> Vec<RowKey> {
    ids.iter().copied().map(RowKey::of).collect()
}

/// One exact forward for each row of a labelled batch.
///
/// # Errors
/// Kind `Load` when the rows do not fit the model or a label is not one of its classes.
pub fn judge_clean(target: &Target, batch: &Batch, seed: u64) -> Result<Vec<Clean>> {
    let card = target.deployed.card();
    check_fit(target, batch)?;
    let Some(k) = card.output.scored() else {
        return Err(Error::new(Kind::Load, format!("model `{}` gives embeddings, not class scores", card.name)));
    };
    if k < 2 {
        let why = format!("model `{}` scores {k} class: every answer would be right", card.name);
        return Err(Error::new(Kind::Load, why).hint("give the scores of two classes: of one logit z, 0 and z"));
    }
    let labels = batch.labels.as_ref().ok_or_else(|| Error::load("data set", "it has no labels"))?;
    let goal = card.output.guard(Goal::Untargeted(labels.clone()), Rejection::Unanswered);
    goal.check(k)?;
    let keys = row_keys(&batch.ids);
    let draw = Draw { seed, stream: stream("clean"), turn: 0, rows: &keys };
    let scores = target.deployed.exact(&batch.x, &draw)?;
    let width = card.output.width();
    if scores.dims() != [batch.len(), width] {
        return Err(Error::load(
            format!("model `{}`", card.name),
            format!("it answered {:?}, not [n, {width}]", scores.dims()),
        ));
    }
    let ((scores, _), (pixels, row)) = (to_host(&scores.to_dtype(DType::F32)?)?, to_host(&batch.x)?);
    let rows = scores.chunks(width).zip(pixels.chunks(row.max(1)));
    Ok(rows
        .enumerate()
        .map(|(i, (scores, x))| {
            let pred = goal.judge(i, scores);
            let fault = match (out_of_domain(x, card.input.domain), pred) {
                (Some(why), _) => Some(why),
                (None, None) => Some("the model gave NaN or infinite scores for the clean sample".to_string()),
                (None, Some(_)) => None,
            };
            let (id, label, digest) = (batch.ids[i], Some(labels[i]), row_digest(x));
            Clean {
                id,
                label,
                digest,
                pred,
                fragile: pred.is_some_and(|p| fragile(p.margin, goal.scale(i, scores))),
                scores: scores.to_vec(),
                fault,
                anchor: None,
            }
        })
        .collect())
}

/// Whether the rows of a batch are what the model takes.
///
/// # Errors
/// Kind `Load` where they are not.
pub fn check_fit(target: &Target, batch: &Batch) -> Result<()> {
    let card = target.deployed.card();
    let (want, got) = (&card.input.shape, &batch.x.dims()[1..]);
    if want != got || batch.x.dtype() != DType::F32 {
        return Err(Error::new(
            Kind::Load,
            format!("model `{}` wants rows of {want:?}, the data set has {got:?}", card.name),
        )
        .hint("choose the data set the model was trained for"));
    }
    Ok(())
}

pub(crate) fn out_of_domain(x: &[f32], domain: Option<(f32, f32)>) -> Option<String> {
    let (low, high) = domain.unwrap_or((f32::MIN, f32::MAX));
    let bad = x.iter().find(|v| !(**v >= low && **v <= high))?;
    Some(format!("the clean sample holds {bad}, outside [{low}, {high}]"))
}

/// Attacks the correct rows of a batch, at most `at_once` of them at a time; one result per row, in the batch's order.
pub fn attack_batch(
    target: &Target,
    attack: &Ready,
    batch: &Batch,
    clean: &[Clean],
    seed: u64,
    at_once: usize,
) -> Result<Vec<Judged>> {
    attack_watched(&Asked { target, attack, seed, at_once, watch: &|_| (), stop: None }, batch, clean)
}

/// What an attack is run with.
pub struct Asked<'a> {
    pub target: &'a Target,
    pub attack: &'a Ready,
    pub seed: u64,
    /// Rows that a model is given at once, at most.
    pub at_once: usize,
    /// Hears of the attack's parts.
    pub watch: &'a dyn Fn(&Lap),
    /// Set from outside to leave the batch between two passes, with kind `Interrupted`.
    pub stop: Option<&'a AtomicBool>,
}

/// [`attack_batch`], telling of the attack's parts.
pub fn attack_watched(asked: &Asked, batch: &Batch, clean: &[Clean]) -> Result<Vec<Judged>> {
    let Asked { target, attack, at_once, .. } = *asked;
    let every = attack.attack.takes_misses();
    let taken = |c: &Clean| c.correct() || (every && c.fault.is_none());
    let correct: Vec<u32> = (0..clean.len() as u32).filter(|&i| taken(&clean[i as usize])).collect();
    let mut findings: Vec<Option<(Finding, Option<u32>)>> = vec![None; clean.len()];
    for rows in correct.chunks(at_once.max(1)) {
        for (&row, finding) in rows.iter().zip(attack_rows(asked, batch, clean, rows)?) {
            findings[row as usize] = Some(finding);
        }
    }
    let name = &target.deployed.card().name;
    Ok(clean.iter().zip(findings).map(|(c, f)| conclude(name, &attack.label, c, f)).collect())
}

fn attack_rows(asked: &Asked, batch: &Batch, clean: &[Clean], rows: &[u32]) -> Result<Vec<(Finding, Option<u32>)>> {
    let Asked { target, attack, seed, at_once, watch, stop } = *asked;
    let pick = |i: &u32| &clean[*i as usize];
    let output = target.deployed.card().output;
    // Attacks rank classes; a rejection is none.
    let scores: Vec<Vec<f32>> =
        rows.iter().map(|i| pick(i).scores.iter().copied().take(output.classes()).collect()).collect();
    let ids = rows.iter().map(|i| pick(i).id).collect();
    let part = Batch::new(ids, take(&batch.x, rows)?, None)?;
    let goal = match attack.aim {
        Some(aim) => {
            let anchor = |c: &Clean| c.anchor.as_ref().map(|a| a.embedding(&c.scores));
            let anchors: Option<Vec<Vec<f32>>> = rows.iter().map(|i| anchor(pick(i))).collect();
            aim.goal(anchors.ok_or_else(|| Error::internal("clean samples without anchors"))?)
        }
        None => {
            let labels: Option<Vec<u32>> = rows.iter().map(|i| pick(i).label).collect();
            attack.attack.aim(&labels.ok_or_else(|| Error::internal("clean samples without labels"))?, &scores)?
        }
    };
    // What a corruption does to a model is no attack on its detector: a rejected image is not answered.
    let rejection = if attack.attack.takes_misses() { Rejection::Unanswered } else { Rejection::Caught };
    let goal = output.guard(goal, rejection);
    let targeted = |i: usize| goal.classes().get(i).copied().filter(|_| goal.is_targeted());
    let targets: Vec<Option<u32>> = (0..rows.len()).map(targeted).collect();
    let mut oracle = Oracle::new(Question {
        target,
        threat: &attack.threat,
        batch: &part,
        goal,
        clean: &scores,
        seed,
        path: &attack.path,
        stop: if attack.attack.minimises() { Stop::Nearest } else { Stop::AtFirst },
        budget: attack.budget,
        at_once,
    })?;
    oracle.watch(watch);
    if let Some(stop) = stop {
        oracle.leave_when(stop);
    }
    attack.attack.run(&mut oracle)?;
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
            format!("no point that was asked lies within the threat model: the nearest is {by:.3e} outside")
        }),
        _ => said().unwrap_or_else(|| match finding.cost.search.forward {
            0 => "the attack asked nothing: its query budget does not pay for one point".to_string(),
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

/// All rows of several tensors as one `[n, ...]` tensor on the CPU.
pub fn stack(rows: &[Vec<f32>], row: &[usize]) -> Result<Tensor> {
    let dims: Vec<usize> = std::iter::once(rows.len()).chain(row.iter().copied()).collect();
    Ok(Tensor::from_vec(rows.concat(), dims, &candle_core::Device::Cpu)?)
}
