//! Small networks of papers on robustness.

pub(crate) mod mnist;
pub(crate) mod trades;
pub(crate) mod wong_kolter;
