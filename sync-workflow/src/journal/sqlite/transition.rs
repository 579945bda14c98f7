//! What becomes of runs: suspended, released, parked, closed.

use std::collections::{BTreeMap, HashSet};

use sqlx::SqliteConnection;

use super::{
    attempt,
    bulk::Bulk,
    error::failed,
    run,
    value::{Micros, column, micros, optional_run_id, run_id},
};
use crate::{
    id::RunId,
    journal::{ParentCloses, Result, WakeAt},
    status::RunStatus,
};

/// How much arrives for each run in the course of a transaction.
pub(super) type Arrivals = BTreeMap<RunId, i64>;

/// A run that gives up its place in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspension {
    pub(super) run: RunId,
    pub(super) wake_at: WakeAt,
    pub(super) seen_inbox: i64,
}

/// Suspends runs for which nothing arrived, and returns the others.
pub(super) async fn suspend(
    connection: &mut SqliteConnection,
    suspensions: &[Suspension],
) -> Result<HashSet<RunId>> {
    static AWAKE: Bulk = Bulk::padded(
        "WITH suspension (run, seen) AS (VALUES ",
        "(?,?)",
        ") SELECT held.run AS run FROM suspension JOIN sync_workflow_runs AS held ON held.run = suspension.run
           WHERE held.inbox <> suspension.seen",
    );
    static SUSPEND: Bulk = Bulk::padded(
        "WITH suspension (run, seen, wake_at) AS (VALUES ",
        "(?,?,?)",
        ") UPDATE sync_workflow_runs AS held 
           SET status = CASE WHEN pause_requested THEN 3 ELSE 0 END, node = NULL, wake_at = suspension.wake_at,
               claims = 0
           FROM suspension WHERE held.run = suspension.run AND held.inbox = suspension.seen",
    );
    let rows = AWAKE
        .fetch(connection, suspensions, |statement, suspension| {
            statement
                .bind(suspension.run.as_uuid())
                .bind(suspension.seen_inbox)
        })
        .await?;
    SUSPEND
        .execute(connection, suspensions, |statement, suspension| {
            let wake_at = match suspension.wake_at {
                WakeAt::Arrival => None,
                WakeAt::Time(at) => Some(micros(at)),
            };
            statement
                .bind(suspension.run.as_uuid())
                .bind(suspension.seen_inbox)
                .bind(wake_at)
        })
        .await?;
    rows.iter().map(|row| run_id(row, "run")).collect()
}

/// Makes runs ready whose claim does not count.
pub(super) async fn release(
    connection: &mut SqliteConnection,
    runs: &[RunId],
    now: Micros,
) -> Result<()> {
    static RELEASE: Bulk = Bulk::new(
        "WITH released (run, now) AS (VALUES ",
        "(?,?)",
        ") UPDATE sync_workflow_runs AS held
           SET status = CASE WHEN pause_requested THEN 3 ELSE 0 END, node = NULL, wake_at = released.now,
               claims = max(claims - 1, 0)
           FROM released WHERE held.run = released.run",
    );
    RELEASE
        .execute(connection, runs, |statement, run| {
            statement.bind(run.as_uuid()).bind(now)
        })
        .await
}

pub(super) async fn park(
    connection: &mut SqliteConnection,
    runs: &[(RunId, &str)],
    now: Micros,
) -> Result<()> {
    static PARK: Bulk = Bulk::new(
        "WITH parked (run, reason, now) AS (VALUES ",
        "(?,?,?)",
        ") UPDATE sync_workflow_runs AS held
           SET status = 2, node = NULL, wake_at = NULL, parked_reason = parked.reason, parked_at = parked.now
           FROM parked WHERE held.run = parked.run",
    );
    PARK.execute(connection, runs, |statement, (run, reason)| {
        statement
            .bind(run.as_uuid())
            .bind((*reason).to_owned())
            .bind(now)
    })
    .await
}

pub(super) async fn unpark(
    connection: &mut SqliteConnection,
    run: RunId,
    now: Micros,
) -> Result<()> {
    sqlx::query(
        "UPDATE sync_workflow_runs
         SET status = CASE WHEN pause_requested THEN 3 ELSE 0 END, wake_at = ?, claims = 0, parked_reason = NULL
         WHERE run = ? AND status = 2",
    )
    .bind(now)
    .bind(run.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Closes runs, notes what arrives for their parents, and returns those that a client awaits.
pub(super) async fn close(
    connection: &mut SqliteConnection,
    closings: &[(RunId, RunStatus)],
    arrivals: &mut Arrivals,
    now: Micros,
) -> Result<Vec<RunId>> {
    static INTERESTED: Bulk = Bulk::padded(
        "SELECT run, parent_run, awaited FROM sync_workflow_runs
         WHERE (parent_run IS NOT NULL OR awaited) AND run IN (",
        "?",
        ")",
    );
    static CLOSE: Bulk = Bulk::padded(
        "WITH closing (run, status, now) AS (VALUES ",
        "(?,?,?)",
        ") UPDATE sync_workflow_runs AS held
           SET status = closing.status, closed_at = closing.now, node = NULL, wake_at = NULL, parked_reason = NULL
           FROM closing WHERE held.run = closing.run",
    );
    let rows = INTERESTED
        .fetch(connection, closings, |statement, (run, _)| {
            statement.bind(run.as_uuid())
        })
        .await?;
    CLOSE
        .execute(connection, closings, |statement, (run, status)| {
            statement.bind(run.as_uuid()).bind(status.code()).bind(now)
        })
        .await?;
    let runs: Vec<_> = closings.iter().map(|(run, _)| *run).collect();
    attempt::forget(connection, &runs).await?;

    let mut awaited = Vec::new();
    for row in &rows {
        if let Some(parent) = optional_run_id(row, "parent_run")? {
            *arrivals.entry(parent).or_default() += 1;
        }
        if column::<bool>(row, "awaited")? {
            awaited.push(run_id(row, "run")?);
        }
    }
    Ok(awaited)
}

/// Applies the parent-close policy to the open children of runs that have closed.
pub(super) async fn leave_children(
    connection: &mut SqliteConnection,
    parents: &[RunId],
    arrivals: &mut Arrivals,
) -> Result<()> {
    static CHILDREN: Bulk = Bulk::new(
        "SELECT run, on_parent_close FROM sync_workflow_runs
         WHERE status < 10 AND cancel_requested = 0 AND parent_run IN (",
        "?",
        ")",
    );
    let rows = CHILDREN
        .fetch(connection, parents, |statement, run| {
            statement.bind(run.as_uuid())
        })
        .await?;
    let mut cancelled = Vec::new();
    for row in &rows {
        if column::<i64>(row, "on_parent_close")? == i64::from(ParentCloses::Cancel as i16) {
            let child = run_id(row, "run")?;
            *arrivals.entry(child).or_default() += 1;
            cancelled.push(child);
        }
    }
    run::request_cancel(connection, &cancelled).await
}
