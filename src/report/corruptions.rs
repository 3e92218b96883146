//! Corruptions of a run as a table: error per corruption and severity, the means, and what may be compared.

use crate::corruption::facts::Facts;
use crate::eval::plan::{Plan, PlannedModel};
use crate::runs::stats::rate;
use comfy_table::{CellAlignment, Table, presets};
use robust_benchmarks::corruptions::stand_in;
use robust_benchmarks::metrics::corruption::{CorruptionLine, Errors, ImageSource, TEST, alexnet};
use robust_core::{Error, Outcome, Result, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const SCHEMA: &str = "robust.corruptions/1";

/// One model on one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub model: String,
    pub n: u64,
    pub errors: Errors,
    /// One minus the mean error over test corruptions and severities.
    pub mean_accuracy: Option<f64>,
    /// Accuracy that survives the worst corruption of each sample.
    pub worst_accuracy: f64,
    /// Accuracy that survives every corruption and every other attack of the run, where there are any.
    pub union_accuracy: Option<f64>,
    /// mCE and relative mCE against the reference that was asked for.
    pub mce: Option<(f64, f64)>,
    /// What keeps the numbers from being compared.
    pub notes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: String,
    results: Vec<Report>,
}

/// What to compare with: `alexnet`, or the reports of another run.
pub enum Reference {
    Alexnet,
    Run(Vec<Report>),
}

impl Reference {
    /// `alexnet`, or the folder of a run over the same suite.
    ///
    /// # Errors
    /// Kind `Load` when the folder has no `corruptions.json`.
    pub fn open(text: &str) -> Result<Self> {
        if text == "alexnet" {
            return Ok(Self::Alexnet);
        }
        let path = std::path::Path::new(text).join("corruptions.json");
        let bytes = robust_core::files::read(&path, 1 << 26).map_err(|e| {
            Error::load(path.display(), e).hint("--reference takes `alexnet` or a run folder of `eval --corruptions`")
        })?;
        let file: File = serde_json::from_slice(&bytes).map_err(|e| Error::load(path.display(), e))?;
        Ok(Self::Run(file.results))
    }

    fn of(&self, suite: &str) -> Result<Errors> {
        match self {
            Self::Alexnet => Ok(alexnet()),
            Self::Run(reports) => match reports.iter().filter(|r| r.errors.suite == suite).collect::<Vec<_>>()[..] {
                [one] => Ok(one.errors.clone()),
                [] => Err(Error::usage(format!("the reference run has no {suite}"))),
                _ => Err(Error::usage(format!("the reference run has several models on {suite}"))
                    .hint("give a run of one model")),
            },
        }
    }
}

/// One report per model and suite of the plan, empty when it has no corruptions.
///
/// # Errors
/// Kind `Usage` when a reference was asked for that is not comparable.
pub fn summarise(plan: &Plan, outcomes: &[Outcome], reference: Option<&Reference>) -> Result<Vec<Report>> {
    let mut all = vec![];
    for model in &plan.models {
        let mine: Vec<&Outcome> = outcomes.iter().filter(|o| o.model == model.name).collect();
        let mut suites: Vec<String> = vec![];
        for attack in model.attacks.iter().filter(|a| a.is_corruption()) {
            let suite = attack.threat.to_string();
            if !suites.contains(&suite) {
                suites.push(suite);
            }
        }
        for suite in suites {
            let mut report = one(plan, model, &suite, &mine);
            if let Some(reference) = reference {
                report.mce = Some(report.errors.against(&reference.of(&suite)?)?);
            }
            all.push(report);
        }
    }
    Ok(all)
}

/// Whether the judge found the point's prediction right; what could not be judged is not.
fn right(o: &Outcome) -> bool {
    o.verdict != Verdict::Failed && o.best.is_some_and(|p| p.margin > 0.)
}

fn one(plan: &Plan, model: &PlannedModel, suite: &str, outcomes: &[&Outcome]) -> Report {
    let mut lines: Vec<CorruptionLine> = vec![];
    let mut clean: BTreeMap<u64, bool> = BTreeMap::new();
    let mut held: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
    for attack in &model.attacks {
        let mine: Vec<&&Outcome> = outcomes.iter().filter(|o| o.attack == attack.label).collect();
        let here = attack.is_corruption() && attack.threat.to_string() == suite;
        for o in &mine {
            clean.insert(o.id, o.clean.is_some_and(|p| p.margin > 0.));
            let slot = held.entry(o.id).or_insert((true, true));
            slot.0 &= !here || right(o);
            slot.1 &= o.verdict == Verdict::Held;
        }
        if let Some(Facts { corruption, severity, .. }) = attack.corruption().filter(|_| here) {
            let wrong = mine.iter().filter(|o| !right(o)).count() as u64;
            if !lines.iter().any(|l| l.corruption == corruption) {
                lines.push(CorruptionLine { corruption: corruption.clone(), severities: vec![], errors: vec![] });
            }
            if let Some(line) = lines.iter_mut().find(|l| l.corruption == corruption) {
                line.severities.push(severity);
                line.errors.push(rate(wrong, mine.len() as u64));
            }
        }
    }
    let n = clean.len() as u64;
    let share = |of: usize| rate(of as u64, n);
    let made = model.attacks.iter().filter(|a| a.threat.to_string() == suite).any(|a| a.is_recipe());
    let (source, data) = match made {
        true => (ImageSource::Generated { seed: plan.seed }, format!("{}:{}", plan.dataset.card.digest, plan.pick)),
        false => (ImageSource::Published, plan.pick.clone()),
    };
    let errors =
        Errors { source, suite: suite.to_string(), data, clean: share(clean.values().filter(|c| !**c).count()), lines };
    let others = model.attacks.iter().any(|a| !a.is_corruption());
    Report {
        model: model.name.clone(),
        n,
        mean_accuracy: errors.mean().map(|e| 1. - e),
        worst_accuracy: share(held.values().filter(|h| h.0).count()),
        union_accuracy: others.then(|| share(held.values().filter(|h| h.1).count())),
        mce: None,
        notes: notes(&errors).into_iter().chain(size(model, suite)).collect(),
        errors,
    }
}

/// What a size without severities of its own means for the numbers.
fn size(model: &PlannedModel, suite: &str) -> Option<String> {
    let attack = model.attacks.iter().find(|a| a.is_recipe() && a.threat.to_string() == suite)?;
    let &[_, h, w] = attack.threat.input.shape.as_slice() else { return None };
    let table = attack.label.split_once(",table=")?.1;
    let table = table.split(',').next().and_then(|side| side.parse().ok());
    stand_in(table, h, w)
}

fn notes(errors: &Errors) -> Vec<String> {
    let mut notes = vec![];
    let has = |name: &str| errors.lines.iter().any(|l| l.corruption == name);
    if has("frost_procedural") {
        notes.push(
            "frost_procedural is drawn ice, not the published photos (--frost-dir): it is in no mean.".to_string(),
        );
    }
    if matches!(errors.suite.as_str(), "imagenet-c" | "cifar-c") {
        let missing: Vec<&str> = TEST.into_iter().filter(|name| !has(name)).collect();
        if !missing.is_empty() {
            notes.push(format!(
                "Incomplete: the mean is over {} of 15 corruptions ({} missing).",
                15 - missing.len(),
                missing.join(", ")
            ));
        }
    }
    if errors.source == ImageSource::Published {
        if errors.data != "all" {
            notes.push("A part of the samples was asked: not comparable with published numbers.".to_string());
        }
        return notes;
    }
    notes.push("Generated images: comparable with runs of the same data, seed and suite (--reference RUN), not with published mCE.".to_string());
    notes
}

/// `{"schema", "results"}`.
///
/// # Errors
/// None in practice.
pub fn to_json(reports: &[Report]) -> Result<String> {
    let file = File { schema: SCHEMA.to_string(), results: reports.to_vec() };
    Ok(serde_json::to_string_pretty(&file).map_err(|e| Error::internal(format!("corruptions: {e}")))? + "\n")
}

/// A table per report: errors in percent, a row per corruption.
pub fn to_text(reports: &[Report]) -> String {
    reports.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn text(report: &Report) -> String {
    let percent = |v: f64| format!("{:.1}", 100. * v);
    let mut severities: Vec<usize> = report.errors.lines.iter().flat_map(|l| l.severities.clone()).collect();
    severities.sort_unstable();
    severities.dedup();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let columns = severities.iter().map(|s| format!("sev {s}"));
    table.set_header(["error %".to_string()].into_iter().chain(columns).chain(["mean".to_string()]));
    for line in &report.errors.lines {
        let at =
            |s: &usize| line.severities.iter().position(|x| x == s).map_or(String::new(), |i| percent(line.errors[i]));
        let cells = severities.iter().map(at);
        table.add_row([line.corruption.clone()].into_iter().chain(cells).chain([percent(line.mean())]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text =
        format!("{} on {}, {} samples\n{}\n\n", report.model, report.errors.suite, report.n, table.trim_fmt());
    text += &format!("clean error {} %", percent(report.errors.clean));
    if let Some(mean) = report.mean_accuracy {
        text += &format!(", mean error {} %, mean corruption accuracy {} %", percent(1. - mean), percent(mean));
    }
    text += &format!(", worst case {} %", percent(report.worst_accuracy));
    if let Some(union) = report.union_accuracy {
        text += &format!(", with all other attacks {} %", percent(union));
    }
    if let Some((mce, relative)) = report.mce {
        text += &format!("\nmCE {:.1}, relative mCE {:.1} (reference = 100)", 100. * mce, 100. * relative);
    }
    text.push('\n');
    report.notes.iter().for_each(|note| text += &format!("{note}\n"));
    text
}
