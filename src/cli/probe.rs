//! `robust probe`: a head for an encoder, fitted on labelled images or made of prompts.

use super::output::{print, print_data};
use super::progress::Terminal;
use clap::ValueEnum;
use robust::benchmarks::{data, subset};
use robust::core::{Error, Model, Result};
use robust::encoder::heads;
use robust::eval::load;
use robust::models::Head;
use robust::models::hf::TextTower;
use robust::models::probe::{Features, Fit, Method, accuracy, fit};
use robust::say;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  robust probe --model ./dinov2-small --train folder:train -o head.safetensors
  robust probe --model ./dinov2-small --train folder:train --test folder:val --method knn -o knn.safetensors
  robust probe --model 'resnet18.pth?output=features' --train folder:train --shots 5 --method prototypes -o few.safetensors
  robust probe --model ./clip-vit-base-patch32 --method text --prompts prompts.txt -o zero-shot.safetensors
  robust probe --model ViT-B-32.pt --method text --prompts prompts.txt --tokenizer tokenizer.json -o zero-shot.safetensors
  robust eval --model './dinov2-small?head=head.safetensors' --dataset folder:val --attack pgd-linf:eps=4/255")]
pub struct Args {
    /// An encoder: a folder with a config.json, or any model with `?output=features`
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Labelled images to fit on
    #[arg(long, value_name = "DATA", required_unless_present_any = ["tokens", "prompts"])]
    train: Option<String>,
    /// Labelled images to say the accuracy on
    #[arg(long, value_name = "DATA")]
    test: Option<String>,
    #[arg(long, value_enum, default_value_t = Kind::Linear)]
    method: Kind,
    /// Where to write the head
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Use so many training samples, chosen as `eval --limit` does
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Use so many samples of each class
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// knn: how many neighbours vote
    #[arg(long, default_value_t = 20)]
    k: usize,
    /// knn: a vote is exp(cosine / temperature)
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
    /// linear, sgd: weight of the squared norm (linear: chosen on a held-out fifth if absent; sgd: 1e-4)
    #[arg(long)]
    l2: Option<f64>,
    /// sgd: times each sample is seen
    #[arg(long, default_value_t = 100)]
    epochs: usize,
    /// sgd: first learning rate
    #[arg(long, default_value_t = 0.1)]
    rate: f64,
    /// sgd: seed of the order of samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// text: one prompt per class, a line each
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    prompts: Option<PathBuf>,
    /// text: the model's tokenizer.json, where it does not lie beside the weights
    #[arg(long, value_name = "FILE", requires = "prompts")]
    tokenizer: Option<PathBuf>,
    /// text: JSON with one list of token numbers per class instead, by the model's own tokenizer
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Logistic regression by L-BFGS
    Linear,
    /// Logistic regression by SGD
    Sgd,
    /// The mean direction of each class
    Prototypes,
    /// Gaussian naive Bayes
    Bayes,
    /// Weighted k nearest neighbours
    Knn,
    /// Zero-shot, from prompts, by the model's text tower (CLIP, SigLIP, OpenCLIP)
    Text,
}

/// Bytes of a file of prompts.
const MAX_TOKENS: u64 = 16 << 20;

pub fn run(args: &Args) -> Result<()> {
    let mut value = json!({ "schema": "robust.probe/1", "model": args.model, "head": args.output });
    if args.method == Kind::Text {
        let head = text(args)?;
        let image = encoder(args)?;
        if let Some(test) = &args.test {
            value["test_accuracy"] = json!(accuracy(&head, &embed(image.as_ref(), test, None)?.0)?);
        }
        head.write_for(&args.output, &image.card().digest)?;
        return finish(args, &value);
    }
    let (Some(train), None, None) = (&args.train, &args.tokens, &args.prompts) else {
        return Err(Error::usage("`--prompts` and `--tokens` are for `--method text`, which needs no `--train`"));
    };
    let model = encoder(args)?;
    let (mut train, unseen) = embed(model.as_ref(), train, args.limit)?;
    if let Some(shots) = args.shots {
        train = train.few(shots)?;
    }
    let Fit { head, l2, held_out, notes } = fit(&train, &method(args))?;
    notes.iter().chain(&unseen).for_each(|note| say(&format!("note: {note}")));
    value["kind"] = json!(head.name());
    value["train_samples"] = json!(train.labels.len());
    value["classes"] = json!(train.classes());
    value["train_accuracy"] = json!(accuracy(&head, &train)?);
    value["l2"] = json!(l2);
    value["held_out_accuracy"] = json!(held_out);
    if let Some(test) = &args.test {
        value["test_accuracy"] = json!(accuracy(&head, &embed(model.as_ref(), test, None)?.0)?);
    }
    head.write_for(&args.output, &model.card().digest)?;
    finish(args, &value)
}

fn finish(args: &Args, value: &serde_json::Value) -> Result<()> {
    if args.json {
        return print_data(&format!("{value}\n"));
    }
    let mut text = String::new();
    for (key, v) in value.as_object().into_iter().flatten().filter(|(k, v)| *k != "schema" && !v.is_null()) {
        let plain = v.as_str().map_or_else(|| v.to_string(), String::from);
        text += &format!("{}: {plain}\n", key.replace('_', " "));
    }
    print(&text)?;
    let sign = if args.model.contains('?') { '&' } else { '?' };
    let headed = format!("{}{sign}head={}", args.model, args.output.display());
    say(&format!("attack it with --model {}", robust::escape::shell(&headed)));
    Ok(())
}

fn method(args: &Args) -> Method {
    match args.method {
        Kind::Linear | Kind::Text => Method::Linear { l2: args.l2 },
        Kind::Sgd => Method::Sgd { epochs: args.epochs, rate: args.rate, l2: args.l2.unwrap_or(1e-4), seed: args.seed },
        Kind::Prototypes => Method::Prototypes,
        Kind::Bayes => Method::Bayes,
        Kind::Knn => Method::Knn { k: args.k, temperature: args.temperature },
    }
}

fn encoder(args: &Args) -> Result<std::sync::Arc<dyn Model>> {
    let loaded = load::encoder(&args.model)?;
    load::tell_notes(&loaded, &mut Terminal::quiet());
    Ok(loaded.model)
}

/// The embeddings of a data set's images, in the order of their ids, and what to say of classes without any.
fn embed(model: &dyn Model, source: &str, limit: Option<u64>) -> Result<(Features, Option<String>)> {
    let data = data::open(source)?;
    let pick = limit.map_or(subset::Pick::All, subset::Pick::Limit);
    let ids = subset::choose(data.card().samples, &pick)?;
    let features = heads::embed(model, data.as_ref(), source, &ids)?;
    let unseen = heads::unseen(data.as_ref(), &features);
    Ok((features, unseen))
}

fn text(args: &Args) -> Result<Head> {
    if args.prompts.is_none() && args.tokens.is_none() {
        return Err(Error::usage("`--method text` needs `--prompts FILE`: one prompt per class, a line each")
            .hint("or `--tokens FILE`, as JSON; python: json.dump(AutoTokenizer.from_pretrained(DIR)(prompts, padding='max_length')['input_ids'], open('prompts.json', 'w'))"));
    }
    let tower = TextTower::open(&args.model)?;
    tower.notes().iter().for_each(|note| say(&format!("note: {}", robust::escape::line(note))));
    let prompts: Vec<Vec<u32>> = match (&args.prompts, &args.tokens) {
        (Some(file), _) => {
            let bytes = whole(file)?;
            let text = std::str::from_utf8(&bytes).map_err(|e| Error::load(file.display(), e))?;
            let lines: Vec<String> = text.lines().map(|l| l.trim().to_string()).collect();
            tower.tokenised(&lines, args.tokenizer.as_deref())?
        }
        (None, Some(file)) => serde_json::from_slice(&whole(file)?)
            .map_err(|e| Error::load(file.display(), format!("it is not a list of lists of token numbers ({e})")))?,
        (None, None) => vec![],
    };
    Ok(tower.embed(&prompts)?.head())
}

fn whole(file: &Path) -> Result<Vec<u8>> {
    robust::core::files::read(file, MAX_TOKENS).map_err(|e| Error::load(file.display(), e))
}
