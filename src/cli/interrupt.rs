//! Ctrl-C: the first one asks the command to stop, and ends it if it does not; the second one ends it at once.

use super::output::tell;
use robust::core::Error;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

/// Set by the first Ctrl-C; the second one ends the process at once.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// How long a command may take to stop by itself after the first Ctrl-C. Whatever it writes is whole or not there, so that
/// to leave it then loses the unit in hand and nothing else.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(1500);

/// What a command that is left should say: how it goes on.
static LEAVING: Mutex<Option<String>> = Mutex::new(None);

/// Sets the hint of a command that is interrupted.
pub fn on_leaving(hint: String) {
    *LEAVING.lock().unwrap_or_else(PoisonError::into_inner) = Some(hint);
}

#[expect(clippy::exit, reason = "a second Ctrl-C, or a first one in a long pass of a large model, must not wait")]
pub fn on_interrupt() {
    if STOP.swap(true, SeqCst) {
        std::process::exit(130);
    }
    robust::say("\nstopping (Ctrl-C again to stop at once)");
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        let hint = LEAVING.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tell(&Error { hint, ..Error::interrupted() });
        std::process::exit(130);
    });
}
