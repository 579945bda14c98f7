//! Transactions that were rolled back for a reason that is not theirs, and are tried again.

use std::{collections::HashMap, time::Duration};

use super::{Driver, Flow};
use crate::{failure::Failure, id::CommandId};

/// After so many tries in a row somebody is told, and again after as many more.
const TRIES_PER_WARNING: u32 = 20;
/// How often a step is tried whose own code does not come through. What it runs into may be its own doing, such as a
/// second connection that waits for the first.
const MAX_ROLLED_BACK: u32 = 20;
/// The pauses between tries double up to 2 ms times two to this power, which is half a second.
const MAX_DOUBLINGS: u32 = 8;

/// The tries in vain, by command.
#[derive(Default)]
pub(super) struct Contention(HashMap<CommandId, Tries>);

#[derive(Clone, Copy, Default)]
struct Tries {
    all: u32,
    /// Those that ended within the step's own code.
    rolled_back: u32,
}

impl Contention {
    /// How long the next try waits, if there were others.
    pub(super) fn pause(&self, command: CommandId) -> Option<Duration> {
        let tries = self.0.get(&command)?.all.min(MAX_DOUBLINGS);
        Some(Duration::from_millis(2 << tries).mul_f64(0.5 + fastrand::f64()))
    }

    /// Takes note of a try that ended within the step's own code; whether there may be another.
    pub(super) fn may_repeat(&mut self, command: CommandId) -> bool {
        let tries = self.0.entry(command).or_default();
        tries.all = tries.all.saturating_add(1);
        tries.rolled_back += 1;
        tries.rolled_back < MAX_ROLLED_BACK
    }

    pub(super) fn forget(&mut self, command: CommandId) {
        self.0.remove(&command);
    }

    /// Takes note of a try that gave way to something else, and says how many there were.
    fn gave_way(&mut self, command: CommandId) -> u32 {
        let tries = self.0.entry(command).or_default();
        tries.all = tries.all.saturating_add(1);
        tries.all
    }
}

impl Driver {
    /// The transaction of a step, or of an attempt that has one of its own, was rolled back for a reason outside of its
    /// code; nothing of it remains. It is tried again for as long as somebody waits for it.
    pub(super) async fn gave_way(&mut self, command: CommandId, failure: Failure) -> Flow {
        let tries = self.steps.contention.gave_way(command);
        if tries.is_multiple_of(TRIES_PER_WARNING) {
            tracing::warn!(
                run_id = %self.claimed.run, workflow_id = %self.claimed.workflow_id, %command, tries,
                failure = %failure, "transaction_contended"
            );
        }
        if self.activities.is_open(command) {
            self.replay_deferred();
            let pause = self.steps.contention.pause(command);
            self.repeat_attempt(command, pause.unwrap_or_default(), failure);
            return Flow::Continue;
        }
        self.steps.stop(command);
        // The step's code can run once: the replay makes it anew.
        self.rewind().await
    }
}
