//! `robust doctor`: can a robustness number of this model be trusted?

use super::output::{print, print_data};
use super::progress::Terminal;
use robust::core::{Batch, DataCard, Error, Model, Result, Target};
use robust::doctor::{self, Code, Diagnosis, Finding, Held, Severity, Tried, published_results};
use robust::eval::clean::judge_clean;
use robust::eval::load::{self, Wanted};
use robust::eval::plan::spread;
use robust::eval::{Evaluation, Opened};
use robust::models::{self, LoadedModel};
use serde_json::json;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Model: a file (.onnx, .safetensors, .pth) or builtin:NAME
    #[arg(value_name = "MODEL", required_unless_present = "named")]
    model: Option<String>,
    /// The same, as `robust eval` takes it
    #[arg(long = "model", id = "named", value_name = "MODEL", conflicts_with = "model", hide = true)]
    named: Option<String>,
    /// Data set; builtin models have one
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: Option<String>,
    /// The attack in question, such as pgd-l2:eps=2 [default: PGD under the model's usual threat, else pgd-linf:eps=8/255]
    #[arg(long, value_name = "ATTACK")]
    attack: Option<String>,
    /// Samples looked at, spread over the data set
    #[arg(long, value_name = "N", default_value_t = doctor::SAMPLES)]
    limit: usize,
    /// Try a counter-measure for everything that is wrong, and show both numbers
    #[arg(long)]
    adaptive: bool,
    /// A differentiable model whose whole backward pass stands in for that of the model, with --adaptive
    #[arg(long, value_name = "MODEL", requires = "adaptive")]
    bpda: Option<String>,
    /// Seed of all noise
    #[arg(long, default_value_t = 0, value_name = "S", env = "ROBUST_SEED")]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "\
Examples:
  robust doctor builtin:mnist-at
  robust doctor net.onnx --dataset folder:val --attack autoattack-linf:eps=4/255
  robust doctor builtin:mnist-at --attack pgd-l2:eps=2 --adaptive

The grade is `reliable`, `doubtful` (the number may be too high) or `unreliable` (do not use it as it is). `robust eval`
makes the cheap ones of these checks by itself and writes them to the run folder's diagnostics.json.";

pub fn run(args: &Args) -> Result<()> {
    if args.limit == 0 || args.limit > 4096 {
        return Err(Error::usage(format!("--limit {} is not between 1 and 4096", args.limit)));
    }
    args.attack.as_deref().map_or(Ok(()), robust::attacks::check)?;
    let Some(spec) = args.model.as_ref().or(args.named.as_ref()) else {
        return Err(Error::usage("no model").hint("such as robust doctor net.onnx --dataset folder:val"));
    };
    let mut terminal = Terminal::quiet();
    let evaluation = Evaluation { models: vec![spec.clone()], data: args.dataset.clone(), ..Evaluation::default() };
    let opened = evaluation.open(Wanted::Scores, true, &mut terminal)?;
    let ids = spread(&opened.ids, args.limit);
    opened.check_labels(&ids)?;
    let Opened { models, source, data, .. } = opened;
    let [model] = &models.loaded[..] else { return Err(Error::internal("one model was asked for")) };
    let rows = data.load(&ids, &model.card.view(), &candle_core::Device::Cpu)?;
    load::tell_remarks(data.as_ref(), &mut terminal);
    let batch = rows.batch.ok_or_else(|| Error::load(&source, "none of the samples looked at can be read"))?;
    let attack = args.attack.clone().unwrap_or_else(|| usual(model));

    let mut found = doctor::examine(model.model.as_ref(), &batch)?;
    found.extend(doctor::examine_gradients(model.model.as_ref(), &batch)?);
    if let Some(network) = &model.network {
        found.extend(doctor::examine_neighbours(network, &batch)?);
    }
    found.extend(published(args, (model, spec), data.card(), &batch)?);
    let mut target = Target::white_box(model.model.clone());
    let lost = |f: &Finding| matches!(f.code, Code::NonDeterministic);
    if found.iter().any(lost) {
        // The judge must not take one lucky draw for a success.
        target.votes = robust::core::Votes { k: 5, m: 10 };
    }
    let trials = doctor::Trials::new(&attack, args.seed);
    let (held, more) = match found.iter().any(|f| f.code == Code::NoGradient) {
        true => (vec![], vec![]),
        false => doctor::run_trials(&target, &batch, &trials)?,
    };
    found.extend(more);
    let soft: Option<Arc<dyn Model>> = args.bpda.as_ref().map(|s| models::load(s).map(|m| m.model)).transpose()?;
    let tried = match held.first() {
        Some(own) if args.adaptive => {
            doctor::counter_measures(&target, &batch, (&attack, args.seed), own, &found, soft.as_ref())?
        }
        _ => vec![],
    };
    let diagnosis = Diagnosis::new(&model.name, found);
    if args.json {
        return print_data(&format!("{}\n", to_json(&diagnosis, &attack, &held, &tried, batch.len())));
    }
    print(&to_text(&diagnosis, &attack, &held, &tried, batch.len()))
}

/// What contradicts the numbers that others have published for a model of this name.
fn published(args: &Args, (model, spec): (&LoadedModel, &str), data: &DataCard, batch: &Batch) -> Result<Vec<Finding>> {
    if published_results::recognise(published_results::table(), &model.name, spec).is_empty() {
        return Ok(vec![]);
    }
    let judged = judge_clean(&Target::white_box(model.model.clone()), batch, args.seed)?;
    let right: Vec<bool> = judged.iter().filter_map(|c| Some(c.pred?.margin > 0.)).collect();
    Ok(published_results::clean(&model.name, spec, data, &right))
}

fn usual(model: &LoadedModel) -> String {
    if model.card.default_threat.is_some() { "pgd".to_string() } else { "pgd-linf:eps=8/255".to_string() }
}

fn to_json(d: &Diagnosis, attack: &str, held: &[Held], tried: &[Tried], samples: usize) -> serde_json::Value {
    let trials: Vec<_> = held.iter().map(|h| json!({ "attack": h.name, "robust_accuracy": h.accuracy() })).collect();
    json!({
        "schema": "robust.doctor/1", "model": d.model, "attack": attack, "samples": samples, "grade": d.grade,
        "findings": d.findings, "trials": trials, "adaptive": tried,
    })
}

/// Findings as `severity: evidence` with advice below.
pub fn describe(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        let severity = match f.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        format!("{severity}: {}\n  hint: {}\n", f.evidence, f.advice)
    };
    findings.iter().map(line).collect()
}

fn to_text(d: &Diagnosis, attack: &str, held: &[Held], tried: &[Tried], samples: usize) -> String {
    let percent = |v: f64| format!("{:5.1} %", 100. * v);
    let mut text = format!("{} under {attack}, {samples} samples: {}\n", d.model, doctor::grade_text(d.grade));
    text += &describe(&d.findings);
    if d.findings.is_empty() {
        text += "nothing looks wrong\n";
    }
    if !held.is_empty() {
        text += "\nrobust accuracy on these samples\n";
        held.iter().for_each(|h| text += &format!("  {}  {}\n", percent(h.accuracy()), h.name));
    }
    if let (Some(own), false) = (held.first(), tried.is_empty()) {
        text += &format!(
            "\ncounter-measures, alone and with all before them; the attack alone: {}\n",
            percent(own.accuracy())
        );
        for t in tried {
            let counter = serde_json::to_value(t.counter).unwrap_or_default();
            let counter = counter.as_str().unwrap_or_default().replace('_', " ");
            let through = if t.through.is_empty() { String::new() } else { format!(", {}", t.through) };
            let (alone, joined) = (percent(t.alone), percent(t.with_the_others));
            text += &format!("  {alone}  {joined}  {counter}: {}{through}\n", t.attack);
        }
    }
    text
}
