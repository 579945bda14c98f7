//! No engine: what an engine with a group commit writes for its steps, and nothing else.
//!
//! One statement a group, with the columns and bytes of this project's journal and the lock on the
//! row of the node. Nothing is replayed or resumed: this is the limit of driver and database.

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{Engine, Work};
use crate::step::Step;

/// How much may wait for the writer, and the most that it takes at once.
const QUEUE: usize = 4_096;
const MAX_BATCH: usize = 1_024;

const SCHEMA: &str = r#"
CREATE SCHEMA bare;
CREATE TABLE bare.nodes (node_id uuid PRIMARY KEY);
CREATE TABLE bare.journal (
    run_id      uuid        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    fingerprint bigint      NOT NULL,
    position    integer     NOT NULL,
    command     integer     NOT NULL,
    kind        smallint    NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    payload     bytea       NOT NULL,
    PRIMARY KEY (run_id, position)
);
"#;

const WRITE: &str = "
WITH fence AS MATERIALIZED (
    SELECT node_id FROM bare.nodes WHERE node_id = $1 FOR KEY SHARE
)
INSERT INTO bare.journal (run_id, position, kind, command, name, fingerprint, payload)
SELECT e.run_id, e.position, 10, e.position, 'trivial', e.fingerprint, e.payload
FROM fence
CROSS JOIN unnest($2::uuid[], $3::integer[], $4::bigint[], $5::bytea[])
    AS e(run_id, position, fingerprint, payload)";

pub(crate) struct Bare {
    queue: mpsc::Sender<Append>,
    writer: JoinHandle<sqlx::Result<()>>,
    rows: i32,
    step: Step,
}

impl Engine for Bare {
    async fn start(url: &str, work: Work, step: Step) -> anyhow::Result<Self> {
        let rows = match work {
            // A workflow of one step is two commits: its start, and the step with the end.
            Work::Steps(1) => 2,
            Work::Steps(count) => count.cast_signed(),
            Work::LongRun(_) | Work::Children(_) | Work::Sleep(_) => {
                bail!("a bare loop only writes rows")
            }
        };
        let mut connection = PgConnection::connect(url).await?;
        let node = Uuid::now_v7();
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let insert = sqlx::query("INSERT INTO bare.nodes VALUES ($1)").bind(node);
        insert.execute(&mut connection).await?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_groups(connection, node, waiting));
        Ok(Self {
            queue,
            writer,
            rows,
            step,
        })
    }

    async fn run(&self, _id: &str) -> anyhow::Result<()> {
        let run = Uuid::now_v7();
        let mut number = 0;
        for position in 0..self.rows {
            let (written, is_written) = oneshot::channel();
            let append = Append {
                run,
                position,
                payload: number.to_string().into_bytes(),
                written,
            };
            self.queue.send(append).await.ok().context(ENDED)?;
            is_written.await.context(ENDED)?;
            number = self.step.run(number).await;
        }
        Ok(())
    }

    async fn stop(self) {
        drop(self.queue);
        match self.writer.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the bare writer failed: {error}"),
            Err(error) => eprintln!("the bare writer failed: {error}"),
        }
    }
}

const ENDED: &str = "the writer ended";

struct Append {
    run: Uuid,
    position: i32,
    payload: Vec<u8>,
    written: oneshot::Sender<()>,
}

/// Writes what has gathered while the last group was written.
async fn write_groups(
    mut connection: PgConnection,
    node: Uuid,
    mut waiting: mpsc::Receiver<Append>,
) -> sqlx::Result<()> {
    let mut group = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut group, MAX_BATCH).await > 0 {
        settle(&mut group, &mut waiting).await;
        write(&mut connection, node, &group).await?;
        for append in group.drain(..) {
            // A job that was stopped at its limit waits no more.
            let _ = append.written.send(());
        }
    }
    Ok(())
}

async fn write(connection: &mut PgConnection, node: Uuid, group: &[Append]) -> sqlx::Result<()> {
    let runs: Vec<_> = group.iter().map(|append| append.run).collect();
    let positions: Vec<_> = group.iter().map(|append| append.position).collect();
    let fingerprints: Vec<_> = positions
        .iter()
        .map(|position| i64::MAX - i64::from(*position))
        .collect();
    let payloads: Vec<_> = group
        .iter()
        .map(|append| append.payload.as_slice())
        .collect();
    sqlx::query(WRITE)
        .bind(node)
        .bind(runs)
        .bind(positions)
        .bind(fingerprints)
        .bind(payloads)
        .execute(connection)
        .await?;
    Ok(())
}

/// Lets those whom the last group woke join this one.
async fn settle(group: &mut Vec<Append>, waiting: &mut mpsc::Receiver<Append>) {
    loop {
        let before = group.len();
        tokio::task::yield_now().await;
        while group.len() < MAX_BATCH
            && let Ok(append) = waiting.try_recv()
        {
            group.push(append);
        }
        if group.len() == before || group.len() >= MAX_BATCH {
            return;
        }
    }
}
