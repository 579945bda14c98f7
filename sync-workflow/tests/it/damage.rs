//! Rows of the journal that are not what was written: found before they have any effect.

use std::{any::Any, collections::BTreeSet, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use sync_workflow::{
    Context, Failure, RetryPolicy, RunError, Tx,
    client::ForkPoint,
    id::{Position, RunId, WorkflowId},
    journal::{Error, Journal},
    record::RecordKind,
    status::RunStatus,
    testing::ReplayCheck,
};
use throwaway_postgres::Database;

use crate::engine::{eventually, quick};

async fn double(n: u64) -> Result<u64, Failure> {
    Ok(n * 2)
}

async fn fails(_: u64) -> Result<u64, Failure> {
    Err(Failure::final_error("no"))
}

async fn child(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(double, n).await?)
}

async fn failing_child(_ctx: Context, _: u64) -> Result<u64, Failure> {
    Err(Failure::new("no"))
}

/// Leaves a record of every kind that an open run may have, once it was asked to cancel, and waits.
async fn everything(ctx: Context, n: u64) -> Result<u64, Failure> {
    let started = ctx.now();
    let drawn = ctx.side_effect("draw", || 7_u64);
    let version = ctx.version("a change", 0..=1);
    let a = ctx.activity(double, n).await?;
    let b = ctx.activity(double, a).at_most_once().await?;
    let refused = ctx.activity(fails, b).retry(RetryPolicy::none()).await;
    ctx.sleep(Duration::from_millis(1)).await?;
    let myself = ctx.workflow_id();
    ctx.signal(&myself, "own", &b).await?;
    let nobody = WorkflowId::new("nobody")?;
    let unsent = ctx.signal(&nobody, "own", &b).await;
    let own: u64 = ctx.wait("own").await?;
    let step = |fails: bool| {
        ctx.transaction::<u64, Failure, _, _>("step", move |tx: Tx| async move {
            drop(tx);
            match fails {
                true => Err(Failure::final_error("no")),
                false => Ok(1),
            }
        })
    };
    let done = step(false).await?;
    let undone = step(true).await;
    let lost = ctx.child(failing_child, own).await;
    let c = ctx.child(child, own).await?;
    ctx.shield().wait::<()>("go on").await?;
    let refusals = [
        refused.is_err(),
        unsent.is_err(),
        undone.is_err(),
        lost.is_err(),
    ];
    let is_sound = version == 1 && done == 1 && !refusals.contains(&false) && started <= ctx.now();
    Ok(if is_sound { c + drawn } else { 0 })
}

/// A row of the table of records.
type Row = (i32, i16, i64, String, i64, Vec<u8>);

/// A database whose rows are changed behind the engine's back.
enum Behind {
    Postgres(Box<PgConnection>),
    Sqlite(Box<SqliteConnection>),
}

/// The same on either connection, for their types share nothing.
macro_rules! on {
    ($behind:expr, $connection:ident => $do:expr) => {
        match $behind {
            Behind::Postgres($connection) => $do,
            Behind::Sqlite($connection) => $do,
        }
    };
}

impl Behind {
    /// A connection, the journal's URL, and what keeps the storage alive.
    async fn postgres() -> (Self, String, Box<dyn Any>) {
        let database = Database::create().unwrap();
        let url = database.url().to_owned();
        let connection = PgConnection::connect(&url).await.unwrap();
        (
            Self::Postgres(Box::new(connection)),
            url,
            Box::new(database),
        )
    }

    async fn sqlite() -> (Self, String, Box<dyn Any>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let url = format!("sqlite:{}?mode=rwc", path.display());
        let connection = SqliteConnection::connect(&url).await.unwrap();
        (Self::Sqlite(Box::new(connection)), url, Box::new(directory))
    }

    /// A statement with the names that this database has for the table and for the run.
    fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        let (table, run) = match self {
            Self::Postgres(_) => ("sync_workflow.journal", "run_id"),
            Self::Sqlite(_) => ("sync_workflow_records", "run"),
        };
        AssertSqlSafe(text.replace("{table}", table).replace("{run}", run))
    }

    async fn rows(&mut self, run: RunId) -> Vec<Row> {
        let sql = self.sql(
            "SELECT position, kind, CAST(command AS bigint), name, fingerprint, payload FROM {table}
             WHERE {run} = $1 ORDER BY position",
        );
        on!(self, connection => {
            let rows = sqlx::query_as(sql).bind(run.as_uuid());
            rows.fetch_all(&mut **connection).await.unwrap()
        })
    }

    async fn delete(&mut self, run: RunId, position: i32) {
        let sql = self.sql("DELETE FROM {table} WHERE {run} = $1 AND position = $2");
        on!(self, connection => {
            let delete = sqlx::query(sql).bind(run.as_uuid()).bind(position);
            delete.execute(&mut **connection).await.unwrap();
        });
    }

    async fn insert(&mut self, run: RunId, row: &Row) {
        let at = match self {
            Self::Postgres(_) => "now()",
            Self::Sqlite(_) => "0",
        };
        let sql = self.sql(&format!(
            "INSERT INTO {{table}} ({{run}}, position, kind, command, name, fingerprint, payload, recorded_at)
             VALUES ($1, $2, $3, CAST(CAST($4 AS bigint) AS integer), $5, $6, $7, {at})"
        ));
        let (position, kind, command, name, fingerprint, payload) = row.clone();
        on!(self, connection => {
            let insert = sqlx::query(sql)
                .bind(run.as_uuid())
                .bind(position)
                .bind(kind)
                .bind(command)
                .bind(name)
                .bind(fingerprint)
                .bind(payload);
            insert.execute(&mut **connection).await.unwrap();
        });
    }

    async fn replace(&mut self, run: RunId, row: &Row) {
        self.delete(run, row.0).await;
        self.insert(run, row).await;
    }
}

/// Every way in which one bit or byte of a row can be another.
fn damaged(row: &Row) -> Vec<Row> {
    let mut damaged = Vec::new();
    let mut with = |change: &dyn Fn(&mut Row)| {
        let mut changed = row.clone();
        change(&mut changed);
        damaged.push(changed);
    };
    for bit in 0..15 {
        with(&|row| row.1 ^= 1 << bit);
    }
    for bit in 0..31 {
        with(&|row| row.2 ^= 1 << bit);
    }
    for bit in 0..64 {
        with(&|row| row.4 ^= 1 << bit);
    }
    for index in 0..row.3.len() {
        // Another letter of the same length: what is no text the database refuses by itself.
        with(&|row| {
            let mut name = row.3.clone().into_bytes();
            name[index] ^= 1;
            row.3 = String::from_utf8(name).unwrap();
        });
    }
    for index in 0..row.5.len() {
        for bit in [0, 5, 7] {
            with(&|row| row.5[index] ^= 1 << bit);
        }
    }
    with(&|row| row.5.push(b' '));
    with(&|row| row.5.truncate(row.5.len().saturating_sub(1)));
    with(&|row| row.3.push('x'));
    if row.5.is_empty() {
        // There was nothing to take away.
        damaged.retain(|changed| changed != row);
    }
    damaged
}

/// Whether a replay of what the journal holds stops by itself.
async fn is_found(journal: &dyn Journal, run: RunId) -> bool {
    match journal.load(run, Position(0), 1_000).await {
        Err(Error::Corrupt { .. }) => true,
        Err(error) => panic!("{error:?}"),
        Ok(history) => {
            let id = WorkflowId::new("a").unwrap();
            let check = ReplayCheck::new(everything, run, id, history.records);
            check.whole().is_err()
        }
    }
}

async fn whatever_is_damaged_is_found((mut behind, url, _storage): (Behind, String, Box<dyn Any>)) {
    let journal = sync_workflow::journal::connect(&url).await.unwrap();
    let builder = || {
        quick()
            .workflow(everything)
            .workflow(child)
            .workflow(failing_child)
            .activity(double)
            .activity(fails)
    };
    let worker = builder().start_on(Arc::clone(&journal)).await.unwrap();
    let client = worker.client();
    let mut runs = Vec::new();
    for id in ["a", "b"] {
        let handle = client.start(everything, id, 1).await.unwrap();
        let sleeps_after = async |kind: RecordKind| {
            let history = client.history(handle.run_id(), 0, 1_000).await.unwrap();
            let last = history.items.last().map(|item| item.record.kind);
            last == Some(kind) && handle.describe().await.unwrap().status == RunStatus::Pending
        };
        eventually("its last child", async || {
            sleeps_after(RecordKind::ChildCompleted).await
        })
        .await;
        client.cancel(id).await.unwrap();
        eventually("its cancellation", async || {
            sleeps_after(RecordKind::CancelRequested).await
        })
        .await;
        // Its records again, and the one that says whose they are.
        runs.push(client.reset(id, ForkPoint::End).await.unwrap());
    }
    worker.shutdown().await;
    let (run, other) = (runs[0], runs[1]);
    let rows = behind.rows(run).await;
    let others = behind.rows(other).await;
    let kinds: BTreeSet<_> = rows.iter().map(|row| row.1).collect();
    let of_open_runs = RecordKind::ALL.into_iter().filter(|kind| !kind.is_final());
    let missing: Vec<_> = of_open_runs
        .filter(|kind| !kinds.contains(&kind.code()))
        .collect();
    assert!(missing.is_empty(), "nothing damages {missing:?}");
    assert!(!is_found(&*journal, run).await, "it is whole");

    for row in &rows {
        for changed in damaged(row) {
            behind.replace(run, &changed).await;
            assert!(is_found(&*journal, run).await, "{row:?} as {changed:?}");
        }
        behind.replace(run, row).await;
    }
    // The last one that is missing looks like a run that has not come so far.
    for row in &rows[..rows.len() - 1] {
        behind.delete(run, row.0).await;
        assert!(is_found(&*journal, run).await, "{row:?} is missing");
        behind.insert(run, row).await;
    }
    for (index, row) in rows.iter().enumerate() {
        for swapped in &rows[index + 1..] {
            let at = |position, row: &Row| {
                Row::clone(&(position, row.1, row.2, row.3.clone(), row.4, row.5.clone()))
            };
            behind.replace(run, &at(swapped.0, row)).await;
            behind.replace(run, &at(row.0, swapped)).await;
            assert!(is_found(&*journal, run).await, "{row:?} for {swapped:?}");
            behind.replace(run, row).await;
            behind.replace(run, swapped).await;
        }
        // The same step of another run.
        behind.replace(run, &others[index]).await;
        assert!(is_found(&*journal, run).await, "{row:?} of another run");
        behind.replace(run, row).await;
    }
    assert!(!is_found(&*journal, run).await, "it is whole again");

    // A worker parks such a run, and once the row is mended it ends.
    let mut changed = rows[3].clone();
    changed.4 ^= 1;
    behind.replace(run, &changed).await;
    let worker = builder().start_on(journal).await.unwrap();
    let client = worker.client();
    client.signal("a", "go on", &()).await.unwrap();
    let handle = client.handle(everything, "a").await.unwrap();
    assert!(matches!(
        handle.result().await,
        Err(RunError::Parked { .. })
    ));
    behind.replace(run, &rows[3]).await;
    client.unpark("a").await.unwrap();
    // The second double of the second double, and what was drawn.
    assert_eq!(handle.result().await.unwrap(), 15);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_damaged_is_found_on_postgres() {
    whatever_is_damaged_is_found(Behind::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_damaged_is_found_on_sqlite() {
    whatever_is_damaged_is_found(Behind::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_not_copied() {
    for (mut behind, url, _storage) in [Behind::postgres().await, Behind::sqlite().await] {
        let journal = sync_workflow::journal::connect(&url).await.unwrap();
        let worker = quick()
            .workflow(child)
            .activity(double)
            .start_on(Arc::clone(&journal))
            .await
            .unwrap();
        let client = worker.client();
        let handle = client.start(child, "a", 1).await.unwrap();
        handle.result().await.unwrap();
        let run = handle.run_id();
        let whole = behind.rows(run).await.remove(0);
        let mut changed = whole.clone();
        changed.5 = b"7".to_vec();
        behind.replace(run, &changed).await;
        let refused = client.fork(run, ForkPoint::Start, "b").await;
        assert!(refused.is_err(), "{refused:?}");
        behind.replace(run, &whole).await;
        client.fork(run, ForkPoint::Start, "b").await.unwrap();
        worker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_child_that_is_damaged_reaches_nobody() {
    for (mut behind, url, _storage) in [Behind::postgres().await, Behind::sqlite().await] {
        let journal = sync_workflow::journal::connect(&url).await.unwrap();
        let worker = quick()
            .workflow(child)
            .activity(double)
            .start_on(Arc::clone(&journal))
            .await
            .unwrap();
        let handle = worker.client().start(child, "a", 1).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 2);
        worker.shutdown().await;
        let run = handle.run_id();
        let mut last = behind.rows(run).await.pop().unwrap();
        last.5 = b"3".to_vec();
        behind.replace(run, &last).await;
        let outcome = journal.outcome(run).await;
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
        let parent = journal.inbox(run, &[run], 10).await;
        assert!(matches!(parent, Err(Error::Corrupt { .. })), "{parent:?}");
    }
}
