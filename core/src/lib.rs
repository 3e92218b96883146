//! The nouns and the rules of `robust`: batches of named samples, models and their traces, threat models, goals and
//! objectives, the oracle every attack must ask, and the outcome it leaves.

mod batch;
mod dataset;
mod draw;
mod error;
mod model;
pub mod threat;

pub use batch::{Batch, Rows, take, to_host};
pub use dataset::{DataCard, Dataset, Loaded, View};
pub use draw::{Draw, RowKey, stream};
pub use error::{Error, Kind, Result, nearest};
pub use model::{Access, Card, Input, InputKind, Model, Output, Site, TapId, Target, Trace, Votes};
pub use threat::Norm;
