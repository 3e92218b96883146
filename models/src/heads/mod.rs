//! Heads: what turns an encoder's embedding into scores of classes, and the ways to make one.

pub(crate) mod head;
pub mod probe;
mod text;

pub use head::Head;
pub use text::{Text, TextTower};
