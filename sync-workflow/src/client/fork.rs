//! Runs that begin again from a place of another one's history.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Client, Error};
use crate::{
    failure::{Failure, FailureKind},
    id::{CommandId, InvalidWorkflowId, Position, RunId, WorkflowId},
    journal::{self, Fork, ForkOutcome, ForkTarget, Hint, RunInfo},
    record::{Record, RecordKind},
    replay::{Identity, StartedChild},
    status::RunStatus,
};

/// The name of the record that ends a run which is taken back: code ends without one.
pub(crate) const RESET: &str = "reset";

/// How many records are read at once.
const PAGE: u32 = 1_000;

/// A place in a run's history: what lies before it is kept, and what comes after it happens anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForkPoint {
    /// The beginning: nothing is kept but the input, and the signals that the run before in its chain left unread.
    Start,
    /// Before the record at this position, as [`Client::history`] and [`Client::export`] count them.
    Position(Position),
    /// Before the first record of this command, as the history and the reason of a parked run name it.
    Command(CommandId),
    /// Before the last activity, transactional step or child that failed for good.
    LastFailure,
    /// The end of what happened so far; of a run that has ended, before the record that says so.
    End,
}

impl From<Position> for ForkPoint {
    fn from(position: Position) -> Self {
        Self::Position(position)
    }
}

/// Why a run cannot begin again from a place of a history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// The history has no such place: the position lies behind its end, or behind the record that ended the run; the
    /// command has no record; nothing has failed.
    #[error("the history of {records} records has no place {point:?}")]
    NoPlace {
        /// What was asked for.
        point: ForkPoint,
        /// How many of its records can be kept.
        records: u32,
    },
    /// This run is in the way: the workflow id has been used, or the run that was to be reset is not the latest of its
    /// workflow id any more.
    #[error("run {run} is in the way, which is {status}")]
    Existing {
        /// That run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
    },
    /// A child whose end lies after the place has been deleted, so that nobody can be told how it ended. A place
    /// before its start, or after its end, can be chosen.
    #[error("child {child} that is awaited there has been deleted")]
    ChildGone {
        /// The child.
        child: RunId,
    },
    /// A record cannot be read. One that is encoded needs a client with its [codecs](Client::codecs).
    #[error("record {position} cannot be read")]
    Unreadable {
        /// Its place.
        position: Position,
    },
    /// There is no such run, or the journal failed.
    #[error(transparent)]
    Client(#[from] Error),
}

impl From<journal::Error> for ForkError {
    fn from(error: journal::Error) -> Self {
        Self::Client(error.into())
    }
}

impl From<InvalidWorkflowId> for ForkError {
    fn from(error: InvalidWorkflowId) -> Self {
        Self::Client(error.into())
    }
}

impl Client {
    /// Starts a run under a new workflow id that begins with what another one's history holds before a place, and goes on
    /// from there with the code that is deployed. The other run is not touched, open or closed.
    ///
    /// What the kept records say has happened, and is not done again. Everything else is new: activities whose end is not
    /// among them run again, with new [idempotency keys](crate::ActivityContext::idempotency_key), however far they had come;
    /// [random values](crate::Context::random) and the ids of children that are new to the history are other ones. A child
    /// that was started before the place and ended after it stays a child of the other run; this one is told how it ends too,
    /// within minutes. Signals that the other run was sent, and did not receive before the place, arrive here too; if it has
    /// continued as new, those that nobody had received by then.
    /// Queue, key, priority, trace and tags are those of the other run. What code shows is shown as it was there,
    /// with what the runs before it in its chain showed last, and their answers to updates.
    ///
    /// [`Context::workflow_id`](crate::Context::workflow_id) and [`Context::run_id`](crate::Context::run_id) give the other
    /// run's while the code is before the place: it has to ask for the same as it did there.
    ///
    /// ```no_run
    /// use sync_workflow::client::ForkPoint;
    ///
    /// # async fn example(client: sync_workflow::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let stuck = client.describe("order-7").await?;
    /// client.fork(stuck.run, ForkPoint::LastFailure, "order-7-again").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ForkError`]; nothing was written then, unless an answer of the journal was lost.
    pub async fn fork(
        &self,
        run: RunId,
        at: impl Into<ForkPoint>,
        workflow_id: &str,
    ) -> Result<RunId, ForkError> {
        let workflow_id = WorkflowId::new(workflow_id)?;
        let origin = self.describe_run(run).await?;
        let cut = self.cut(&origin, at.into()).await?;
        let new = self.run_ids.next();
        self.begin_again(&origin, new, cut.forked, ForkTarget::New(workflow_id))
            .await
    }

    /// Takes the latest run of a workflow id back to a place of its history: a new run of the same workflow id goes on from
    /// there, as [`Self::fork`] says. Returns that run.
    ///
    /// If the run is open it ends, in the same transaction, as one that continues as new: whoever awaits it, a parent too,
    /// gets the result of the new run. Whatever it was doing is lost. Children that were started before the place and have not
    /// ended there are the new run's; the others that are open are asked to cancel, unless they are to go on alone. It
    /// stays paused if it was, and is not asked to cancel if it was. Signals that it received after the place arrive again.
    ///
    /// ```no_run
    /// use sync_workflow::{client::ForkPoint, id::Position};
    ///
    /// # async fn example(client: sync_workflow::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// // The activity has been mended:
    /// client.reset("order-7", ForkPoint::LastFailure).await?;
    /// // What came after the tenth record was wrong:
    /// client.reset("order-8", Position(10)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ForkError`]; nothing was written then, unless an answer of the journal was lost.
    pub async fn reset(
        &self,
        workflow_id: &str,
        to: impl Into<ForkPoint>,
    ) -> Result<RunId, ForkError> {
        let origin = self.describe(workflow_id).await?;
        self.reset_run(&origin, to.into()).await
    }

    /// Starts the latest run of a workflow id anew with its input, as [`Self::reset`] to [`ForkPoint::Start`].
    ///
    /// # Errors
    ///
    /// As [`Self::reset`].
    pub async fn restart(&self, workflow_id: &str) -> Result<RunId, ForkError> {
        self.reset(workflow_id, ForkPoint::Start).await
    }

    pub(super) async fn reset_run(
        &self,
        origin: &RunInfo,
        to: ForkPoint,
    ) -> Result<RunId, ForkError> {
        let cut = self.cut(origin, to).await?;
        let new = self.run_ids.next();
        let last = Record {
            position: Position(0),
            kind: RecordKind::ContinuedAsNew,
            command: Record::RUN,
            name: RESET.into(),
            fingerprint: 0,
            payload: Bytes::from(new.to_string()),
        };
        let children = cut.open_children;
        let target = ForkTarget::Same { last, children };
        self.begin_again(origin, new, cut.forked, target).await
    }

    async fn begin_again(
        &self,
        origin: &RunInfo,
        run: RunId,
        forked: Record,
        target: ForkTarget,
    ) -> Result<RunId, ForkError> {
        let fork = Fork {
            origin: origin.run,
            run,
            forked,
            target,
        };
        match self.journal.fork(&fork).await? {
            ForkOutcome::Forked { ended } => {
                if let Some(ended) = ended {
                    self.watchers.changed(ended.run);
                    self.hint(Hint::Closed(ended.run)).await;
                    self.announce(ended).await;
                }
                self.wake_up(&origin.queue).await;
                Ok(run)
            }
            ForkOutcome::NoOrigin => Err(Error::NotFound.into()),
            ForkOutcome::Existing { run, status } => Err(ForkError::Existing { run, status }),
        }
    }

    /// Reads a run's history and cuts it.
    async fn cut(&self, origin: &RunInfo, at: ForkPoint) -> Result<Cut, ForkError> {
        let records = self.skeleton(origin.run).await?;
        let cut = Cut::new(origin, &records, at)?;
        if !cut.open_children.is_empty() {
            let inbox = self.journal.inbox(origin.run, &cut.open_children, 1);
            let ends = inbox.await?.children;
            let unknown = ends.iter().filter(|end| end.closed.is_none());
            for child in unknown.map(|end| end.child) {
                if has_begun(&records, child) {
                    return Err(ForkError::ChildGone { child });
                }
            }
        }
        Ok(cut)
    }

    /// The records of a run, with those payloads only that a fork looks at.
    async fn skeleton(&self, run: RunId) -> Result<Vec<Record>, ForkError> {
        let mut records = Vec::new();
        loop {
            let from = u32::try_from(records.len()).unwrap_or(u32::MAX);
            let page = self.history(run, from, PAGE).await?;
            records.extend(page.items.into_iter().map(|item| bare(item.record)));
            if !page.more {
                return Ok(records);
            }
        }
    }
}

/// A history that is cut at a place.
struct Cut {
    /// The record after what is kept.
    forked: Record,
    /// Children whose start is kept and whose end is not.
    open_children: Vec<RunId>,
}

impl Cut {
    fn new(origin: &RunInfo, records: &[Record], at: ForkPoint) -> Result<Self, ForkError> {
        let (kept, rest) = records.split_at(kept(records, at)?);
        // What was copied before the place belongs to whom the origin itself was given it by.
        let identity = match rest.iter().find(|record| record.kind == RecordKind::Forked) {
            Some(forked) => Identity::read(forked).ok_or_else(|| unreadable(forked))?,
            None => Identity {
                run: origin.run,
                workflow_id: origin.workflow_id.clone(),
            },
        };
        let payload = serde_json::to_vec(&identity).expect("two ids have a JSON form");
        let forked = Record {
            position: Position(u32::try_from(kept.len()).unwrap_or(u32::MAX)),
            kind: RecordKind::Forked,
            command: Record::RUN,
            name: "".into(),
            fingerprint: 0,
            payload: payload.into(),
        };
        Ok(Self {
            forked,
            open_children: open_children(kept)?,
        })
    }
}

/// How many records lie before a place.
fn kept(records: &[Record], at: ForkPoint) -> Result<usize, ForkError> {
    let end = records.iter().position(|record| record.kind.is_final());
    let end = end.unwrap_or(records.len());
    let happened = records.get(..end).unwrap_or_default();
    let born = Record::count_born(records);
    let kept = match at {
        ForkPoint::Start => Some(born),
        ForkPoint::Position(position) => Some(born.max(position.0 as usize)),
        ForkPoint::Command(command) => happened
            .iter()
            .position(|record| record.command == command && command != Record::RUN),
        ForkPoint::LastFailure => happened.iter().rposition(|record| is_failure(record.kind)),
        ForkPoint::End => Some(end),
    };
    kept.filter(|kept| (born..=end).contains(kept))
        .ok_or_else(|| ForkError::NoPlace {
            point: at,
            records: u32::try_from(end).unwrap_or(u32::MAX),
        })
}

const fn is_failure(kind: RecordKind) -> bool {
    matches!(
        kind,
        RecordKind::ActivityFailed | RecordKind::TransactionFailed | RecordKind::ChildFailed
    )
}

/// The children that were started and have not ended, in the order of their commands.
fn open_children(records: &[Record]) -> Result<Vec<RunId>, ForkError> {
    let mut open = BTreeMap::new();
    for record in records {
        match record.kind {
            RecordKind::ChildStarted => {
                let started = StartedChild::read(record).ok_or_else(|| unreadable(record))?;
                open.insert(record.command, started.run);
            }
            RecordKind::ChildCompleted | RecordKind::ChildFailed => {
                open.remove(&record.command);
            }
            _ => {}
        }
    }
    Ok(open.into_values().collect())
}

/// Whether a child was there once, as its end tells: one whose workflow id was taken never was.
fn has_begun(records: &[Record], child: RunId) -> bool {
    let start = records.iter().find(|record| {
        record.kind == RecordKind::ChildStarted
            && StartedChild::read(record).is_some_and(|started| started.run == child)
    });
    let ends =
        |end: &&Record, start: &Record| end.command == start.command && end.kind != start.kind;
    let end = start.and_then(|start| records.iter().find(|end| ends(end, start)));
    end.is_some_and(|end| Failure::decode(&end.payload).kind != FailureKind::Rejected)
}

/// A record without a payload that no fork looks at.
fn bare(record: Record) -> Record {
    match record.kind {
        RecordKind::ChildStarted | RecordKind::ChildFailed | RecordKind::Forked => record,
        _ => Record {
            payload: Bytes::new(),
            ..record
        },
    }
}

const fn unreadable(record: &Record) -> ForkError {
    ForkError::Unreadable {
        position: record.position,
    }
}
