//! What a report says, before it is HTML, Markdown or LaTeX: sections of figures, each figure a chart and the table behind
//! it. A pure function of run folders (and, for the pictures, of the data set they name).

mod classes;
mod corruptions;
mod cost;
mod deltas;
mod documents;
mod epsilon;
mod html;
mod leaderboard;
mod origin;
mod pictures;
mod queries;
mod subjects;
mod tables;
mod transfer;

pub use documents::{to_latex, to_markdown};
pub use html::to_html;
pub use pictures::Options as Pictures;
pub use tables::{to_long_csv, to_robustbench, to_wide_csv};

use crate::runs::finished::FinishedRun;
use crate::runs::stats::rate;
use pictures::Grid;
use subjects::{Subject, subjects};

/// A cell of a table: what it says, what it is sorted by, how it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    pub text: String,
    pub key: Option<f64>,
    pub class: String,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
    fn number(value: f64, text: impl Into<String>) -> Self {
        Self { text: text.into(), key: Some(value), class: "n".to_string() }
    }
    fn count(value: u64) -> Self {
        Self::number(value as f64, value.to_string())
    }
    /// A rate in percent.
    fn percent(value: f64) -> Self {
        Self::number(value, percent(value))
    }
}

/// The numbers of a figure.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Whether a column holds numbers.
    fn right(&self, column: &usize) -> bool {
        self.rows.iter().filter_map(|r| r.get(*column)).any(|c| c.class.split(' ').any(|c| c == "n"))
    }
}

/// A name in a legend.
#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    pub style: usize,
    pub swatch: String,
}

/// A chart and the table behind it; a figure without a chart is its table.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    pub title: String,
    pub svg: String,
    pub keys: Vec<Key>,
    pub notes: Vec<String>,
    pub table: Table,
    /// The table belongs into a paper.
    pub paper: bool,
}

impl Figure {
    /// Whether the table waits behind a chart, or is too long to be met first.
    fn folded(&self, section: &str) -> bool {
        section != "leaderboard" && (!self.svg.is_empty() || self.table.rows.len() > 24)
    }
}

/// A part of the report; the template leaves out those without figures.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub about: String,
    pub figures: Vec<Figure>,
}

/// Everything a report says.
pub struct Page {
    pub title: String,
    /// The answer: a sentence per model and threat model.
    pub answers: Vec<String>,
    /// What must be known before any number is read.
    pub warnings: Vec<String>,
    pub sections: Vec<Section>,
    pub grids: Vec<Grid>,
    pub grid_notes: Vec<String>,
    /// The section that images follow.
    pub images_after: &'static str,
    /// The summary rows as JSON, for programs.
    pub data: String,
}

/// The report of some runs.
pub fn page(runs: &[FinishedRun], pictures: &Pictures) -> Page {
    let subjects = subjects(runs);
    let groups = leaderboard::groups(&subjects);
    let sections = vec![
        epsilon::section(&subjects),
        leaderboard::section(&groups),
        corruptions::section(runs, &subjects),
        queries::section(&subjects),
        transfer::section(&subjects),
        classes::section(&groups),
        deltas::section(&groups),
        cost::section(&subjects),
        origin::diagnostics(&subjects),
        origin::provenance(runs),
    ];
    let sections: Vec<Section> = sections.into_iter().filter(|s| !s.figures.is_empty()).collect();
    let images_after = sections.iter().find(|s| s.id == "leaderboard").or(sections.first()).map_or("", |s| s.id);
    let (grids, grid_notes) = pictures::grids(&subjects, pictures);
    let mut names: Vec<&str> = runs.iter().map(|r| r.record.plan.dataset.card.name.as_str()).collect();
    names.dedup();
    Page {
        title: format!("Robustness on {}", names.join(", ")),
        answers: answers(&subjects),
        warnings: warnings(runs),
        sections,
        grids,
        grid_notes,
        images_after,
        data: tables::embedded(runs),
    }
}

/// Each subject under its label, which tells models of one name apart.
fn answers(subjects: &[subjects::Subject]) -> Vec<String> {
    let of = |s: &subjects::Subject| {
        let rows: Vec<super::Row> = s.run.rows.iter().filter(|r| r.model == s.model.name).cloned().collect();
        super::sentences(&rows, |_| s.label.clone())
    };
    subjects.iter().flat_map(of).collect()
}

fn warnings(runs: &[FinishedRun]) -> Vec<String> {
    let mut said: Vec<String> = runs.iter().filter_map(FinishedRun::warning).collect();
    for run in runs {
        let (plan, name) = (&run.record.plan, run.name());
        let (n, all) = (plan.ids.len() as u64, plan.dataset.card.samples);
        if n < all {
            said.push(format!(
                "{name}: {n} of the data set's {all} samples were asked ({}): not comparable with full runs.",
                plan.pick
            ));
        }
        for row in &run.rows {
            let notes = row.points.iter().flat_map(|p| p.notes(&row.model, &row.attack, &row.threat));
            said.extend(notes.map(|note| format!("{name}: {note}")));
        }
        for row in run.rows.iter().filter(|r| r.failed > 0 && !super::is_worst(&r.attack)) {
            said.push(format!(
                "{name}: {} samples of {} under {} could not be judged; they count as not robust.",
                row.failed, row.model, row.attack
            ));
        }
    }
    said.push("Robust accuracy is an upper bound: a stronger attack can only lower it.".to_string());
    said
}

/// A rate as a table shows it.
fn percent(rate: f64) -> String {
    format!("{:.1}", 100. * rate)
}

fn interval((low, high): (f64, f64)) -> String {
    format!("{} - {}", percent(low), percent(high))
}

fn share(hits: u64, n: u64) -> String {
    format!("{} % ({hits} of {n})", percent(rate(hits, n)))
}

/// The legend of some subjects, each once.
fn keys<'a>(of: impl IntoIterator<Item = &'a Subject<'a>>) -> Vec<Key> {
    let mut keys: Vec<Key> = vec![];
    for s in of {
        if !keys.iter().any(|k| k.style == s.style && k.name == s.label) {
            keys.push(Key { name: s.label.clone(), style: s.style, swatch: super::svg::swatch(s.style) });
        }
    }
    keys
}

/// Curves and rows drawn in one chart; tables have them all.
const DRAWN: usize = 14;

fn crowded(all: usize) -> Vec<String> {
    let note = || format!("The chart shows the first {DRAWN} of {all}; the table has them all.");
    (all > DRAWN).then(note).into_iter().collect()
}
