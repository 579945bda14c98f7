//! Payloads that are offloaded from their records.

use bytes::Bytes;
use sqlx::query_as;
use uuid::Uuid;

use super::{connection::Shared, failure::Effect};
use crate::{
    id::RunId,
    journal::{Piece, PiecePlace, Result},
};

// Whoever keeps a piece forgets some of those that were kept a day ago for runs that were never started.
const KEEP: &str = "
WITH stale AS MATERIALIZED (
    SELECT b.run_id FROM sync_workflow.payload_births b
    WHERE b.kept_at < now() - interval '1 day'
    ORDER BY b.kept_at LIMIT 8
    FOR UPDATE SKIP LOCKED
), unborn AS MATERIALIZED (
    SELECT s.run_id FROM stale s
    WHERE NOT EXISTS (SELECT FROM sync_workflow.runs r WHERE r.run_id = s.run_id)
), forgotten AS (
    DELETE FROM sync_workflow.payload_pieces WHERE run_id = ANY (ARRAY(SELECT run_id FROM unborn))
), settled AS (
    DELETE FROM sync_workflow.payload_births WHERE run_id = ANY (ARRAY(SELECT run_id FROM stale))
), expected AS (
    INSERT INTO sync_workflow.payload_births (run_id) SELECT $1 WHERE $5
    ON CONFLICT DO NOTHING
)
INSERT INTO sync_workflow.payload_pieces (run_id, digest, number, bytes)
SELECT $1, $2, $3, $4
WHERE $5 OR EXISTS (SELECT FROM sync_workflow.runs WHERE run_id = $1)
ON CONFLICT DO NOTHING
RETURNING number";

const FIND: &str = "
SELECT bytes FROM sync_workflow.payload_pieces WHERE run_id = $1 AND digest = $2 AND number = $3";

const SETTLE: &str = "
WITH unborn AS MATERIALIZED (
    SELECT known.run_id FROM unnest($1::uuid[]) AS known(run_id)
    WHERE NOT EXISTS (SELECT FROM sync_workflow.runs r WHERE r.run_id = known.run_id)
), forgotten AS (
    DELETE FROM sync_workflow.payload_pieces WHERE run_id = ANY (ARRAY(SELECT run_id FROM unborn))
)
DELETE FROM sync_workflow.payload_births WHERE run_id = ANY ($1)
RETURNING run_id";

pub(super) async fn keep(shared: &Shared, piece: &Piece) -> Result<()> {
    let digest = piece.place.digest.to_be_bytes();
    let query = query_as::<_, (i32,)>(KEEP)
        .bind(piece.run.as_uuid())
        .bind(&digest[..])
        .bind(piece.place.number.cast_signed())
        .bind(&piece.bytes[..])
        .bind(piece.is_before_birth);
    // Kept twice is kept once.
    shared.rows(Effect::None, query).await.map(drop)
}

pub(super) async fn find(shared: &Shared, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
    let digest = place.digest.to_be_bytes();
    let query = query_as::<_, (Vec<u8>,)>(FIND)
        .bind(run.as_uuid())
        .bind(&digest[..])
        .bind(place.number.cast_signed());
    let row = shared.row(Effect::None, query).await?;
    Ok(row.map(|(bytes,)| bytes.into()))
}

pub(super) async fn settle(shared: &Shared, runs: &[RunId]) -> Result<()> {
    let runs: Vec<Uuid> = runs.iter().map(|run| run.as_uuid()).collect();
    let query = query_as::<_, (Uuid,)>(SETTLE).bind(runs);
    shared.rows(Effect::None, query).await.map(drop)
}
