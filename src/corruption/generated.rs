//! Corruptions: images spoiled by noise, blur, weather and storage.
//!
//! # Asks
//! Nothing: each image is spoiled once, and the judge says what the model makes of it.
//!
//! # Steps
//! The recipe is applied to the 8-bit clean image with draws from the seed, the recipe's name and the sample's id alone.
//! Samples that are wrong already are judged too, as the error rate of a corruption counts every sample.
//!
//! # Parameters
//! `severities`, `only`, `extra`, `table`, `profile` of `--corruptions SUITE:...`.
//!
//! # Differs from the paper
//! Generated images are not the published files (which are JPEGs, or were never seeded): rates are comparable among
//! generated sets only.
//!
//! # Cost per sample
//! 1 forward.

use super::applied::{Corruption, Images};
use super::facts::Facts;
use robust_benchmarks::corruptions::{Photos, Recipe, parse};
use robust_core::{Access, Card, Region, Result, ThreatModel};

/// What `robust explain corruption` prints of it.
pub const SOURCE: &str = include_str!("generated.rs");

/// Where the corruptions are from.
pub const PAPER: &str = "Hendrycks and Dietterich 2019, arXiv 1903.12261; Mu and Gilmer 2019, arXiv 1906.02337; Mintun et al. 2021, \
                         arXiv 2102.11273";

/// Every recipe of `imagenet-c:severities=1-5,...` for the images of the model of `card`.
///
/// # Errors
/// Those of [`parse`].
pub fn resolve(text: &str, card: &Card, frost: Option<&Photos>) -> Result<Vec<Corruption>> {
    let recipes = parse(text, &card.input.shape, frost).map_err(|e| e.within(format!("model `{}`", card.name)))?;
    let corruption = |recipe: Recipe| {
        let region = Region::Recipe { id: recipe.suite.name().to_string() };
        Ok(Corruption {
            label: recipe.label(),
            threat: ThreatModel::new(region, card.input.clone(), Access::Label)?,
            facts: Facts {
                suite: Some(recipe.suite.name().to_string()),
                corruption: recipe.corruption.name.to_string(),
                severity: recipe.severity,
                photos: Some(recipe.frost.is_some()),
                published: None,
            },
            images: Images::Made(recipe),
        })
    };
    recipes.into_iter().map(corruption).collect()
}
