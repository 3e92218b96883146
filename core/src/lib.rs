//! The nouns and the rules of `robust`: batches of named samples, models and their traces, threat models, goals and
//! objectives, the oracle every attack must ask, and the outcome it leaves.

mod attack;
mod batch;
mod caught;
mod dataset;
mod draw;
mod error;
pub mod files;
mod goal;
mod model;
mod objective;
mod oracle;
mod outcome;
mod preprocess;
mod similarity;
mod spec;
mod surrogate;
mod threat;

pub use attack::{Attack, Built, Entry, documentation, parameters};
pub use batch::{Batch, Rows, take, to_host};
pub use caught::caught;
pub use dataset::{DataCard, Dataset, Loaded, View};
pub use draw::{Draw, Noise, RowKey, stream};
pub use error::{Error, Kind, Result, nearest};
pub use goal::{Goal, Pred, argmax, fragile, readable};
pub use model::{Access, Card, Input, InputKind, Model, Output, Site, TapId, Target, Trace, Votes};
pub use objective::{Climb, Objective};
pub use oracle::{Answer, Budget, Confirmed, Finding, Jacobian, Lap, Oracle, Question, Slope, Stop};
pub use outcome::{Cost, Outcome, Passes, Place, SCHEMA, Verdict};
pub use preprocess::{Interpolation, PREPROCESSING, Preprocess, Resize};
pub use similarity::{Aim, AimKind, AimSpec, Similarity};
pub use spec::{Spec, Value};
pub use surrogate::{Bpda, Smoothed};
pub use threat::{Hyperplane, Near, Norm, ROUNDING, Region, ThreatModel, check_epsilon, largest_gap};
