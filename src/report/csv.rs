//! One line per row, columns in the order of [`super::Row`], intervals as two columns.

use super::Row;
use crate::escape::cell;
use robust_core::{Error, Result};

const COLUMNS: [&str; 25] = [
    "model",
    "dataset",
    "attack",
    "threat",
    "norm",
    "eps",
    "n",
    "clean_accuracy",
    "clean_low",
    "clean_high",
    "robust_accuracy",
    "robust_low",
    "robust_high",
    "clean_correct",
    "held",
    "fooled",
    "failed",
    "fragile",
    "forwards",
    "backwards",
    "seconds",
    "seed",
    "full",
    "model_digest",
    "data_digest",
];

/// Records as CSV, the header first; texts of strangers go through [`cell`] before.
///
/// # Errors
/// Of kind `Internal`, for records of different lengths.
pub fn written<R: IntoIterator<Item: AsRef<[u8]>>>(records: impl IntoIterator<Item = R>) -> Result<String> {
    let broken = |e: &dyn std::fmt::Display| Error::internal(format!("csv: {e}"));
    let mut writer = csv::Writer::from_writer(vec![]);
    for record in records {
        writer.write_record(record).map_err(|e| broken(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| broken(&e))?;
    String::from_utf8(bytes).map_err(|e| broken(&e))
}

/// A header and one line per row.
pub fn to_csv(rows: &[Row]) -> Result<String> {
    let lines = rows.iter().map(|r| {
        let numbers = |v: f64| if v.is_nan() { String::new() } else { v.to_string() };
        [
            cell(&r.model),
            cell(&r.dataset),
            cell(&r.attack),
            cell(&r.threat),
            cell(&r.norm),
            numbers(r.eps),
            r.n.to_string(),
            numbers(r.clean_accuracy),
            numbers(r.clean_interval.0),
            numbers(r.clean_interval.1),
            numbers(r.robust_accuracy),
            numbers(r.robust_interval.0),
            numbers(r.robust_interval.1),
            r.clean_correct.to_string(),
            r.held.to_string(),
            r.fooled.to_string(),
            r.failed.to_string(),
            r.fragile.to_string(),
            r.forwards.to_string(),
            r.backwards.to_string(),
            format!("{:.3}", r.seconds),
            r.seed.to_string(),
            r.full.to_string(),
            r.model_digest.clone(),
            r.data_digest.clone(),
        ]
    });
    written(std::iter::once(COLUMNS.map(String::from)).chain(lines))
}
