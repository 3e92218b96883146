//! Residual networks, a file for each home of weights.

pub(crate) mod card;
pub(crate) mod cifar;
pub(crate) mod cifar_resnext;
pub(crate) mod deepmind;
pub(crate) mod preact;
pub(crate) mod torchvision;
pub(crate) mod transformers;
