//! The one place that reads a clock: the database's time, carried forward by this machine's
//! monotonic clock.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// The database's time without asking the database.
///
/// Each answer of the database anchors it. Between answers it moves with the monotonic clock, so
/// the wall clock of this machine, which may be wrong or jump, decides nothing.
#[derive(Debug)]
pub(crate) struct DatabaseClock {
    anchor: Mutex<(Instant, Timestamp)>,
}

impl DatabaseClock {
    /// `asked` is when the question was sent: the database's time lies at or after it.
    pub(crate) fn new(asked: Instant, told: Timestamp) -> Self {
        Self {
            anchor: Mutex::new((asked, told)),
        }
    }

    /// Takes a new answer in. The clock never goes back.
    pub(crate) fn anchor(&self, asked: Instant, told: Timestamp) {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        if carry(*anchor, asked) <= told {
            *anchor = (asked, told);
        }
    }

    /// The database's time now, at most one round trip late.
    pub(crate) fn now(&self) -> Timestamp {
        carry(
            *self.anchor.lock().unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        )
    }

    /// How long it is until a time of the database's clock.
    pub(crate) fn until(&self, due: Timestamp) -> Duration {
        Duration::try_from(due.duration_since(self.now())).unwrap_or_default()
    }
}

fn carry((instant, told): (Instant, Timestamp), at: Instant) -> Timestamp {
    told.checked_add(at.saturating_duration_since(instant))
        .unwrap_or(Timestamp::MAX)
}
