//! `robust list` and `robust explain`: both read the indexes that the code itself runs from.

use super::output::{print, print_data};
use super::topics::topics;
use clap::ValueEnum;
use robust::benchmarks::data;
use robust::core::{Entry, Error, Result, documentation, nearest};
use robust::corruption::{applied, generated};
use robust::eval::points_file;
use robust::{attacks, models};
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  robust list\n  robust list attacks --json")]
pub struct ListArgs {
    /// What to list (default: everything)
    #[arg(value_enum)]
    what: Option<What>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  robust explain pgd\n  robust explain builtin:mnist-at\n  robust explain imagenet-c\n  robust explain knn"
)]
pub struct ExplainArgs {
    /// An attack, a model, a data source, a suite of corruptions, a head or a kind of file
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Attacks,
    Models,
    Datasets,
}

/// Name, summary and the rest of one index line.
struct Line {
    kind: What,
    name: String,
    summary: String,
    more: String,
}

fn lines() -> Vec<Line> {
    let attack = |name: String, e: &Entry| {
        let norms: Vec<&str> = e.norms.iter().map(|n| n.suffix()).collect();
        let more = format!("{}; needs {}", norms.join(" "), format!("{:?}", e.needs).to_lowercase());
        Line { kind: What::Attacks, name, summary: e.summary(), more }
    };
    let attacks = attacks::ALL.iter().map(|e| attack(e.name.to_string(), e));
    let attacks = attacks.chain([attack("file:POINTS".to_string(), &points_file::ENTRY)]);
    let builtins = models::builtin::BUILTINS.iter().map(|b| Line {
        kind: What::Models,
        name: format!("builtin:{}", b.name),
        summary: b.summary.to_string(),
        more: format!("{} {}", b.default_threat.0, b.default_threat.1),
    });
    // What a build can do is said by the build.
    let hub = Line {
        kind: What::Models,
        name: "hf:ORG/NAME[@REV]".to_string(),
        summary: "a folder of the hub, from the cache of the hub's tools".to_string(),
        more: match cfg!(feature = "hub") {
            true => "this build downloads what is missing".to_string(),
            false => "this build downloads nothing; one with `--features hub` does".to_string(),
        },
    };
    let architectures = models::arch::ARCHITECTURES.iter().map(|a| Line {
        kind: What::Models,
        name: format!("?arch={}", a.name),
        summary: a.doc.to_string(),
        more: "safetensors, pth".to_string(),
    });
    let sources = data::SOURCES.iter().map(|s| Line {
        kind: What::Datasets,
        name: format!("{}:", s.scheme),
        summary: s.summary.to_string(),
        more: s.example.to_string(),
    });
    attacks.chain(builtins).chain([hub]).chain(architectures).chain(sources).collect()
}

pub fn list(args: &ListArgs) -> Result<()> {
    let lines: Vec<Line> = lines().into_iter().filter(|l| args.what.is_none_or(|w| w == l.kind)).collect();
    let kind = |l: &Line| match l.kind {
        What::Attacks => "attacks",
        What::Models => "models",
        What::Datasets => "datasets",
    };
    if args.json {
        let rows: Vec<_> = lines
            .iter()
            .map(|l| json!({ "kind": kind(l), "name": l.name, "summary": l.summary, "more": l.more }))
            .collect();
        return print_data(&format!("{}\n", json!({ "schema": "robust.list/1", "results": rows })));
    }
    let width = lines.iter().map(|l| l.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut last = None;
    for line in &lines {
        if last != Some(line.kind) {
            text += &format!("{}{}\n", if last.is_some() { "\n" } else { "" }, kind(line));
            last = Some(line.kind);
        }
        text += &format!("  {:width$}  {} ({})\n", line.name, line.summary, line.more);
    }
    print(&text)
}

pub fn explain(args: &ExplainArgs) -> Result<()> {
    let wanted = args.name.trim_end_matches(':');
    let apart = Some(&points_file::ENTRY).filter(|e| wanted.split(':').next() == Some(e.name));
    if wanted.split(':').next() == Some(applied::NAME) {
        return print(&format!("{}\n\nPaper: {}\n", documentation(generated::SOURCE), generated::PAPER));
    }
    if let Some(entry) = apart.or_else(|| attacks::find(&args.name).ok().map(|(entry, _)| entry)) {
        return print(&format!("{}\n\nPaper: {}\n", documentation(entry.source), entry.paper));
    }
    let lines = lines();
    let bare = |l: &Line| l.name.trim_start_matches("?arch=").trim_end_matches(':').to_string();
    let matches = |l: &&Line| bare(l) == wanted || bare(l).trim_start_matches("builtin:") == wanted;
    if let Some(line) = lines.iter().find(matches) {
        return print(&format!("{}\n\n{}\n({})\n", line.name, line.summary, line.more));
    }
    let topics = topics();
    if let Some(topic) = topics.iter().find(|t| t.name == wanted) {
        return print(&format!("{}\n\n{}\n", topic.name, topic.text));
    }
    let apart = [points_file::ENTRY.name, applied::NAME].into_iter().chain(topics.iter().map(|t| t.name));
    let apart = apart.map(String::from);
    let names: Vec<String> = attacks::names().into_iter().chain(apart).chain(lines.iter().map(bare)).collect();
    let error = Error::usage(format!("nothing is called `{}`", args.name));
    Err(match nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`? `robust list` shows everything")),
        None => error.hint("`robust list` shows everything"),
    })
}
