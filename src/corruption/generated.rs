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

use crate::eval::plan::PlannedAttack;
use candle_core::Tensor;
use rayon::prelude::*;
use robust_attacks::Ready;
use robust_benchmarks::corruptions::{Photos, Random, Recipe, parse};
use robust_core::{
    Access, Attack, Budget, Built, Card, Draw, Entry, Error, Norm, Oracle, Region, Result, RowKey, ThreatModel, stream,
    to_host,
};
use serde_json::{Map, Value};

/// Its builder is never called by name: [`resolve`] makes the attacks.
pub static ENTRY: Entry = Entry {
    name: "corruption",
    paper: "Hendrycks and Dietterich 2019, arXiv 1903.12261; Mu and Gilmer 2019, arXiv 1906.02337; Mintun et al. 2021, \
            arXiv 2102.11273",
    needs: Access::Label,
    norms: &[Norm::Linf],
    source: include_str!("generated.rs"),
    build: |_| -> Result<Built> { Err(Error::usage("corruptions are given with --corruptions")) },
};

struct Corrupt {
    recipe: Recipe,
}

impl Attack for Corrupt {
    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let ids = oracle.ids();
        let (draw, x) = (oracle.draw(0), oracle.x());
        let (flat, width) = to_host(x)?;
        let shape = &x.dims()[1..];
        let make = |(row, id): (&[f32], &u64)| spoil(&self.recipe, draw.seed, draw.stream, *id, row, shape);
        let rows: Vec<Vec<f32>> = flat.par_chunks(width.max(1)).zip(&ids).map(make).collect::<Result<_>>()?;
        let spoiled = Tensor::from_vec(rows.concat(), x.dims(), x.device())?;
        let of: Vec<u32> = (0..ids.len() as u32).collect();
        oracle.offer(&spoiled, &of)
    }

    fn passes(&self) -> (u64, u64) {
        (0, 0)
    }

    fn takes_misses(&self) -> bool {
        true
    }
}

fn spoil(recipe: &Recipe, seed: u64, stream: u64, id: u64, row: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
    let draw = Draw { seed, stream, turn: 0, rows: &[] };
    let mut random = Random::of(draw.noise(&RowKey::of(id)));
    recipe.apply_row(row, shape, &mut random).map_err(|e| e.within(format!("sample {id}")))
}

/// Every recipe of `imagenet-c:severities=1-5,...` as an attack on the model of `card`.
///
/// # Errors
/// Those of [`parse`].
pub fn resolve(text: &str, card: &Card, frost: Option<&Photos>) -> Result<Vec<Ready>> {
    let ready = |recipe: Recipe| {
        let region = Region::Recipe { id: recipe.suite.name().to_string() };
        let label = recipe.label();
        let mut params = Map::new();
        params.insert("suite".into(), recipe.suite.name().into());
        params.insert("corruption".into(), recipe.corruption.name.into());
        params.insert("severity".into(), recipe.severity.into());
        params.insert("photos".into(), recipe.frost.is_some().into());
        Ok(Ready {
            path: label.clone(),
            label,
            entry: &ENTRY,
            threat: ThreatModel::new(region, card.input.clone(), ENTRY.needs)?,
            budget: Budget::default(),
            attack: Box::new(Corrupt { recipe }),
            params,
            aim: None,
        })
    };
    let shape = &card.input.shape;
    parse(text, shape, frost).map_err(|e| e.within(format!("model `{}`", card.name)))?.into_iter().map(ready).collect()
}

/// A planned corruption that can be made again.
pub struct Remade {
    recipe: Recipe,
    label: String,
    shape: Vec<usize>,
}

impl Remade {
    /// The very point of the run, from the clean row.
    pub fn remake(&self, seed: u64, id: u64, clean: &[f32]) -> Result<Vec<f32>> {
        spoil(&self.recipe, seed, stream(&self.label), id, clean, &self.shape)
    }
}

/// The recipe behind a planned attack; `None` for attacks that keep their points.
///
/// # Errors
/// Kind `Usage` when it needs photos that were not given, kind `Load` when the plan's label is no recipe.
pub fn recipe_of(attack: &PlannedAttack, frost: Option<&Photos>) -> Result<Option<Remade>> {
    if !attack.is_recipe() {
        return Ok(None);
    }
    if attack.params.get("photos") == Some(&Value::Bool(true)) && frost.is_none() {
        return Err(Error::usage(format!("`{}` was made with the published photos", attack.label))
            .hint("name their folder with --frost-dir"));
    }
    let damaged = || Error::load("run.json", format!("`{}` is no corruption", attack.label));
    let (path, params) = attack.label.split_once(':').ok_or_else(damaged)?;
    let (suite, corruption) = path.split_once('/').ok_or_else(damaged)?;
    let params = params.replacen("severity=", "severities=", 1);
    let shape = attack.threat.input.shape.clone();
    let found = parse(&format!("{suite}:only={corruption},{params}"), &shape, frost)?;
    match <[Recipe; 1]>::try_from(found) {
        Ok([recipe]) if recipe.label() == attack.label => {
            Ok(Some(Remade { recipe, label: attack.label.clone(), shape }))
        }
        _ => Err(damaged()),
    }
}
