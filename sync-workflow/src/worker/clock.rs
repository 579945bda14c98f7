//! The one place that reads a clock: the database's time, carried forward by this machine's
//! monotonic clock.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// The monotonic clock of a worker: the machine's, or the one that a simulation moves by hand.
#[derive(Clone, Default)]
pub(crate) struct Monotonic(Option<Arc<dyn Fn() -> Instant + Send + Sync>>);

impl Monotonic {
    pub(crate) fn simulated(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(clock)))
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(clock) => clock(),
        }
    }
}

impl fmt::Debug for Monotonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monotonic")
            .field("is_simulated", &self.0.is_some())
            .finish()
    }
}

/// The database's time without asking the database.
///
/// An answer was true when it was given: the time is no less when the answer arrives, and more by
/// no more than the answer and its question took. Between answers the clock moves with the monotonic
/// clock. An answer that proves it wrong in either direction, since two clocks never run alike, sets
/// it to what is not ahead for sure. So nothing is done before it is due, and the wall clock of this
/// machine, which may be wrong or jump, decides nothing.
#[derive(Debug)]
pub(crate) struct DatabaseClock {
    monotonic: Monotonic,
    anchor: Mutex<(Instant, Timestamp)>,
}

impl DatabaseClock {
    /// A clock that was just told the time.
    pub(crate) fn new(monotonic: Monotonic, told: Timestamp) -> Self {
        let anchor = Mutex::new((monotonic.now(), told));
        Self { monotonic, anchor }
    }

    /// The monotonic clock now.
    pub(crate) fn moment(&self) -> Instant {
        self.monotonic.now()
    }

    /// Takes in an answer that has just arrived. `asked` is when the question was sent.
    pub(crate) fn anchor(&self, asked: Instant, told: Timestamp) {
        let arrived = self.moment();
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        *anchor = corrected(*anchor, asked, arrived, told);
    }

    /// The database's time now, late by at most the way of one answer.
    pub(crate) fn now(&self) -> Timestamp {
        carry(
            *self.anchor.lock().unwrap_or_else(PoisonError::into_inner),
            self.moment(),
        )
    }

    /// How long it is until a time of the database's clock.
    pub(crate) fn until(&self, due: Timestamp) -> Duration {
        Duration::try_from(due.duration_since(self.now())).unwrap_or_default()
    }
}

/// The anchor after an answer.
fn corrected(
    anchor: (Instant, Timestamp),
    asked: Instant,
    arrived: Instant,
    told: Timestamp,
) -> (Instant, Timestamp) {
    let believed = carry(anchor, arrived);
    let is_possible = told <= believed && believed <= carry((asked, told), arrived);
    if is_possible { anchor } else { (arrived, told) }
}

fn carry((instant, told): (Instant, Timestamp), at: Instant) -> Timestamp {
    told.checked_add(at.saturating_duration_since(instant))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock's idea of the time when an answer arrives, in seconds. It believed in 1,000 s at
    /// second 0; the question was sent at `asked` and the answer `told` arrives at second 100.
    fn after(asked: u64, told: i64) -> i64 {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let time = |seconds| Timestamp::from_second(seconds).expect("within the calendar");
        let anchor = corrected((start, time(1_000)), at(asked), at(100), time(told));
        carry(anchor, at(100)).as_second()
    }

    #[test]
    fn an_answer_that_agrees_changes_nothing() {
        assert_eq!(after(99, 1_100), 1_100);
    }

    #[test]
    fn a_slow_answer_does_not_put_the_clock_back_or_ahead() {
        assert_eq!(after(50, 1_055), 1_100);
        assert_eq!(after(50, 1_101), 1_101);
    }

    #[test]
    fn a_clock_that_ran_too_fast_is_put_right() {
        assert_eq!(after(99, 1_090), 1_090);
    }

    #[test]
    fn a_clock_that_ran_too_slow_is_put_right() {
        assert_eq!(after(99, 1_110), 1_110);
    }
}
