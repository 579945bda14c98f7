//! Which pooled connections may still be used.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Since when the connections of a pool are trusted.
///
/// When an answer does not come in time, the path may be gone for every connection that exists, and
/// a `BEGIN` that was cut off may arrive yet. So all of them are replaced, each before its next use.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust(Arc<Mutex<Option<Instant>>>);

impl Trust {
    /// Trusts no connection that exists now.
    pub(super) fn withdraw(&self) {
        *self.since() = Some(Instant::now());
    }

    /// Whether a connection of this age may be used.
    pub(super) fn covers(&self, age: Duration) -> bool {
        self.since().is_none_or(|since| age < since.elapsed())
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_older_than_the_last_silence_is_not_trusted() {
        let trust = Trust::default();
        assert!(trust.covers(Duration::from_secs(3_600)));
        trust.withdraw();
        assert!(!trust.covers(Duration::from_secs(3_600)));
        while trust.since().is_none_or(|since| since.elapsed().is_zero()) {
            std::hint::spin_loop();
        }
        assert!(trust.covers(Duration::ZERO));
    }
}
