//! What commands print: tables and data on stdout, errors on stderr.

use clap::ValueEnum;
use robust::core::{Error, Result};
use std::io::Write;

/// Output format of commands whose result is not a table.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Csv,
}

/// Tables and sentences go to stdout, and names of strangers in them steer nothing ([`robust::escape::terminal`]).
pub fn print(text: &str) -> Result<()> {
    print_data(&robust::escape::terminal(text))
}

/// Data goes to stdout as it is: its format escapes what it holds. A reader that has seen enough is not an error.
pub fn print_data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::write("standard output", e)),
        _ => Ok(()),
    }
}

/// An error and its hint, on stderr.
pub fn tell(error: &Error) {
    robust::say(&format!("error: {}", robust::escape::line(&error.message)));
    if let Some(hint) = &error.hint {
        robust::say(&format!("hint: {hint}"));
    }
}
