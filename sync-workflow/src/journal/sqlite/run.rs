//! The rows of runs: finding them, and what arrives for them.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    bulk::Bulk,
    error::failed,
    value::{Micros, column, corrupt, node_id, number, optional_run_id, run_id},
};
use crate::{
    id::{BuildId, CommandId, NodeId, Position, RunId, WorkflowId},
    journal::{Admission, ParentCloses, ParentLink, Result, RunSelector, Ticket, WokenRun},
    status::RunStatus,
    trace::TraceContext,
};

/// A run that a selector found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) run: RunId,
    pub(super) chain: RunId,
    pub(super) status: RunStatus,
    pub(super) node: Option<NodeId>,
    pub(super) inbox: i64,
    pub(super) cancel_requested: bool,
    pub(super) pause_requested: bool,
    pub(super) awaited: bool,
}

pub(super) async fn select(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
) -> Result<Option<Found>> {
    let query = match selector {
        RunSelector::Run(run) => sqlx::query(
            "SELECT run, chain, status, node, inbox, cancel_requested, pause_requested, awaited
             FROM sync_workflow_runs WHERE run = ?",
        )
        .bind(run.as_uuid()),
        RunSelector::Latest(workflow_id) => sqlx::query(
            "SELECT run, chain, status, node, inbox, cancel_requested, pause_requested, awaited
             FROM sync_workflow_runs WHERE workflow_id = ? ORDER BY sequence DESC LIMIT 1",
        )
        .bind(workflow_id.as_str()),
    };
    let row = query.fetch_optional(connection).await.map_err(failed)?;
    row.map(|row| {
        Ok(Found {
            run: run_id(&row, "run")?,
            chain: run_id(&row, "chain")?,
            status: status(&row)?,
            node: node_id(&row, "node")?,
            inbox: column(&row, "inbox")?,
            cancel_requested: column(&row, "cancel_requested")?,
            pause_requested: column(&row, "pause_requested")?,
            awaited: column(&row, "awaited")?,
        })
    })
    .transpose()
}

/// Counts arrivals in the inboxes of runs that are open, and wakes those that sleep.
pub(super) async fn arrive(
    connection: &mut SqliteConnection,
    arrivals: &[(RunId, i64)],
    now: Micros,
) -> Result<Vec<WokenRun>> {
    static ARRIVE: Bulk = Bulk::padded(
        "WITH arrival (run, count, now) AS (VALUES ",
        "(?,?,?)",
        ") UPDATE sync_workflow_runs AS held
           SET inbox = inbox + arrival.count,
               -- A run that is ready keeps its place in the queue.
               wake_at = CASE WHEN status = 0 THEN min(coalesce(wake_at, arrival.now), arrival.now) END
           FROM arrival WHERE held.run = arrival.run AND held.status < 10
           RETURNING run, node",
    );
    let rows = ARRIVE
        .fetch(connection, arrivals, |statement, (run, count)| {
            statement.bind(run.as_uuid()).bind(*count).bind(now)
        })
        .await?;
    let mut woken: Vec<_> = rows
        .iter()
        .map(|row| {
            Ok(WokenRun {
                run: run_id(row, "run")?,
                node: node_id(row, "node")?,
            })
        })
        .collect::<Result<_>>()?;
    woken.sort_unstable_by_key(|woken| woken.run);
    Ok(woken)
}

/// Counts a signal in the inbox of a run that is open, and wakes it if it sleeps. One that has not begun keeps its
/// time: a delayed start stays delayed.
pub(super) async fn signalled(
    connection: &mut SqliteConnection,
    run: RunId,
    now: Micros,
) -> Result<Option<WokenRun>> {
    let row = sqlx::query(
        "UPDATE sync_workflow_runs
         SET inbox = inbox + 1,
             wake_at = CASE WHEN status = 0 AND progress > 0 THEN min(coalesce(wake_at, ?1), ?1) ELSE wake_at END
         WHERE run = ?2 AND status < 10
         RETURNING node",
    )
    .bind(now)
    .bind(run.as_uuid())
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    row.map(|row| {
        let node = node_id(&row, "node")?;
        Ok(WokenRun { run, node })
    })
    .transpose()
}

/// Asks runs to cancel that were not asked before. What arrives with it is counted by [`arrive`].
pub(super) async fn request_cancel(
    connection: &mut SqliteConnection,
    runs: &[RunId],
) -> Result<()> {
    static CANCEL: Bulk = Bulk::new(
        "UPDATE sync_workflow_runs SET cancel_requested = 1 WHERE run IN (",
        "?",
        ")",
    );
    CANCEL
        .execute(connection, runs, |statement, run| {
            statement.bind(run.as_uuid())
        })
        .await
}

/// Asks an open run to pause: one that is pending is paused.
pub(super) async fn request_pause(connection: &mut SqliteConnection, run: RunId) -> Result<()> {
    sqlx::query(
        "UPDATE sync_workflow_runs
         SET pause_requested = 1, inbox = inbox + 1, status = CASE status WHEN 0 THEN 3 ELSE status END
         WHERE run = ?",
    )
    .bind(run.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Takes the request to pause back: a paused run is ready. What arrives with it is counted by [`arrive`].
pub(super) async fn end_pause(
    connection: &mut SqliteConnection,
    run: RunId,
    now: Micros,
) -> Result<()> {
    sqlx::query(
        "UPDATE sync_workflow_runs
         SET pause_requested = 0,
             status = CASE status WHEN 3 THEN 0 ELSE status END,
             claims = CASE status WHEN 3 THEN 0 ELSE claims END,
             wake_at = CASE status WHEN 3 THEN ? ELSE wake_at END
         WHERE run = ?",
    )
    .bind(now)
    .bind(run.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Notes that a client awaits the end of a run that is open.
pub(super) async fn mark_awaited(connection: &mut SqliteConnection, run: RunId) -> Result<()> {
    sqlx::query("UPDATE sync_workflow_runs SET awaited = 1 WHERE run = ? AND status < 10")
        .bind(run.as_uuid())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// What becomes of the last claim of a run that its node gives up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Claims {
    Keep,
    TakeBack,
}

/// Makes all runs of a node ready.
pub(super) async fn free(
    connection: &mut SqliteConnection,
    node: NodeId,
    claims: Claims,
    now: Micros,
) -> Result<()> {
    let taken_back = match claims {
        Claims::Keep => 0,
        Claims::TakeBack => 1,
    };
    sqlx::query(
        "UPDATE sync_workflow_runs
         SET status = CASE WHEN pause_requested THEN 3 ELSE 0 END, node = NULL, wake_at = ?, claims = max(claims - ?, 0)
         WHERE node = ?",
    )
    .bind(now)
    .bind(taken_back)
    .bind(node.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) fn status(row: &SqliteRow) -> Result<RunStatus> {
    let code: i64 = column(row, "status")?;
    match i16::try_from(code).ok().and_then(RunStatus::from_code) {
        Some(status) => Ok(status),
        None => Err(corrupt(
            run_id(row, "run")?,
            Position(0),
            format!("its run has the unknown status {code}"),
        )),
    }
}

pub(super) fn workflow_id(row: &SqliteRow) -> Result<WorkflowId> {
    match WorkflowId::new(column::<&str>(row, "workflow_id")?) {
        Ok(id) => Ok(id),
        Err(error) => Err(corrupt(run_id(row, "run")?, Position(0), error.to_string())),
    }
}

/// The trace of a run, if it has one.
pub(super) fn trace(row: &SqliteRow) -> Result<Option<TraceContext>> {
    let stored = column::<Option<&str>>(row, "trace")?;
    Ok(stored.and_then(TraceContext::from_stored))
}

pub(super) fn parent(row: &SqliteRow) -> Result<Option<ParentLink>> {
    let Some(run) = optional_run_id(row, "parent_run")? else {
        return Ok(None);
    };
    let on_close =
        if column::<i64>(row, "on_parent_close")? == i64::from(ParentCloses::Abandon as i16) {
            ParentCloses::Abandon
        } else {
            ParentCloses::Cancel
        };
    Ok(Some(ParentLink {
        run,
        command: CommandId(number(row, "parent_command")?),
        on_close,
    }))
}

/// The build that a run is of, if it is of one.
pub(super) fn build(row: &SqliteRow) -> Result<Option<BuildId>> {
    let stored = column::<Option<&str>>(row, "build")?;
    Ok(stored.and_then(|build| BuildId::new(build).ok()))
}

/// The place of a run in its queue.
pub(super) fn ticket(row: &SqliteRow) -> Result<Ticket> {
    Ok(Ticket {
        key: column::<&str>(row, "queue_key")?.into(),
        priority: column(row, "priority")?,
        admission: Admission::from_code(column(row, "admission")?),
    })
}
