//! What happens to a run: completions are recorded, held, and granted one at a time.

use std::{sync::Arc, task::Waker};

use bytes::Bytes;

use super::{ArrivedSignal, Machine};
use crate::{
    failure::Failure,
    id::CommandId,
    record::{Record, RecordKind},
    replay::{
        command::{ChildRequest, Request, Resolution},
        scope::ScopeId,
        turn::Event,
    },
};

impl Machine {
    /// What happened to a run, outside of replay.
    pub(in crate::replay) fn handle(&mut self, event: Event) {
        match event {
            Event::ActivityClosed { command, result } => self.complete(
                command,
                (RecordKind::ActivityCompleted, RecordKind::ActivityFailed),
                result,
            ),
            Event::TransactionFailed { command, failure } => self.complete(
                command,
                (
                    RecordKind::TransactionCompleted,
                    RecordKind::TransactionFailed,
                ),
                Err(failure),
            ),
            Event::TransactionCommitted { record } => {
                debug_assert_eq!(
                    record.position, self.next_position,
                    "a step's record takes the next position"
                );
                self.next_position = self.next_position.next();
                self.resolve(record.command, Resolution::Value(record.payload));
            }
            Event::TimerFired { command } => {
                self.complete(
                    command,
                    (RecordKind::TimerFired, RecordKind::TimerFired),
                    Ok(Bytes::new()),
                );
            }
            Event::SignalArrived {
                sequence,
                name,
                payload,
            } => {
                if self.seen_signals.insert(sequence) {
                    self.arrived.push_back(ArrivedSignal {
                        sequence,
                        name,
                        payload,
                    });
                }
            }
            Event::SignalSent { command, result } => self.signal_sent(command, result),
            Event::ChildClosed { child, result } => {
                if let Some(command) = self.children.get(&child).copied() {
                    self.complete(
                        command,
                        (RecordKind::ChildCompleted, RecordKind::ChildFailed),
                        result,
                    );
                }
            }
            Event::CancelRequested if self.is_cancelled() => {}
            Event::CancelRequested => {
                self.append(
                    RecordKind::CancelRequested,
                    Record::RUN,
                    "".into(),
                    0,
                    Bytes::new(),
                );
                self.cancel_scope(ScopeId::RUN);
            }
        }
    }

    /// Records the completion of an open command and resolves it. A completion that nobody waits
    /// for leaves no trace.
    pub(super) fn complete(
        &mut self,
        id: CommandId,
        (success, failed): (RecordKind, RecordKind),
        result: Result<Bytes, Failure>,
    ) {
        let Some(command) = self
            .commands
            .get(&id)
            .filter(|command| command.resolution.is_none())
        else {
            return;
        };
        let (name, fingerprint) = (Arc::clone(&command.name), command.fingerprint);
        self.child_closed(success);
        match result {
            Ok(payload) => {
                self.append(success, id, name, fingerprint, payload.clone());
                self.resolve(id, Resolution::Value(payload));
            }
            Err(failure) => {
                self.append(failed, id, name, fingerprint, failure.encode());
                self.resolve(id, Resolution::Failure(failure));
            }
        }
    }

    fn signal_sent(&mut self, id: CommandId, result: Result<(), Failure>) {
        let Some(Request::Send { to, .. }) = self.commands.get(&id).map(|command| &command.request)
        else {
            return;
        };
        let to = Bytes::copy_from_slice(to.as_str().as_bytes());
        self.complete(
            id,
            (RecordKind::SignalSent, RecordKind::SignalFailed),
            result.map(|()| to),
        );
    }

    pub(super) fn child_closed(&mut self, kind: RecordKind) {
        if matches!(kind, RecordKind::ChildCompleted | RecordKind::ChildFailed) {
            self.open_children = self.open_children.saturating_sub(1);
        }
    }

    pub(super) fn resolve(&mut self, id: CommandId, resolution: Resolution) {
        let command = self.commands.get_mut(&id);
        let Some(command) = command.filter(|command| command.resolution.is_none()) else {
            return;
        };
        let held_at = self.resolved;
        self.resolved += 1;
        if let (Request::Signal { received }, Resolution::Value(_)) =
            (&mut command.request, &resolution)
        {
            received.get_or_insert_with(|| self.unread.next_place());
        }
        command.resolution = Some(resolution);
        command.held_at = Some(held_at);
        if command.awaited {
            self.grantable.insert((held_at, id));
        }
    }

    /// Cancels the open calls of a scope.
    pub(crate) fn cancel_scope(&mut self, scope: ScopeId) {
        if !self.scopes.cancel(scope) {
            return;
        }
        let open: Vec<_> = self
            .commands
            .iter()
            .filter(|(_, command)| command.polled && command.resolution.is_none())
            .filter(|(_, command)| self.scopes.is_within(command.scope, scope))
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            if scope != ScopeId::RUN {
                self.cancel_child(id);
            }
            self.cancel_command(id);
        }
    }

    /// Asks a child to cancel whose scope is cancelled. Every replay asks again: it may not have happened.
    fn cancel_child(&mut self, id: CommandId) {
        let request = self.commands.get(&id).map(|command| &command.request);
        if let Some(Request::Child(ChildRequest {
            run: Some(child),
            abandon_on_close: false,
            is_inherited,
            ..
        })) = request
        {
            let cancelled = (*child, *is_inherited);
            self.out.cancelled_children.push(cancelled);
        }
    }

    pub(super) fn cancel_command(&mut self, id: CommandId) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let is_child = matches!(command.request, Request::Child(_));
        let is_cancellation = matches!(command.request, Request::Cancellation);
        // A child is asked to cancel, by the parent-close policy at the latest; an activity is told now.
        if command.started && !is_child {
            self.out.abandoned.push(id);
        }
        let resolution = if is_cancellation {
            Resolution::Value(Bytes::new())
        } else {
            Resolution::Failure(Failure::cancelled())
        };
        self.resolve(id, resolution);
    }

    /// Grants the oldest held completion that is awaited, and returns whom to wake.
    pub(in crate::replay) fn grant(&mut self) -> Option<Waker> {
        debug_assert!(self.granted.is_none(), "one grant at a time");
        let (_, id) = *self.grantable.first()?;
        self.granted = Some(id);
        self.told_now = None;
        let command = self.commands.get_mut(&id)?;
        command.waker.take()
    }

    /// Gives the oldest signal that arrived to a call that waits for its name. Only for live runs.
    pub(in crate::replay) fn receive_signal(&mut self) -> bool {
        for index in 0..self.arrived.len() {
            let name = &self.arrived[index].name;
            let waiting = self.commands.iter().find(|(_, command)| {
                matches!(command.request, Request::Signal { .. })
                    && command.awaited
                    && command.resolution.is_none()
                    && command.name == *name
            });
            let Some(id) = waiting.map(|(id, _)| *id) else {
                continue;
            };
            if let Some(signal) = self.arrived.remove(index) {
                self.out.consumed_signals.push(signal.sequence);
                self.complete(
                    id,
                    (RecordKind::SignalReceived, RecordKind::SignalReceived),
                    Ok(signal.payload),
                );
                return true;
            }
        }
        false
    }
}
