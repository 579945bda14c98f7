//! What the code asked for in a poll: recorded, and handed to the outside.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Machine, Replayed, StartedChild, uuid_v7};
use crate::{
    id::{CommandId, RunId, WorkflowId},
    record::RecordKind,
    replay::{
        command::{ChildRequest, Command, Request, Resolution, TimerDue},
        fault::Asked,
        turn::{Action, ChildStart},
    },
};

impl Machine {
    /// Ends a poll: takes back a grant that nobody consumed, and records what was asked for first,
    /// in the order of the command numbers, which no order of polling can change.
    pub(in crate::replay) fn end_poll(&mut self) {
        if let Some(id) = self.granted.take() {
            self.decline(id);
        }
        let mut asked = std::mem::take(&mut self.asked);
        asked.sort_unstable();
        for id in asked {
            self.ask(id);
            if self
                .commands
                .get(&id)
                .is_some_and(|command| command.orphaned)
            {
                self.forget(id);
            } else {
                self.unstarted.push(id);
            }
        }
    }

    /// A completed call was polled for and not awaited: it is held until somebody polls it again.
    pub(super) fn decline(&mut self, id: CommandId) {
        if let Some(command) = self.commands.get_mut(&id) {
            command.awaited = false;
            if let Some(held_at) = command.held_at {
                self.grantable.remove(&(held_at, id));
            }
        }
    }

    pub(super) fn ask(&mut self, id: CommandId) {
        let Some(command) = self.commands.get_mut(&id) else {
            return;
        };
        if self.scopes.is_cancelled(command.scope) {
            self.cancel_command(id);
            return;
        }
        if let Request::Signal { received } = &mut command.request {
            if let Some((place, payload)) = self.unread.take(&command.name) {
                *received = Some(place);
                self.resolve(id, Resolution::Value(payload));
            }
            return;
        }
        if let Some(kind) = command.creation_kind() {
            self.create(id, kind);
        }
    }

    /// Records that a command was asked for, or takes the record that says so from the journal.
    pub(super) fn create(&mut self, id: CommandId, kind: RecordKind) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let asked = Asked {
            command: id,
            kind,
            name: Arc::clone(&command.name),
            fingerprint: command.fingerprint,
        };
        if let Some(command) = self.commands.get_mut(&id) {
            command.created = true;
        }
        self.open_children += usize::from(kind == RecordKind::ChildStarted);
        match self.replay_created(&asked) {
            Replayed::Mismatch => {}
            Replayed::Recorded(record) => self.created(id, &record),
            Replayed::New => {
                let payload = self.creation_payload(id);
                self.append(kind, id, asked.name, asked.fingerprint, payload);
            }
        }
    }

    /// The workflow id that a child has, or will have from now on.
    pub(crate) fn child_workflow_id(&mut self, id: CommandId) -> WorkflowId {
        let by_itself = own_workflow_id(self.identity().run, id);
        match self
            .commands
            .get_mut(&id)
            .map(|command| &mut command.request)
        {
            Some(Request::Child(child)) => child.workflow_id.get_or_insert(by_itself).clone(),
            _ => by_itself,
        }
    }

    /// What the creation record of a new command holds.
    pub(super) fn creation_payload(&mut self, id: CommandId) -> Bytes {
        let entropy = self.entropy_of(id);
        let now = self.now;
        let workflow_id = self.child_workflow_id(id);
        let Some(command) = self.commands.get_mut(&id) else {
            return Bytes::new();
        };
        match &mut command.request {
            Request::Timer { due } => {
                let at = match *due {
                    TimerDue::At(at) => at,
                    TimerDue::After(duration) => add(now, duration),
                };
                *due = TimerDue::At(at);
                Bytes::from(at.as_microsecond().to_string())
            }
            Request::Child(child) => {
                let run = RunId::from_uuid(uuid_v7(now, entropy));
                child.run = Some(run);
                self.children.insert(run, id);
                let start = ChildStart {
                    command: id,
                    run,
                    workflow_id: workflow_id.clone(),
                    workflow: Arc::clone(&command.name),
                    queue: child.queue.clone(),
                    input: child.input.clone(),
                    abandon_on_close: child.abandon_on_close,
                    key: Arc::clone(&child.key),
                    priority: child.priority,
                    is_exempt: child.is_exempt,
                    tags: child.tags.clone(),
                };
                self.out.children.push(start);
                let started = StartedChild { run, workflow_id };
                serde_json::to_vec(&started)
                    .map(Bytes::from)
                    .unwrap_or_default()
            }
            // A new attempt of an activity that may run once: it has not run yet.
            Request::Activity { .. }
            | Request::Transaction { .. }
            | Request::Signal { .. }
            | Request::Send { .. }
            | Request::Cancellation => Bytes::new(),
        }
    }

    /// The actions of commands that the outside was not told of. Only for live runs.
    pub(in crate::replay) fn take_actions(&mut self) -> Vec<Action> {
        let mut actions: Vec<_> = self
            .out
            .abandoned
            .drain(..)
            .map(|command| Action::Abandon { command })
            .collect();
        let children = self.out.cancelled_children.drain(..);
        actions.extend(children.map(|(child, is_inherited)| Action::CancelChild {
            child,
            is_inherited,
        }));
        for id in std::mem::take(&mut self.unstarted) {
            let command = self.commands.get_mut(&id);
            let open = command.filter(|command| !command.started && command.resolution.is_none());
            let Some(command) = open else {
                continue;
            };
            if let Some(action) = start_action(id, command) {
                command.started = true;
                actions.push(action);
            }
        }
        actions
    }
}

fn start_action(id: CommandId, command: &mut Command) -> Option<Action> {
    let name = Arc::clone(&command.name);
    match &mut command.request {
        Request::Activity { input, options } => Some(Action::StartActivity {
            command: id,
            name,
            input: input.clone(),
            options: Arc::clone(options),
        }),
        Request::Transaction { body, retry } => body.take().map(|body| Action::StartTransaction {
            command: id,
            name,
            body,
            retry: Arc::clone(retry),
        }),
        Request::Send { to, payload } => Some(Action::SendSignal {
            command: id,
            to: to.clone(),
            name,
            payload: payload.clone(),
        }),
        Request::Timer {
            due: TimerDue::At(due),
        } => Some(Action::SetTimer {
            command: id,
            due: *due,
        }),
        Request::Child(ChildRequest {
            run: Some(child),
            is_inherited,
            ..
        }) => Some(Action::AwaitChild {
            child: *child,
            is_inherited: *is_inherited,
        }),
        Request::Timer {
            due: TimerDue::After(_),
        }
        | Request::Child(ChildRequest { run: None, .. })
        | Request::Signal { .. }
        | Request::Cancellation => None,
    }
}

/// The workflow id of a child that was given none.
fn own_workflow_id(parent: RunId, command: CommandId) -> WorkflowId {
    WorkflowId::new(format!("{parent}/{command}")).expect("a uuid and a number make a short id")
}

/// The latest timestamp stands in for times beyond it.
fn add(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}
