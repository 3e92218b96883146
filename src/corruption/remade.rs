//! Corrupted images of a run, made again by whoever checks them.

use super::applied::spoil;
use crate::eval::plan::PlannedAttack;
use robust_benchmarks::corruptions::{Photos, Recipe};
use robust_core::{Error, Result, stream};

/// A planned corruption that can be made again.
pub struct Remade {
    recipe: Recipe,
    label: String,
    shape: Vec<usize>,
}

impl Remade {
    /// The very point of the run, from the clean row.
    ///
    /// # Errors
    /// Those of the recipe.
    pub fn remake(&self, seed: u64, id: u64, clean: &[f32]) -> Result<Vec<f32>> {
        spoil(&self.recipe, seed, stream(&self.label), id, clean, &self.shape)
    }
}

/// The recipe behind a planned corruption; `None` for whatever keeps its points.
///
/// # Errors
/// Kind `Usage` when it needs photos that were not given, kind `Load` when the plan does not name a recipe.
pub fn recipe_of(attack: &PlannedAttack, frost: Option<&Photos>) -> Result<Option<Remade>> {
    if !attack.is_recipe() {
        return Ok(None);
    }
    let label = attack.label.clone();
    if attack.corruption().is_some_and(|facts| facts.photos == Some(true)) && frost.is_none() {
        return Err(Error::usage(format!("`{label}` was made with the published photos"))
            .hint("name their folder with --frost-dir"));
    }
    let shape = attack.threat.input.shape.clone();
    let recipe = Recipe::named(&label, &shape, frost).map_err(|e| e.within("run.json"))?;
    Ok(Some(Remade { recipe, label, shape }))
}
