//! The parts of a report: sections of figures, and the numbers in them.

use crate::runs::stats::rate;

/// A cell of a table: what it says, what it is sorted by, how it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    pub text: String,
    pub key: Option<f64>,
    pub class: String,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
    pub(crate) fn number(value: f64, text: impl Into<String>) -> Self {
        Self { text: text.into(), key: Some(value), class: "n".to_string() }
    }
    pub(crate) fn count(value: u64) -> Self {
        Self::number(value as f64, value.to_string())
    }
    /// A rate in percent.
    pub(crate) fn percent(value: f64) -> Self {
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
    pub(crate) fn right(&self, column: &usize) -> bool {
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
    pub(crate) fn folded(&self, section: &str) -> bool {
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

/// A rate as a table shows it.
pub(crate) fn percent(rate: f64) -> String {
    format!("{:.1}", 100. * rate)
}

pub(crate) fn interval((low, high): (f64, f64)) -> String {
    format!("{} - {}", percent(low), percent(high))
}

pub(crate) fn share(hits: u64, n: u64) -> String {
    format!("{} % ({hits} of {n})", percent(rate(hits, n)))
}

/// Curves and rows drawn in one chart; tables have them all.
pub(crate) const DRAWN: usize = 14;

pub(crate) fn crowded(all: usize) -> Vec<String> {
    let note = || format!("The chart shows the first {DRAWN} of {all}; the table has them all.");
    (all > DRAWN).then(note).into_iter().collect()
}
