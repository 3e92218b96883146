//! The sections of a report, in their order.

use super::section::Section;
use super::subjects::Subject;
use crate::runs::finished::FinishedRun;

/// The index: every section, in the order of the page. Those that have nothing to show are left out.
pub(super) fn sections(runs: &[FinishedRun], subjects: &[Subject]) -> Vec<Section> {
    let groups = super::leaderboard::groups(subjects);
    let all = vec![
        super::epsilon::section(subjects),
        super::leaderboard::section(&groups),
        super::corruptions::section(runs, subjects),
        super::queries::section(subjects),
        super::transfer::section(subjects),
        super::classes::section(&groups),
        super::deltas::section(&groups),
        super::cost::section(subjects),
        super::origin::diagnostics(subjects),
        super::origin::provenance(runs),
    ];
    all.into_iter().filter(|s| !s.figures.is_empty()).collect()
}
