//! Which samples of a data set a command takes.

use robust::benchmarks::subset;
use robust::core::{Dataset, Error, Result, files};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[group(id = "pick")]
pub struct Options {
    /// A fixed pseudo-random subset of N samples
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "ids"])]
    limit: Option<u64>,
    /// The first N samples (biased when the data set is sorted by class)
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    first: Option<u64>,
    /// A file of sample ids: one per line or separated by commas, a-b for ranges, # for comments
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

/// Bytes that a list of ids may have.
const MAX_LIST: u64 = 1 << 28;

/// The ids a file lists.
///
/// # Errors
/// Kind `Load` for a file that cannot be read, kind `Usage` for what is no list of ids.
pub fn read_ids(file: &Path) -> Result<Vec<u64>> {
    let text = files::read_text(file, MAX_LIST).map_err(|e| Error::load(file.display(), e))?;
    subset::parse_ids(&text)
}

impl Options {
    /// The ids, and how they were chosen.
    ///
    /// # Errors
    /// Kind `Load` for a file that cannot be read, kind `Usage` for ids that make no sense.
    pub fn choose(&self, data: &dyn Dataset) -> Result<(Vec<u64>, String)> {
        let (pick, text) = match (self.limit, self.first, &self.ids) {
            (Some(n), ..) => (subset::Pick::Limit(n), format!("limit {n}")),
            (_, Some(n), _) => (subset::Pick::First(n), format!("first {n}")),
            (_, _, Some(file)) => (subset::Pick::Ids(read_ids(file)?), "ids".to_string()),
            _ => (subset::Pick::All, "all".to_string()),
        };
        Ok((subset::choose(data.card().samples, &pick)?, text))
    }
}
