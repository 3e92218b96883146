//! ONNX files out of any bytes, of networks that make sense but for what the bytes say about them. Nothing but the standard
//! library is used, so that the tests of `models` include this folder as it is.

mod external;
mod quantised;
mod wire;

pub use external::{Outside, external};
pub use quantised::quantised;
