//! Folders with settings, of transformers or of OpenCLIP, to networks.

use robust_core::Preprocess;
use robust_engine::Network;

/// A folder's network and what was decided on the way to it.
pub(crate) struct Folder {
    pub network: Network,
    pub family: String,
    pub embeds: bool,
    pub preprocess: Option<Preprocess>,
    pub notes: Vec<String>,
    pub ignored: Vec<String>,
}
