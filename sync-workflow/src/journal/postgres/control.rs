//! An operator's hand: cancel, terminate, unpark, pause, resume.

use std::sync::Arc;

use sqlx::{PgConnection, query_as};
use uuid::Uuid;

use super::{
    connection::Shared,
    failure::{self, Effect},
    pooling::Seat,
    selector::columns,
    unit,
};
use crate::{
    id::{NodeId, RunId},
    journal::{Error, Hint, Result, RunSelector, WokenRun, seal::seal},
    record::Record,
    status::RunStatus,
};

const REQUEST_CANCEL: &str = "
UPDATE sync_workflow.runs
SET inbox = inbox + (NOT cancel_requested OR pause_requested)::integer,
    cancel_requested = true,
    pause_requested = false,
    status = CASE WHEN status = 3 THEN 0 ELSE status END,
    attempts = CASE WHEN status = 3 THEN 0 ELSE attempts END,
    wake_at = CASE WHEN status = 3 THEN now()
                   WHEN status = 0 AND NOT cancel_requested THEN least(wake_at, now())
                   ELSE wake_at END
WHERE run_id = coalesce($1, (
        SELECT run_id FROM sync_workflow.runs
        WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))
  AND status < 10
RETURNING run_id, node_id";

const UNPARK: &str = "
WITH ready AS (
    UPDATE sync_workflow.runs
    SET status = CASE WHEN pause_requested THEN 3 ELSE 0 END, attempts = 0, wake_at = now()
    WHERE run_id = coalesce($1, (
            SELECT run_id FROM sync_workflow.runs
            WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))
      AND status = 2
    RETURNING run_id, node_id
), forgotten AS (
    DELETE FROM sync_workflow.parked WHERE run_id = ANY (ARRAY(SELECT run_id FROM ready))
)
SELECT run_id, node_id FROM ready";

const PAUSE: &str = "
UPDATE sync_workflow.runs
SET inbox = inbox + (NOT pause_requested)::integer,
    pause_requested = true,
    status = CASE WHEN status = 0 THEN 3 ELSE status END
WHERE run_id = coalesce($1, (
        SELECT run_id FROM sync_workflow.runs
        WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))
  AND status < 10
RETURNING run_id, node_id";

const RESUME: &str = "
UPDATE sync_workflow.runs
SET inbox = inbox + 1,
    pause_requested = false,
    status = CASE WHEN status = 3 THEN 0 ELSE status END,
    attempts = CASE WHEN status = 3 THEN 0 ELSE attempts END,
    wake_at = CASE WHEN status = 3 THEN now() ELSE wake_at END
WHERE run_id = coalesce($1, (
        SELECT run_id FROM sync_workflow.runs
        WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))
  AND status < 10 AND pause_requested
RETURNING run_id, node_id";

const OPEN_RUN: &str = "
SELECT run_id FROM sync_workflow.runs
WHERE run_id = coalesce($1, (
        SELECT run_id FROM sync_workflow.runs
        WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))
  AND status < 10";

// The record goes first, as in every commit: the primary key decides between an operator and the node
// that drives the run.
const APPEND_LAST: &str = "
INSERT INTO sync_workflow.journal (run_id, position, kind, command, name, fingerprint, payload)
SELECT $1, coalesce(max(position) + 1, 0), $2, $3, $4, $5, $6
FROM sync_workflow.journal WHERE run_id = $1
RETURNING position";

const LOCK_OPEN: &str = "
SELECT node_id, awaited, parent_run FROM sync_workflow.runs
WHERE run_id = $1 AND status < 10
FOR NO KEY UPDATE";

// The run, its parent and its children, each once and in the order of their ids.
const CLOSE: &str = "
WITH change AS MATERIALIZED (
    SELECT c.run_id, bool_or(c.cancel) AS cancel
    FROM (
        SELECT $1 AS run_id, false AS cancel
        UNION ALL SELECT $3, false WHERE $3 IS NOT NULL
        UNION ALL
        SELECT r.run_id, true FROM sync_workflow.runs r
        WHERE r.parent_run = $1 AND r.parent_close = 0 AND r.status < 10
          AND NOT r.cancel_requested
    ) c
    GROUP BY c.run_id
    ORDER BY c.run_id
)
UPDATE sync_workflow.runs r
SET status = CASE WHEN r.run_id = $1 THEN $2 ELSE r.status END,
    node_id = CASE WHEN r.run_id = $1 THEN NULL ELSE r.node_id END,
    closed_at = CASE WHEN r.run_id = $1 THEN clock_timestamp() END,
    inbox = CASE WHEN r.run_id = $1 THEN r.inbox ELSE r.inbox + 1 END,
    cancel_requested = r.cancel_requested OR c.cancel,
    wake_at = CASE WHEN r.run_id <> $1 AND r.status = 0 THEN least(r.wake_at, now())
                   ELSE r.wake_at END
FROM change c
WHERE r.run_id = ANY (ARRAY[c.run_id]) AND r.status < 10
RETURNING r.run_id, r.node_id, r.queue";

const FORGET_ATTEMPTS: &str = "DELETE FROM sync_workflow.attempts WHERE run_id = $1";

/// How often a termination looks again after the run moved on in that very moment. A run that
/// appends a record per millisecond loses this race soon.
const MAX_ROUNDS: u32 = 64;

type WokenRow = (Uuid, Option<Uuid>);

pub(super) async fn request_cancel(
    shared: &Shared,
    selector: &RunSelector,
) -> Result<Option<WokenRun>> {
    ask(shared, REQUEST_CANCEL, selector).await
}

pub(super) async fn pause(shared: &Shared, selector: &RunSelector) -> Result<Option<WokenRun>> {
    ask(shared, PAUSE, selector).await
}

pub(super) async fn resume(shared: &Shared, selector: &RunSelector) -> Result<Option<WokenRun>> {
    let (run, workflow_id) = columns(selector);
    let query = query_as::<_, WokenRow>(RESUME).bind(run).bind(workflow_id);
    Ok(shared.row(Effect::Commit, query).await?.map(woken))
}

/// Asks an open run for something.
async fn ask(
    shared: &Shared,
    statement: &'static str,
    selector: &RunSelector,
) -> Result<Option<WokenRun>> {
    // A run that steps aside for the next one of its chain is followed there.
    let mut seen = None;
    loop {
        let (run, workflow_id) = columns(selector);
        let query = query_as::<_, WokenRow>(statement)
            .bind(run)
            .bind(workflow_id);
        if let Some(row) = shared.row(Effect::Commit, query).await? {
            return Ok(Some(woken(row)));
        }
        let open = open_run(shared, selector).await?;
        if open.is_none() || open == seen {
            return Ok(None);
        }
        seen = open;
    }
}

pub(super) async fn unpark(shared: &Shared, selector: &RunSelector) -> Result<Option<WokenRun>> {
    let (run, workflow_id) = columns(selector);
    let query = query_as::<_, WokenRow>(UNPARK).bind(run).bind(workflow_id);
    Ok(shared.row(Effect::Commit, query).await?.map(woken))
}

async fn open_run(shared: &Shared, selector: &RunSelector) -> Result<Option<RunId>> {
    let (run, workflow_id) = columns(selector);
    let query = query_as::<_, (Uuid,)>(OPEN_RUN).bind(run).bind(workflow_id);
    let row = shared.row(Effect::None, query).await?;
    Ok(row.map(|(run,)| RunId::from_uuid(run)))
}

fn woken((run, node): WokenRow) -> WokenRun {
    WokenRun {
        run: RunId::from_uuid(run),
        node: node.map(NodeId::from_uuid),
    }
}

/// A run that was ended, and whom to tell.
#[derive(Debug)]
pub(super) struct Terminated {
    pub(super) run: WokenRun,
    pub(super) hints: Vec<Hint>,
}

pub(super) async fn terminate(
    shared: &Shared,
    selector: &RunSelector,
    record: &Record,
    status: RunStatus,
) -> Result<Option<Terminated>> {
    for _ in 0..MAX_ROUNDS {
        let Some(run) = open_run(shared, selector).await? else {
            return Ok(None);
        };
        let record = record.clone();
        let ended = unit::run(shared, move |seat| {
            Box::pin(end_run(seat, run, record, status))
        })
        .await?;
        if let Some(terminated) = ended {
            return Ok(Some(terminated));
        }
    }
    Err(Error::Contended("the run moved on every time".into()))
}

/// Ends a run, unless it moved on meanwhile.
async fn end_run(
    seat: &mut Seat,
    run: RunId,
    record: Record,
    status: RunStatus,
) -> Result<Option<Terminated>> {
    let mut transaction = unit::begin(seat).await?;
    match append_last(&mut transaction, run, &record).await {
        Ok(()) => {}
        Err(error) if failure::is_taken_position(&error) => return Ok(None),
        Err(error) => return Err(failure::of_statement(error, Effect::None)),
    }
    let ended = close(&mut transaction, run, status)
        .await
        .map_err(|error| failure::of_statement(error, Effect::None))?;
    if ended.is_some() {
        unit::commit(transaction).await?;
    }
    Ok(ended)
}

async fn append_last(
    connection: &mut PgConnection,
    run: RunId,
    record: &Record,
) -> sqlx::Result<()> {
    let (_,): (i32,) = query_as(APPEND_LAST)
        .bind(run.as_uuid())
        .bind(record.kind.code())
        .bind(record.command.0.cast_signed())
        .bind(&*record.name)
        .bind(seal(run, record))
        .bind(&record.payload[..])
        .fetch_one(connection)
        .await?;
    Ok(())
}

pub(super) async fn close(
    connection: &mut PgConnection,
    run: RunId,
    status: RunStatus,
) -> sqlx::Result<Option<Terminated>> {
    let locked: Option<(Option<Uuid>, bool, Option<Uuid>)> = query_as(LOCK_OPEN)
        .bind(run.as_uuid())
        .fetch_optional(&mut *connection)
        .await?;
    let Some((node, awaited, parent)) = locked else {
        return Ok(None);
    };
    let rows: Vec<(Uuid, Option<Uuid>, String)> = query_as(CLOSE)
        .bind(run.as_uuid())
        .bind(status.code())
        .bind(parent)
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query(FORGET_ATTEMPTS)
        .bind(run.as_uuid())
        .execute(connection)
        .await?;
    let mut hints: Vec<Hint> = rows
        .into_iter()
        .filter(|(other, _, _)| *other != run.as_uuid())
        .map(|(other, node, queue)| match node {
            Some(node) => Hint::Arrived {
                node: NodeId::from_uuid(node),
                run: RunId::from_uuid(other),
            },
            None => Hint::Ready(Arc::from(queue)),
        })
        .collect();
    if awaited {
        hints.push(Hint::Closed(run));
    }
    Ok(Some(Terminated {
        run: woken((run.as_uuid(), node)),
        hints,
    }))
}
