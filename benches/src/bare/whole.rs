//! The bare loop of whole workflows on Postgres: every row that the engine writes for one, in tables with the
//! engine's own columns and indexes.
//!
//! A workflow of n steps is n + 1 appends: its birth, its steps but the last one, and the last with its end. Births
//! insert the row of a run, ends update it, as plain statements do: nothing looks whether the run is there already,
//! who holds it, or who waits for it.

use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use sync_workflow::journal::postgres::PostgresJournal;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use uuid::Uuid;

use super::{Columns, GroupCommit, MAX_BATCH, QUEUE, Row, settle};

const SCHEMA: &str = "
CREATE SCHEMA whole;
CREATE TABLE whole.nodes (node_id uuid PRIMARY KEY);
CREATE TABLE whole.runs (LIKE sync_workflow.runs INCLUDING ALL);
CREATE TABLE whole.journal (LIKE sync_workflow.journal INCLUDING ALL);
ALTER TABLE whole.runs SET (
    fillfactor = 75, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_threshold = 1000, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE whole.journal SET (autovacuum_vacuum_cost_delay = 0);
";

macro_rules! fence {
    () => {
        "
WITH fence AS MATERIALIZED (
    SELECT node_id FROM whole.nodes WHERE node_id = $1 FOR KEY SHARE
)"
    };
}

macro_rules! records {
    () => {
        "
INSERT INTO whole.journal (run_id, position, kind, command, name, fingerprint, payload)
SELECT e.run_id, e.position, e.kind, e.command, e.name, e.fingerprint, e.payload
FROM fence
CROSS JOIN unnest($2::uuid[], $3::integer[], $4::smallint[], $5::integer[], $6::text[],
                  $7::bigint[], $8::bytea[])
    AS e(run_id, position, kind, command, name, fingerprint, payload)"
    };
}

const RECORDS: &str = concat!(fence!(), records!());

const ALL: &str = concat!(
    fence!(),
    ", born AS (
    INSERT INTO whole.runs (run_id, chain_id, node_id, wake_at, sequence, attempts, progress, status,
                            workflow_id, workflow, queue)
    SELECT b.run_id, b.run_id, $1, now(), 0, 1, 1, 1, b.workflow_id, 'ten_steps', 'default'
    FROM fence CROSS JOIN unnest($9::uuid[], $10::text[]) AS b(run_id, workflow_id)
), ended AS (
    UPDATE whole.runs r SET status = 10, node_id = NULL, closed_at = now()
    FROM fence CROSS JOIN unnest($11::uuid[]) AS e(run_id)
    WHERE r.run_id = e.run_id
)",
    records!()
);

/// What belongs together.
struct Append {
    run: Uuid,
    rows: Vec<Row>,
    /// The workflow id of a run that is born.
    born: Option<String>,
    ends: bool,
}

impl Append {
    fn of_workflow(run: Uuid, steps: u32) -> impl Iterator<Item = Self> {
        let birth = Self {
            run,
            rows: vec![Row::of_kind(run, 0, 0)],
            born: Some(format!("workflow-{}", run.simple())),
            ends: false,
        };
        let middle = (1..steps).map(move |position| Self {
            run,
            rows: vec![Row::step(run, position)],
            born: None,
            ends: false,
        });
        let end = Self {
            run,
            rows: vec![Row::step(run, steps), Row::of_kind(run, steps + 1, 100)],
            born: None,
            ends: true,
        };
        std::iter::once(birth).chain(middle).chain([end])
    }
}

/// The connection of the writer.
pub(crate) struct Whole {
    connection: PgConnection,
    node: Uuid,
}

impl Whole {
    /// Creates the tables in a database, beside the engine's, which it creates as well.
    pub(crate) async fn create(url: &str) -> anyhow::Result<Self> {
        drop(PostgresJournal::connect(url).await?);
        let mut connection = PgConnection::connect(url).await?;
        let node = Uuid::new_v4();
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let settings =
            "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off;
                        SET enable_hashjoin = off; SET enable_mergejoin = off";
        sqlx::raw_sql(settings).execute(&mut connection).await?;
        let insert = sqlx::query("INSERT INTO whole.nodes VALUES ($1)").bind(node);
        insert.execute(&mut connection).await?;
        Ok(Self { connection, node })
    }

    async fn write(&mut self, appends: &[Append]) -> sqlx::Result<()> {
        let rows = appends.iter().flat_map(|append| &append.rows);
        let column = Columns::of(rows);
        let (born, ids): (Vec<Uuid>, Vec<&str>) = appends
            .iter()
            .filter_map(|append| Some((append.run, append.born.as_deref()?)))
            .unzip();
        let ended: Vec<Uuid> = appends
            .iter()
            .filter(|append| append.ends)
            .map(|append| append.run)
            .collect();
        let touches_runs = !born.is_empty() || !ended.is_empty();
        let query = sqlx::query(if touches_runs { ALL } else { RECORDS })
            .bind(self.node)
            .bind(&column.run)
            .bind(&column.position)
            .bind(&column.kind)
            .bind(&column.command)
            .bind(&column.name)
            .bind(&column.fingerprint)
            .bind(&column.payload);
        let query = match touches_runs {
            true => query.bind(born).bind(ids).bind(ended),
            false => query,
        };
        query.execute(&mut self.connection).await.map(drop)
    }

    /// Writes whole workflows of one step, one after the other; how long each took.
    pub(crate) async fn one_by_one(&mut self, count: u32) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let appends: Vec<_> = Append::of_workflow(Uuid::now_v7(), 1).collect();
            let started = Instant::now();
            for append in &appends {
                self.write(std::slice::from_ref(append)).await?;
            }
            times.push(started.elapsed());
        }
        Ok(times)
    }

    /// Lets this many tasks write a workflow each, all through one writer that commits in groups; how it went.
    pub(crate) async fn group_commit(
        self,
        workflows: u32,
        steps: u32,
    ) -> anyhow::Result<(Self, GroupCommit)> {
        let started = Instant::now();
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_groups(self, waiting));
        let mut tasks = JoinSet::new();
        for _ in 0..workflows {
            tasks.spawn(write_workflow(queue.clone(), steps));
        }
        drop(queue);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let elapsed = started.elapsed();
        let (whole, batches) = writer.await??;
        let steps = f64::from(workflows) * f64::from(steps);
        Ok((
            whole,
            GroupCommit {
                steps,
                elapsed,
                batches,
            },
        ))
    }
}

type Queued = (Append, oneshot::Sender<()>);

async fn write_workflow(queue: mpsc::Sender<Queued>, steps: u32) -> anyhow::Result<()> {
    for append in Append::of_workflow(Uuid::now_v7(), steps) {
        let (written, is_written) = oneshot::channel();
        let sent = queue.send((append, written)).await;
        sent.ok().context("the writer ended")?;
        is_written.await.context("the writer ended")?;
    }
    Ok(())
}

async fn write_groups(
    mut whole: Whole,
    mut waiting: mpsc::Receiver<Queued>,
) -> anyhow::Result<(Whole, u32)> {
    let mut batches = 0;
    let mut gathered = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut gathered, MAX_BATCH).await > 0 {
        settle(&mut gathered, &mut waiting).await;
        let (appends, replies): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        whole.write(&appends).await?;
        batches += 1;
        for written in replies {
            written.send(()).ok().context("an append was given up")?;
        }
    }
    Ok((whole, batches))
}
