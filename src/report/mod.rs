//! Tables are pure functions of a plan, its outcomes and the seconds they took: integers first, rates once at the end.

pub mod corruptions;
mod csv;
mod curve;
mod distances;
pub mod encoders;
mod json;
pub mod page;
mod row;
mod sentence;
#[cfg(feature = "serve")]
pub mod serve;
mod summary;
mod svg;
mod targets;
mod text;

pub use csv::{to_csv, written};
pub use curve::{Curve, curves, curves_to_csv};
pub use distances::{Distances, epsilons, usual};
pub use json::{SCHEMA, to_json};
pub use row::{Points, Row, WORST, WORST_COMPAT, is_worst, worse};
pub use sentence::sentences;
pub use summary::summarise;
pub use targets::own_class;
pub use text::to_text;
