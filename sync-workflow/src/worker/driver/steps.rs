//! Transactional steps: the user's SQL and the record of the step in one commit.
//!
//! A step's record takes the run's next position. So the step waits until every earlier record is
//! durable, and while it commits, nothing else may append: events are deferred.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use futures_util::FutureExt;

use super::{Driver, Flow, TimerKind, abort::AbortOnDrop, contention::Contention, too_large};
use crate::{
    context::{BoxedBody, Tx},
    failure::Failure,
    id::{CommandId, RunId},
    journal::{self, Batch, Journal, MAX_PAYLOAD_BYTES, OpenTransaction, TransactionCommit},
    record::{Record, RecordKind},
    replay::{Action, Event, TransactionBody},
    telemetry::FencedWrite,
    worker::{mailbox::Message, node::Node},
};

/// The transactional steps of one run.
#[derive(Default)]
pub(super) struct Steps {
    running: HashMap<CommandId, AbortOnDrop>,
    ready: VecDeque<ReadyStep>,
    committing: bool,
    deferred: Vec<Event>,
    pub(super) contention: Contention,
    wants_rewind: bool,
}

/// A step whose code is done and whose transaction is open.
struct ReadyStep {
    command: CommandId,
    payload: Bytes,
    transaction: OpenTransaction,
}

impl Steps {
    pub(super) fn ready(
        &mut self,
        command: CommandId,
        payload: Bytes,
        transaction: OpenTransaction,
    ) {
        self.running.remove(&command);
        self.ready.push_back(ReadyStep {
            command,
            payload,
            transaction,
        });
    }

    pub(super) const fn is_committing(&self) -> bool {
        self.committing
    }

    pub(super) fn defer(&mut self, event: Event) {
        self.deferred.push(event);
    }

    /// The activities whose end is deferred.
    pub(super) fn deferred_activities(&self) -> impl Iterator<Item = CommandId> {
        self.deferred.iter().filter_map(closed_activity)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
            && self.ready.is_empty()
            && !self.committing
            && !self.wants_rewind
            && self.deferred.is_empty()
    }

    /// Whether the step's code runs, or is done and waits for its commit.
    fn is_under_way(&self, command: CommandId) -> bool {
        self.running.contains_key(&command) || self.ready.iter().any(|step| step.command == command)
    }

    /// Ends the code of a step.
    pub(super) fn stop(&mut self, command: CommandId) {
        self.running.remove(&command);
    }

    /// Rolls a step back, unless its commit is under way.
    pub(super) fn abandon(&mut self, command: CommandId) {
        self.running.remove(&command);
        self.contention.forget(command);
        self.ready.retain(|step| step.command != command);
    }

    pub(super) fn abandon_all(&mut self) {
        self.running.clear();
        self.ready.clear();
    }
}

impl Driver {
    pub(super) fn start_step(&mut self, command: CommandId, body: TransactionBody) {
        if self.is_draining || self.steps.is_under_way(command) {
            return;
        }
        let Some(body) = body.into_inner::<BoxedBody>() else {
            return;
        };
        let journal = Arc::clone(&self.node.journal);
        let mailbox = self.mailbox.clone();
        let pause = self.steps.contention.pause(command);
        let task = tokio::spawn(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            mailbox.send(run_body(&*journal, command, body).await);
        });
        self.steps.running.insert(command, AbortOnDrop::new(&task));
    }

    /// Commits the next step that is ready, once every earlier record is durable.
    pub(super) fn commit_next_step(&mut self) {
        if self.steps.committing || self.ending.is_some() {
            return;
        }
        if self.has_uncommitted() {
            self.give_way();
            return;
        }
        while let Some(step) = self.steps.ready.pop_front() {
            let record = self
                .execution
                .as_ref()
                .and_then(|execution| execution.step_record(step.command, step.payload));
            let Some(record) = record else {
                // Nobody waits for it any more: dropping the transaction rolls it back.
                self.settle_activity(step.command);
                continue;
            };
            if record.payload.len() > MAX_PAYLOAD_BYTES {
                let failure = too_large(record.payload.len(), MAX_PAYLOAD_BYTES);
                let command = step.command;
                self.mailbox.send(Message::StepFailed { command, failure });
                continue;
            }
            self.steps.committing = true;
            self.spawn_commit(step.transaction, record);
            return;
        }
    }

    /// Whether the run has produced something that is not durable yet.
    pub(super) fn has_uncommitted(&self) -> bool {
        self.in_flight.is_some() || !self.outbox.is_empty()
    }

    /// Whether a transaction that is open may keep every commit waiting, also one that it waits for itself.
    pub(super) fn has_one_writer(&self) -> bool {
        self.node.journal.writes_at_once() <= 1
    }

    /// Rolls back the steps that are ready and keep what comes before them from being committed. They are tried again
    /// afterwards.
    fn give_way(&mut self) {
        let ready = std::mem::take(&mut self.steps.ready).into_iter();
        let (in_the_way, others): (VecDeque<_>, VecDeque<_>) =
            ready.partition(|step| step.transaction.is_the_only_writer());
        self.steps.ready = others;
        for step in in_the_way {
            self.mailbox.send(Message::GaveWay {
                command: step.command,
                failure: Failure::new("other records of the run came first"),
            });
        }
    }

    fn spawn_commit(&self, transaction: OpenTransaction, record: Record) {
        let settled_attempt = self
            .has_stored_attempt(record.command)
            .then_some(record.command);
        let commit = TransactionCommit {
            node: self.node.id,
            run: self.claimed.run,
            record,
            settled_attempt,
        };
        let journal = Arc::clone(&self.node.journal);
        let mailbox = self.mailbox.clone();
        // A task of its own: the commit runs to its end even if the driver goes away.
        tokio::spawn(async move {
            let result = journal.commit_step(transaction, &commit).await;
            mailbox.send(Message::StepCommitted {
                record: commit.record,
                result,
            });
        });
    }

    pub(super) async fn step_committed(
        &mut self,
        record: Record,
        result: journal::Result<()>,
    ) -> Flow {
        self.steps.committing = false;
        let command = record.command;
        let result = match result {
            Err(doubt @ journal::Error::Unknown(_)) => {
                let node = Arc::clone(&self.node);
                settle(&node, self.claimed.run, &record, doubt).await
            }
            known => known,
        };
        match result {
            Ok(()) => {
                self.durable = record.position.next();
                self.steps.contention.forget(command);
                self.settle_activity(command);
                self.happened(Event::TransactionCommitted { record });
                self.replay_deferred();
                self.perform_ungated();
                self.commit_next_step();
                Flow::Continue
            }
            Err(journal::Error::Fenced) => {
                self.node.metrics.fenced(FencedWrite::Step);
                Flow::Stop
            }
            Err(journal::Error::RunLost { .. }) => Flow::Stop,
            // It did not happen.
            Err(journal::Error::Unknown(_)) => {
                if record.kind == RecordKind::ActivityCompleted {
                    self.activities.forget(command);
                }
                self.rewind().await
            }
            Err(error) => {
                let failure = Failure::from_error(&error);
                if error.is_transient() {
                    return self.gave_way(command, failure).await;
                }
                if record.kind == RecordKind::ActivityCompleted {
                    self.replay_deferred();
                    self.attempt_failed(command, failure);
                    return Flow::Continue;
                }
                self.step_failed(command, failure).await
            }
        }
    }

    /// A step's code failed, or its commit was refused; nothing of it remains.
    pub(super) async fn step_failed(&mut self, command: CommandId, failure: Failure) -> Flow {
        self.steps.stop(command);
        if failure.is_contended && self.steps.contention.may_repeat(command) {
            return self.rewind().await;
        }
        self.steps.contention.forget(command);
        self.happened(Event::TransactionFailed { command, failure });
        self.replay_deferred();
        Flow::Continue
    }

    /// Drops the code and lets it catch up with the journal again, on this node.
    pub(super) async fn rewind(&mut self) -> Flow {
        if self.ending.is_some() || self.in_flight.is_some() || !self.outbox.is_empty() {
            // Later: what is under way must be durable before the journal is read.
            self.steps.wants_rewind = true;
            return Flow::Continue;
        }
        self.steps.wants_rewind = false;
        self.execution = None;
        self.gated.clear();
        self.timers.retain(|(_, _, kind)| *kind == TimerKind::Retry);
        match self.load().await {
            Ok((records, attempts)) => {
                // It stood where the step is.
                self.replay(records, attempts, true);
                let closed: Vec<_> = self.steps.deferred_activities().collect();
                self.gated.retain(|(_, action)| match action {
                    Action::StartActivity { command, .. } => !closed.contains(command),
                    _ => true,
                });
                self.replay_deferred();
                // Signals that were read and not received went with the code.
                self.inbox.overlook();
                Flow::Continue
            }
            Err(flow) => flow,
        }
    }

    /// Rewinds the run if that had to wait for a commit.
    pub(super) async fn rewind_if_wanted(&mut self) -> Flow {
        if self.steps.wants_rewind {
            self.rewind().await
        } else {
            Flow::Continue
        }
    }

    pub(super) fn replay_deferred(&mut self) {
        for event in std::mem::take(&mut self.steps.deferred) {
            self.happened(event);
        }
    }
}

/// Waits until a commit in doubt has ended, and looks whether it happened; the error is that it did not.
async fn settle(
    node: &Node,
    run: RunId,
    record: &Record,
    doubt: journal::Error,
) -> journal::Result<()> {
    let mut commit = super::empty_commit(run);
    commit.records.push(record.clone());
    let batch = Batch {
        runs: vec![commit],
        ..Batch::default()
    };
    match node.has_happened(&batch).await? {
        true => Ok(()),
        false => Err(doubt),
    }
}

fn closed_activity(event: &Event) -> Option<CommandId> {
    match event {
        Event::ActivityClosed { command, .. } => Some(*command),
        Event::TransactionFailed { .. }
        | Event::TransactionCommitted { .. }
        | Event::TimerFired { .. }
        | Event::SignalSent { .. }
        | Event::SignalArrived { .. }
        | Event::ChildClosed { .. }
        | Event::CancelRequested => None,
    }
}

/// Opens a transaction, runs the code of a step in it, and takes the transaction back.
async fn run_body(journal: &dyn Journal, command: CommandId, body: BoxedBody) -> Message {
    let failed = |failure| Message::StepFailed { command, failure };
    let transaction = match journal.begin().await {
        Ok(transaction) => transaction,
        Err(error) => {
            let failure = Failure::from_error(&error);
            return match error.is_transient() {
                true => Message::GaveWay { command, failure },
                false => failed(failure),
            };
        }
    };
    let (tx, slot) = Tx::new(transaction);
    let work = AssertUnwindSafe(async move { body(tx).await }).catch_unwind();
    let ended = work.await;
    let payload = match ended.unwrap_or_else(|panic| Err(Failure::from_panic(&*panic))) {
        Ok(payload) => payload,
        Err(failure) => return failed(failure),
    };
    let transaction = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match transaction {
        Some(transaction) => Message::StepReady {
            command,
            payload,
            transaction,
        },
        None => failed(Failure::final_error("the step kept its transaction")),
    }
}
