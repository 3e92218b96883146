//! Which samples of a data set are taken.

use robust_benchmarks::subset::{self, Pick};
use robust_core::{Dataset, Error, Result, files};
use std::path::Path;

/// Bytes that a list of ids may have.
const MAX_LIST: u64 = 1 << 28;

/// The ids that a file lists.
///
/// # Errors
/// Kind `Load` for a file that cannot be read, kind `Usage` for one that is not a list of ids.
pub fn read_ids(file: &Path) -> Result<Vec<u64>> {
    let text = files::read_text(file, MAX_LIST).map_err(|e| Error::load(file.display(), e))?;
    subset::parse_ids(&text)
}

/// The ids, ascending, and how they were chosen, as a plan writes it.
///
/// # Errors
/// Kind `Usage` for ids that the data set does not have, and for none at all.
pub fn choose(pick: &Pick, data: &dyn Dataset) -> Result<(Vec<u64>, String)> {
    let text = match pick {
        Pick::Limit(n) => format!("limit {n}"),
        Pick::First(n) => format!("first {n}"),
        Pick::Ids(_) => "ids".to_string(),
        Pick::All => "all".to_string(),
    };
    Ok((subset::choose(data.card().samples, pick)?, text))
}
