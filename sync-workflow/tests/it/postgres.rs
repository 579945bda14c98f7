//! What only the Postgres journal has to show: locks, migrations, connections.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint does not know to be tests"
)]

mod commits;
mod conformance;
mod connections;
mod dropping;
mod fence;
mod growth;
mod idle;
mod lost_paths;
mod poolers;
mod proxy;
mod schema;
mod steps;

use std::time::Duration;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use sync_workflow::{
    id::{CommandId, NodeId, Position, RunId, WorkflowId},
    journal::{
        Batch, BatchOutcome, Close, IdReuse, Journal, NewRun, ParentCloses, ParentLink, Placement,
        RunCommit, RunOutcome, RunSelector, Ticket, Transition, postgres::PostgresJournal,
    },
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
};
use throwaway_postgres::Database;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(60);

/// A database with a journal, and one node on it.
struct Bench {
    database: Database,
    journal: PostgresJournal,
    node: NodeId,
}

impl Bench {
    async fn new() -> Self {
        Self::on(Database::create().unwrap()).await
    }

    async fn on(database: Database) -> Self {
        let journal = PostgresJournal::connect(database.url()).await.unwrap();
        let node = new_node();
        journal.enlist(node, LEASE).await.unwrap();
        Self {
            database,
            journal,
            node,
        }
    }

    /// A connection of a person's own.
    async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    /// Starts a run that this node holds from its birth.
    async fn born(&self, workflow_id: &str) -> RunId {
        let new = new_run(workflow_id);
        let batch = Batch {
            starts: vec![new.clone()],
            ..Batch::default()
        };
        self.commit(batch).await;
        new.run
    }

    async fn commit(&self, batch: Batch) -> BatchOutcome {
        self.journal.commit(self.node, &batch).await.unwrap()
    }

    async fn status(&self, run: RunId) -> RunStatus {
        let info = self.journal.describe(&RunSelector::Run(run)).await.unwrap();
        info.unwrap().status
    }

    /// How many records a run has. Connections that were lost are replaced meanwhile.
    async fn length(&self, run: RunId) -> usize {
        for _ in 0..100 {
            match self.journal.load(run, Position(0), 1_000).await {
                Ok(history) => return history.records.len(),
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
        panic!("the journal never answered");
    }
}

fn new_node() -> NodeId {
    NodeId::from_uuid(Uuid::new_v4())
}

fn new_run(workflow_id: &str) -> NewRun {
    let run = RunId::from_uuid(Uuid::now_v7());
    NewRun {
        run,
        chain: run,
        workflow_id: WorkflowId::new(workflow_id).unwrap(),
        workflow: "greet".into(),
        queue: "default".into(),
        input: Bytes::from_static(b"\"input\""),
        reuse: IdReuse::ReturnExisting,
        parent: None,
        trace: None,
        placement: Placement::Here,
        ticket: Ticket::default(),
        tags: Tags::new(),
        carried_over: Vec::new(),
    }
}

fn child_of(parent: RunId, workflow_id: &str) -> NewRun {
    NewRun {
        parent: Some(ParentLink {
            run: parent,
            command: CommandId(0),
            on_close: ParentCloses::Cancel,
        }),
        ..new_run(workflow_id)
    }
}

fn record(position: u32) -> Record {
    Record {
        position: Position(position),
        kind: RecordKind::ActivityCompleted,
        command: CommandId(position),
        name: "step".into(),
        fingerprint: u64::MAX - u64::from(position),
        payload: Bytes::from(format!("{{\"at\":{position}}}")),
    }
}

fn last_record(position: u32) -> Record {
    Record {
        kind: RecordKind::Completed,
        command: Record::RUN,
        fingerprint: 0,
        ..record(position)
    }
}

fn goes_on(run: RunId, records: Vec<Record>) -> RunCommit {
    RunCommit {
        run,
        records,
        children: Vec::new(),
        consumed_signals: Vec::new(),
        attempts: Vec::new(),
        settled_attempts: Vec::new(),
        published: Vec::new(),
        tags: Vec::new(),
        transition: Transition::Continue,
    }
}

fn closes(run: RunId, position: u32) -> RunCommit {
    RunCommit {
        transition: Transition::Close(Box::new(Close {
            status: RunStatus::Completed,
            next: None,
            has_open_children: true,
            has_parent: true,
        })),
        ..goes_on(run, vec![last_record(position)])
    }
}

fn batch(runs: Vec<RunCommit>) -> Batch {
    Batch {
        runs,
        starts: Vec::new(),
    }
}

/// Waits until some session of this database waits for a lock.
async fn until_somebody_waits(observer: &mut PgConnection) {
    until_waiting(observer, 1).await;
}

/// Waits until so many sessions of this database wait for a lock.
async fn until_waiting(observer: &mut PgConnection, sessions: i64) {
    until_are(observer, "wait_event_type = 'Lock'", |waiting| {
        waiting >= sessions
    })
    .await;
}

/// Waits until every other session of this database has done what it was told.
async fn until_idle(observer: &mut PgConnection) {
    let busy = "state = 'active' AND pid <> pg_backend_pid()";
    until_are(observer, busy, |busy| busy == 0).await;
}

async fn until_are(
    observer: &mut PgConnection,
    state: &'static str,
    is_enough: impl Fn(i64) -> bool,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {state}"
    );
    loop {
        let sessions: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
            .fetch_one(&mut *observer)
            .await
            .unwrap();
        if is_enough(sessions) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{sessions} sessions have {state}"
        );
        tokio::task::yield_now().await;
    }
}

fn outcomes(outcome: &BatchOutcome) -> &[RunOutcome] {
    &outcome.runs
}
