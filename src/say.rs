//! Lines for the user, on stderr: stdout is for data.

use crate::escape;
use std::io::Write;

/// A line for the user. Names of strangers in it cannot steer a terminal or a CI runner ([`escape::terminal`]). Whoever does
/// not listen stops nothing: a closed or full stderr is not an error.
pub fn say(line: &str) {
    say_raw(&escape::terminal(line));
}

/// A line that is meant for the runner of a CI job; what strangers wrote in it must be escaped already.
pub fn say_raw(line: &str) {
    // One write for the whole line, so that lines of several processes do not mix.
    std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()).ok();
}
