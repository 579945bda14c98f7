//! What has arrived for a run, and what became of a run that somebody waits for.

use sqlx::{FromRow, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    connection::Shared,
    failure::Effect,
    records::{ClosedRow, closed},
};
use crate::{
    id::RunId,
    journal::{ChildOutcome, Closed, Inbox, Result, SignalMessage},
};

// One snapshot for the count and the signals.
const ARRIVED: &str = "
SELECT r.inbox, r.cancel_requested, r.pause_requested, s.sequence, s.name, s.payload
FROM sync_workflow.runs r
LEFT JOIN LATERAL (
    SELECT s.sequence, s.name, s.payload FROM sync_workflow.signals s
    WHERE s.chain_id = r.chain_id AND NOT s.consumed ORDER BY s.sequence LIMIT $2
) s ON true
WHERE r.run_id = $1
ORDER BY s.sequence";

// The final record is the last one. A run that continued as new is followed by the next run of its
// workflow id.
const CHILDREN: &str = "
SELECT c.run_id, r.status, next.run_id AS next, last.*
FROM unnest($1::uuid[]) AS c(run_id)
LEFT JOIN LATERAL (
    SELECT r.status, r.workflow_id, r.sequence FROM sync_workflow.runs r
    WHERE r.run_id = c.run_id OFFSET 0
) r ON true
LEFT JOIN LATERAL (
    SELECT j.position, j.kind, j.command, j.name, j.fingerprint, j.payload
    FROM sync_workflow.journal j
    WHERE j.run_id = c.run_id AND r.status >= 10 ORDER BY j.position DESC LIMIT 1
) last ON true
LEFT JOIN LATERAL (
    SELECT n.run_id FROM sync_workflow.runs n
    WHERE r.status = 14 AND n.workflow_id = r.workflow_id AND n.sequence = r.sequence + 1 OFFSET 0
) next ON true
WHERE r.status IS NULL OR r.status >= 10";

const OUTCOME: &str = "
SELECT r.awaited, r.status, next.run_id AS next, last.*
FROM sync_workflow.runs r
LEFT JOIN LATERAL (
    SELECT j.position, j.kind, j.command, j.name, j.fingerprint, j.payload
    FROM sync_workflow.journal j
    WHERE j.run_id = r.run_id AND r.status >= 10 ORDER BY j.position DESC LIMIT 1
) last ON true
LEFT JOIN LATERAL (
    SELECT n.run_id FROM sync_workflow.runs n
    WHERE r.status = 14 AND n.workflow_id = r.workflow_id AND n.sequence = r.sequence + 1 OFFSET 0
) next ON true
WHERE r.run_id = $1";

// Waits for a commit that closes the run, and then finds it closed. A commit that closes it
// afterwards finds the mark.
const MARK_AWAITED: &str = "
UPDATE sync_workflow.runs SET awaited = true
WHERE run_id = $1 AND status < 10
RETURNING run_id";

type ArrivedRow = (
    i64,
    bool,
    bool,
    Option<i64>,
    Option<String>,
    Option<Vec<u8>>,
);

/// A child, and its end. A child that was never started has none.
struct ChildRow(RunId, Option<ClosedRow>);

impl FromRow<'_, PgRow> for ChildRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let status: Option<i16> = row.try_get("status")?;
        let end = status.map(|_| ClosedRow::from_row(row)).transpose()?;
        Ok(Self(RunId::from_uuid(row.try_get("run_id")?), end))
    }
}

/// Whether somebody awaits a run, and its end.
struct OutcomeRow(bool, ClosedRow);

impl FromRow<'_, PgRow> for OutcomeRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(row.try_get("awaited")?, ClosedRow::from_row(row)?))
    }
}

/// What has arrived. The children are read after the count: an outcome that is newer than the count
/// only makes a suspension fail that need not.
pub(super) async fn inbox(
    shared: &Shared,
    run: RunId,
    children: &[RunId],
    limit: u32,
) -> Result<Inbox> {
    let query = sqlx::query_as::<_, ArrivedRow>(ARRIVED)
        .bind(run.as_uuid())
        .bind(i64::from(limit));
    let arrived = shared.rows(Effect::None, query).await?;
    let mut inbox = Inbox::default();
    if arrived.is_empty() {
        // There is no such run.
        return Ok(inbox);
    }
    for (count, cancel_requested, pause_requested, sequence, name, payload) in arrived {
        inbox.count = count;
        inbox.cancel_requested = cancel_requested;
        inbox.pause_requested = pause_requested;
        if let (Some(sequence), Some(name), Some(payload)) = (sequence, name, payload) {
            inbox.signals.push(SignalMessage {
                sequence,
                name: name.into(),
                payload: payload.into(),
            });
        }
    }
    if !children.is_empty() {
        inbox.children = child_outcomes(shared, children).await?;
    }
    Ok(inbox)
}

async fn child_outcomes(shared: &Shared, children: &[RunId]) -> Result<Vec<ChildOutcome>> {
    let ids: Vec<Uuid> = children.iter().map(RunId::as_uuid).collect();
    let query = sqlx::query_as::<_, ChildRow>(CHILDREN).bind(&ids);
    let rows = shared.rows(Effect::None, query).await?;
    rows.into_iter()
        .map(|ChildRow(child, end)| {
            let closed = end.map(|end| closed(child, end)).transpose()?.flatten();
            Ok(ChildOutcome { child, closed })
        })
        .collect()
}

/// The end of a run; while it is open, marks it as awaited.
pub(super) async fn outcome(shared: &Shared, run: RunId) -> Result<Option<Closed>> {
    let Some((awaited, row)) = read_outcome(shared, run).await? else {
        return Ok(None);
    };
    let ended = closed(run, row)?;
    if ended.is_some() || awaited {
        return Ok(ended);
    }
    let mark = sqlx::query_as::<_, (Uuid,)>(MARK_AWAITED).bind(run.as_uuid());
    // The mark may be set twice, so a lost answer means no more than another try.
    if shared.row(Effect::None, mark).await?.is_some() {
        return Ok(None);
    }
    match read_outcome(shared, run).await? {
        Some((_, row)) => closed(run, row),
        None => Ok(None),
    }
}

async fn read_outcome(shared: &Shared, run: RunId) -> Result<Option<(bool, ClosedRow)>> {
    let query = sqlx::query_as::<_, OutcomeRow>(OUTCOME).bind(run.as_uuid());
    let row = shared.row(Effect::None, query).await?;
    Ok(row.map(|OutcomeRow(awaited, end)| (awaited, end)))
}
