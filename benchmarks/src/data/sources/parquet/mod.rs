//! Image data sets as Hugging Face stores them; built with the feature `parquet`.

#[cfg(feature = "parquet")]
mod fields;
#[cfg(feature = "parquet")]
mod footer;
#[cfg(feature = "parquet")]
mod pages;
#[cfg(feature = "parquet")]
mod read;
mod source;

pub(super) use source::SOURCE;
