//! The journal, taken in again: each record must be what the code asks for.

use std::{collections::HashSet, sync::Arc};

use super::{Machine, Replayed, StartedChild, decode_time};
use crate::{
    failure::{Failure, FailureKind},
    id::CommandId,
    record::{Record, RecordKind},
    replay::{
        command::{Request, Resolution, TimerDue},
        fault::{Asked, Fault},
        scope::ScopeId,
    },
};

impl Machine {
    /// Applies the next record of the journal. `false` when there is none left.
    pub(in crate::replay) fn replay_next(&mut self) -> bool {
        let Some(record) = self.journal.pop_front() else {
            return false;
        };
        match record.kind {
            RecordKind::Started => {}
            RecordKind::CancelRequested => self.cancel_scope(ScopeId::RUN),
            RecordKind::ActivityCompleted
            | RecordKind::TransactionCompleted
            | RecordKind::TimerFired
            | RecordKind::SignalReceived
            | RecordKind::SignalSent
            | RecordKind::ChildCompleted => {
                self.replay_completion(&record, Resolution::Value(record.payload.clone()))
            }
            RecordKind::ActivityFailed
            | RecordKind::TransactionFailed
            | RecordKind::SignalFailed
            | RecordKind::ChildFailed => {
                self.replay_completion(
                    &record,
                    Resolution::Failure(Failure::decode(&record.payload)),
                );
            }
            // The code had its chance to ask for these in the poll before.
            RecordKind::SideEffect
            | RecordKind::VersionChosen
            | RecordKind::Forked
            | RecordKind::ActivityAttempted
            | RecordKind::TimerStarted
            | RecordKind::ChildStarted
            | RecordKind::Completed
            | RecordKind::Failed
            | RecordKind::Cancelled
            | RecordKind::Terminated
            | RecordKind::ContinuedAsNew => self.mismatch(&record, None),
        }
        true
    }

    pub(super) fn replay_completion(&mut self, record: &Record, resolution: Resolution) {
        let Some(command) = self
            .commands
            .get(&record.command)
            .filter(|command| command.polled)
        else {
            self.mismatch(record, None);
            return;
        };
        let fits = command.completes_with(record.kind)
            && command.name == record.name
            && command.fingerprint == record.fingerprint
            && command.resolution.is_none();
        if !fits {
            let asked = Asked {
                command: record.command,
                kind: command.completion_kind(),
                name: Arc::clone(&command.name),
                fingerprint: command.fingerprint,
            };
            self.mismatch(record, Some(asked));
            return;
        }
        self.child_closed(record.kind);
        self.resolve(record.command, resolution);
    }

    pub(super) fn replay_created(&mut self, asked: &Asked) -> Replayed {
        if self.has_fault() {
            return Replayed::Mismatch;
        }
        let Some(next) = self.journal.front() else {
            return Replayed::New;
        };
        let fits = next.kind == asked.kind
            && next.command == asked.command
            && next.name == asked.name
            && next.fingerprint == asked.fingerprint;
        if fits {
            // The front was just looked at.
            return self
                .journal
                .pop_front()
                .map_or(Replayed::New, Replayed::Recorded);
        }
        let record = next.clone();
        self.mismatch(&record, Some(asked.clone()));
        Replayed::Mismatch
    }

    /// The journal holds more than the code did before it returned.
    pub(in crate::replay) fn mismatch_at_end(&mut self) {
        if let Some(record) = self.journal.pop_front() {
            self.mismatch(&record, None);
        }
    }

    /// Takes over what the creation record of a replayed command holds.
    pub(super) fn created(&mut self, id: CommandId, record: &Record) {
        let damaged = |detail: &str| Fault::Damaged {
            detail: format!("record {}: {detail}", record.position),
        };
        let Some(command) = self.commands.get_mut(&id) else {
            return;
        };
        match &mut command.request {
            Request::Timer { due } => match decode_time(&record.payload) {
                Some(at) => *due = TimerDue::At(at),
                None => self.fail_with(damaged("a timer without a time")),
            },
            Request::Child(child) => match StartedChild::read(record) {
                Some(started) => {
                    child.run = Some(started.run);
                    child.is_inherited = self.lineage.is_inherited(record.position);
                    self.children.insert(started.run, id);
                }
                None => self.fail_with(damaged("a child without a run")),
            },
            // It was about to run, and whether it did will be asked when the replay is over.
            Request::Activity { .. } => command.started = true,
            Request::Transaction { .. }
            | Request::Signal { .. }
            | Request::Send { .. }
            | Request::Cancellation => {}
        }
    }

    /// Resolves the first activity that may run once and was interrupted: after a replay, one that
    /// was about to run and left no completion may have had its effect. `false` if there is none.
    pub(in crate::replay) fn resolve_interrupted(&mut self, running: &HashSet<CommandId>) -> bool {
        let interrupted = self.commands.iter().find(|(id, command)| {
            command.creation_kind() == Some(RecordKind::ActivityAttempted)
                && command.started
                && !running.contains(id)
                && command.resolution.is_none()
        });
        let Some(id) = interrupted.map(|(id, _)| *id) else {
            return false;
        };
        let failure = Failure::of_kind(
            FailureKind::Interrupted,
            "the worker stopped while the activity ran; whether it had its effect is unknown",
        );
        self.complete(
            id,
            (RecordKind::ActivityCompleted, RecordKind::ActivityFailed),
            Err(failure.into_final()),
        );
        true
    }
}
