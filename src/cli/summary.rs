//! The table of a run, printed.

use super::output::{Format, print, print_data};
use robust::core::Result;
use robust::report::{self, Row};

pub fn print_rows(rows: &[Row], format: Format) -> Result<()> {
    match format {
        Format::Text => print(&report::to_text(rows)),
        Format::Json => print_data(&report::to_json(rows)?),
        Format::Csv => print_data(&report::to_csv(rows)?),
    }
}
