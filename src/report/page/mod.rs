//! What a report says, before it is HTML, Markdown or LaTeX: sections of figures, each figure a chart and the table behind
//! it. A pure function of run folders (and, for the pictures, of the data set they name). To add a section, write its file, its
//! `mod` line and its line of the index below.

mod classes;
mod corruptions;
mod cost;
mod deltas;
mod documents;
mod epsilon;
mod html;
mod leaderboard;
mod origin;
mod outline;
mod pictures;
mod queries;
mod section;
mod subjects;
mod tables;
mod transfer;

pub use documents::{to_latex, to_markdown};
pub use html::to_html;
pub use outline::{Page, page};
pub use pictures::Options as Pictures;
pub use section::{Cell, Figure, Key, Section, Table};
pub use tables::{to_long_csv, to_robustbench, to_wide_csv};

use crate::runs::finished::FinishedRun;
use subjects::Subject;

/// The index: every section, in the order of the page. Those that have nothing to show are left out.
fn sections(runs: &[FinishedRun], subjects: &[Subject]) -> Vec<Section> {
    let groups = leaderboard::groups(subjects);
    let all = vec![
        epsilon::section(subjects),
        leaderboard::section(&groups),
        corruptions::section(runs, subjects),
        queries::section(subjects),
        transfer::section(subjects),
        classes::section(&groups),
        deltas::section(&groups),
        cost::section(subjects),
        origin::diagnostics(subjects),
        origin::provenance(runs),
    ];
    all.into_iter().filter(|s| !s.figures.is_empty()).collect()
}
