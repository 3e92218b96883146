//! Corruptions against what the published programs gave (`corruptions/` of the shared fixtures), and the mistakes that
//! these comparisons must catch.

// Helpers beside the tests fail like tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "corruptions/exact.rs"]
mod exact;
#[path = "corruptions/files.rs"]
mod files;
#[path = "corruptions/others.rs"]
mod others;
#[path = "corruptions/statistics.rs"]
mod statistics;
