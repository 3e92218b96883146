//! An evaluation: from models, data and attacks to a run folder, and back.
//!
//! [`Evaluation`] says what is wanted. [`Evaluation::prepare`] reads and checks everything and makes the [`plan`];
//! [`Prepared::run`] does the plan unit by unit ([`units`]) in a folder with a [`journal`] and [`evidence`], and makes the
//! [`tables`]. [`verify`](mod@verify) judges what was written once more; [`merge`](mod@merge) joins shards.

pub mod attacked;
pub mod bounds;
pub mod classes;
pub mod clean;
mod device;
mod evaluation;
pub mod evidence;
mod forecast;
pub mod journal;
pub mod judging;
pub mod load;
pub mod memory_estimate;
pub mod merge;
pub mod meter;
pub mod plan;
pub mod points_file;
mod prepared;
pub mod record;
pub mod rows;
pub mod selection;
mod session;
pub mod shard;
pub mod stages;
pub mod tables;
pub mod trial;
pub mod units;
pub mod verify;
mod watcher;

pub use device::Device;
pub use evaluation::{Evaluation, Folder, HeadSet, Models, Opened};
pub use forecast::{Forecast, Passes};
pub use prepared::Prepared;
pub use tables::Finished;
pub use watcher::{Quiet, Start, Watcher};
