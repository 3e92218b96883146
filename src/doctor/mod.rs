//! What makes a robustness number doubtful, looked for automatically: wrong loading, gradients that do not lead anywhere,
//! attacks that contradict each other.
//!
//! After Carlini et al. 2019 (arXiv 1902.06705), Tramèr et al. 2020 (2002.08347), the indicators of attack failure of
//! Pintor et al. 2022 (2106.09947) and the flags of AutoAttack. One of the usual checks is missing on purpose: a success
//! that an attack passes by and does not return ("silent success") cannot happen, for the oracle keeps every one.

mod adaptive;
mod diagnose;
mod finding;
mod gradients;
mod loading;
mod neighbours;
mod outcomes;
pub mod published_results;
mod trials;

pub use adaptive::{Counter, Tried, counter_measures};
pub use diagnose::diagnose;
pub use finding::{Code, Diagnosis, Finding, Grade, Severity, grade_text, to_json};
pub use gradients::examine as examine_gradients;
pub(crate) use gradients::slope;
pub use loading::examine;
pub use neighbours::examine as examine_neighbours;
pub use outcomes::{compare, foresee};
pub use trials::{Held, Trials, run as run_trials};

/// Samples that are looked at.
pub const SAMPLES: usize = 48;

#[cfg(test)]
mod tests;
