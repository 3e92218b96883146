//! The oracle: what every attack asks, in place of a model.

mod abreast;
mod answer;
mod ask;
mod judge;
mod live;
mod made;
mod question;
mod record;
mod stages;
mod state;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Finding, Jacobian, Lap, Slope};
pub use question::{Budget, Question, Stop};
pub use record::Confirmed;
pub use state::Oracle;
