//! The report in words: for a terminal, for a pull request, as annotations of GitHub.

use super::checked::{Check, Report, Verdict, percent, points};
use crate::escape::{github, github_property, line, markdown};
use crate::runs::stats::p_text;
use comfy_table::{CellAlignment, Table, presets};
use robust_core::{Error, Result};

const HEADER: [&str; 10] =
    ["verdict", "suite", "model", "attack", "n", "accuracy", "interval", "floor", "change", "detectable"];

fn cells(c: &Check) -> [String; 10] {
    let none = || "-".to_string();
    let change = c.baseline.as_ref().map(|b| {
        let p = b.p_adjusted.map_or(String::new(), |p| format!(", {}", p_text(p)));
        format!("{:+.1} pp{p}", -100. * b.drop + 0.)
    });
    [
        c.verdict.to_string(),
        c.suite.clone(),
        c.model.clone(),
        c.attack.clone(),
        c.n.to_string(),
        percent(c.accuracy),
        format!("{:.1} - {:.1}", 100. * c.interval.0, 100. * c.interval.1),
        c.bounds.min_accuracy.map_or_else(none, percent),
        change.unwrap_or_else(none),
        c.baseline.as_ref().and_then(|b| b.detectable_drop).map_or_else(none, points),
    ]
}

/// A table, a line per finding, and the verdict last.
pub fn to_text(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(HEADER);
    for c in &report.checks {
        table.add_row(cells(c).iter().map(|cell| line(cell)));
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt() + "\n";
    for c in &report.checks {
        for f in &c.findings {
            text += &format!("\n{}: {} under {}: {}", f.rule.name(), line(&c.model), line(&c.attack), line(&f.text));
        }
        if c.verdict != Verdict::Pass {
            text += &format!("\n  measure it again: {}", line(&c.repro));
        }
    }
    report.notes.iter().for_each(|n| text += &format!("\n{}", line(n)));
    text + &format!("\n\ngate: {}\n", report.verdict)
}

/// [`super::SCHEMA`].
///
/// # Errors
/// None in practice.
pub fn to_json(report: &Report) -> Result<String> {
    Ok(serde_json::to_string_pretty(report).map_err(|e| Error::internal(format!("gate: {e}")))? + "\n")
}

/// GitHub drops a step summary of more than 1 MiB.
const MOST_ROWS: usize = 500;

/// For step summaries and comments: a table, and what was found.
pub fn to_markdown(report: &Report) -> String {
    let of = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("## Robustness gate: {}\n\n", report.verdict);
    text += &of(HEADER.map(str::to_string).into());
    text += "|---|---|---|---|---:|---:|---:|---:|---:|---:|\n";
    let mut order: Vec<&Check> = report.checks.iter().collect();
    order.sort_by_key(|c| std::cmp::Reverse(c.verdict));
    for c in order.iter().take(MOST_ROWS) {
        text += &of(cells(c).iter().map(|cell| markdown(cell)).collect());
    }
    text.push('\n');
    for c in order.iter().take(MOST_ROWS) {
        for f in c.findings.iter().filter(|f| f.rule.warns()) {
            let (model, attack) = (markdown(&c.model), markdown(&c.attack));
            text += &format!("- **{}** {model} under {attack}: {}\n", f.rule.name(), markdown(&f.text));
        }
    }
    report.notes.iter().for_each(|n| text += &format!("- {}\n", markdown(n)));
    text
}

/// Annotations of one level that GitHub shows per step.
const ANNOTATIONS: usize = 10;

/// GitHub workflow commands: `::error` for what fails, `::warning` for what may. `file` is `robust.toml`'s path from the
/// repository's root.
pub fn to_annotations(report: &Report, file: &str) -> Vec<String> {
    let (mut lines, mut counts) = (vec![], [0; 2]);
    for c in &report.checks {
        for f in c.findings.iter().filter(|f| f.rule.warns()) {
            let grave = f.rule.verdict() > Verdict::Inconclusive
                || (report.settings.strict && f.rule.verdict() == Verdict::Inconclusive);
            let count = &mut counts[usize::from(grave)];
            *count += 1;
            if *count > ANNOTATIONS {
                continue;
            }
            let title = github_property(&format!("{}: {} under {}", f.rule.name(), line(&c.model), line(&c.attack)));
            let message = github(&format!("{}\n{}", line(&f.text), line(&c.repro)));
            let level = if grave { "error" } else { "warning" };
            lines.push(format!("::{level} file={},line={},title={title}::{message}", github_property(file), c.line));
        }
    }
    lines
}
