//! Claims.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    build,
    bulk::Bulk,
    error::failed,
    queue::Admitted,
    run,
    value::{Micros, column, number, run_id, timestamp},
};
use crate::{
    id::{BuildId, NodeId},
    journal::{Claim, ClaimRequest, ClaimedRun, Result},
};

/// What a claim would take: runs that are ready, in the order of their wake-up times, with the
/// attempts already counted, and the length of the journal of each.
pub(super) async fn ready(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Micros,
) -> Result<Vec<(ClaimedRun, i64)>> {
    let takes_new = build::takes_new(connection, request).await?;
    let rows = sqlx::query(
        "SELECT run, chain, workflow_id, workflow, queue, parent_run, parent_command, on_parent_close,
                inbox, claims, progress, wake_at, queue_key, priority, admission, trace,
                (SELECT max(position) + 1 FROM sync_workflow_records AS record
                 WHERE record.run = asleep.run) AS length
         FROM sync_workflow_runs AS asleep
         WHERE queue = ? AND status = 0 AND wake_at <= ? AND workflow IN (SELECT value FROM json_each(?))
           -- In a queue with limits only those that it has admitted.
           AND (admission IN (1, 2) OR NOT EXISTS (SELECT 1 FROM sync_workflow_queues WHERE queue = ?))
           AND (build = ? OR build IS NULL AND ?)
         ORDER BY wake_at, run LIMIT ?",
    )
    .bind(&*request.queue)
    .bind(now)
    .bind(workflows(request))
    .bind(&*request.queue)
    .bind(request.build.as_ref().map(BuildId::as_str))
    .bind(takes_new)
    .bind(request.limit)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let length: i64 = column(row, "length")?;
            let progress: i64 = column(row, "progress")?;
            let grew = length > progress;
            let earlier = number(row, "claims")?;
            let attempts = if grew { 1 } else { earlier + 1 };
            Ok((
                ClaimedRun {
                    attempts,
                    ready_at: Some(timestamp(column(row, "wake_at")?)),
                    rested: earlier == 0 && progress > 0,
                    ..claimed(row)?
                },
                length,
            ))
        })
        .collect()
}

/// Makes runs that are ready the node's, and of its build if it has one.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    node: NodeId,
    build: Option<&BuildId>,
    runs: &[(ClaimedRun, i64)],
) -> Result<()> {
    static TAKE: Bulk = Bulk::new(
        "WITH claim (run, node, claims, progress, build) AS (VALUES ",
        "(?,?,?,?,?)",
        ") UPDATE sync_workflow_runs AS asleep
           SET status = 1, wake_at = NULL, node = claim.node, claims = claim.claims, progress = claim.progress,
               build = coalesce(claim.build, asleep.build)
           FROM claim WHERE asleep.run = claim.run",
    );
    TAKE.execute(connection, runs, |statement, (claimed, length)| {
        statement
            .bind(claimed.run.as_uuid())
            .bind(node.as_uuid())
            .bind(claimed.attempts)
            .bind(*length)
            .bind(build.map(BuildId::as_str))
    })
    .await
}

/// The answer to a claim, with the time at which the next run of its kind will be ready.
pub(super) async fn answer(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    runs: Vec<ClaimedRun>,
    admitted: Admitted,
    now: Micros,
) -> Result<Claim> {
    let next_wake = next_wake(connection, request, Some(now)).await?;
    let next_at = admitted.next_at.map(timestamp);
    Ok(Claim {
        now: timestamp(now),
        runs,
        next_wake: next_wake.into_iter().chain(next_at).min(),
        more: admitted.more,
        managed: admitted.managed,
    })
}

/// The earliest wake-up time of the runs of a claim, of those that are due later than this.
pub(super) async fn next_wake(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    after: Option<Micros>,
) -> Result<Option<Timestamp>> {
    let takes_new = build::takes_new(connection, request).await?;
    let row = sqlx::query(
        "SELECT wake_at FROM sync_workflow_runs
         WHERE queue = ? AND status = 0 AND wake_at > ? AND workflow IN (SELECT value FROM json_each(?))
           AND (build = ? OR build IS NULL AND ?)
         ORDER BY wake_at LIMIT 1",
    )
    .bind(&*request.queue)
    .bind(after.unwrap_or(Micros::MIN))
    .bind(workflows(request))
    .bind(request.build.as_ref().map(BuildId::as_str))
    .bind(takes_new)
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    let wake_at: Option<Micros> = row.map(|row| row.try_get(0).map_err(failed)).transpose()?;
    Ok(wake_at.map(timestamp))
}

/// Whether any run names a node.
pub(super) async fn is_holding(connection: &mut SqliteConnection, node: NodeId) -> Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sync_workflow_runs WHERE node = ?)")
        .bind(node.as_uuid())
        .fetch_one(connection)
        .await
        .map_err(failed)
}

/// The runs that name a node.
pub(super) async fn owned(
    connection: &mut SqliteConnection,
    node: NodeId,
) -> Result<Vec<ClaimedRun>> {
    let rows = sqlx::query(
        "SELECT run, chain, workflow_id, workflow, queue, parent_run, parent_command, on_parent_close, inbox, claims,
                queue_key, priority, admission, trace
         FROM sync_workflow_runs WHERE node = ? ORDER BY run",
    )
    .bind(node.as_uuid())
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter().map(claimed).collect()
}

pub(super) fn workflows(request: &ClaimRequest) -> String {
    serde_json::to_string(&request.workflows).expect("names are JSON strings")
}

fn claimed(row: &SqliteRow) -> Result<ClaimedRun> {
    Ok(ClaimedRun {
        run: run_id(row, "run")?,
        chain: run_id(row, "chain")?,
        workflow_id: run::workflow_id(row)?,
        workflow: column::<&str>(row, "workflow")?.into(),
        queue: column::<&str>(row, "queue")?.into(),
        parent: run::parent(row)?,
        inbox: column(row, "inbox")?,
        attempts: number(row, "claims")?,
        ticket: run::ticket(row)?,
        ready_at: None,
        rested: false,
        trace: run::trace(row)?,
    })
}
