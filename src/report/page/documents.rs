//! Markdown of every table, and LaTeX (booktabs) of those that belong into a paper.

use super::outline::Page;
use askama::Template;
use robust_core::{Error, Result};

#[derive(Template)]
#[template(path = "report.md", escape = "none")]
struct Markdown<'a> {
    page: &'a Page,
}

#[derive(Template)]
#[template(path = "report.tex", escape = "none")]
struct Latex<'a> {
    page: &'a Page,
}

mod filters {
    use crate::escape;
    use askama::{Result, Values};
    use std::fmt::Display;

    #[askama::filter_fn]
    pub fn md(raw: impl Display, _: &dyn Values) -> Result<String> {
        Ok(escape::markdown(&raw.to_string()))
    }

    #[askama::filter_fn]
    pub fn tex(raw: impl Display, _: &dyn Values) -> Result<String> {
        Ok(escape::latex(&raw.to_string()).replace('→', "$\\rightarrow$"))
    }
}

/// # Errors
/// None in practice.
pub fn to_markdown(page: &Page) -> Result<String> {
    Markdown { page }.render().map_err(|e| Error::internal(format!("report: {e}")))
}

/// # Errors
/// None in practice.
pub fn to_latex(page: &Page) -> Result<String> {
    Latex { page }.render().map_err(|e| Error::internal(format!("report: {e}")))
}
