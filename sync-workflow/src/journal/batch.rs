//! What one commit of a node carries, and what came of it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{queue::Ticket, reuse::IdReuse};
use crate::{
    id::{CommandId, NodeId, Position, RunId, WorkflowId},
    record::{Record, RecordKind},
    status::RunStatus,
    tag::{TagChange, Tags},
    trace::TraceContext,
};

/// Everything that a node commits at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What its runs produced, each run at most once.
    pub runs: Vec<RunCommit>,
    /// Runs that clients of this process start.
    pub starts: Vec<NewRun>,
}

/// What one run produced since its last commit.
#[derive(Debug, Clone)]
pub struct RunCommit {
    /// The run.
    pub run: RunId,
    /// New records, at consecutive positions.
    pub records: Vec<Record>,
    /// Children to start, each with a [`ParentLink`] to this run.
    pub children: Vec<NewRun>,
    /// The sequence numbers of signals that the records consumed.
    pub consumed_signals: Vec<i64>,
    /// State of unfinished activities to keep beyond a crash: inserted or overwritten.
    pub attempts: Vec<Attempt>,
    /// Activities that had such state and are finished: their rows are deleted.
    pub settled_attempts: Vec<CommandId>,
    /// What it shows to whoever asks, each name at most once.
    pub published: Vec<Publication>,
    /// Tags that it sets or takes away, each name at most once.
    pub tags: Vec<TagChange>,
    /// What becomes of the run.
    pub transition: Transition,
}

impl RunCommit {
    /// Whether it has records and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.children.is_empty() && self.only_adds()
    }

    /// Whether it changes nothing that is there: it has records, and children that are born.
    #[must_use]
    pub fn only_adds(&self) -> bool {
        self.consumed_signals.is_empty()
            && self.attempts.is_empty()
            && self.settled_attempts.is_empty()
            && self.published.is_empty()
            && self.tags.is_empty()
            && matches!(self.transition, Transition::Continue)
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.is_plain()
    }
}

/// A value that a chain of runs shows to whoever asks, in place of what it showed under this name before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: Arc<str>,
    /// The encoded value.
    pub payload: Bytes,
}

/// What becomes of a run with a commit.
#[derive(Debug, Clone)]
pub enum Transition {
    /// It goes on, on this node.
    Continue,
    /// It gives up its place in memory until `wake_at`, unless something arrived meanwhile: it
    /// happens only if the run's inbox count still equals `seen_inbox`. A refused suspension
    /// refuses nothing else of the commit.
    Suspend {
        /// When to wake it without any arrival.
        wake_at: WakeAt,
        /// The inbox count that the run has taken into account.
        seen_inbox: i64,
    },
    /// It goes back to being ready at once, and its claim does not count as an attempt.
    Release,
    /// It stops for a person.
    Park {
        /// What the person is told.
        reason: String,
    },
    /// It has ended; the last of the commit's records says how.
    Close(Box<Close>),
}

/// How a run ends.
#[derive(Debug, Clone)]
pub struct Close {
    /// A closed status.
    pub status: RunStatus,
    /// The run in which it goes on, when it continues as new.
    pub next: Option<NewRun>,
    /// Whether children may still be open, to which the parent-close policy applies.
    pub has_open_children: bool,
    /// Whether a parent may be told: the run has one, or it is not known that it has none.
    pub has_parent: bool,
}

/// When a suspended run wakes without an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeAt {
    /// It waits for an arrival only.
    Arrival,
    /// At this time of the database's clock.
    Time(Timestamp),
}

/// The state of an activity that is between attempts, or reports progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The activity's command.
    pub command: CommandId,
    /// How many attempts have failed.
    pub failed: u32,
    /// When the next attempt may start, by the database's clock.
    pub next_at: Option<Timestamp>,
    /// When the first attempt was scheduled, by the database's clock.
    pub scheduled_at: Timestamp,
    /// The encoded failure of the last attempt.
    pub failure: Bytes,
    /// The last progress details that an attempt reported.
    pub details: Bytes,
}

/// A run to start.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The id that the run gets, if it is started.
    pub run: RunId,
    /// The first run of its chain: itself, unless it continues another as new.
    pub chain: RunId,
    /// The idempotency key.
    pub workflow_id: WorkflowId,
    /// The registered name of the workflow.
    pub workflow: Arc<str>,
    /// The queue whose workers may take it.
    pub queue: Arc<str>,
    /// The encoded input: the payload of the record at position zero.
    pub input: Bytes,
    /// What to do when a run of this workflow id exists.
    pub reuse: IdReuse,
    /// The run that started it as a child.
    pub parent: Option<ParentLink>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// Where it starts.
    pub placement: Placement,
    /// Its place in its queue.
    pub ticket: Ticket,
    /// By which it is found. One that continues another as new has the tags of that one instead, but for those that
    /// the same commit changes: the first [`Tags::MAX`], by their names.
    pub tags: Tags,
    /// Its records after the first, if it continues another as new: signals that [go along](Record::is_carried_over).
    pub carried_over: Vec<Record>,
}

impl NewRun {
    /// The records that it is born with.
    pub fn born_with(&self) -> impl Iterator<Item = Record> {
        std::iter::once(self.first_record()).chain(self.carried_over.iter().cloned())
    }

    /// The record at position zero.
    #[must_use]
    pub fn first_record(&self) -> Record {
        Record {
            position: Position(0),
            kind: RecordKind::Started,
            command: Record::RUN,
            name: Arc::clone(&self.workflow),
            fingerprint: 0,
            payload: self.input.clone(),
        }
    }
}

/// A child's tie to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentLink {
    /// The parent.
    pub run: RunId,
    /// The parent's command.
    pub command: CommandId,
    /// What happens to the child when the parent closes.
    pub on_close: ParentCloses,
}

/// What happens to an open child when its parent closes. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i16)]
pub enum ParentCloses {
    /// The child is asked to cancel.
    #[default]
    Cancel = 0,
    /// The child goes on alone.
    Abandon = 1,
}

/// Where a new run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On the committing node: it is born claimed, with no further round trip.
    Here,
    /// On whichever node claims it first.
    Anywhere,
    /// As [`Self::Anywhere`], not before this time of the database's clock.
    NotBefore(Timestamp),
}

/// What came of a batch, in the order of the batch.
#[derive(Debug, Clone, Default)]
pub struct BatchOutcome {
    /// One for each of [`Batch::runs`].
    pub runs: Vec<RunOutcome>,
    /// One for each of [`Batch::starts`].
    pub starts: Vec<StartOutcome>,
    /// Children whose workflow id was taken, so that they were not started.
    pub rejected_children: Vec<RunId>,
    /// Runs whose inbox the batch moved: parents of closed children, children of closed parents.
    pub woken: Vec<WokenRun>,
    /// Closed runs that a client in some process awaits.
    pub awaited: Vec<RunId>,
    /// Runs that published something and that a client in some process awaits.
    pub watched: Vec<RunId>,
}

/// What came of one run's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// It happened.
    Committed,
    /// It happened, but for the suspension: something arrived.
    StillAwake,
    /// None of it happened: the run no longer names this node, or a position was taken.
    Lost,
}

/// A run whose inbox was moved by somebody else, and who holds it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WokenRun {
    /// The run.
    pub run: RunId,
    /// The node that holds it, if one does.
    pub node: Option<NodeId>,
}

/// What came of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// The run was started with the id that the caller proposed.
    Started,
    /// A run of this workflow id exists and the policy keeps it.
    Existing {
        /// That run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
    },
}
