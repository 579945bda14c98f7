//! Starts that wait until nobody asks again.

use std::time::Duration;

use jiff::Timestamp;

use super::batch::Placement;
use crate::{id::RunId, status::RunStatus};

/// When a run begins that may be asked for again: once nobody has for `quiet_for`, and `longest_wait` after it was first
/// asked for at the latest. Not before the run's own time, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debounce {
    /// How long it must have been quiet.
    pub quiet_for: Duration,
    /// How long the first who asked waits at most.
    pub longest_wait: Duration,
}

impl Debounce {
    /// When a run begins that was first asked for at one time, and again now.
    pub(super) fn due(self, first: Timestamp, now: Timestamp, placement: Placement) -> Timestamp {
        let quiet = later(now, self.quiet_for);
        let due = quiet.min(later(first, self.longest_wait));
        match placement {
            Placement::NotBefore(at) => due.max(at),
            Placement::Here | Placement::Anywhere => due,
        }
    }
}

/// The latest timestamp stands in for times beyond it.
fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// What came of a debounced start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebounceOutcome {
    /// The run was started with the id that the caller proposed.
    Started,
    /// The run has not begun, and has this input now.
    Replaced {
        /// That run.
        run: RunId,
    },
    /// There is a run that has begun, or is about to cancel, or is closed and kept by the policy. Nothing was changed.
    Existing {
        /// That run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
    },
}
