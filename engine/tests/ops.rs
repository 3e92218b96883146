//! Four checks of every op and of small whole networks: finite differences, parity of number types, row bits, PyTorch.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "ops/blocks.rs"]
mod blocks;
#[path = "ops/cases.rs"]
mod cases;
#[path = "ops/differences.rs"]
mod differences;
#[path = "ops/golden.rs"]
mod golden;
#[path = "ops/models.rs"]
mod models;
#[path = "ops/parity.rs"]
mod parity;
#[path = "ops/plan.rs"]
mod plan;
#[path = "ops/rows.rs"]
mod rows;
#[path = "ops/speed.rs"]
mod speed;
#[path = "ops/training.rs"]
mod training;
