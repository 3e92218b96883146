//! Panics of other people's libraries, where they are an answer to a broken file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives, or `None` where it panics: some libraries answer hostile files so, which must not end the process, nor
/// be shown as a bug to report.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                others(info);
            }
        }));
    });
    GUARDED.set(true);
    let answer = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    answer.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    static HEARD: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn panics_of_the_library_are_caught_and_quiet_and_no_others_are() {
        // Other tests of this process keep what they would be told.
        let (me, others) = (std::thread::current().id(), take_hook());
        set_hook(Box::new(move |info| {
            if std::thread::current().id() == me {
                HEARD.fetch_add(1, SeqCst);
            } else {
                others(info);
            }
        }));
        assert_eq!(caught(|| 7), Some(7));
        assert_eq!(caught(|| -> u8 { panic!("the library's") }), None);
        assert_eq!(HEARD.load(SeqCst), 0);
        assert!(catch_unwind(|| -> u8 { panic!("our own") }).is_err());
        assert_eq!(HEARD.load(SeqCst), 1);
        drop(take_hook());
    }
}
