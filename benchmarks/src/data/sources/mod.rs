//! One file per way to name a data set, and the index of their rows.

mod builtin;
mod cifar;
mod folder;
mod mnist;
mod npy;
mod npz;
mod parquet;
mod safetensors;
mod wds;

use super::source::Source;

/// In the order in which a path without a scheme is offered to them.
pub static SOURCES: &[Source] = &[
    builtin::SOURCE,
    mnist::SOURCE,
    cifar::TEN,
    cifar::HUNDRED,
    folder::SOURCE,
    wds::SOURCE,
    parquet::SOURCE,
    npz::SOURCE,
    npy::SOURCE,
    safetensors::SOURCE,
];
