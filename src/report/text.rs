//! The table people read, and the sentences that keep it honest.

use super::sentence::percent;
use super::{Row, is_worst, sentences};
use crate::escape::line;
use comfy_table::{CellAlignment, Table, presets};

/// A table of percentages with 95 % intervals, and a note for whatever limits them.
pub fn to_text(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "model",
        "attack",
        "threat",
        "n",
        "clean %",
        "robust %",
        "95 % interval",
        "fwd/sample",
        "bwd/sample",
        "seconds",
    ]);
    for r in rows {
        let per = |total: u64| format!("{:.1}", total as f64 / r.n.max(1) as f64);
        table.add_row([
            line(&r.model),
            line(&r.attack),
            line(&r.threat),
            r.n.to_string(),
            if r.aimed { "-".to_string() } else { percent(r.clean_accuracy) },
            known(r.robust_accuracy, percent(r.robust_accuracy)),
            known(r.robust_accuracy, format!("{} - {}", percent(r.robust_interval.0), percent(r.robust_interval.1))),
            per(r.forwards),
            per(r.backwards),
            format!("{:.1}", r.seconds),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    for note in notes(rows).into_iter().chain(sentences(rows, |r| line(&r.model))) {
        text += &format!("\n{note}");
    }
    text.push('\n');
    text
}

/// What is not a number is not shown as one: attacks without an epsilon have no robust accuracy.
fn known(rate: f64, text: String) -> String {
    if rate.is_nan() { "-".to_string() } else { text }
}

fn notes(rows: &[Row]) -> Vec<String> {
    let mut notes = vec![];
    let Some(first) = rows.first() else { return notes };
    if !first.full {
        notes.push(format!("{} of the data set's samples were asked: not comparable with full runs.", first.n));
    }
    for r in rows.iter().filter(|r| !is_worst(&r.attack)) {
        if r.failed > 0 {
            notes.push(format!(
                "{} samples of {} under {} could not be judged; they count as not robust.",
                r.failed,
                line(&r.model),
                line(&r.attack)
            ));
        }
        notes.extend(r.points.iter().flat_map(|p| p.notes(&line(&r.model), &line(&r.attack), &r.threat)));
        if r.fragile > 0 {
            notes.push(format!(
                "{} samples of {} under {} sit within rounding of the boundary.",
                r.fragile,
                line(&r.model),
                line(&r.attack)
            ));
        }
    }
    notes.push("Robust accuracy is an upper bound: a stronger attack can only lower it.".to_string());
    notes
}
