//! What a journal tells of runs.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    batch::{Attempt, ParentLink},
    queue::{Admission, Managed, Ticket},
};
use crate::{
    id::{BuildId, CommandId, NodeId, Position, RunId, WorkflowId},
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
    trace::TraceContext,
};

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// The database's time.
    pub now: Timestamp,
    /// When the lease of some other node ends, the earliest of them: the time to reap.
    pub next_expiry: Option<Timestamp>,
}

/// What there is to do for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// The earliest wake-up time of the runs that it may claim; one that has passed is that of a run that is ready.
    pub next_wake: Option<Timestamp>,
    /// Whether any run names the node.
    pub holds_runs: bool,
}

/// Which runs a worker takes.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The queue it serves.
    pub queue: Arc<str>,
    /// The workflows that are registered with it.
    pub workflows: Vec<Arc<str>>,
    /// Its build, if it has one.
    pub build: Option<BuildId>,
    /// How many runs it has room for.
    pub limit: u32,
}

/// What a claim took.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The database's time.
    pub now: Timestamp,
    /// The runs, which are now this node's.
    pub runs: Vec<ClaimedRun>,
    /// The earliest wake-up time of the runs that are not ready yet, or when the queue admits the next.
    pub next_wake: Option<Timestamp>,
    /// Whether there is more to do at once.
    pub more: bool,
    /// What holds for the worker, if the queue has limits.
    pub managed: Option<Managed>,
}

/// A run in the hands of a node.
#[derive(Debug, Clone)]
pub struct ClaimedRun {
    /// The run.
    pub run: RunId,
    /// The first run of its chain.
    pub chain: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its parent.
    pub parent: Option<ParentLink>,
    /// The inbox count at the claim.
    pub inbox: i64,
    /// How many claims in a row, this one included, ended without any progress of the run.
    pub attempts: u32,
    /// Its place in its queue.
    pub ticket: Ticket,
    /// When it became ready, by the database's clock; only in the answer to a claim.
    pub ready_at: Option<Timestamp>,
    /// Whether the node that held it before gave it up in good order: it slept, was given back, or was parked. Only
    /// in the answer to a claim.
    pub rested: bool,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
}

/// The journal of a run, or a page of it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Its records in order.
    pub records: Vec<Record>,
    /// The attempts of unfinished activities; only with the page that starts at position zero.
    pub attempts: Vec<Attempt>,
}

/// What has arrived for a run.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    /// How much has ever arrived: the number to suspend against.
    pub count: i64,
    /// Whether somebody asked the run to cancel.
    pub cancel_requested: bool,
    /// Whether an operator wants the run to pause.
    pub pause_requested: bool,
    /// Unconsumed signals, in the order of their arrival.
    pub signals: Vec<SignalMessage>,
    /// The children that have an outcome.
    pub children: Vec<ChildOutcome>,
}

/// A signal that waits for its run.
#[derive(Debug, Clone)]
pub struct SignalMessage {
    /// Its place in the order of arrival.
    pub sequence: i64,
    /// Its name.
    pub name: Arc<str>,
    /// Its encoded value.
    pub payload: Bytes,
}

/// How a child ended.
#[derive(Debug, Clone)]
pub struct ChildOutcome {
    /// The child.
    pub child: RunId,
    /// Its end, or `None` if it was never started because its workflow id was taken.
    pub closed: Option<Closed>,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Closed {
    /// A closed status.
    pub status: RunStatus,
    /// The payload of the final record: the encoded output, or the encoded failure.
    pub payload: Bytes,
    /// The run in which it goes on, when it continued as new.
    pub next: Option<RunId>,
}

/// A record to commit with a transactional step.
#[derive(Debug, Clone)]
pub struct TransactionCommit {
    /// The node that ran the step.
    pub node: NodeId,
    /// The run.
    pub run: RunId,
    /// The record of the step.
    pub record: Record,
    /// Whether the step had failed attempts, whose row goes with it.
    pub settled_attempt: Option<CommandId>,
}

/// A signal to deliver.
#[derive(Debug, Clone)]
pub struct NewSignal {
    /// To whom.
    pub to: RunSelector,
    /// The idempotency key: unique within the chain of runs for [`super::Journal::signal`], and
    /// everywhere for [`super::Journal::send_signal`].
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its encoded value.
    pub payload: Bytes,
}

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalOutcome {
    /// It was stored for this run.
    Delivered(super::WokenRun),
    /// A signal with this id was stored before.
    Duplicate,
    /// There is no open run to signal.
    NotOpen,
}

/// What came of a start with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalledStart {
    /// Whether the run was started for the signal.
    pub start: super::StartOutcome,
    /// What came of the signal.
    pub signal: SignalOutcome,
}

/// Names a run: exactly, or as the latest run of a workflow id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSelector {
    /// This run.
    Run(RunId),
    /// The latest run of this workflow id.
    Latest(WorkflowId),
}

/// One run, as lists and descriptions show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunInfo {
    /// The run.
    pub run: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// Its queue.
    pub queue: Arc<str>,
    /// The build that it is of: only workers of this build take it.
    pub build: Option<BuildId>,
    /// Where it stands.
    pub status: RunStatus,
    /// The node that holds it.
    pub node: Option<NodeId>,
    /// Its parent.
    pub parent: Option<RunId>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// When a sleeping run wakes; `None` while it waits for an arrival only, or for its turn.
    pub wake_at: Option<Timestamp>,
    /// Its place in its queue.
    pub ticket: Ticket,
    /// Claims in a row without progress.
    pub attempts: u32,
    /// Whether somebody asked it to cancel.
    pub cancel_requested: bool,
    /// Whether somebody asked it to pause: it is paused, or will be once what is under way has ended.
    pub pause_requested: bool,
    /// Why it is parked.
    pub parked_reason: Option<String>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// Since when it is parked.
    pub parked_at: Option<Timestamp>,
    /// The place of the record that would come next, if it is parked: how far it came.
    pub parked_position: Option<Position>,
    /// By which it is found.
    pub tags: Tags,
}

impl RunInfo {
    /// Whether it waits until its queue admits it.
    #[must_use]
    pub fn waits_for_turn(&self) -> bool {
        self.status == RunStatus::Pending && self.ticket.admission == Admission::Waiting
    }
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only these statuses; all if empty.
    pub statuses: Vec<RunStatus>,
    /// Only this workflow.
    pub workflow: Option<Arc<str>>,
    /// Only workflow ids that start with this text.
    pub workflow_id_prefix: Option<String>,
    /// Only this queue.
    pub queue: Option<Arc<str>>,
    /// Only runs of this build.
    pub build: Option<BuildId>,
    /// Only children of this run.
    pub parent: Option<RunId>,
    /// Only runs that have all of these tags.
    pub tags: Tags,
    /// Only runs that are parked for a reason in which this text occurs.
    pub parked_for: Option<String>,
    /// Only runs older than this one: the last run of the previous page.
    pub before: Option<RunId>,
    /// At most this many; zero means [`RunFilter::DEFAULT_LIMIT`].
    pub limit: u32,
}

impl RunFilter {
    /// The page size when none is asked for.
    pub const DEFAULT_LIMIT: u32 = 100;
    /// The largest page.
    pub const MAX_LIMIT: u32 = 1_000;

    /// The runs that are parked: what waits for a person, with the reason, the time and the place of each in
    /// [`RunInfo`].
    ///
    /// ```no_run
    /// use sync_workflow::{client::BulkAction, journal::RunFilter};
    ///
    /// # async fn example(client: sync_workflow::Client) -> Result<(), sync_workflow::client::Error> {
    /// let refused = RunFilter {
    ///     parked_for: Some("card was declined".into()),
    ///     ..RunFilter::parked()
    /// };
    /// for run in client.list(&refused).await?.items {
    ///     println!("{} since {:?}: {:?}", run.workflow_id, run.parked_at, run.parked_reason);
    /// }
    /// client.bulk(&refused, &BulkAction::Unpark).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn parked() -> Self {
        Self {
            statuses: vec![RunStatus::Parked],
            ..Self::default()
        }
    }

    /// The page size, within its bounds.
    #[must_use]
    pub const fn effective_limit(&self) -> u32 {
        match self.limit {
            0 => Self::DEFAULT_LIMIT,
            limit if limit > Self::MAX_LIMIT => Self::MAX_LIMIT,
            limit => limit,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}

/// A record as a history shows it.
#[derive(Debug, Clone)]
pub struct HistoryRecord {
    /// The record.
    pub record: Record,
    /// When it was committed, by the database's clock.
    pub recorded_at: Timestamp,
}

impl HistoryRecord {
    /// The kind of the record.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        self.record.kind
    }

    /// The place of the record.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.record.position
    }
}

/// A run that comes from another journal.
#[derive(Debug, Clone)]
pub struct ImportedRun {
    /// The run.
    pub run: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// Its queue.
    pub queue: Arc<str>,
    /// How it ended; `None` for a run that is open.
    pub closed: Option<RunStatus>,
    /// By which it is found.
    pub tags: Tags,
    /// Its records, from position zero on, at least one.
    pub records: Vec<HistoryRecord>,
}

impl ImportedRun {
    /// When it was started.
    pub(super) fn created_at(&self) -> Timestamp {
        let first = self.records.first();
        first.map_or(Timestamp::UNIX_EPOCH, |first| first.recorded_at)
    }

    /// When it ended, if it has.
    pub(super) fn closed_at(&self) -> Option<Timestamp> {
        let last = self.records.last().map(|last| last.recorded_at);
        last.filter(|_| self.closed.is_some())
    }

    /// The status that it has here.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn status(&self) -> RunStatus {
        self.closed.unwrap_or(RunStatus::Paused)
    }
}

/// What a chain of runs shows under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How often it was published: a greater number is a later value.
    pub revision: u64,
    /// The encoded value.
    pub payload: Bytes,
    /// When it was committed, by the database's clock.
    pub at: Timestamp,
}

/// A hint that something changed. It is never the only way to find out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Runs of this queue became ready.
    /// Of any queue, if it has no name.
    Ready(Arc<str>),
    /// A schedule of this queue was changed.
    Schedules(Arc<str>),
    /// Something arrived for a run that this node holds.
    Arrived {
        /// The node that holds it.
        node: NodeId,
        /// The run.
        run: RunId,
    },
    /// A run that somebody awaits has closed.
    Closed(RunId),
    /// A run that somebody awaits has published something.
    Published(RunId),
    /// Hints may have been lost.
    LookAgain,
}
