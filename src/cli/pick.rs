//! Which samples of a data set a command takes.

use robust::benchmarks::subset::Pick;
use robust::core::{Dataset, Result};
use robust::eval::selection;
use std::path::PathBuf;

#[derive(clap::Args)]
#[group(id = "pick")]
pub struct Options {
    /// A fixed pseudo-random subset of N samples; larger ones contain smaller ones
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "ids"])]
    limit: Option<u64>,
    /// The first N samples (biased when the data set is sorted by class)
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    first: Option<u64>,
    /// A file of sample ids: one per line or separated by commas, a-b for ranges, # for comments
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// Kind `Load` for a file that cannot be read, kind `Usage` for one that is not a list of ids.
    pub fn pick(&self) -> Result<Pick> {
        Ok(match (self.limit, self.first, &self.ids) {
            (Some(n), ..) => Pick::Limit(n),
            (_, Some(n), _) => Pick::First(n),
            (_, _, Some(file)) => Pick::Ids(selection::read_ids(file)?),
            _ => Pick::All,
        })
    }

    /// The ids, ascending.
    ///
    /// # Errors
    /// Kind `Load` for a file that cannot be read, kind `Usage` for ids that make no sense.
    pub fn choose(&self, data: &dyn Dataset) -> Result<Vec<u64>> {
        Ok(selection::choose(&self.pick()?, data)?.0)
    }
}
