//! End to end, through the command.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly and say what it skipped")]

mod autoattack;
mod bad_input;
mod compare;
mod corruptions;
mod data;
mod defended;
mod docs;
mod encoders;
mod ensembles;
mod export;
mod fixtures;
mod gate;
mod given;
mod happy;
mod inspect;
mod known;
mod label_free;
mod linear;
mod measure;
mod nearest;
mod nets;
mod odd_scores;
mod report;
mod resume;
mod scale;
mod stale;
mod steady;
mod support;
mod synthetic;
mod tamper;
mod text;
