//! The state of activities between attempts.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    bulk::Bulk,
    error::failed,
    value::{bytes, column, micros, number, timestamp},
};
use crate::{
    id::{CommandId, RunId},
    journal::{Attempt, Result},
};

pub(super) async fn keep(
    connection: &mut SqliteConnection,
    attempts: &[(RunId, &Attempt)],
) -> Result<()> {
    static KEEP: Bulk = Bulk::new(
        "INSERT INTO sync_workflow_attempts
           (run, command, failed, next_at, scheduled_at, failure, details) VALUES ",
        "(?,?,?,?,?,?,?)",
        " ON CONFLICT (run, command) DO UPDATE SET
            failed = excluded.failed, next_at = excluded.next_at, scheduled_at = excluded.scheduled_at,
            failure = excluded.failure, details = excluded.details",
    );
    KEEP.execute(connection, attempts, |statement, (run, attempt)| {
        statement
            .bind(run.as_uuid())
            .bind(attempt.command.0)
            .bind(attempt.failed)
            .bind(attempt.next_at.map(micros))
            .bind(micros(attempt.scheduled_at))
            .bind(attempt.failure.to_vec())
            .bind(attempt.details.to_vec())
    })
    .await
}

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    attempts: &[(RunId, CommandId)],
) -> Result<()> {
    static SETTLE: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_attempts WHERE (run, command) IN (VALUES ",
        "(?,?)",
        ")",
    );
    SETTLE
        .execute(connection, attempts, |statement, (run, command)| {
            statement.bind(run.as_uuid()).bind(command.0)
        })
        .await
}

/// Deletes what runs that have closed leave behind.
pub(super) async fn forget(connection: &mut SqliteConnection, runs: &[RunId]) -> Result<()> {
    static FORGET: Bulk = Bulk::padded(
        "DELETE FROM sync_workflow_attempts WHERE run IN (",
        "?",
        ")",
    );
    FORGET
        .execute(connection, runs, |statement, run| {
            statement.bind(run.as_uuid())
        })
        .await
}

pub(super) async fn of_run(connection: &mut SqliteConnection, run: RunId) -> Result<Vec<Attempt>> {
    let rows = sqlx::query(
        "SELECT command, failed, next_at, scheduled_at, failure, details
         FROM sync_workflow_attempts WHERE run = ? ORDER BY command",
    )
    .bind(run.as_uuid())
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter().map(decode).collect()
}

fn decode(row: &SqliteRow) -> Result<Attempt> {
    Ok(Attempt {
        command: CommandId(number(row, "command")?),
        failed: number(row, "failed")?,
        next_at: column::<Option<i64>>(row, "next_at")?.map(timestamp),
        scheduled_at: timestamp(column(row, "scheduled_at")?),
        failure: bytes(row, "failure")?,
        details: bytes(row, "details")?,
    })
}
