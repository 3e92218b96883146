//! `--probe`: heads that a run fits on its encoders.

use super::load::{self, Wanted};
use robust::benchmarks::data;
use robust::core::{Error, Result};
use robust::heads::{self, Training};
use robust::models::{Head, LoadedModel};
use robust::plan::PlannedHead;
use robust::say;
use std::path::Path;

#[derive(clap::Args)]
#[group(id = "heads")]
pub struct Options {
    /// Fit these heads on every --model, an encoder, and attack each pair: linear, sgd, prototypes, bayes, knn, joined by
    /// commas; or one with parameters, such as knn:k=5,temperature=0.1; repeatable
    #[arg(long, value_name = "HEADS", requires = "train")]
    probe: Vec<String>,
    /// Labelled images that --probe fits on
    #[arg(long, value_name = "DATA", requires = "probe")]
    train: Option<String>,
    /// Fit on so many of them, chosen as --limit does
    #[arg(long, value_name = "N", requires = "probe")]
    train_limit: Option<u64>,
}

/// The models of a run, where they come from, and the heads that the run made.
pub struct Opened {
    pub loaded: Vec<LoadedModel>,
    pub sources: Vec<String>,
    /// One for each model, or none at all.
    pub heads: Vec<(PlannedHead, Head)>,
}

impl Options {
    /// Loads the models; with `--probe`, every encoder becomes one model for each head. Heads that lie in the run folder
    /// `root` are not fitted again.
    ///
    /// # Errors
    /// Those of loading and of fitting.
    pub fn open(&self, specs: &[String], wanted: Wanted, root: Option<&Path>) -> Result<Opened> {
        let Some(train) = &self.train else {
            let loaded = load::models(specs, wanted)?;
            return Ok(Opened { loaded, sources: specs.to_vec(), heads: vec![] });
        };
        if wanted == Wanted::Embeddings {
            return Err(Error::usage("--goal attacks bare encoders, --probe puts heads on them: choose one"));
        }
        let asked = heads::parse(&self.probe)?;
        let encoders = load::models(specs, Wanted::Embeddings)?;
        let data = data::open(train)?;
        let on = Training { source: train, data: data.as_ref(), limit: self.train_limit };
        let mut opened = Opened { loaded: vec![], sources: vec![], heads: vec![] };
        for (spec, encoder) in specs.iter().zip(&encoders) {
            say(&format!("fitting heads on {}", encoder.name));
            for headed in heads::put_on(encoder, &asked, &on, root)? {
                headed.notes.iter().for_each(|note| {
                    say(&format!("note: {}: {}", robust::escape::line(&headed.model.name), robust::escape::line(note)))
                });
                opened.loaded.push(headed.model);
                opened.sources.push(spec.clone());
                opened.heads.push((headed.planned, headed.head));
            }
        }
        Ok(opened)
    }
}
