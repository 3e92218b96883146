//! The stable JSON of `robust eval` and of `summary.json`.

use super::Row;
use robust_core::{Error, Result};
use serde_json::json;

pub const SCHEMA: &str = "robust.eval/1";

/// `{"schema", "results": [row...]}`, one line per row.
pub fn to_json(rows: &[Row]) -> Result<String> {
    let lines = rows.iter().map(|r| serde_json::to_string(r).map_err(|e| Error::internal(format!("summary: {e}"))));
    let lines = lines.collect::<Result<Vec<_>>>()?.join(",\n  ");
    Ok(format!("{{\"schema\":{},\"results\":[\n  {lines}\n]}}\n", json!(SCHEMA)))
}
