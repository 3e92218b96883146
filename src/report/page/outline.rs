//! A whole report: its sections, and what is said before any number.

use super::index::sections;
use super::pictures::{self, Grid, Options as Pictures};
use super::section::Section;
use super::subjects::{Subject, subjects};
use super::tables;
use crate::report::{Row, is_worst, sentences};
use crate::runs::finished::FinishedRun;

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
    let sections = sections(runs, &subjects);
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
fn answers(subjects: &[Subject]) -> Vec<String> {
    let of = |s: &Subject| {
        let rows: Vec<Row> = s.run.rows.iter().filter(|r| r.model == s.model.name).cloned().collect();
        sentences(&rows, |_| s.label.clone())
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
        for row in run.rows.iter().filter(|r| r.failed > 0 && !is_worst(&r.attack)) {
            said.push(format!(
                "{name}: {} samples of {} under {} could not be judged; they count as not robust.",
                row.failed, row.model, row.attack
            ));
        }
    }
    said.push("Robust accuracy is an upper bound: a stronger attack can only lower it.".to_string());
    said
}
