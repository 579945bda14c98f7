//! The activities of a run: attempts under way, and the wait for the next one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Driver, TimerKind, too_large};
use crate::{
    failure::Failure,
    id::CommandId,
    journal::{Attempt, MAX_PAYLOAD_BYTES},
    replay::{ActivityOptions, Event, Fault},
    worker::activity::{AttemptTask, Begun, UnderWay},
};

/// The activities of one run.
#[derive(Default)]
pub(super) struct Activities {
    open: HashMap<CommandId, OpenActivity>,
    /// What the journal kept of activities that the code has not asked for again yet.
    remembered: HashMap<CommandId, Attempt>,
    /// Activities whose next attempt is due, and whose last failure is not durable yet.
    due: Vec<CommandId>,
}

/// An activity that was asked for and has not ended.
struct OpenActivity {
    name: Arc<str>,
    input: Bytes,
    options: Arc<ActivityOptions>,
    state: Attempt,
    /// Whether the journal has a row of its state.
    is_stored: bool,
    stage: Stage,
}

/// Where an open activity stands.
enum Stage {
    /// Between attempts.
    Waits,
    Runs(UnderWay),
    /// The attempt is over, and what came of it is taken in before anything else.
    Ended,
}

impl OpenActivity {
    const fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Runs(_) | Stage::Ended)
    }

    fn cancel(self, grace: Duration) {
        if let Stage::Runs(under_way) = self.stage {
            under_way.cancel(grace);
        }
    }
}

impl Activities {
    pub(super) fn remember(&mut self, attempts: Vec<Attempt>) {
        self.remembered.extend(
            attempts
                .into_iter()
                .map(|attempt| (attempt.command, attempt)),
        );
    }

    pub(super) fn running(&self) -> HashSet<CommandId> {
        self.open
            .iter()
            .filter(|(_, open)| open.is_running())
            .map(|(command, _)| *command)
            .collect()
    }

    pub(super) fn is_open(&self, command: CommandId) -> bool {
        self.open.contains_key(&command)
    }

    pub(super) fn any_running(&self) -> bool {
        self.open.values().any(OpenActivity::is_running)
    }

    /// Lets the next attempt of an activity wait until its last failure is durable: a crash would
    /// forget both.
    pub(super) fn wait_for_commit(&mut self, command: CommandId) {
        self.due.push(command);
    }

    /// Forgets an attempt of which nothing remains: the activity begins anew when it is asked for.
    pub(super) fn forget(&mut self, command: CommandId) {
        if let Some(open) = self.open.remove(&command).filter(|open| open.is_stored) {
            self.remembered.insert(command, open.state);
        }
    }

    /// Ends every attempt at its next await.
    pub(super) fn end_all(&mut self) {
        self.open.clear();
    }

    /// Tells every attempt to stop.
    pub(super) fn cancel_all(&mut self, grace: Duration) {
        for (_, open) in self.open.drain() {
            open.cancel(grace);
        }
    }
}

impl Driver {
    pub(super) fn start_activity(
        &mut self,
        command: CommandId,
        name: Arc<str>,
        input: Bytes,
        options: Arc<ActivityOptions>,
    ) {
        if self.activities.open.contains_key(&command) {
            // It goes on from before the run was rewound.
            return;
        }
        let remembered = self.activities.remembered.remove(&command);
        let is_stored = remembered.is_some();
        let state = remembered.unwrap_or_else(|| Attempt {
            command,
            failed: 0,
            next_at: None,
            scheduled_at: self.node.clock.now(),
            failure: Bytes::new(),
            details: Bytes::new(),
        });
        let next_at = state.next_at;
        let open = OpenActivity {
            name,
            input,
            options,
            state,
            is_stored,
            stage: Stage::Waits,
        };
        self.activities.open.insert(command, open);
        match next_at {
            Some(at) if at > self.node.clock.now() => {
                self.timers.insert((at, command, TimerKind::Retry));
            }
            _ => self.retry_activity(command),
        }
    }

    /// Whether the journal knows of the last failure of an activity.
    pub(super) fn is_failure_durable(&self, command: CommandId) -> bool {
        let is_under_way = self
            .in_flight
            .as_ref()
            .is_some_and(|commit| commit.attempts.contains(&command));
        let waits = |attempt: &Attempt| attempt.command == command;
        !is_under_way && !self.outbox.attempts.iter().any(waits)
    }

    /// Starts the attempts that were due before their last failure was durable.
    pub(super) fn retry_after_commit(&mut self) {
        if self.is_pausing {
            return;
        }
        for command in std::mem::take(&mut self.activities.due) {
            if self.is_failure_durable(command) {
                self.retry_activity(command);
            } else {
                self.activities.due.push(command);
            }
        }
    }

    /// Starts the next attempt. Where the run has nothing else to do, the attempt begins here.
    pub(super) fn retry_activity(&mut self, command: CommandId) {
        // What the journal says to have been attempted is attempted: it cannot be tried again.
        let open = self.activities.open.get(&command);
        let may_wait = open.is_none_or(|open| !open.options.at_most_once);
        if self.is_draining && may_wait {
            return;
        }
        let here = self.gated.is_empty()
            && self.timers.is_empty()
            && self.steps.is_idle()
            && self.sends.is_idle()
            && self.finished.is_none()
            && !self.activities.any_running();
        let now = self.node.clock.now();
        let Some(open) = self.activities.open.get_mut(&command) else {
            return;
        };
        let Some(factory) = self.node.registry.activity(&open.name) else {
            let fault = Fault::Unregistered {
                what: "activity",
                name: Arc::clone(&open.name),
            };
            self.park(fault.to_string());
            return;
        };
        let attempt = AttemptTask {
            node: Arc::clone(&self.node),
            run: self.claimed.run,
            workflow_id: self.claimed.workflow_id.clone(),
            trace: self.claimed.trace.clone(),
            name: Arc::clone(&open.name),
            command,
            attempt: open.state.failed + 1,
            details: open.state.details.clone(),
            input: open.input.clone(),
            timeouts: open.options.timeouts,
            time_left: time_left(open, now),
            factory: Arc::clone(factory),
            mailbox: self.mailbox.clone(),
        };
        open.stage = match attempt.begin(here) {
            Begun::UnderWay(under_way) => Stage::Runs(under_way),
            Begun::Ended(message) => {
                self.finished = Some(message);
                Stage::Ended
            }
        };
    }

    pub(super) fn attempt_ended(&mut self, command: CommandId, result: Result<Bytes, Failure>) {
        let Some(open) = self.activities.open.get_mut(&command) else {
            return;
        };
        open.stage = Stage::Waits;
        let limit = self.node.journal.max_payload_bytes();
        let result = match result {
            Ok(output) if output.len() > limit => Err(too_large(output.len(), limit)),
            result => result,
        };
        match result {
            Ok(output) => self.activity_closed(command, Ok(output)),
            Err(failure) => self.attempt_failed(command, failure),
        }
    }

    /// Begins an attempt again whose transaction gave way to something else. It has used up nothing, unless its code may
    /// run once.
    pub(super) fn repeat_attempt(&mut self, command: CommandId, pause: Duration, failure: Failure) {
        let Some(open) = self.activities.open.get_mut(&command) else {
            return;
        };
        if open.options.at_most_once {
            self.attempt_failed(command, failure);
            return;
        }
        open.stage = Stage::Waits;
        let now = self.node.clock.now();
        let at = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        self.timers.insert((at, command, TimerKind::Retry));
    }

    /// Plans the next attempt, or ends the activity.
    pub(super) fn attempt_failed(&mut self, command: CommandId, failure: Failure) {
        let now = self.node.clock.now();
        let Some(open) = self.activities.open.get_mut(&command) else {
            return;
        };
        open.stage = Stage::Waits;
        open.state.failed += 1;
        let retry = &open.options.retry;
        let interval = retry.interval_after(open.state.failed, fastrand::f64());
        let next_at = now.checked_add(interval).unwrap_or(Timestamp::MAX);
        let is_exhausted = open.options.at_most_once
            || open.state.failed >= retry.max_attempts.max(1)
            || deadline(open).is_some_and(|deadline| next_at >= deadline);
        if failure.is_final || is_exhausted {
            if open.options.park_when_exhausted && !failure.is_final {
                let reason = format!(
                    "activity {:?} failed {} times: {failure}",
                    open.name, open.state.failed
                );
                if open.is_stored {
                    self.outbox.settled_attempts.push(command);
                }
                self.park(Fault::Requested { reason }.to_string());
                return;
            }
            self.activity_closed(command, Err(failure));
            return;
        }
        tracing::debug!(run_id = %self.claimed.run, activity = %open.name, failed = open.state.failed,
            failure = %failure, "attempt_failed");
        open.state.failure = failure.encode();
        open.state.next_at = Some(next_at);
        open.is_stored = true;
        let state = open.state.clone();
        self.store(state);
        self.timers.insert((next_at, command, TimerKind::Retry));
    }

    pub(super) fn progressed(&mut self, command: CommandId, details: Bytes) {
        let Some(open) = self.activities.open.get_mut(&command) else {
            return;
        };
        if details.len() > MAX_PAYLOAD_BYTES {
            return;
        }
        open.state.details = details;
        open.is_stored = true;
        let state = open.state.clone();
        self.store(state);
    }

    pub(super) fn abandon_activity(&mut self, command: CommandId) {
        let Some(open) = self.activities.open.remove(&command) else {
            return;
        };
        if open.is_stored {
            self.outbox.settled_attempts.push(command);
        }
        open.cancel(self.node.settings.cancel_grace);
    }

    pub(super) fn has_stored_attempt(&self, command: CommandId) -> bool {
        self.activities
            .open
            .get(&command)
            .is_some_and(|open| open.is_stored)
    }

    /// Forgets an activity whose record is made elsewhere; whether the journal has a row of it.
    pub(super) fn settle_activity(&mut self, command: CommandId) -> bool {
        self.activities
            .open
            .remove(&command)
            .is_some_and(|open| open.is_stored)
    }

    fn activity_closed(&mut self, command: CommandId, result: Result<Bytes, Failure>) {
        if self.settle_activity(command) {
            self.outbox
                .attempts
                .retain(|attempt| attempt.command != command);
            self.outbox.settled_attempts.push(command);
        }
        self.happened(Event::ActivityClosed { command, result });
    }

    fn store(&mut self, state: Attempt) {
        self.outbox
            .attempts
            .retain(|attempt| attempt.command != state.command);
        self.outbox.attempts.push(state);
    }
}

fn deadline(open: &OpenActivity) -> Option<Timestamp> {
    let limit = open.options.timeouts.schedule_to_close?;
    open.state.scheduled_at.checked_add(limit).ok()
}

fn time_left(open: &OpenActivity, now: Timestamp) -> Option<Duration> {
    deadline(open)
        .map(|deadline| Duration::try_from(deadline.duration_since(now)).unwrap_or_default())
}
