//! Every way to get a model: ONNX files, safetensors and PyTorch weights of named architectures, folders of transformers and
//! OpenCLIP, and small built-in nets. Each is lowered to a [`robust_engine::Network`] whose input is pixels in `[0,1]`:
//! normalisation is a layer inside.
//!
//! The rooms, each above those before it: `weights` (tensors by name, with the books kept), `settings` and `bytes` (what
//! files of strangers hold, bounded); `layers` (pieces that several families share); [`families`] (a file for each family of networks,
//! or a folder with one for each package whose names for the weights it reads); `files` (formats, and folders that say what to
//! build); `heads` (what turns embeddings into scores); [`load`], which joins them.

pub mod builtin;
mod bytes;
mod compose;
mod convert;
pub mod ensemble;
mod facts;
pub mod families;
mod files;
mod fold;
mod heads;
mod labels;
mod layers;
mod load;
mod loaded;
mod model_files;
pub mod onnx;
mod options;
mod output;
mod settings;
mod spec;
mod ssl;
pub mod statistics;
mod weights;

pub use convert::convert;
pub use facts::{Facts, Normalisation, OpFacts, inspect};
pub use families as arch;
#[cfg(feature = "hub")]
pub use files::hub;
pub use heads::{Head, probe};
pub use labels::{ClassNames, class_names};
pub(crate) use layers::normalise::normalise;
pub use load::load;
pub use loaded::LoadedModel;
pub use options::Options;

/// Folders of Hugging Face's hub, and the text towers in them.
pub mod hf {
    pub use crate::families::model_types;
    pub use crate::files::hf::is_folder;
    pub use crate::heads::{Text, TextTower};
}

/// Weights by name.
pub mod safetensors {
    pub use crate::weights::StateDict;
}
