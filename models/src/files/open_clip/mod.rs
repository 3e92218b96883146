//! Folders of OpenCLIP.

mod folder;
pub(crate) mod settings;
mod timm_tower;

pub(crate) use folder::read;
pub(crate) use settings::is_folder;
