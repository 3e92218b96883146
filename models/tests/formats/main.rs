//! Every file format against the numbers of the framework that wrote it, and against hostile files.

mod golden;
mod hostile;
mod onnx;
mod parity;
mod support;
