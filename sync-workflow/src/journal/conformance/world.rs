//! What the cases are made of.

use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    id::{CommandId, NodeId, Position, RunId, WorkflowId},
    journal::{
        Attempt, Batch, BatchOutcome, Claim, ClaimRequest, Close, IdReuse, Inbox, Journal, NewRun,
        NewSignal, ParentCloses, ParentLink, Placement, Result, RunCommit, RunInfo, RunOutcome,
        RunSelector, SignalOutcome, StartOutcome, Ticket, Transition, WakeAt,
    },
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
    trace::TraceContext,
};

/// A lease that outlasts every case.
pub(super) const LONG: Duration = Duration::from_secs(3_600);
/// The queue and the workflow of runs where a case does not care.
pub(super) const QUEUE: &str = "main";
pub(super) const WORKFLOW: &str = "order";
/// How long a case waits for what must happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A journal, and one live node on it.
pub(super) struct World {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) node: NodeId,
}

impl Deref for World {
    type Target = dyn Journal;

    fn deref(&self) -> &Self::Target {
        &*self.journal
    }
}

impl World {
    pub(super) async fn new(journal: Arc<dyn Journal>) -> Result<Self> {
        let node = node();
        journal.enlist(node, LONG).await?;
        Ok(Self { journal, node })
    }

    /// Another node of the same journal.
    pub(super) async fn another(&self) -> Result<Self> {
        Self::new(Arc::clone(&self.journal)).await
    }

    /// Starts a run that this node holds.
    pub(super) async fn born(&self, workflow_id: &str) -> Result<RunId> {
        let new = NewRun {
            placement: Placement::Here,
            ..new_run(workflow_id)
        };
        self.start_by_batch(new).await
    }

    pub(super) async fn start_by_batch(&self, new: NewRun) -> Result<RunId> {
        let run = new.run;
        let outcome = self
            .commit(
                self.node,
                &Batch {
                    runs: Vec::new(),
                    starts: vec![new],
                },
            )
            .await?;
        assert_eq!(outcome.starts, [StartOutcome::Started]);
        Ok(run)
    }

    /// Starts a run that this node holds, as a child of one that it holds.
    pub(super) async fn born_child(
        &self,
        workflow_id: &str,
        parent: RunId,
        on_close: ParentCloses,
    ) -> Result<RunId> {
        let child = NewRun {
            placement: Placement::Here,
            ..child_of(parent, on_close, workflow_id)
        };
        let id = child.run;
        let outcome = self
            .push(RunCommit {
                children: vec![child],
                ..going_on(parent)
            })
            .await?;
        assert_eq!(outcome.runs, [RunOutcome::Committed]);
        assert_eq!(outcome.rejected_children, []);
        Ok(id)
    }

    /// Commits what one run produced.
    pub(super) async fn push(&self, commit: RunCommit) -> Result<BatchOutcome> {
        self.push_all([commit]).await
    }

    pub(super) async fn push_all(
        &self,
        commits: impl IntoIterator<Item = RunCommit>,
    ) -> Result<BatchOutcome> {
        self.commit(
            self.node,
            &Batch {
                runs: commits.into_iter().collect(),
                starts: Vec::new(),
            },
        )
        .await
    }

    /// Appends one record.
    pub(super) async fn append(&self, run: RunId, position: u32) -> Result<RunOutcome> {
        Ok(self.push(appending(run, [position])).await?.runs[0])
    }

    pub(super) async fn suspend(
        &self,
        run: RunId,
        seen_inbox: i64,
        wake_at: WakeAt,
    ) -> Result<RunOutcome> {
        Ok(self.push(suspending(run, seen_inbox, wake_at)).await?.runs[0])
    }

    /// Closes a run whose journal ends before `position`.
    pub(super) async fn close(&self, run: RunId, position: u32) -> Result<BatchOutcome> {
        let outcome = self.push(closing(run, position)).await?;
        assert_eq!(outcome.runs, [RunOutcome::Committed]);
        Ok(outcome)
    }

    /// Claims whatever is ready in the usual queue.
    pub(super) async fn claim_all(&self) -> Result<Claim> {
        self.claim(self.node, &request(100)).await
    }

    pub(super) async fn claimed(&self) -> Result<Vec<RunId>> {
        Ok(self
            .claim_all()
            .await?
            .runs
            .into_iter()
            .map(|claimed| claimed.run)
            .collect())
    }

    pub(super) async fn signal_run(&self, run: RunId, id: &str) -> Result<SignalOutcome> {
        self.signal(&signal(RunSelector::Run(run), id)).await
    }

    pub(super) async fn arrived(&self, run: RunId) -> Result<Inbox> {
        self.inbox(run, &[], 100).await
    }

    pub(super) async fn info(&self, run: RunId) -> Result<RunInfo> {
        Ok(self
            .describe(&RunSelector::Run(run))
            .await?
            .expect("the run exists"))
    }

    pub(super) async fn status(&self, run: RunId) -> Result<RunStatus> {
        Ok(self.info(run).await?.status)
    }

    pub(super) async fn records(&self, run: RunId) -> Result<Vec<Record>> {
        Ok(self.load(run, Position(0), 1_000).await?.records)
    }

    /// Reaps until the node is dead.
    pub(super) async fn reap_node(&self, node: NodeId) -> Result<()> {
        tokio::time::timeout(DEADLINE, async {
            while !self.reap(10).await?.contains(&node) {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
        .await
        .expect("a node whose lease ran out is reaped")
    }

    /// The journal's time.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        Ok(self.renew(self.node, LONG).await?.now)
    }
}

pub(super) fn node() -> NodeId {
    NodeId::from_uuid(Uuid::new_v4())
}

pub(super) fn run_id() -> RunId {
    RunId::from_uuid(Uuid::now_v7())
}

pub(super) fn workflow_id(id: &str) -> WorkflowId {
    WorkflowId::new(id).expect("the ids of the cases are valid")
}

pub(super) fn latest(id: &str) -> RunSelector {
    RunSelector::Latest(workflow_id(id))
}

pub(super) fn new_run(id: &str) -> NewRun {
    let run = run_id();
    NewRun {
        run,
        chain: run,
        workflow_id: workflow_id(id),
        workflow: WORKFLOW.into(),
        queue: QUEUE.into(),
        input: Bytes::from_static(b"input"),
        reuse: IdReuse::ReturnExisting,
        parent: None,
        trace: None,
        placement: Placement::Anywhere,
        ticket: Ticket::default(),
        tags: Tags::new(),
        carried_over: Vec::new(),
    }
}

/// A trace for runs to belong to.
pub(super) fn trace() -> TraceContext {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 vendor=1";
    TraceContext::from_stored(text).expect("it has the form of one")
}

pub(super) fn child_of(parent: RunId, on_close: ParentCloses, id: &str) -> NewRun {
    NewRun {
        parent: Some(ParentLink {
            run: parent,
            command: CommandId(7),
            on_close,
        }),
        ..new_run(id)
    }
}

pub(super) fn record(position: u32, kind: RecordKind) -> Record {
    Record {
        position: Position(position),
        kind,
        command: CommandId(position),
        name: "charge".into(),
        fingerprint: match kind.has_fingerprint() {
            true => u64::MAX - u64::from(position),
            false => 0,
        },
        payload: Bytes::from(format!("payload {position}")),
    }
}

pub(super) fn going_on(run: RunId) -> RunCommit {
    RunCommit {
        run,
        records: Vec::new(),
        children: Vec::new(),
        consumed_signals: Vec::new(),
        attempts: Vec::new(),
        settled_attempts: Vec::new(),
        published: Vec::new(),
        tags: Vec::new(),
        transition: Transition::Continue,
    }
}

pub(super) fn appending(run: RunId, positions: impl IntoIterator<Item = u32>) -> RunCommit {
    let records = positions
        .into_iter()
        .map(|position| record(position, RecordKind::ActivityCompleted))
        .collect();
    RunCommit {
        records,
        ..going_on(run)
    }
}

pub(super) fn suspending(run: RunId, seen_inbox: i64, wake_at: WakeAt) -> RunCommit {
    RunCommit {
        transition: Transition::Suspend {
            wake_at,
            seen_inbox,
        },
        ..going_on(run)
    }
}

pub(super) fn closing(run: RunId, position: u32) -> RunCommit {
    let close = Close {
        status: RunStatus::Completed,
        next: None,
        has_open_children: false,
        has_parent: true,
    };
    closing_with(run, record(position, RecordKind::Completed), close)
}

pub(super) fn closing_with(run: RunId, last: Record, close: Close) -> RunCommit {
    RunCommit {
        records: vec![last],
        transition: Transition::Close(Box::new(close)),
        ..going_on(run)
    }
}

/// A run that follows another one in its chain.
pub(super) fn successor(id: &str, chain: RunId) -> NewRun {
    NewRun {
        chain,
        placement: Placement::Here,
        ..new_run(id)
    }
}

/// The commit with which a run continues in another.
pub(super) fn continuing(run: RunId, position: u32, next: NewRun) -> RunCommit {
    let payload = Bytes::from(next.run.to_string());
    let last = Record {
        payload,
        ..record(position, RecordKind::ContinuedAsNew)
    };
    let close = Close {
        status: RunStatus::ContinuedAsNew,
        next: Some(next),
        has_open_children: false,
        has_parent: true,
    };
    closing_with(run, last, close)
}

pub(super) fn attempt(command: u32, failed: u32, at: Timestamp) -> Attempt {
    Attempt {
        command: CommandId(command),
        failed,
        next_at: Some(at),
        scheduled_at: at,
        failure: Bytes::from(format!("failure {failed}")),
        details: Bytes::from_static(b"\0\xff"),
    }
}

pub(super) fn request(limit: u32) -> ClaimRequest {
    ClaimRequest {
        queue: QUEUE.into(),
        workflows: vec!["unused".into(), WORKFLOW.into()],
        build: None,
        limit,
    }
}

pub(super) fn signal(to: RunSelector, id: &str) -> NewSignal {
    NewSignal {
        to,
        id: id.into(),
        name: "approve".into(),
        payload: Bytes::from(format!("signal {id}")),
    }
}
