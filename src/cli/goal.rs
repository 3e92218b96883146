//! `--goal`: what attacks on bare encoders must reach.

use robust::attacks::Ready;
use robust::core::{AimSpec, Dataset, Result};
use robust::models::LoadedModel;
use robust::{label_free, say};

/// The attacks on a model turned to the goal of `spec`; a threshold that comes from the data is told.
///
/// # Errors
/// Kind `Usage` for goals that are none, and attacks that need scores of classes.
pub fn aimed(
    spec: AimSpec,
    ready: Vec<Ready>,
    model: &LoadedModel,
    data: &dyn Dataset,
    ids: &[u64],
    seed: u64,
) -> Result<Vec<Ready>> {
    let aim = label_free::aim(spec, model.model.as_ref(), data, ids, seed)?;
    if spec.threshold.is_none() {
        say(&format!(
            "note: {}: the goal is {aim}, by what is usual among its embeddings of different samples",
            model.name
        ));
    }
    ready.into_iter().map(|r| r.aimed(aim)).collect()
}
