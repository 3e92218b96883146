//! The judgement: from run folders, bounds and a baseline to verdicts. Counts first, rates last.

use super::baseline::Baseline;
use super::checked::{Check, Compared, Finding, Report, Rule, Verdict, percent, points};
use super::config::{Bounds, CLEAN};
use super::config::{Config, Judged, Policy, Suite};
use super::measured::Measured;
use crate::doctor::Grade;
use crate::escape::{line, shell};
use crate::eval::rows;
use crate::report::{Row, is_worst};
use crate::runs::compare::POWER;
use crate::runs::finished::{FinishedRun, brief, ids_digest};
use crate::runs::stats::{Paired, Side, detectable_drop, holm, p_text, rate};
use robust_core::{Error, Region, Result, Verdict as Sample};
use serde_json::Value;

pub const SCHEMA: &str = "robust.gate/1";

/// As the doctor allows: one sample, or two in a thousand.
const LUCK: f64 = 0.002;

/// The results of a configuration's suites; `runs[i]` are those of suite `i`.
///
/// # Errors
/// Kind `Usage` when runs are not what the suite asks for.
pub fn measure(config: &Config, runs: &[Vec<FinishedRun>]) -> Result<Vec<Measured>> {
    let mut all: Vec<Measured> = vec![];
    for (index, (suite, runs)) in config.suites.iter().zip(runs).enumerate() {
        for run in runs {
            fits(suite, run)?;
            let mut rows = vec![];
            for planned in &run.record.plan.models {
                let of = |r: &&Row| r.model == planned.name;
                rows.extend(run.rows.iter().find(of).map(|r| (r, true)));
                rows.extend(run.rows.iter().filter(of).filter(|r| wanted(suite.judge, r)).map(|r| (r, false)));
            }
            for (row, clean) in rows {
                let measured = one(config, index, run, row, clean)?;
                let same =
                    |m: &&Measured| m.suite == measured.suite && m.model == measured.model && m.key() == measured.key();
                if all.iter().any(|m| same(&m)) {
                    return Err(Error::usage(format!(
                        "two results for {} under {} in suite `{}`",
                        line(&measured.model),
                        line(&measured.attack),
                        line(&suite.name)
                    )));
                }
                all.push(measured);
            }
        }
    }
    Ok(all)
}

fn wanted(judge: Judged, row: &Row) -> bool {
    match judge {
        Judged::Attacks => !is_worst(&row.attack),
        Judged::WorstCase => is_worst(&row.attack),
        Judged::Both => true,
    }
}

/// Whether a run is one of this suite: a folder given by hand may be any.
fn fits(suite: &Suite, run: &FinishedRun) -> Result<()> {
    let plan = &run.record.plan;
    let pick = suite.limit.map_or("all".to_string(), |n| format!("limit {n}"));
    let mut differ = vec![];
    if plan.seed != suite.seed {
        differ.push(format!("its seed is {}, the suite's {}", plan.seed, suite.seed));
    }
    if plan.pick != pick && !(suite.limit.is_some_and(|n| n >= plan.dataset.card.samples) && plan.pick == "all") {
        differ.push(format!("its samples are `{}`, the suite's `{pick}`", line(&plan.pick)));
    }
    for model in &plan.models {
        let asked = suite.attacks.iter().filter_map(|a| {
            let name = a.split(':').next().unwrap_or_default().trim();
            robust_attacks::find(name).ok().map_or(Some(name), |(e, _)| Some(e.name))
        });
        let there = model.attacks.iter().map(|a| a.attack.as_str());
        if asked.clone().ne(there) {
            let asked: Vec<&str> = asked.collect();
            differ.push(format!("its attacks on {} are not {}", line(&model.name), line(&asked.join(", "))));
        }
    }
    match differ.is_empty() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "run {} is not of suite `{}`: {}",
            run.name(),
            line(&suite.name),
            differ.join("; ")
        ))
        .hint("give the folder that `robust gate` or the suite's `robust eval` wrote")),
    }
}

fn one(config: &Config, index: usize, run: &FinishedRun, row: &Row, clean: bool) -> Result<Measured> {
    let (suite, plan) = (&config.suites[index], &run.record.plan);
    if row.distances.is_some() && !clean {
        return Err(Error::usage(format!(
            "{} of run {} has no epsilon, so there is no share of samples to hold to a floor",
            line(&row.attack),
            run.name()
        ))
        .hint(format!("evaluate it with one: {}", super::config::with_epsilon(&row.attack))));
    }
    let model = run.model(&row.model)?;
    let place = model.attacks.iter().position(|a| a.label == row.attack);
    let written = place.and_then(|i| suite.attacks.get(i)).map(String::as_str).filter(|_| !clean);
    let position = plan.models.iter().position(|m| m.name == model.name);
    let source = position.and_then(|i| suite.models.get(i)).map(String::as_str);
    let names: Vec<&str> = match (clean, written) {
        (true, _) => vec![CLEAN],
        (false, None) => vec!["worst-case", &row.attack],
        (false, Some(written)) => vec![written, &row.attack],
    };
    let (ids, bits): (Vec<u64>, Vec<bool>) = match clean {
        true => run.clean(&row.model).into_iter().unzip(),
        false => run.verdicts(row).into_iter().map(|(id, v)| (id, v == Sample::Held)).unzip(),
    };
    let facts = if clean { Value::from(CLEAN) } else { Value::from(run.facts(row)) };
    let repro = ["robust".to_string(), "eval".to_string()].into_iter().chain(suite.arguments(source, written));
    Ok(Measured {
        suite: suite.name.clone(),
        model: row.model.clone(),
        attack: if clean { CLEAN.to_string() } else { row.attack.clone() },
        threat: if clean { String::new() } else { row.threat.clone() },
        dataset: row.dataset.clone(),
        data_digest: row.data_digest.clone(),
        by_content: plan.dataset.by_content,
        images: position.and_then(|i| run.images.get(i)).cloned().flatten(),
        seed: plan.seed,
        resumed: run.is_read_back(),
        attack_digest: blake3::hash(facts.to_string().as_bytes()).to_hex().to_string(),
        model_digest: row.model_digest.clone(),
        robust: plan.robust.clone(),
        interpreter: plan.interpreter.clone(),
        // A clean sample that could not be read is in every row; one that broke an attack only in that one.
        failed: if clean { 0 } else { row.failed },
        seconds: if clean { 0. } else { row.seconds },
        missing: run.warning(),
        grade: row.reliability.filter(|_| !clean),
        bounds: suite.bounds(&row.model, &names),
        allowed: suite.allow_failed,
        line: config.line_of(index, written),
        repro: repro.map(|a| shell(&line(&a))).collect::<Vec<_>>().join(" "),
        ladder: place.filter(|_| !clean).and_then(|i| match &model.attacks[i].threat.region {
            Region::Ball { norm, eps } => {
                let a = &model.attacks[i];
                Some((format!("{} {norm} {}", a.attack, Value::from(a.params.clone())), *eps))
            }
            _ => None,
        }),
        ids,
        bits,
    })
}

/// What the baseline says of a result.
struct Before {
    bits: Vec<bool>,
    same_model: bool,
    findings: Vec<Finding>,
}

/// Pairs a result with the baseline's.
///
/// # Errors
/// Kind `Usage` naming what differs, when they are not of the same thing.
fn paired(now: &Measured, baseline: &Baseline) -> Result<Option<Before>> {
    let Some((samples, then)) = baseline.find(&now.suite, &now.model, &now.key()) else { return Ok(None) };
    let mut differ = vec![];
    if samples.data_digest != now.data_digest {
        differ.push(format!("the data set is {} then {}", brief(&samples.data_digest), brief(&now.data_digest)));
    } else if let (Some(was), Some(is), None) = (&then.images, &now.images, &now.missing)
        && samples.ids == now.ids
        && rows::contradict(was, is)
    {
        differ.push("the images of one data set are read otherwise".to_string());
    }
    // Samples that a cut-off run has not reached are missing, not others.
    if samples.ids != now.ids && now.missing.is_none() {
        let digest = |ids: &[u64]| brief(&ids_digest(ids.iter().copied()));
        let (was, is) = (samples.ids.len(), now.ids.len());
        differ.push(format!("the samples are {was} ({}) then {is} ({})", digest(&samples.ids), digest(&now.ids)));
    }
    if samples.seed != now.seed {
        differ.push(format!("the seed is {} then {}", samples.seed, now.seed));
    }
    if then.attack_digest != now.attack_digest {
        differ.push("the attack's parameters changed".to_string());
    }
    if !differ.is_empty() {
        let what = format!("{} under {} in suite `{}`", line(&now.model), line(&now.attack), line(&now.suite));
        return Err(Error::usage(format!("the baseline of {what} is of something else: {}", line(&differ.join("; "))))
            .hint(match now.by_content && samples.data_digest != now.data_digest {
                true => {
                    "if that was meant, or if the baseline was written by a version that named folders by the names and sizes \
                     of their files instead of their content, write a new one with --update-baseline"
                }
                false => "if that was meant, write a new baseline with --update-baseline",
            }));
    }
    if now.missing.is_some() {
        return Ok(None);
    }
    let bits = then.held(samples.ids.len())?;
    let same_model = then.model_digest == now.model_digest;
    let mut findings = vec![];
    let changed = bits.iter().zip(&now.bits).filter(|(a, b)| a != b).count();
    let mut other = vec![];
    if then.robust != now.robust {
        other.push(format!("robust {} then {}", line(&then.robust), line(&now.robust)));
    }
    if then.interpreter != now.interpreter {
        other.push(format!("computed by {} then {}", line(&then.interpreter), line(&now.interpreter)));
    }
    match (same_model, changed, other.is_empty()) {
        (true, 0, _) if now.resumed => findings.push(Finding {
            rule: Rule::Resumed,
            text: "these are the results of an earlier run: nothing was measured again".into(),
        }),
        (true, 0, _) => findings.push(Finding { rule: Rule::Reproduced, text: "the model is unchanged and every sample came out again".into() }),
        (true, _, true) => findings.push(Finding {
            rule: Rule::NonDeterministic,
            text: format!("the model is unchanged, but {changed} samples came out otherwise: it is not deterministic, or the baseline was edited"),
        }),
        (_, _, false) => findings.push(Finding { rule: Rule::Changed, text: other.join("; ") }),
        (false, _, true) => {}
    }
    Ok(Some(Before { bits, same_model, findings }))
}

fn compared(now: &Measured, before: &[bool], same_model: bool, confidence: f64) -> Compared {
    let mut samples = Paired::default();
    before.iter().zip(&now.bits).for_each(|(a, b)| samples.add(*a, *b));
    let held = samples.both + samples.broken;
    let broken = now.ids.iter().zip(before.iter().zip(&now.bits)).filter(|(_, (a, b))| **a && !**b);
    Compared {
        held,
        accuracy: rate(held, samples.n()),
        drop: samples.drop(),
        interval: samples.newcombe(confidence),
        p: samples.mcnemar_mid_p(Side::Drop),
        p_adjusted: None,
        detectable_drop: None,
        broken_ids: broken.map(|(id, _)| *id).collect(),
        same_model,
        samples,
    }
}

/// Judges what was measured against a configuration and a baseline.
///
/// # Errors
/// Kind `Usage` when the baseline is of something else.
pub fn check(config: &Config, measured: &[Measured], baseline: Option<&Baseline>) -> Result<Report> {
    let settings = &config.gate;
    let mut checks = vec![];
    for now in measured {
        let pairing = baseline.map(|b| paired(now, b)).transpose()?.flatten();
        let (before, findings) = match pairing {
            Some(b) => (Some(compared(now, &b.bits, b.same_model, settings.confidence)), b.findings),
            None => (None, vec![]),
        };
        let (n, held) = (now.bits.len() as u64, now.held());
        checks.push(Check {
            suite: now.suite.clone(),
            model: now.model.clone(),
            attack: now.key(),
            threat: now.threat.clone(),
            n,
            held,
            accuracy: rate(held, n),
            interval: settings.interval.of(held, n, settings.confidence),
            failed: now.failed,
            bounds: now.bounds,
            baseline: before,
            verdict: Verdict::Pass,
            findings,
            repro: now.repro.clone(),
            line: now.line,
            seconds: now.seconds,
            model_digest: now.model_digest.clone(),
        });
    }
    let tested = test_drops(&mut checks, settings.alpha);
    for (i, now) in measured.iter().enumerate() {
        let found = findings(config, now, &checks[i], baseline.is_some());
        let ladder = ladder(now, measured);
        let check = &mut checks[i];
        check.findings.extend(found);
        check.findings.extend(ladder);
        check.findings.sort_by_key(|f| std::cmp::Reverse(f.rule.verdict()));
        check.verdict = check.findings.iter().map(|f| f.rule.verdict()).max().unwrap_or(Verdict::Pass);
    }
    let verdict = checks.iter().map(|c| c.verdict).max().unwrap_or(Verdict::Pass);
    let exit_code = match verdict {
        Verdict::Fail | Verdict::Untrustworthy => 1,
        Verdict::Incomplete => 3,
        Verdict::Inconclusive if settings.strict => 1,
        Verdict::Inconclusive | Verdict::Pass | Verdict::NoBaseline => 0,
    };
    let notes = notes(&checks, tested, settings.alpha, baseline.is_some());
    Ok(Report { schema: SCHEMA, verdict, exit_code, settings: settings.clone(), tested, checks, notes })
}

/// Adjusts the p-values of the bounded drops together; their number comes back.
fn test_drops(checks: &mut [Check], alpha: f64) -> usize {
    let bounded = |c: &&mut Check| c.bounds.max_drop.is_some() && c.baseline.is_some();
    let raw: Vec<f64> = checks.iter_mut().filter(bounded).filter_map(|c| c.baseline.as_ref().map(|b| b.p)).collect();
    let tested = raw.len();
    let strictest = alpha / tested.max(1) as f64;
    for (b, p) in checks.iter_mut().filter(bounded).filter_map(|c| c.baseline.as_mut()).zip(holm(&raw)) {
        b.p_adjusted = Some(p);
        let (n, churn) = (b.samples.n(), b.samples.churn());
        b.detectable_drop = detectable_drop(n, churn, strictest, POWER).map(|d| rate(d, n));
    }
    tested
}

fn findings(config: &Config, now: &Measured, check: &Check, any_baseline: bool) -> Vec<Finding> {
    let mut found = vec![];
    let mut say = |rule: Rule, text: String| found.push(Finding { rule, text });
    if let Some(why) = &now.missing {
        say(Rule::Incomplete, line(why));
    }
    if now.failed > now.allowed {
        say(Rule::FailedSamples, format!("{} samples could not be judged, {} are allowed", now.failed, now.allowed));
    }
    match now.grade {
        Some(Grade::Unreliable) => {
            say(
                Rule::Unreliable,
                "the doctor calls the numbers of this model unreliable: see diagnostics.json of the run".into(),
            );
        }
        Some(Grade::Doubtful) => say(
            Rule::Doubtful,
            "the doctor calls the numbers of this model doubtful: see diagnostics.json of the run".into(),
        ),
        _ => {}
    }
    // What is not all there cannot fall short.
    if now.missing.is_some() {
        return found;
    }
    if let Some(floor) = check.bounds.min_accuracy {
        let reached = match config.gate.policy {
            Policy::Point => check.held as f64 >= floor * check.n as f64 - 1e-9,
            Policy::LowerBound => check.interval.0 >= floor,
        };
        if !reached {
            let what = match config.gate.policy {
                Policy::Point => "accuracy".to_string(),
                Policy::LowerBound => format!("the lower bound {} of accuracy", percent(check.interval.0)),
            };
            say(
                Rule::Floor,
                format!(
                    "{what} {} ({} of {}) is below the floor {}",
                    percent(check.accuracy),
                    check.held,
                    check.n,
                    percent(floor)
                ),
            );
        }
    }
    match &check.baseline {
        Some(b) => found.extend(drops(b, &check.bounds, config.gate.alpha)),
        None if check.bounds.max_drop.is_some() || check.bounds.max_drop_hard.is_some() => {
            let why = if any_baseline { "it is not in the baseline" } else { "there is no baseline" };
            found.push(Finding {
                rule: Rule::NoBaseline,
                text: format!("{why}: drops are not judged (--update-baseline writes it)"),
            });
        }
        None => {}
    }
    found
}

fn drops(b: &Compared, bounds: &Bounds, alpha: f64) -> Vec<Finding> {
    let exceeds = |most: Option<f64>| most.filter(|m| b.drop > m + 1e-12);
    let fell = format!(
        "accuracy fell by {} ({} to {}), from {}: {} samples broke, {} were fixed",
        points(b.drop),
        points(b.interval.0),
        points(b.interval.1),
        percent(b.accuracy),
        b.samples.broken,
        b.samples.fixed
    );
    let mut found = vec![];
    if let Some(most) = exceeds(bounds.max_drop_hard) {
        found.push(Finding {
            rule: Rule::HardDrop,
            text: format!("{fell}; never more than {} is allowed", points(most)),
        });
    }
    if let (Some(most), Some(p)) = (exceeds(bounds.max_drop), b.p_adjusted) {
        let allowed = points(most);
        found.push(match p < alpha {
            true => Finding { rule: Rule::Drop, text: format!("{fell}; at most {allowed} is allowed ({} after Holm)", p_text(p)) },
            false => Finding {
                rule: Rule::PossibleDrop,
                text: format!("{fell}; more than {allowed} is not allowed, but this may be chance ({} after Holm): more samples would tell", p_text(p)),
            },
        });
    }
    found
}

/// The same attack with less room must not fool more samples.
fn ladder(now: &Measured, all: &[Measured]) -> Option<Finding> {
    let (attack, eps) = now.ladder.as_ref()?;
    let rows = all.iter().filter(|m| m.suite == now.suite && m.model == now.model && m.ids == now.ids);
    let below = rows.filter(|m| m.ladder.as_ref().is_some_and(|(a, e)| a == attack && e < eps));
    let least = below.min_by_key(|m| m.held())?;
    let more = now.held().saturating_sub(least.held());
    let text = format!(
        "{more} more samples hold than under {}, which has less room: the attack is not converged",
        line(&least.attack)
    );
    (more as f64 > LUCK * now.bits.len() as f64).then_some(Finding { rule: Rule::NotMonotone, text })
}

fn notes(checks: &[Check], tested: usize, alpha: f64, baseline: bool) -> Vec<String> {
    let mut notes = vec![];
    if tested > 0 {
        notes.push(format!(
            "{tested} bounded drops share alpha = {alpha} after Holm; detectable: the drop that is seen with a chance of 80 % at alpha / {tested}."
        ));
        let weak = |c: &&Check| match (&c.baseline, c.bounds.max_drop) {
            (Some(b), Some(most)) => {
                b.p_adjusted.is_some_and(|p| p >= alpha) && b.detectable_drop.is_none_or(|d| d > most)
            }
            _ => false,
        };
        let weak = checks.iter().filter(weak).count();
        if weak > 0 {
            notes.push(format!("{weak} of them have too few samples to see a drop of their max_drop with a chance of 80 %: raise limit."));
        }
    }
    if !baseline {
        notes.push("There is no baseline: only floors are judged.".to_string());
    }
    notes
}
