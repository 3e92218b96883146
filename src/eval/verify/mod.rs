//! Re-judges every line of a run independently: other batches, double precision, nothing taken on trust. What each check
//! proves, and what it would not notice: `docs/verify.md`.

mod checked;
mod fields;
mod judge;
mod margins;
mod plan;
mod run;
mod tables;
mod votes;
mod words;

pub use checked::Checked;
pub use plan::contradictions;
pub use run::{check_identity, verify};
pub use tables::{Tables, check as check_tables};
