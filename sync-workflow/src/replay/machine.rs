//! The state machine of one run.

mod arrivals;
mod asked;
mod code;
mod replaying;
mod unread;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::unread::Unread;
use super::{
    command::{ChildRequest, Command, Request, Resolution, TimerDue},
    fault::{Asked, Fault, Mismatch},
    lineage::{Identity, Lineage},
    scope::{ScopeId, Scopes},
    turn::{ChildStart, Continuation},
    waker::Tracker,
};
use crate::{
    id::{CommandId, Position, RunId, WorkflowId},
    record::{self, Record, RecordKind},
    tag::TagChange,
};

/// The state of one run: its journal so far, and the durable calls that are open.
///
/// Workflow code reaches it through the context while it is polled; the [`super::Execution`]
/// reaches it between polls.
pub(crate) struct Machine {
    lineage: Lineage,
    /// The driver's time of this turn.
    now: Timestamp,
    /// The time that the code was told in this turn.
    told_now: Option<Timestamp>,
    /// The versions of changes that were chosen.
    versions: HashMap<Arc<str>, u32>,
    /// The last of the calls of which the journal keeps failed attempts or progress.
    last_attempted: Option<CommandId>,
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
    /// Signals that were received and not read.
    unread: Unread,
    scopes: Scopes,
    continuation: Option<(Arc<str>, Bytes)>,
    /// The names of the tags that the code has set or taken away.
    tagged: BTreeSet<Arc<str>>,
    /// Children that were started and have not closed, as far as the run was told.
    open_children: usize,
    fault: Option<Fault>,
    /// Knows whether the code is being polled, once there is an execution that does so.
    tracker: Option<Arc<Tracker>>,
    out: Output,
}

/// What the machine produced and the driver has not taken yet.
#[derive(Default)]
pub(super) struct Output {
    pub(super) records: Vec<Record>,
    pub(super) children: Vec<ChildStart>,
    pub(super) consumed_signals: Vec<i64>,
    pub(super) published: Vec<(Arc<str>, Bytes)>,
    pub(super) tags: Vec<TagChange>,
    pub(super) abandoned: Vec<CommandId>,
    /// Children whose scope was cancelled, and whether another run started them.
    pub(super) cancelled_children: Vec<(RunId, bool)>,
}

struct ArrivedSignal {
    sequence: i64,
    name: Arc<str>,
    payload: Bytes,
}

/// The payload of a [`RecordKind::ChildStarted`] record.
#[derive(Serialize, Deserialize)]
pub(crate) struct StartedChild {
    pub(crate) run: RunId,
    workflow_id: WorkflowId,
}

impl StartedChild {
    /// The child that the record of its start names.
    pub(crate) fn read(record: &Record) -> Option<Self> {
        serde_json::from_slice(&record.payload).ok()
    }
}

/// The name under which a run's pure values are recorded.
const NOW: &str = "now";

impl Machine {
    pub(crate) fn new(run: RunId, workflow_id: WorkflowId, mut journal: Vec<Record>) -> Self {
        let next_position = Position(u32::try_from(journal.len()).unwrap_or(u32::MAX));
        let versions = chosen_versions(&journal);
        // Those may be asked for at another place than they were chosen at, or not any more.
        journal.retain(|record| record.kind != RecordKind::VersionChosen);
        let unread = Unread::take_from(&mut journal);
        let identity = Identity { run, workflow_id };
        let (lineage, fault) = match Lineage::take_from(&mut journal, identity.clone()) {
            Ok(lineage) => (lineage, None),
            Err(fault) => (Lineage::of(identity), Some(fault)),
        };
        Self {
            lineage,
            now: Timestamp::UNIX_EPOCH,
            told_now: None,
            next_position,
            versions,
            last_attempted: None,
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
            unread,
            scopes: Scopes::default(),
            continuation: None,
            tagged: BTreeSet::new(),
            open_children: 0,
            fault,
            tracker: None,
            out: Output::default(),
        }
    }

    /// Tells of the calls that have not ended, and of which the journal keeps failed attempts or progress.
    pub(crate) fn with_attempts(mut self, attempted: impl Iterator<Item = CommandId>) -> Self {
        self.last_attempted = attempted.max();
        self
    }

    /// Who the run is to its code: while the code takes in what another run wrote, that one.
    pub(crate) fn identity(&self) -> &Identity {
        self.lineage.with_left(self.journal.len())
    }

    /// Whether somebody asked the run to cancel.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_scope_cancelled(ScopeId::RUN)
    }

    pub(crate) fn is_scope_cancelled(&self, scope: ScopeId) -> bool {
        self.scopes.is_cancelled(scope)
    }

    /// Whether everything that the code does now was done before.
    pub(crate) fn is_replaying(&self) -> bool {
        !self.journal.is_empty()
    }

    /// Whether what the code shows now was shown before, in the commit of what led to it.
    fn has_shown(&self) -> bool {
        self.is_replaying() && !self.lineage.is_newborn()
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

    fn entropy_of(&self, command: CommandId) -> u128 {
        let mut seed = [0_u8; 20];
        seed[..16].copy_from_slice(self.identity().run.as_uuid().as_bytes());
        seed[16..].copy_from_slice(&command.0.to_be_bytes());
        xxhash_rust::xxh3::xxh3_128(&seed)
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
    /// From here on durable calls are made while the tracked code is polled, and at no other time.
    pub(super) fn track(&mut self, tracker: Arc<Tracker>) {
        self.tracker = Some(tracker);
    }

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
            carried_over: self.take_unread().carry_over(),
        })
    }

    /// All signals that were received and not read, also by waits that there are.
    fn take_unread(&mut self) -> Unread {
        let mut unread = std::mem::take(&mut self.unread);
        for command in std::mem::take(&mut self.commands).into_values() {
            if let (
                Request::Signal {
                    received: Some(place),
                },
                Some(Resolution::Value(payload)),
            ) = (command.request, command.resolution)
            {
                unread.give_back(place, command.name, payload);
            }
        }
        unread
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

/// The versions that the code of this run has chosen, by change.
fn chosen_versions(journal: &[Record]) -> HashMap<Arc<str>, u32> {
    let chosen = journal
        .iter()
        .filter(|record| record.kind == RecordKind::VersionChosen);
    chosen
        .filter_map(|record| {
            let number = std::str::from_utf8(&record.payload).ok()?.parse().ok()?;
            Some((Arc::clone(&record.name), number))
        })
        .collect()
}

fn decode_time(payload: &[u8]) -> Option<Timestamp> {
    let micros = std::str::from_utf8(payload).ok()?.parse().ok()?;
    Timestamp::from_microsecond(micros).ok()
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

/// What the journal says to something that the code asked for.
enum Replayed {
    /// The journal holds this record for it.
    Recorded(Record),
    /// The journal is at its end: it is new.
    New,
    /// The journal holds something else; the fault is noted.
    Mismatch,
}
