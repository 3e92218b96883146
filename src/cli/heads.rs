//! `--probe`: heads that a run fits on its encoders.

use robust::core::Result;
use robust::encoder::heads;
use robust::eval::HeadSet;

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

impl Options {
    /// # Errors
    /// Kind `Usage` for heads that are not known.
    pub fn set(&self) -> Result<Option<HeadSet>> {
        let Some(train) = &self.train else { return Ok(None) };
        Ok(Some(HeadSet { heads: heads::parse(&self.probe)?, train: train.clone(), limit: self.train_limit }))
    }
}
