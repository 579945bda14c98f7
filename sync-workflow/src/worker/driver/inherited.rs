//! Children that another run started, whose records the journal of this one begins with.
//!
//! A child tells its parent when it ends, and its parent may be another run still. So whoever waits for such a child
//! looks by itself as well: soon at first, and more seldom the longer the run has lived.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;

use super::{Driver, TimerKind};
use crate::{id::RunId, record::Record};

/// The shortest and the longest wait between two looks, and what share of the run's age it is in between.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(600);
const SHARE_OF_AGE: u32 = 8;

/// The children that another run started, as they were started.
#[derive(Default)]
pub(super) struct Inherited(HashSet<RunId>);

impl Driver {
    /// Waits for a child that another run started.
    pub(super) fn await_inherited(&mut self, child: RunId) {
        self.inherited.0.insert(child);
        let looks = |(_, _, kind): &(_, _, TimerKind)| *kind == TimerKind::Look;
        if !self.timers.iter().any(looks) {
            self.look_later();
        }
    }

    /// Looks at the children, and again later if one of them was inherited.
    pub(super) fn look_at_inherited(&mut self) {
        let mut awaited = self.awaited_children.values();
        if awaited.any(|child| self.inherited.0.contains(child)) {
            self.inbox.overlook();
            self.look_later();
        }
    }

    fn look_later(&mut self) {
        let now = self.node.clock.now();
        if let Ok(at) = now.checked_add(wait(self.claimed.run, now)) {
            self.timers.insert((at, Record::RUN, TimerKind::Look));
        }
    }
}

fn wait(run: RunId, now: Timestamp) -> Duration {
    let (seconds, _) = run
        .as_uuid()
        .get_timestamp()
        .map_or((0, 0), |born| born.to_unix());
    let born = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let age = born.and_then(|born| Duration::try_from(now.duration_since(born)).ok());
    let share = age.unwrap_or_default() / SHARE_OF_AGE;
    share.clamp(SHORTEST, LONGEST)
}
