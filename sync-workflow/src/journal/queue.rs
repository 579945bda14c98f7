//! Queues with limits, and the place of a run in its queue.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

/// A run's place in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ticket {
    /// The runs of one key are limited together, and keys take turns. Empty where none was given.
    pub key: Arc<str>,
    /// Greater goes first, among the runs of a key.
    pub priority: i16,
    /// Whether it may run.
    pub admission: Admission,
}

/// Whether a run may run, where its queue has limits. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum Admission {
    /// Nobody has asked yet.
    #[default]
    None = 0,
    /// It may, and counts until it ends.
    Admitted = 1,
    /// It may, and does not count: it was asked to cancel while it waited.
    Exempt = 2,
    /// It waits for its turn.
    Waiting = 3,
}

impl Admission {
    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether it needs nobody's leave any more.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Admitted | Self::Exempt)
    }

    /// The admission with this stored number. One that this version does not know has to ask.
    #[must_use]
    pub const fn from_code(code: i16) -> Self {
        match code {
            1 => Self::Admitted,
            2 => Self::Exempt,
            3 => Self::Waiting,
            _ => Self::None,
        }
    }
}

/// How many runs of a queue may run. All limits hold together; what is `None` is unlimited.
///
/// A run counts from the moment in which it is admitted until it ends, also while it sleeps or is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct QueueLimits {
    /// Of the whole queue, in all workers together.
    pub max_running: Option<u32>,
    /// Of each key, in all workers together.
    pub max_running_per_key: Option<u32>,
    /// In the memory of each worker.
    pub max_in_worker: Option<u32>,
    /// How many begin in which time.
    pub rate: Option<Rate>,
}

impl QueueLimits {
    /// Whether no limit is zero: a queue that runs nothing is paused instead.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let counts = [
            self.max_running,
            self.max_running_per_key,
            self.max_in_worker,
        ];
        counts.into_iter().flatten().all(is_count)
            && self
                .rate
                .is_none_or(|rate| is_count(rate.limit) && rate.period >= Rate::SHORTEST_PERIOD)
    }
}

/// The databases count in 32 bits with a sign.
const fn is_count(count: u32) -> bool {
    count > 0 && count <= i32::MAX.cast_unsigned()
}

/// So many in each period. What was not used before may be used at once, up to the whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// How many.
    pub limit: u32,
    /// In which time.
    pub period: Duration,
}

impl Rate {
    /// The shortest period that the databases' clocks can tell from nothing.
    pub const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
}

/// A queue with limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueInfo {
    /// Its name.
    pub queue: Arc<str>,
    /// How many of its runs may run.
    pub limits: QueueLimits,
    /// Whether none is admitted. Those that were go on.
    pub is_paused: bool,
    /// How many were admitted and have not ended.
    pub running: u64,
    /// How many wait for their turn; [`QueueInfo::MOST_COUNTED`] means that or more.
    pub waiting: u64,
}

impl QueueInfo {
    /// No further is counted.
    pub const MOST_COUNTED: u32 = 100_000;
}

/// What a worker is told of its queue, if it has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Managed {
    /// How many of its runs may be in the worker's memory.
    pub max_in_worker: Option<u32>,
}

/// How many runs that have become due are sorted at once, and how many that have ended are counted.
pub(in crate::journal) const MOST_SORTED: usize = 4_096;
pub(in crate::journal) const MOST_FREED: usize = 16_384;

/// How many runs of a queue may begin now.
#[derive(Debug, Clone, Copy)]
pub(in crate::journal) struct Budget {
    pub(in crate::journal) limits: QueueLimits,
    pub(in crate::journal) is_paused: bool,
    pub(in crate::journal) running: i64,
    /// How many the rate allows.
    pub(in crate::journal) tokens: f64,
}

impl Budget {
    /// Counts the time that has passed since the tokens were counted.
    pub(in crate::journal) fn refill(&mut self, passed: Duration) {
        if let Some(rate) = self.limits.rate {
            let limit = f64::from(rate.limit);
            let refilled = passed.as_secs_f64() * limit / rate.period.as_secs_f64();
            self.tokens = (self.tokens + refilled).min(limit);
        }
    }

    /// How many may begin, if there is room for so many.
    pub(in crate::journal) fn free(&self, room: u32) -> u32 {
        if self.is_paused {
            return 0;
        }
        let left = |limit: u32| u32::try_from(i64::from(limit) - self.running).unwrap_or(0);
        let by_count = self.limits.max_running.map_or(room, left);
        let by_rate = match self.limits.rate {
            // There are never more than the limit.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float saturates"
            )]
            Some(_) => self.tokens as u32,
            None => room,
        };
        room.min(by_count).min(by_rate)
    }

    /// How many a key may take of so many, which it shares with other keys.
    pub(in crate::journal) fn quota(&self, free: u32, keys: usize, running: u32) -> usize {
        let share = (free as usize).div_ceil(keys.max(1));
        let left = |limit: u32| limit.saturating_sub(running) as usize;
        share.min(self.limits.max_running_per_key.map_or(usize::MAX, left))
    }

    /// Whether a key of which so many run may begin another.
    pub(in crate::journal) fn has_room_for_key(&self, running: u32) -> bool {
        self.limits
            .max_running_per_key
            .is_none_or(|limit| running < limit)
    }

    /// Counts runs that begin.
    pub(in crate::journal) fn spend(&mut self, admitted: u32) {
        self.running += i64::from(admitted);
        if self.limits.rate.is_some() {
            self.tokens -= f64::from(admitted);
        }
    }

    /// How long until the rate allows another, if it does not now.
    pub(in crate::journal) fn until_next(&self) -> Option<Duration> {
        let rate = self.limits.rate.filter(|_| self.tokens < 1.0)?;
        let missing = (1.0 - self.tokens) / f64::from(rate.limit);
        Some(rate.period.mul_f64(missing))
    }

    /// Whether a look that changes nothing can tell that none may begin.
    pub(in crate::journal) fn is_exhausted(&self, room: u32, has_releases: bool) -> bool {
        let is_full = self
            .limits
            .max_running
            .is_some_and(|limit| self.running >= i64::from(limit));
        self.is_paused || room == 0 || is_full && !has_releases
    }
}
