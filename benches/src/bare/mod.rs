//! The bare loops: what the engine writes for a step, written without an engine.
//!
//! The same columns and bytes, the same driver, the same database. Nothing is replayed, no
//! workflow code runs, no run can be resumed: this is the floor under every figure.

mod postgres;
mod sqlite;
pub(crate) mod whole;

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use uuid::Uuid;

/// How much may wait for the writer, and the most that it takes at once: as in the engine.
const QUEUE: usize = 4_096;
const MAX_BATCH: usize = 1_024;

/// One record of a bare journal.
pub(crate) struct Row {
    run: Uuid,
    position: i32,
    kind: i16,
    command: i32,
    name: &'static str,
    fingerprint: i64,
    payload: Vec<u8>,
}

impl Row {
    /// The record of a trivial activity.
    fn step(run: Uuid, position: u32) -> Self {
        Self::of_kind(run, position, 10)
    }

    fn of_kind(run: Uuid, position: u32, kind: i16) -> Self {
        Self {
            run,
            position: position.cast_signed(),
            kind,
            command: position.cast_signed(),
            name: "trivial",
            fingerprint: i64::MAX - i64::from(position),
            payload: position.to_string().into_bytes(),
        }
    }
}

/// One array per column, as `unnest` takes them.
struct Columns<'r> {
    run: Vec<Uuid>,
    position: Vec<i32>,
    kind: Vec<i16>,
    command: Vec<i32>,
    name: Vec<&'r str>,
    fingerprint: Vec<i64>,
    payload: Vec<&'r [u8]>,
}

impl<'r> Columns<'r> {
    fn of(rows: impl Iterator<Item = &'r Row> + Clone) -> Self {
        Self {
            run: rows.clone().map(|row| row.run).collect(),
            position: rows.clone().map(|row| row.position).collect(),
            kind: rows.clone().map(|row| row.kind).collect(),
            command: rows.clone().map(|row| row.command).collect(),
            name: rows.clone().map(|row| row.name).collect(),
            fingerprint: rows.clone().map(|row| row.fingerprint).collect(),
            payload: rows.map(|row| row.payload.as_slice()).collect(),
        }
    }
}

/// A connection and an empty bare journal.
pub(crate) enum Bare {
    Postgres(Box<postgres::Writer>),
    Sqlite(sqlite::Writer),
}

impl Bare {
    /// Creates an empty bare journal in the database.
    pub(crate) async fn create(url: &str) -> anyhow::Result<Self> {
        if url.starts_with("sqlite:") {
            return Ok(Self::Sqlite(sqlite::Writer::create(url).await?));
        }
        Ok(Self::Postgres(Box::new(
            postgres::Writer::create(url).await?,
        )))
    }

    async fn write(&mut self, rows: &[Row]) -> sqlx::Result<()> {
        match self {
            Self::Postgres(writer) => writer.write(rows).await,
            Self::Sqlite(writer) => writer.write(rows).await,
        }
    }

    async fn write_one(&mut self, row: &Row) -> sqlx::Result<()> {
        match self {
            Self::Postgres(writer) => writer.write_one(row).await,
            Self::Sqlite(writer) => writer.write_one(row).await,
        }
    }

    /// Appends single rows, each a transaction of its own, one after the other; how long each took.
    pub(crate) async fn lone_appends(&mut self, count: u32) -> anyhow::Result<Vec<Duration>> {
        let run = Uuid::now_v7();
        let mut times = Vec::with_capacity(count as usize);
        for position in 0..count {
            let started = Instant::now();
            self.write_one(&Row::step(run, position)).await?;
            times.push(started.elapsed());
        }
        Ok(times)
    }

    /// Lets this many tasks append one after the other, all through one writer that commits in
    /// groups; how it went.
    pub(crate) async fn group_commit(
        self,
        runs: u32,
        appends: u32,
    ) -> anyhow::Result<(Self, GroupCommit)> {
        let started = Instant::now();
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_groups(self, waiting));
        let mut tasks = JoinSet::new();
        for _ in 0..runs {
            tasks.spawn(append_in_sequence(queue.clone(), appends));
        }
        drop(queue);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let elapsed = started.elapsed();
        let (bare, batches) = writer.await??;
        let steps = f64::from(runs) * f64::from(appends);
        let outcome = GroupCommit {
            steps,
            elapsed,
            batches,
        };
        Ok((bare, outcome))
    }
}

/// How a group commit went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupCommit {
    steps: f64,
    elapsed: Duration,
    batches: u32,
}

impl GroupCommit {
    pub(crate) fn steps_per_batch(&self) -> f64 {
        self.steps / f64::from(self.batches)
    }

    pub(crate) const fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

struct Append {
    row: Row,
    written: oneshot::Sender<()>,
}

async fn append_in_sequence(queue: mpsc::Sender<Append>, appends: u32) -> anyhow::Result<()> {
    let run = Uuid::now_v7();
    for position in 0..appends {
        let (written, is_written) = oneshot::channel();
        let append = Append {
            row: Row::step(run, position),
            written,
        };
        queue.send(append).await.ok().context("the writer ended")?;
        is_written.await.context("the writer ended")?;
    }
    Ok(())
}

/// Writes what has gathered while the last group was written.
async fn write_groups(
    mut bare: Bare,
    mut waiting: mpsc::Receiver<Append>,
) -> anyhow::Result<(Bare, u32)> {
    let mut batches = 0;
    let mut gathered = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut gathered, MAX_BATCH).await > 0 {
        settle(&mut gathered, &mut waiting).await;
        let (rows, replies): (Vec<_>, Vec<_>) = gathered
            .drain(..)
            .map(|append| (append.row, append.written))
            .unzip();
        bare.write(&rows).await?;
        batches += 1;
        for written in replies {
            written.send(()).ok().context("an append was given up")?;
        }
    }
    Ok((bare, batches))
}

/// Lets those whom the last group woke join this one, as the engine's committer does.
async fn settle<T>(gathered: &mut Vec<T>, waiting: &mut mpsc::Receiver<T>) {
    loop {
        let before = gathered.len();
        tokio::task::yield_now().await;
        while gathered.len() < MAX_BATCH {
            let Ok(append) = waiting.try_recv() else {
                break;
            };
            gathered.push(append);
        }
        if gathered.len() == before || gathered.len() >= MAX_BATCH {
            return;
        }
    }
}
