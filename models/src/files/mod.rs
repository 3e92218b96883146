//! Formats: what lies in files and folders becomes tensors and settings, and what the settings describe becomes a network.

mod fetch;
mod folder;
pub(crate) mod hf;
#[cfg(feature = "hub")]
pub mod hub;
pub(crate) mod open_clip;
pub(crate) mod pth;
pub(crate) mod safetensors;
pub(crate) mod single;
