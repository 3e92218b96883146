//! Folders of the hub, brought into the cache that its own tools use.

mod address;
mod client;
mod download;
mod fetch;
mod settings;
mod store;

pub(crate) use fetch::{fetch, fetch_words};
pub(crate) use settings::Settings;
pub use settings::{Progress, Watch, watch};
