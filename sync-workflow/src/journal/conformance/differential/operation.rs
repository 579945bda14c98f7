//! The operations of a script.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    id::{BuildId, NodeId, RunId, WorkflowId},
    journal::{Debounce, NewRun, RunSelector},
    record::RecordKind,
    status::RunStatus,
};

#[derive(Debug)]
pub(super) enum Operation {
    Start(NewRun),
    Commit(NodeId, Vec<Part>, Vec<NewRun>),
    Step(NodeId, RunId),
    Claim(NodeId, u32, Option<BuildId>),
    Owned(NodeId),
    Enlist(NodeId, Duration),
    Renew(NodeId),
    Reap,
    Retire(NodeId),
    Signal(RunSelector, String),
    SendSignal(NodeId, RunSelector, String),
    Cancel(RunSelector),
    Terminate(RunSelector),
    Unpark(RunSelector),
    Pause(RunSelector),
    Resume(RunSelector),
    Outcome(RunId),
    /// The limits of the queue, for all and for each key.
    Limit(Option<u32>, Option<u32>),
    PauseQueue(bool),
    Queues,
    Fork(ForkedAt),
    /// How long it must have been quiet, and how long the first who asked waits.
    Debounce(NewRun, Debounce),
    SignalWithStart(NewRun, String),
    DeclareBuild(NodeId, BuildId),
    SetBuild(Option<BuildId>),
    Builds,
    /// To a build, whatever the run's journal holds, or only if its length is right, or wrong.
    MoveToBuild(RunId, Option<BuildId>, Option<Length>),
}

/// A run that begins with the first records of another one.
#[derive(Debug)]
pub(super) struct ForkedAt {
    pub(super) origin: RunId,
    pub(super) run: RunId,
    /// How many records are kept: the rest when the number of those that may be is divided off.
    pub(super) place: u32,
    /// The workflow id of its own, or none for that of the origin.
    pub(super) workflow_id: Option<WorkflowId>,
    /// Those of which it becomes the parent, as far as they are the origin's.
    pub(super) children: Vec<RunId>,
}

/// How long a journal is said to be.
#[derive(Debug)]
pub(super) enum Length {
    Right,
    Wrong,
}

/// What one run commits. Positions and inbox counts are read from the journal when it is applied.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) run: RunId,
    pub(super) records: u32,
    /// Whether the records claim a position that is taken.
    pub(super) stale: bool,
    pub(super) consume: usize,
    pub(super) attempts: Vec<u32>,
    pub(super) settled: Vec<u32>,
    pub(super) children: Vec<NewRun>,
    /// The name and the value that it publishes.
    pub(super) publishes: Option<(u8, u8)>,
    /// The tag that it sets, or takes away.
    pub(super) tags: Option<(u8, Option<u8>)>,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum End {
    Continue,
    /// Suspend against the present inbox count, or against one that is gone.
    Suspend {
        asleep: bool,
        stale: bool,
    },
    Release,
    Park,
    Close(RunStatus, RecordKind),
    ContinueAsNew(Uuid),
}
