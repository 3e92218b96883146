//! Every way to get a model: ONNX files, safetensors and PyTorch weights of named architectures, folders of transformers and
//! OpenCLIP, and small built-in nets. Each is lowered to a [`robust_engine::Network`] whose input is pixels in `[0,1]`:
//! normalisation is a layer inside.
//!
//! To read in this order: [`load`] and the [`LoadedModel`] that it gives; [`families`] (a file for each family of networks, or a folder
//! with one for each package whose names for the weights it reads); [`Head`] and [`probe`], which make classifiers of encoders.
//!
//! The rooms, each above those before it: `weights` (tensors by name, with the books kept), `settings` and `bytes` (what
//! files of strangers hold, bounded); `layers` (pieces that several families share); `families`; `files` (formats, and folders that say
//! what to build); `heads`; `loader`, which joins them.
//!
//! **Shapes and ranges.** Images are `[n, channels, height, width]`, f32 in `[0,1]`; scores `[n, classes]`, embeddings `[n, d]`. Other
//! inputs (vectors, features) say so in their card.
//!
//! **Errors.** Kind `Usage` for a spec that makes no sense, kind `Load` for files that are missing, damaged, not supported or do not fit;
//! messages name the file, what in it, and what to do. No file can run code or take more memory than it accounts for.
//!
//! ```
//! use robust_core::{Model, Output};
//!
//! # fn main() -> robust_core::Result<()> {
//! let loaded = robust_models::load("builtin:mnist-at")?;
//! assert_eq!(loaded.model.card().output, Output::Logits { k: 10 });
//! assert_eq!(loaded.graph()?.input_row(), [1, 28, 28]);
//! # Ok(())
//! # }
//! ```

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
mod loaded;
mod loader;
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
/// The name that families go by in programs.
#[doc(hidden)]
pub use families as arch;
#[cfg(feature = "hub")]
pub use files::hub;
pub use heads::{Head, probe};
pub use labels::{ClassNames, class_names};
pub(crate) use layers::normalise::normalise;
pub use loaded::LoadedModel;
pub use loader::load;
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
