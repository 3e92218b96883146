//! The source's row, which every build has.

use crate::data::query::Query;
use crate::data::reader::Found;
use crate::data::source::{Source, ends_with};
use robust_core::{PREPROCESSING, Result};

pub(in crate::data::sources) const SOURCE: Source = Source {
    scheme: "parquet",
    summary: "Hugging Face image data sets: a .parquet file or a folder of them",
    example: "parquet:data/test-00000-of-00001.parquet?labels=fine_label",
    params: &[&PREPROCESSING, &["images", "labels", "offset"]],
    recognises: |path, _| Ok(ends_with(path, ".parquet")),
    open,
};

#[cfg(feature = "parquet")]
fn open(place: &str, query: &Query) -> Result<Found> {
    super::read::open(&crate::data::place::existing(place)?, query)
}

#[cfg(not(feature = "parquet"))]
fn open(place: &str, _: &Query) -> Result<Found> {
    Err(robust_core::Error::usage(format!("`parquet:{place}`: this build reads no Parquet"))
        .hint("build with `--features parquet`, or convert it to an ImageFolder (`folder:`)"))
}
