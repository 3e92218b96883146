//! One HTML file that loads nothing: style, script, charts and images are inside, and its policy allows nothing else.

use super::outline::Page;
use askama::Template;
use base64::{Engine, prelude::BASE64_STANDARD};
use robust_benchmarks::corruptions::sha256;
use robust_core::{Error, Result};

const CSS: &str = include_str!("../../../templates/report.css");
const JS: &str = include_str!("../../../templates/report.js");

#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    page: &'a Page,
    policy: String,
    css: &'a str,
    js: &'a str,
    shows_images: bool,
}

mod filters {
    use crate::report::svg;
    use askama::{Result, Values, filters::Safe};
    use std::fmt::Display;

    /// Escaped, and without control characters.
    #[askama::filter_fn]
    pub fn t(raw: impl Display, _: &dyn Values) -> Result<Safe<String>> {
        Ok(Safe(svg::text(&raw.to_string())))
    }

    /// The same with places where a long label may be broken.
    #[askama::filter_fn]
    pub fn w(raw: impl Display, _: &dyn Values) -> Result<Safe<String>> {
        let safe = svg::text(&raw.to_string());
        Ok(Safe(safe.replace(',', ",<wbr>").replace(':', ":<wbr>").replace('/', "/<wbr>").replace('_', "_<wbr>")))
    }
}

/// The page's policy: nothing is fetched, only this style and this script count.
fn policy() -> String {
    let hash = |text: &str| {
        let hex = sha256::hex(text.as_bytes());
        let byte = |i: usize| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("00"), 16).unwrap_or(0);
        BASE64_STANDARD.encode((0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>())
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(CSS),
        hash(JS)
    )
}

/// # Errors
/// None in practice.
pub fn to_html(page: &Page) -> Result<String> {
    let shows_images = !page.grids.is_empty() || !page.grid_notes.is_empty();
    let html = Html { page, policy: policy(), css: CSS, js: JS, shows_images };
    html.render().map_err(|e| Error::internal(format!("report: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small_and_the_policy_names_its_hash() {
        assert!(JS.len() < 5000, "{}", JS.len());
        assert!(!JS.contains("</script") && !CSS.contains("</style"));
        let policy = policy();
        assert!(policy.starts_with("default-src 'none'") && policy.matches("sha256-").count() == 2, "{policy}");
    }
}
