//! The state machine of one run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    command::{ChildRequest, Command, Request, Resolution, TimerDue},
    fault::{Asked, Fault, Mismatch},
    turn::{Action, ChildStart, Continuation, Event},
};
use crate::{
    failure::Failure,
    id::{CommandId, Position, RunId, WorkflowId},
    record::{self, Record, RecordKind},
};

/// The state of one run: its journal so far, and the durable calls that are open.
///
/// Workflow code reaches it through the context while it is polled; the [`super::Execution`]
/// reaches it between polls.
pub(crate) struct Machine {
    run: RunId,
    workflow_id: WorkflowId,
    /// The driver's time of this turn.
    now: Timestamp,
    /// The time that the code was told in this turn.
    told_now: Option<Timestamp>,
    /// Records that are still to be replayed.
    journal: VecDeque<Record>,
    next_position: Position,
    next_command: u32,
    commands: BTreeMap<CommandId, Command>,
    /// Commands that were asked for first in this poll.
    asked: Vec<CommandId>,
    /// Commands that were asked for and may have to be started outside.
    unstarted: Vec<CommandId>,
    /// The commands of the children that were started, by child.
    children: HashMap<RunId, CommandId>,
    /// How many commands were resolved: the order in which completions are held.
    resolved: u64,
    /// Resolved commands that somebody awaits, in the order of their records.
    grantable: BTreeSet<(u64, CommandId)>,
    granted: Option<CommandId>,
    /// Signals that arrived and no record consumes yet.
    arrived: VecDeque<ArrivedSignal>,
    seen_signals: HashSet<i64>,
    /// Signals whose wait was dropped after their record: the next wait of the name takes them.
    returned: VecDeque<(Arc<str>, Bytes)>,
    is_cancelled: bool,
    continuation: Option<(Arc<str>, Bytes)>,
    /// Children that were started and have not closed, as far as the run was told.
    open_children: usize,
    fault: Option<Fault>,
    out: Output,
}

/// What the machine produced and the driver has not taken yet.
#[derive(Default)]
pub(super) struct Output {
    pub(super) records: Vec<Record>,
    pub(super) children: Vec<ChildStart>,
    pub(super) consumed_signals: Vec<i64>,
    pub(super) abandoned: Vec<CommandId>,
}

struct ArrivedSignal {
    sequence: i64,
    name: Arc<str>,
    payload: Bytes,
}

/// The payload of a [`RecordKind::ChildStarted`] record.
#[derive(Serialize, Deserialize)]
struct StartedChild {
    run: RunId,
    workflow_id: WorkflowId,
}

/// The name under which a run's pure values are recorded.
const NOW: &str = "now";

// What workflow code does, through the context, while it is polled.
impl Machine {
    pub(crate) fn new(run: RunId, workflow_id: WorkflowId, journal: Vec<Record>) -> Self {
        Self {
            run,
            workflow_id,
            now: Timestamp::UNIX_EPOCH,
            told_now: None,
            next_position: Position(u32::try_from(journal.len()).unwrap_or(u32::MAX)),
            journal: journal.into(),
            next_command: 0,
            commands: BTreeMap::new(),
            asked: Vec::new(),
            unstarted: Vec::new(),
            children: HashMap::new(),
            resolved: 0,
            grantable: BTreeSet::new(),
            granted: None,
            arrived: VecDeque::new(),
            seen_signals: HashSet::new(),
            returned: VecDeque::new(),
            is_cancelled: false,
            continuation: None,
            open_children: 0,
            fault: None,
            out: Output::default(),
        }
    }

    pub(crate) const fn run(&self) -> RunId {
        self.run
    }

    pub(crate) const fn workflow_id(&self) -> &WorkflowId {
        &self.workflow_id
    }

    pub(crate) const fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// Whether everything that the code does now was done before.
    pub(crate) fn is_replaying(&self) -> bool {
        !self.journal.is_empty()
    }

    /// Numbers a command. This happens when the call is built, before its first poll.
    pub(crate) fn build(&mut self, command: Command) -> CommandId {
        let id = self.next_command_id();
        self.commands.insert(id, command);
        id
    }

    /// Changes a command that is still being built.
    pub(crate) fn configure(&mut self, id: CommandId, change: impl FnOnce(&mut Command)) {
        if let Some(command) = self.commands.get_mut(&id).filter(|command| !command.polled) {
            change(command);
        }
    }

    /// Polls a durable call: asks for it at the first poll, consumes its value once it is granted.
    pub(crate) fn poll(&mut self, id: CommandId, waker: &Waker) -> Poll<Resolution> {
        let Some(command) = self.commands.get_mut(&id) else {
            return Poll::Pending;
        };
        if self.granted == Some(id) {
            self.granted = None;
            let command = self.forget(id);
            return match command.and_then(|command| command.resolution) {
                Some(resolution) => Poll::Ready(resolution),
                None => Poll::Pending,
            };
        }
        match &mut command.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        command.awaited = true;
        if let Some(held_at) = command.held_at {
            self.grantable.insert((held_at, id));
        }
        if !command.polled {
            command.polled = true;
            self.asked.push(id);
        }
        Poll::Pending
    }

    /// A durable call was dropped: its value will not be consumed.
    pub(crate) fn drop_command(&mut self, id: CommandId) {
        if let Some(command) = self
            .commands
            .get_mut(&id)
            .filter(|command| command.eager && !command.created)
        {
            command.orphaned = true;
            return;
        }
        let Some(command) = self.forget(id) else {
            return;
        };
        self.asked.retain(|asked| *asked != id);
        if self.granted == Some(id) {
            self.granted = None;
        }
        match (&command.request, command.resolution) {
            (Request::Signal, Some(Resolution::Value(payload))) => {
                self.returned.push_back((command.name, payload))
            }
            (_, None) if command.started => self.out.abandoned.push(id),
            _ => {}
        }
    }

    /// Takes a command out, with everything that points to it.
    fn forget(&mut self, id: CommandId) -> Option<Command> {
        let command = self.commands.remove(&id)?;
        if let Some(held_at) = command.held_at {
            self.grantable.remove(&(held_at, id));
        }
        if let Request::Child(ChildRequest {
            run: Some(child), ..
        }) = &command.request
        {
            self.children.remove(child);
        }
        Some(command)
    }

    /// The time of this turn: one value for all code between two completions.
    pub(crate) fn now(&mut self) -> Timestamp {
        if let Some(told) = self.told_now {
            return told;
        }
        let told = match self.recorded_side_effect(NOW) {
            Ok(payload) => decode_time(&payload).unwrap_or(self.now),
            Err(command) => {
                let payload = Bytes::from(self.now.as_microsecond().to_string());
                self.record_side_effect(command, NOW, payload);
                self.now
            }
        };
        self.told_now = Some(told);
        told
    }

    /// The recorded value of the next side effect, or the command number to record it under.
    pub(crate) fn recorded_side_effect(&mut self, name: &str) -> Result<Bytes, CommandId> {
        let command = self.next_command_id();
        let asked = Asked {
            command,
            kind: RecordKind::SideEffect,
            name: name.into(),
            fingerprint: 0,
        };
        match self.replay_created(&asked) {
            Replayed::Recorded(record) => Ok(record.payload),
            Replayed::New | Replayed::Mismatch => Err(command),
        }
    }

    /// Records a value that was drawn. After a mismatch the value leads nowhere.
    pub(crate) fn record_side_effect(&mut self, command: CommandId, name: &str, payload: Bytes) {
        if !self.has_fault() {
            self.append(RecordKind::SideEffect, command, name.into(), 0, payload);
        }
    }

    /// 128 bits that follow from the run and the number of the command: the same in every replay,
    /// and different everywhere else.
    pub(crate) fn entropy(&mut self) -> u128 {
        let command = self.next_command_id();
        self.entropy_of(command)
    }

    fn entropy_of(&self, command: CommandId) -> u128 {
        let mut seed = [0_u8; 20];
        seed[..16].copy_from_slice(self.run.as_uuid().as_bytes());
        seed[16..].copy_from_slice(&command.0.to_be_bytes());
        xxhash_rust::xxh3::xxh3_128(&seed)
    }

    /// Asks for a command now, whether or not it is ever polled: a child that is started.
    pub(crate) fn ask_eagerly(&mut self, id: CommandId) {
        if let Some(command) = self.commands.get_mut(&id).filter(|command| !command.polled) {
            command.polled = true;
            command.eager = true;
            self.asked.push(id);
        }
    }

    pub(crate) fn continue_as_new(&mut self, workflow: Arc<str>, input: Bytes) {
        self.continuation = Some((workflow, input));
    }

    /// The run cannot go on: the first fault is the one that is reported.
    pub(crate) fn fail_with(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn next_command_id(&mut self) -> CommandId {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        id
    }
}

// What the execution does between polls.
impl Machine {
    pub(super) const fn next_position(&self) -> Position {
        self.next_position
    }

    /// Times are kept to the microsecond, as the journal keeps them: a replay must see the same.
    pub(super) fn begin_turn(&mut self, now: Timestamp) {
        self.now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    }

    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    pub(super) const fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    pub(super) fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.out)
    }

    /// Whether the run waits for anything of ours at all.
    pub(super) fn awaits_something(&self) -> bool {
        self.commands.values().any(|command| command.polled)
    }

    /// What happened to a run, outside of replay.
    pub(super) fn handle(&mut self, event: Event) {
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
            Event::ChildClosed { child, result } => {
                if let Some(command) = self.children.get(&child).copied() {
                    self.complete(
                        command,
                        (RecordKind::ChildCompleted, RecordKind::ChildFailed),
                        result,
                    );
                }
            }
            Event::CancelRequested if self.is_cancelled => {}
            Event::CancelRequested => {
                self.append(
                    RecordKind::CancelRequested,
                    Record::RUN,
                    "".into(),
                    0,
                    Bytes::new(),
                );
                self.cancel();
            }
        }
    }

    /// Applies the next record of the journal. `false` when there is none left.
    pub(super) fn replay_next(&mut self) -> bool {
        let Some(record) = self.journal.pop_front() else {
            return false;
        };
        match record.kind {
            RecordKind::Started => {}
            RecordKind::CancelRequested => self.cancel(),
            RecordKind::ActivityCompleted
            | RecordKind::TransactionCompleted
            | RecordKind::TimerFired
            | RecordKind::SignalReceived
            | RecordKind::ChildCompleted => {
                self.replay_completion(&record, Resolution::Value(record.payload.clone()))
            }
            RecordKind::ActivityFailed
            | RecordKind::TransactionFailed
            | RecordKind::ChildFailed => {
                self.replay_completion(
                    &record,
                    Resolution::Failure(Failure::decode(&record.payload)),
                );
            }
            // The code had its chance to ask for these in the poll before.
            RecordKind::SideEffect
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

    fn replay_completion(&mut self, record: &Record, resolution: Resolution) {
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

    /// Records the completion of an open command and resolves it. A completion that nobody waits
    /// for leaves no trace.
    fn complete(
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

    fn child_closed(&mut self, kind: RecordKind) {
        if matches!(kind, RecordKind::ChildCompleted | RecordKind::ChildFailed) {
            self.open_children = self.open_children.saturating_sub(1);
        }
    }

    fn resolve(&mut self, id: CommandId, resolution: Resolution) {
        let command = self.commands.get_mut(&id);
        let Some(command) = command.filter(|command| command.resolution.is_none()) else {
            return;
        };
        let held_at = self.resolved;
        self.resolved += 1;
        command.resolution = Some(resolution);
        command.held_at = Some(held_at);
        if command.awaited {
            self.grantable.insert((held_at, id));
        }
    }

    fn cancel(&mut self) {
        self.is_cancelled = true;
        let open: Vec<_> = self
            .commands
            .iter()
            .filter(|(_, command)| {
                command.polled && !command.shielded && command.resolution.is_none()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            self.cancel_command(id);
        }
    }

    fn cancel_command(&mut self, id: CommandId) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let is_child = matches!(command.request, Request::Child(_));
        let is_cancellation = matches!(command.request, Request::Cancellation);
        // A child is cancelled by the parent-close policy, an activity now.
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
    pub(super) fn grant(&mut self) -> Option<Waker> {
        debug_assert!(self.granted.is_none(), "one grant at a time");
        let (_, id) = *self.grantable.first()?;
        self.granted = Some(id);
        self.told_now = None;
        let command = self.commands.get_mut(&id)?;
        command.waker.take()
    }

    /// Gives the oldest signal that arrived to a call that waits for its name. Only for live runs.
    pub(super) fn receive_signal(&mut self) -> bool {
        for index in 0..self.arrived.len() {
            let name = &self.arrived[index].name;
            let waiting = self.commands.iter().find(|(_, command)| {
                matches!(command.request, Request::Signal)
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

    /// Ends a poll: takes back a grant that nobody consumed, and records what was asked for first,
    /// in the order of the command numbers, which no order of polling can change.
    pub(super) fn end_poll(&mut self) {
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
    fn decline(&mut self, id: CommandId) {
        if let Some(command) = self.commands.get_mut(&id) {
            command.awaited = false;
            if let Some(held_at) = command.held_at {
                self.grantable.remove(&(held_at, id));
            }
        }
    }

    fn ask(&mut self, id: CommandId) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        if self.is_cancelled && !command.shielded {
            self.cancel_command(id);
            return;
        }
        if let Request::Signal = command.request {
            let name = Arc::clone(&command.name);
            let index = self
                .returned
                .iter()
                .position(|(returned, _)| *returned == name);
            if let Some((_, payload)) = index.and_then(|index| self.returned.remove(index)) {
                self.resolve(id, Resolution::Value(payload));
            }
            return;
        }
        if let Some(kind) = command.creation_kind() {
            self.create(id, kind);
        }
    }

    /// Records that a command was asked for, or takes the record that says so from the journal.
    fn create(&mut self, id: CommandId, kind: RecordKind) {
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

    /// What the creation record of a new command holds.
    fn creation_payload(&mut self, id: CommandId) -> Bytes {
        let entropy = self.entropy_of(id);
        let (now, parent) = (self.now, self.run);
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
                let workflow_id = child_workflow_id(child, parent, id);
                let start = ChildStart {
                    command: id,
                    run,
                    workflow_id: workflow_id.clone(),
                    workflow: Arc::clone(&command.name),
                    queue: child.queue.clone(),
                    input: child.input.clone(),
                    abandon_on_close: child.abandon_on_close,
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
            | Request::Signal
            | Request::Cancellation => Bytes::new(),
        }
    }

    /// Takes over what the creation record of a replayed command holds.
    fn created(&mut self, id: CommandId, record: &Record) {
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
            Request::Child(child) => {
                match serde_json::from_slice::<StartedChild>(&record.payload) {
                    Ok(started) => {
                        child.run = Some(started.run);
                        self.children.insert(started.run, id);
                    }
                    Err(_) => self.fail_with(damaged("a child without a run")),
                }
            }
            // It was about to run, and whether it did will be asked when the replay is over.
            Request::Activity { .. } => command.started = true,
            Request::Transaction { .. } | Request::Signal | Request::Cancellation => {}
        }
    }

    /// The actions of commands that the outside was not told of. Only for live runs.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        let mut actions: Vec<_> = self
            .out
            .abandoned
            .drain(..)
            .map(|command| Action::Abandon { command })
            .collect();
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

    /// Resolves the first activity that may run once and was interrupted: after a replay, one that
    /// was about to run and left no completion may have had its effect. `false` if there is none.
    pub(super) fn resolve_interrupted(&mut self, running: &HashSet<CommandId>) -> bool {
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
            crate::failure::FailureKind::Interrupted,
            "the worker stopped while the activity ran; whether it had its effect is unknown",
        );
        self.complete(
            id,
            (RecordKind::ActivityCompleted, RecordKind::ActivityFailed),
            Err(failure.into_final()),
        );
        true
    }

    /// The record with which a transactional step would complete an open command now.
    pub(super) fn step_record(&self, id: CommandId, payload: Bytes) -> Option<Record> {
        let command = self
            .commands
            .get(&id)
            .filter(|command| command.resolution.is_none())?;
        Some(Record {
            position: self.next_position,
            kind: command.completion_kind(),
            command: id,
            name: Arc::clone(&command.name),
            fingerprint: command.fingerprint,
            payload,
        })
    }

    pub(super) const fn is_continued(&self) -> bool {
        self.continuation.is_some()
    }

    pub(super) const fn has_open_children(&self) -> bool {
        self.open_children > 0
    }

    /// Appends the run's final record.
    pub(super) fn close(&mut self, kind: RecordKind, payload: Bytes) {
        self.append(kind, Record::RUN, "".into(), 0, payload);
    }

    /// Ends the run in favour of a new one, if the code asked for that.
    pub(super) fn close_for_continuation(&mut self) -> Option<Continuation> {
        let (workflow, input) = self.continuation.take()?;
        let entropy = self.entropy_of(CommandId(u32::MAX));
        let run = RunId::from_uuid(uuid_v7(self.now, entropy));
        self.close(RecordKind::ContinuedAsNew, Bytes::from(run.to_string()));
        Some(Continuation {
            run,
            workflow,
            input,
        })
    }

    /// The journal holds more than the code did before it returned.
    pub(super) fn mismatch_at_end(&mut self) {
        if let Some(record) = self.journal.pop_front() {
            self.mismatch(&record, None);
        }
    }

    fn replay_created(&mut self, asked: &Asked) -> Replayed {
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

    fn mismatch(&mut self, record: &Record, asked: Option<Asked>) {
        let recorded = Asked {
            command: record.command,
            kind: record.kind,
            name: Arc::clone(&record.name),
            fingerprint: record.fingerprint,
        };
        let mismatch = Mismatch {
            position: record.position,
            recorded,
            asked,
        };
        self.fail_with(Fault::Nondeterministic(Box::new(mismatch)));
    }

    fn append(
        &mut self,
        kind: RecordKind,
        command: CommandId,
        name: Arc<str>,
        fingerprint: u64,
        payload: Bytes,
    ) {
        let position = self.next_position;
        self.next_position = position.next();
        self.out.records.push(Record {
            position,
            kind,
            command,
            name,
            fingerprint,
            payload,
        });
    }
}

enum Replayed {
    /// The journal holds this record for it.
    Recorded(Record),
    /// The journal is at its end: it is new.
    New,
    /// The journal holds something else; the fault is noted.
    Mismatch,
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
        Request::Timer {
            due: TimerDue::At(due),
        } => Some(Action::SetTimer {
            command: id,
            due: *due,
        }),
        Request::Child(ChildRequest {
            run: Some(child), ..
        }) => Some(Action::AwaitChild { child: *child }),
        Request::Timer {
            due: TimerDue::After(_),
        }
        | Request::Child(ChildRequest { run: None, .. })
        | Request::Signal
        | Request::Cancellation => None,
    }
}

fn child_workflow_id(child: &ChildRequest, parent: RunId, command: CommandId) -> WorkflowId {
    child.workflow_id.clone().unwrap_or_else(|| {
        WorkflowId::new(format!("{parent}/{command}")).expect("a uuid and a number make a short id")
    })
}

fn decode_time(payload: &[u8]) -> Option<Timestamp> {
    let micros = std::str::from_utf8(payload).ok()?.parse().ok()?;
    Timestamp::from_microsecond(micros).ok()
}

/// The latest timestamp stands in for times beyond it.
fn add(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// A version 7 uuid from a time and from random bits.
fn uuid_v7(now: Timestamp, entropy: u128) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let bytes = entropy.to_be_bytes();
    let mut random = [0_u8; 10];
    random.copy_from_slice(&bytes[..10]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The fingerprint of a duration or time that a timer asks for.
pub(crate) fn timer_fingerprint(due: TimerDue) -> u64 {
    match due {
        TimerDue::After(duration) => record::fingerprint(&duration.as_micros().to_be_bytes()),
        TimerDue::At(at) => record::fingerprint(&at.as_microsecond().to_be_bytes()),
    }
}
