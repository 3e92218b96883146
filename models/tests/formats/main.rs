//! Every file format against the numbers of the framework that wrote it, and against hostile files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod encoders;
mod ensembles;
mod families;
mod folders;
mod golden;
mod hostile;
mod huggingface;
mod legacy;
mod mixtures;
mod onnx;
mod parity;
mod prompts;
mod pth;
mod robustbench;
mod support;
mod text;
mod timm_towers;
mod torchscript;
mod transformers;
