//! ONNX files (opset 7 to 28) lowered to a [`robust_engine::Network`]. Nothing in a file is trusted: sizes are checked against the
//! bytes present, graphs may be deep or cyclic, and the batch axis stays a symbol that no op may touch.

mod arithmetic;
mod array;
mod attention;
mod by_row;
mod call;
mod census;
mod einsum;
mod extents;
mod external;
mod fold;
mod fold_numbers;
mod fold_run;
mod fold_scatter;
mod front;
mod grid;
mod group_norm;
mod import;
mod input;
mod layers;
mod layout;
mod lines;
mod ops;
mod order;
mod outputs;
mod patches;
mod per_image;
mod places;
mod pointwise;
mod proto;
mod quantised;
mod resample;
mod schema;
mod select;
#[cfg(test)]
mod tests;
mod transposed;
mod views;
mod windows;

pub use import::{Imported, import, open};
pub use schema::OPSETS;
