//! Wide residual networks for CIFAR and what grew out of them, a file for each group of authors.

pub(crate) mod deepmind;
pub(crate) mod huang;
pub(crate) mod peng;
pub(crate) mod trades;
