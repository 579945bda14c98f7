//! Whether the workflow code that runs now ran before.

use std::cell::Cell;

thread_local! {
    /// Whether this thread is polling code that catches up with its journal.
    static AGAIN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is workflow code that catches up with its journal: what it does now it did before, on this
/// worker or on another.
///
/// For what shall happen once where it does not matter whether it happens: a log line, a count. Never for what the
/// code does next, which must be the same each time. The feature `tracing-subscriber` brings a layer that asks this
/// for every log line.
#[must_use]
pub fn is_replaying() -> bool {
    AGAIN.get()
}

/// Polls code that ran before, or that did not.
pub(super) fn polled<T>(again: bool, poll: impl FnOnce() -> T) -> T {
    /// Puts the former answer back even when the code panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            AGAIN.set(self.0);
        }
    }
    let _restore = Restore(AGAIN.replace(again));
    poll()
}
