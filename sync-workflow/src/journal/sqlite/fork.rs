//! Runs that begin as copies of other runs' first records.

use sqlx::SqliteConnection;

use super::{
    bulk::Bulk,
    commit,
    error::failed,
    record, run,
    value::{Micros, timestamp},
};
use crate::{
    id::{Position, RunId, WorkflowId},
    journal::{Fork, ForkOutcome, ForkTarget, HistoryRecord, Result, RunSelector, WokenRun},
    record::RecordKind,
    status::RunStatus,
};

/// How many records are copied at once.
const RECORDS_AT_ONCE: u32 = 1_000;

/// Starts a fork.
pub(super) async fn fork(
    connection: &mut SqliteConnection,
    fork: &Fork,
    now: Micros,
) -> Result<ForkOutcome> {
    if run::select(connection, &RunSelector::Run(fork.run))
        .await?
        .is_some()
    {
        return Ok(ForkOutcome::Forked { ended: None });
    }
    let Some(origin) = run::select(connection, &RunSelector::Run(fork.origin)).await? else {
        return Ok(ForkOutcome::NoOrigin);
    };
    if record::next_position(connection, fork.origin).await? < fork.forked.position {
        return Ok(ForkOutcome::NoOrigin);
    }
    let workflow_id = match &fork.target {
        ForkTarget::New(workflow_id) => workflow_id.clone(),
        ForkTarget::Same { .. } => workflow_id_of(connection, fork.origin).await?,
    };
    let latest = run::select(connection, &RunSelector::Latest(workflow_id.clone())).await?;
    let takes_place = matches!(fork.target, ForkTarget::Same { .. });
    if let Some(latest) = latest.filter(|latest| !takes_place || latest.run != fork.origin) {
        return Ok(ForkOutcome::Existing {
            run: latest.run,
            status: latest.status,
        });
    }
    let mut ended = None;
    if let ForkTarget::Same { last, children } = &fork.target {
        adopt(connection, fork, children).await?;
        if !origin.status.is_closed() {
            let status = RunStatus::ContinuedAsNew;
            commit::terminate(connection, fork.origin, last, status, now).await?;
            ended = Some(WokenRun {
                run: fork.origin,
                node: origin.node,
            });
        }
    }
    insert(connection, fork, &workflow_id, ended.is_some(), now).await?;
    copy_records(connection, fork, now).await?;
    if ended.is_none() {
        copy_signals(connection, fork, origin.chain).await?;
        copy_published(connection, fork, origin.chain).await?;
    }
    if origin.status != RunStatus::ContinuedAsNew {
        let chain = if ended.is_some() {
            origin.chain
        } else {
            fork.run
        };
        give_signals_back(connection, fork, chain).await?;
    }
    Ok(ForkOutcome::Forked { ended })
}

async fn workflow_id_of(connection: &mut SqliteConnection, run: RunId) -> Result<WorkflowId> {
    let row = sqlx::query("SELECT workflow_id FROM sync_workflow_runs WHERE run = ?")
        .bind(run.as_uuid())
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    run::workflow_id(&row)
}

/// Makes children of the origin, with the runs in which they went on, those of the new run.
async fn adopt(connection: &mut SqliteConnection, fork: &Fork, children: &[RunId]) -> Result<()> {
    static ADOPT: Bulk = Bulk::new(
        "WITH adopted (chain, parent, origin) AS (VALUES ",
        "(?,?,?)",
        ") UPDATE sync_workflow_runs AS held SET parent_run = adopted.parent
           FROM adopted WHERE held.parent_run = adopted.origin AND held.chain = adopted.chain",
    );
    ADOPT
        .execute(connection, children, |statement, child| {
            statement
                .bind(child.as_uuid())
                .bind(fork.run.as_uuid())
                .bind(fork.origin.as_uuid())
        })
        .await
}

/// Inserts the new run: of the origin's chain, if it goes on in its place.
async fn insert(
    connection: &mut SqliteConnection,
    fork: &Fork,
    workflow_id: &WorkflowId,
    goes_on: bool,
    now: Micros,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO sync_workflow_runs
           (run, chain, workflow_id, sequence, workflow, queue, parent_run, parent_command, on_parent_close,
            status, pause_requested, wake_at, claims, progress, created_at, queue_key, priority, admission, trace,
            inbox, cancel_requested, awaited)
         SELECT ?1, CASE WHEN ?4 THEN chain ELSE ?1 END, ?3, CASE WHEN workflow_id = ?3 THEN sequence + 1 ELSE 0 END,
                workflow, queue, CASE WHEN ?4 THEN parent_run END, CASE WHEN ?4 THEN parent_command END,
                CASE WHEN ?4 THEN on_parent_close END,
                CASE WHEN ?4 AND pause_requested THEN 3 ELSE 0 END, ?4 AND pause_requested, ?5, 0, 0, ?5,
                queue_key, priority,
                -- It takes the turn of the run in whose place it goes on.
                CASE WHEN admission = 2 OR (admission = 1 AND ?4) THEN admission ELSE 0 END,
                trace, 1, 0, 0
         FROM sync_workflow_runs WHERE run = ?2",
    )
    .bind(fork.run.as_uuid())
    .bind(fork.origin.as_uuid())
    .bind(workflow_id.as_str())
    .bind(goes_on)
    .bind(now)
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query(
        "INSERT INTO sync_workflow_tags (run, name, value)
         SELECT ?1, name, value FROM sync_workflow_tags WHERE run = ?2",
    )
    .bind(fork.run.as_uuid())
    .bind(fork.origin.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn copy_records(connection: &mut SqliteConnection, fork: &Fork, now: Micros) -> Result<()> {
    let end = fork.forked.position.0;
    let mut from = 0;
    while from < end {
        let limit = RECORDS_AT_ONCE.min(end - from);
        let page = record::page(connection, fork.origin, Position(from), limit).await?;
        record::import(connection, fork.run, &page).await?;
        from += limit;
    }
    let forked = HistoryRecord {
        record: fork.forked.clone(),
        recorded_at: timestamp(now),
    };
    record::import(connection, fork.run, &[forked]).await
}

/// Copies the signals of a chain, those that were received too: the id of each counts once.
async fn copy_signals(connection: &mut SqliteConnection, fork: &Fork, chain: RunId) -> Result<()> {
    sqlx::query(
        "INSERT INTO sync_workflow_signals (chain, id, name, payload, consumed)
         SELECT ?1, id, name, payload, consumed FROM sync_workflow_signals WHERE chain = ?2 ORDER BY sequence",
    )
    .bind(fork.run.as_uuid())
    .bind(chain.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Copies what the runs showed that the origin continues, or is a copy of, and answered: its own code shows again what
/// it showed.
async fn copy_published(
    connection: &mut SqliteConnection,
    fork: &Fork,
    chain: RunId,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO sync_workflow_published (chain, name, revision, payload, published_at)
         SELECT ?1, p.name, p.revision, p.payload, p.published_at
         FROM sync_workflow_published AS p JOIN sync_workflow_runs AS origin ON origin.run = ?2
         WHERE p.chain = ?3 AND p.published_at <= origin.created_at
           AND (origin.run <> ?3 OR EXISTS (SELECT 1 FROM sync_workflow_records WHERE run = ?2 AND kind = ?4))",
    )
    .bind(fork.run.as_uuid())
    .bind(fork.origin.as_uuid())
    .bind(chain.as_uuid())
    .bind(RecordKind::Forked.code())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Makes those signals wait again that the origin received after the copied records: the last of each name, for they
/// are received in order.
async fn give_signals_back(
    connection: &mut SqliteConnection,
    fork: &Fork,
    chain: RunId,
) -> Result<()> {
    sqlx::query(
        "UPDATE sync_workflow_signals SET consumed = 0
         WHERE sequence IN (
             SELECT sequence FROM (
                 SELECT signal.sequence AS sequence, later.count AS count,
                        row_number() OVER (PARTITION BY signal.name ORDER BY signal.sequence DESC) AS place
                 FROM sync_workflow_signals AS signal
                 JOIN (SELECT name, count(*) AS count FROM sync_workflow_records
                       WHERE run = ?1 AND position >= ?2 AND kind = ?3 GROUP BY name) AS later
                   ON later.name = signal.name
                 WHERE signal.chain = ?4 AND signal.consumed = 1
             ) WHERE place <= count
         )",
    )
    .bind(fork.origin.as_uuid())
    .bind(fork.forked.position.0)
    .bind(RecordKind::SignalReceived.code())
    .bind(chain.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
