//! The deletion of runs that ended long ago.

use jiff::Timestamp;
use uuid::Uuid;

use super::{connection::Shared, failure::Effect, nodes::microseconds, time::Moment};
use crate::{
    id::RunId,
    journal::{Deleted, Deletion, DeletionPlace, Result},
};

/// The lock that lets one process delete at a time: the ASCII of "syncdelt".
const LOCK: i64 = 0x7379_6e63_6465_6c74;

// One statement, so that the lock is gone with it, whatever becomes of the caller. Rows are found by their keys, as in
// the statements of a commit.
const DELETE: &str = "
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock($1) AS is_ours
), ended AS MATERIALIZED (
    SELECT r.run_id, r.closed_at, r.chain_id, r.parent_run, r.status
    FROM sync_workflow.runs r
    WHERE (SELECT is_ours FROM turn)
      AND r.workflow = $2 AND r.closed_at IS NOT NULL
      AND r.closed_at <= now() - $3 * interval '1 microsecond'
      AND (r.closed_at, r.run_id) > ($4, $5)
    ORDER BY r.closed_at, r.run_id
    LIMIT $6
), measured AS MATERIALIZED (
    SELECT e.*,
           sum(last.position + 1) OVER (ORDER BY e.closed_at, e.run_id ROWS UNBOUNDED PRECEDING)
               - last.position - 1 AS earlier
    FROM ended e
    CROSS JOIN LATERAL (
        SELECT coalesce(max(j.position), 0) AS position
        FROM sync_workflow.journal j WHERE j.run_id = e.run_id
    ) last
), looked_at AS MATERIALIZED (
    -- The first one always.
    SELECT * FROM measured WHERE earlier < $7
), doomed AS MATERIALIZED (
    SELECT l.run_id, l.chain_id, l.status
    FROM looked_at l
    LEFT JOIN LATERAL (
        SELECT p.status FROM sync_workflow.runs p WHERE p.run_id = l.parent_run OFFSET 0
    ) parent ON true
    WHERE parent.status IS NULL OR parent.status >= 10
), chains AS MATERIALIZED (
    SELECT chain_id FROM doomed WHERE status <> 14
), records AS (
    DELETE FROM sync_workflow.journal WHERE run_id = ANY (ARRAY(SELECT run_id FROM doomed))
), attempts AS (
    DELETE FROM sync_workflow.attempts WHERE run_id = ANY (ARRAY(SELECT run_id FROM doomed))
), pieces AS (
    DELETE FROM sync_workflow.payload_pieces WHERE run_id = ANY (ARRAY(SELECT run_id FROM doomed))
), parked AS (
    DELETE FROM sync_workflow.parked WHERE run_id = ANY (ARRAY(SELECT run_id FROM doomed))
), tags AS (
    DELETE FROM sync_workflow.tags WHERE run_id = ANY (ARRAY(SELECT run_id FROM doomed))
), signals AS (
    DELETE FROM sync_workflow.signals WHERE chain_id = ANY (ARRAY(SELECT chain_id FROM chains))
), published AS (
    DELETE FROM sync_workflow.published WHERE chain_id = ANY (ARRAY(SELECT chain_id FROM chains))
), gone AS (
    DELETE FROM sync_workflow.runs WHERE run_id = ANY (ARRAY(SELECT run_id FROM doomed))
    -- Whoever had the lock before may have deleted them after this statement began to look.
    RETURNING run_id
)
SELECT (SELECT count(*) FROM gone), last.closed_at, last.run_id
FROM (VALUES (1)) AS always
LEFT JOIN LATERAL (
    SELECT l.closed_at, l.run_id FROM looked_at l ORDER BY l.closed_at DESC, l.run_id DESC LIMIT 1
) last ON true";

pub(super) async fn delete_closed(shared: &Shared, deletion: &Deletion) -> Result<Deleted> {
    let (after, run) = match deletion.after {
        None => (Moment::At(Timestamp::UNIX_EPOCH), Uuid::nil()),
        Some(place) => (Moment::At(place.closed_at), place.run.as_uuid()),
    };
    let query = sqlx::query_as::<_, (i64, Option<Moment>, Option<Uuid>)>(DELETE)
        .bind(LOCK)
        .bind(&*deletion.workflow)
        .bind(microseconds(deletion.closed_for))
        .bind(after)
        .bind(run)
        .bind(i64::from(Deletion::MAX_RUNS))
        .bind(i64::from(Deletion::MAX_RECORDS));
    // What is gone is found to be gone: a deletion whose answer was lost may be sent again.
    let row = shared.row(Effect::None, query).await?;
    let (runs, closed_at, run) = row.unwrap_or_default();
    let place = closed_at.and_then(Moment::finite).zip(run);
    Ok(Deleted {
        runs: u32::try_from(runs).unwrap_or(u32::MAX),
        after: place.map(|(closed_at, run)| DeletionPlace {
            closed_at,
            run: RunId::from_uuid(run),
        }),
    })
}
