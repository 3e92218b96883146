//! Whether the samples of two runs may be joined by their ids.

use super::finished::FinishedRun;
use crate::eval::plan::PlannedModel;
use crate::eval::rows::view;
use std::collections::BTreeMap;

/// The clean rows of a model of a run, by id; those that could not be read are left out.
fn of_model<'a>(run: &'a FinishedRun, model: &PlannedModel) -> BTreeMap<u64, &'a str> {
    let mine = run.outcomes.iter().filter(|o| o.model == model.name && !o.digest.is_empty());
    mine.map(|o| (o.id, o.digest.as_str())).collect()
}

/// What speaks against joining the samples of two models of two runs by their ids, although the data sets have one digest:
/// a clean row that differs where both see the data alike, or nothing to tell by. `None` when nothing does.
pub fn obstacle(a: (&FinishedRun, &PlannedModel), b: (&FinishedRun, &PlannedModel)) -> Option<String> {
    if std::ptr::eq(a.0, b.0) {
        return None; // lines of one run were held against each other when it was read
    }
    if view(a.1) == view(b.1) {
        if complete_name(a).zip(complete_name(b)).is_some_and(|(a, b)| a == b) {
            return None;
        }
        let (mine, theirs) = (of_model(a.0, a.1), of_model(b.0, b.1));
        let differs = |(id, row): &(&u64, &&str)| theirs.get(id).is_some_and(|other| other != *row);
        return mine.iter().find(differs).map(|(id, _)| format!("images: sample {id} is not the same image in both"));
    }
    let by_names = [a.0, b.0].into_iter().find(|run| run.record.plan.dataset.is_by_names())?;
    Some(format!(
        "images: an earlier version named the folder of run {} by names and sizes alone, and the models take images of \
         different sizes, so nothing tells whether the content was the same",
        by_names.name()
    ))
}

/// The name of a model's rows where the run has all of them.
fn complete_name<'a>((run, model): (&'a FinishedRun, &PlannedModel)) -> Option<&'a str> {
    let whole = run.missing == 0 && run.record.plan.shard.is_none();
    let place = run.record.plan.models.iter().position(|m| m.name == model.name).filter(|_| whole)?;
    run.images.get(place)?.as_deref()
}
