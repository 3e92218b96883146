//! Everything that is known about the numbers of a run: from the doctor before it, and from its outcomes.

use super::outcomes::compare;
use super::{Diagnosis, Finding, published_results};
use crate::eval::record::RunRecord;
use robust_core::Outcome;

/// What was found about each model of a run: by the doctor before it, and in its outcomes.
pub fn diagnose(record: &RunRecord, outcomes: &[Outcome]) -> Vec<Diagnosis> {
    // A session lists every model that the doctor looked at, also those about which it found nothing.
    let before = |name: &str| -> Option<Vec<Finding>> {
        let looked = record.sessions.iter().flat_map(|s| &s.doctor).filter(|(model, _)| model == name);
        let found: Vec<&Vec<Finding>> = looked.map(|(_, found)| found).collect();
        (!found.is_empty()).then(|| found.into_iter().flatten().cloned().collect())
    };
    let published = published_results::examine(&record.plan, outcomes);
    let found = compare(&record.plan, outcomes).into_iter().zip(published);
    found
        .map(|((model, found), (_, known))| match before(&model) {
            Some(before) => Diagnosis::new(&model, [before, found, known].concat()),
            None => Diagnosis::new(&model, [found, known].concat()).unchecked(),
        })
        .collect()
}
