//! `robust inspect` and `robust convert`: what a file is, before anything is attacked.

use super::output::{print, print_data};
use super::progress::Terminal;
use robust::benchmarks::data;
use robust::core::{Batch, Result};
use robust::doctor::{self, Finding, published_results};
use robust::escape::line;
use robust::eval::{load, plan};
use robust::models::{self, Facts, LoadedModel};
use robust::say;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  robust inspect net.onnx\n  robust inspect builtin:mnist-at --dataset builtin:mnist\n  robust inspect folder:val"
)]
pub struct InspectArgs {
    /// A model or a data set, as `eval` takes them
    what: String,
    /// Examine the model on a few samples of this data set
    #[arg(long, value_name = "DATA")]
    dataset: Option<String>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  robust convert checkpoint.pth weights.safetensors")]
pub struct ConvertArgs {
    /// A .pth, .pt (of torch.jit.save too) or .safetensors file
    input: PathBuf,
    /// The .safetensors file to write
    output: PathBuf,
}

/// Classes listed in the text output; JSON has them all.
const NAMED: usize = 20;

pub fn convert(args: &ConvertArgs) -> Result<()> {
    for note in models::convert(&args.input, &args.output)? {
        say(&format!("note: {note}"));
    }
    Ok(())
}

pub fn inspect(args: &InspectArgs) -> Result<()> {
    // A data set's schemes are known; everything else is tried as a model first.
    let scheme = args.what.split_once(':').map_or("", |(s, _)| s);
    let is_data =
        scheme != "builtin" && data::SOURCES.iter().any(|s| s.scheme == scheme) || args.what == "builtin:mnist";
    let path = std::path::Path::new(&args.what);
    if is_data || path.is_dir() && !models::hf::is_folder(path) {
        return dataset(args);
    }
    match models::load(&args.what) {
        Ok(model) => examine(args, model),
        // `images.npz` names no scheme either.
        Err(error) => dataset(args).map_err(|_| error),
    }
}

fn examine(args: &InspectArgs, model: LoadedModel) -> Result<()> {
    let mut loaded = [model];
    let facts = models::inspect(&loaded[0]);
    let model = &loaded[0];
    let published = published_results::recognise(published_results::table(), &model.name, &args.what);
    let found = match &args.dataset {
        Some(source) => {
            let (_, data) =
                load::data_for(source, &mut loaded, std::slice::from_ref(&args.what), true, &mut Terminal::quiet())?;
            let model = &loaded[0];
            let ids: Vec<u64> = (0..data.card().samples).collect();
            let view = model.card.view();
            let batch = data.load(&plan::spread(&ids, doctor::SAMPLES), &view, &candle_core::Device::Cpu)?.batch;
            let examine = |b: Batch| -> Result<Vec<Finding>> {
                let mut found = doctor::examine(model.model.as_ref(), &b)?;
                if let Some(network) = &model.network {
                    found.extend(doctor::examine_neighbours(network, &b)?);
                }
                Ok(found)
            };
            Some(batch.map_or(Ok(vec![]), examine)?)
        }
        None => None,
    };
    if args.json {
        let value = json!({ "schema": "robust.inspect/1", "model": facts, "published": published, "doctor": found });
        return print_data(&format!("{value}\n"));
    }
    let mut text = to_text(&facts);
    for known in published {
        text += &format!("published by RobustBench for {}: {} ({})\n", known.name, known.describe(), known.source);
    }
    match found {
        None => text += "doctor: not asked; name a data set with --dataset\n",
        Some(found) if found.is_empty() => text += "doctor: nothing looks wrong\n",
        Some(found) => found.iter().for_each(|f| text += &format!("doctor: {}\n  hint: {}\n", f.evidence, f.advice)),
    }
    print(&text)
}

fn to_text(f: &Facts) -> String {
    let list = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let domain = f.input.domain.map_or("unbounded".to_string(), |(a, b)| format!("in [{a}, {b}]"));
    let mut text = format!("{}: {} {}\n", line(&f.name), f.format, f.family.as_deref().unwrap_or("graph"));
    text += &format!("input: {:?} {domain}\n{}: {}\n", f.input.shape, f.output, f.classes);
    text += &match (&f.normalisation, &f.own_normalisation) {
        (Some(n), _) => format!("normalisation added: mean {}; std {}\n", list(&n.mean), list(&n.std)),
        (None, None) => "normalisation added: none\n".to_string(),
        (None, Some(_)) => "normalisation added: none, the network has its own\n".to_string(),
    };
    if let Some(n) = &f.own_normalisation {
        text += &format!("the network's own first layers: mean {}; std {}\n", list(&n.mean), list(&n.std));
    }
    if let Some(how) = &f.preprocess {
        text += &format!("preprocessing: {how}\n");
    }
    text +=
        &format!("parameters: {}\nGMACs: {:.3}\ndigest: {}\n", f.parameters, f.multiply_adds as f64 / 1e9, f.digest);
    for op in &f.ops {
        text += &format!(
            "  {:4} x {:14} {:8.3} GMACs  {}\n",
            op.count,
            op.op,
            op.multiply_adds as f64 / 1e9,
            op.interpreter
        );
    }
    if !f.ignored.is_empty() {
        text += &format!("tensors that are not part of the function: {}\n", line(&f.ignored.join(", ")));
    }
    f.notes.iter().for_each(|n| text += &format!("note: {}\n", line(n)));
    text
}

fn dataset(args: &InspectArgs) -> Result<()> {
    let facts = data::inspect(&args.what)?;
    if args.json {
        return print_data(&format!("{}\n", json!({ "schema": "robust.inspect/1", "dataset": facts })));
    }
    let mut text =
        format!("{}: {}, {} samples\ndigest: {}\n", line(&facts.name), facts.format, facts.samples, facts.digest);
    let shape = facts.shape.as_ref().map_or("unknown".to_string(), |s| format!("{s:?}"));
    let range = facts.range.map_or(String::new(), |(a, b)| format!(", values in [{a}, {b}]"));
    text += &format!("first sample: {shape}{range}\nclasses: {}\n", facts.classes.len());
    for class in facts.classes.iter().take(NAMED) {
        text += &format!(
            "  {:4} {:20} {} samples\n",
            class.label,
            line(class.name.as_deref().unwrap_or("")),
            class.samples
        );
    }
    if facts.classes.len() > NAMED {
        text += "  ...\n";
    }
    facts.unreadable.iter().for_each(|(id, why)| text += &format!("sample {id} cannot be read: {}\n", line(why)));
    facts.notes.iter().for_each(|n| text += &format!("note: {}\n", line(n)));
    print(&text)
}
