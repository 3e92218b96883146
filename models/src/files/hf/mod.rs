//! Folders of Hugging Face's hub.

pub(crate) mod cache;
mod folder;
mod open;
mod preprocess;
mod settings;
pub(crate) mod tokenizer;
pub(crate) mod weights;

pub(crate) use crate::files::fetch::{cached, with_words};
pub(crate) use crate::files::folder::Folder;
pub(crate) use cache::label;
pub use open::is_folder;
pub(crate) use open::read;
pub(crate) use settings::{class_names, is_transformers, settled};
