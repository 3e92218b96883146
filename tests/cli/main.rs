//! End to end, through the command.

mod bad_input;
mod docs;
mod fixtures;
mod happy;
mod resume;
mod support;
mod tamper;
