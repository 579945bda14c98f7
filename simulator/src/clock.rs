//! The monotonic clock of a machine: each runs at a rate of its own, and may leap ahead.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time,
};

use tokio::time::Instant;

/// The clock of the machine that a process runs on.
pub(crate) struct MachineClock {
    /// How fast it runs, in thousandths of the simulation's.
    rate: u32,
    stretch: Mutex<Stretch>,
}

/// How the clock runs since it was changed last.
struct Stretch {
    since: Instant,
    then: time::Instant,
    rate: u32,
}

impl Stretch {
    fn at(&self, now: Instant) -> time::Instant {
        self.then + (now - self.since) * self.rate / 1_000
    }
}

impl MachineClock {
    pub(crate) fn new(rate: u32) -> Self {
        let since = Instant::now();
        Self {
            rate,
            stretch: Mutex::new(Stretch {
                since,
                then: since.into_std(),
                rate,
            }),
        }
    }

    pub(crate) fn now(&self) -> time::Instant {
        self.lock().at(Instant::now())
    }

    /// The machine is suspended: its clock hardly moves.
    pub(crate) fn suspend(&self) {
        self.run_at(self.rate / 10);
    }

    /// The machine goes on.
    pub(crate) fn resume(&self) {
        self.run_at(self.rate);
    }

    pub(crate) fn leap(&self, ahead: time::Duration) {
        self.lock().then += ahead;
    }

    fn run_at(&self, rate: u32) {
        let now = Instant::now();
        let mut stretch = self.lock();
        *stretch = Stretch {
            since: now,
            then: stretch.at(now),
            rate,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Stretch> {
        self.stretch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
