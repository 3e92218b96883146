//! A run, judged once more line by line.

use super::checked::Checked;
use super::judge::Judge;
use crate::eval::journal;
use crate::eval::plan::Plan;
use crate::eval::record::RunRecord;
use robust_benchmarks::corruptions::Photos;
use robust_core::{Dataset, Error, Kind, Model, Outcome, Result};
use robust_models::LoadedModel;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Re-judges `outcomes`, the lines of the run in `root`, with models in double precision where they have it and the data set itself; of
/// random models the draws of the run's judge are drawn again. Corruptions are made
/// again; `frost` holds the photos that some need.
///
/// # Errors
/// Kind `Load` when a file is damaged beyond reading, kind `Interrupted` when `stop` was set.
pub fn verify(
    root: &Path,
    record: &RunRecord,
    outcomes: &[Outcome],
    models: &[LoadedModel],
    data: &dyn Dataset,
    frost: Option<&Photos>,
    stop: &AtomicBool,
) -> Result<Vec<Checked>> {
    let plan = &record.plan;
    let judges: Vec<Option<Arc<dyn Model>>> = models.iter().map(|m| m.model.in_double()).collect::<Result<_>>()?;
    let mut checked: Vec<Checked> = vec![];
    for (unit, outcomes) in journal::by_unit(plan, outcomes) {
        if stop.load(Relaxed) {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        let (model, attack) = (&plan.models[unit.model], &plan.models[unit.model].attacks[unit.attack]);
        if checked.last().is_none_or(|c| (&c.model, &c.attack) != (&model.name, &attack.label)) {
            checked.push(Checked {
                model: model.name.clone(),
                attack: attack.label.clone(),
                same_path: judges[unit.model].is_none(),
                ..Checked::default()
            });
        }
        let Some(into) = checked.last_mut() else { break };
        let judge = Judge {
            judge: judges[unit.model].as_deref().unwrap_or(models[unit.model].model.as_ref()),
            card: &models[unit.model].card,
            data,
            model,
            attack,
            keep: plan.evidence,
            seed: plan.seed,
            frost,
        };
        judge.unit(root, unit, &plan.ids[unit.start..unit.start + unit.count], outcomes, into)?;
    }
    Ok(checked)
}

/// Whether models and data set are those of the run, by content. A note where an earlier version named the data set by names
/// and sizes alone: the digests in the lines then tell, sample by sample.
///
/// # Errors
/// Kind `Load` naming the one that is not.
pub fn check_identity(plan: &Plan, models: &[LoadedModel], data: &dyn Dataset) -> Result<Option<String>> {
    for (planned, model) in plan.models.iter().zip(models) {
        same("model", &planned.name, &planned.digest, &model.card.digest)?;
    }
    let card = &plan.dataset.card;
    if data.formerly() == Some(card.digest.as_str()) {
        return Ok(Some(format!(
            "the run is of a version that named `{}` by the names and sizes of its files: each line's own digest tells \
             whether its image is the same",
            card.name
        )));
    }
    same("data set", &card.name, &card.digest, &data.card().digest).map(|()| None)
}

fn same(what: &str, name: &str, theirs: &str, ours: &str) -> Result<()> {
    if theirs == ours {
        return Ok(());
    }
    let short = |d: &str| d.chars().take(12).collect::<String>();
    Err(Error::load(
        format!("{what} `{name}`"),
        format!("its content {} is not the run's {}", short(ours), short(theirs)),
    )
    .hint("the very files of the run are needed; name them with --model and --dataset if they have moved"))
}
