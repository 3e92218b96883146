//! The gate: may this model be merged? Floors, and paired tests against a committed baseline.
//!
//! [`Config`] is `robust.toml`, [`Baseline`] the committed file with a bit per sample, [`check`] a pure function of both
//! and of run folders; the formats render its [`Report`]. Why it is so: `docs/decisions/0015-the-gate.md`.

mod baseline;
mod checked;
mod config;
mod files;
mod judge;
mod measured;
mod text;

pub use baseline::{Baseline, Recorded, Samples, changes};
pub use checked::{Check, Compared, Finding, Report, Rule, Verdict};
pub use config::{Bounds, CLEAN, Config, FILE, Judged, Override, Policy, STARTER, Settings, Share, Suite};
pub use files::{to_code_quality, to_junit, to_sarif};
pub use judge::{SCHEMA, check, measure};
pub use measured::Measured;
pub use text::{to_annotations, to_json, to_markdown, to_text};

#[cfg(test)]
mod tests;
