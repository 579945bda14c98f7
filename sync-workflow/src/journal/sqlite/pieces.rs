//! Payloads that are offloaded from their records.

use bytes::Bytes;
use sqlx::SqliteConnection;

use super::{
    bulk::Bulk,
    error::failed,
    value::{Micros, run_id},
};
use crate::{
    id::RunId,
    journal::{Piece, PiecePlace, Result},
};

/// How long a run that was about to be started may take.
const BIRTH: Micros = 24 * 60 * 60 * 1_000_000;

/// How many runs that were never started are forgotten with each piece that is kept.
const SWEPT_AT_ONCE: u32 = 8;

pub(super) async fn keep(
    connection: &mut SqliteConnection,
    piece: &Piece,
    now: Micros,
) -> Result<()> {
    sweep(connection, now).await?;
    if piece.is_before_birth {
        sqlx::query(
            "INSERT OR IGNORE INTO sync_workflow_payload_births (run, kept_at) VALUES (?, ?)",
        )
        .bind(piece.run.as_uuid())
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    }
    sqlx::query(
        "INSERT OR IGNORE INTO sync_workflow_payload_pieces (run, digest, number, bytes)
         SELECT ?1, ?2, ?3, ?4
         WHERE ?5 OR EXISTS (SELECT 1 FROM sync_workflow_runs WHERE run = ?1)",
    )
    .bind(piece.run.as_uuid())
    .bind(piece.place.digest.to_be_bytes().to_vec())
    .bind(piece.place.number)
    .bind(piece.bytes.to_vec())
    .bind(piece.is_before_birth)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Forgets what was kept long ago for runs that were never started.
async fn sweep(connection: &mut SqliteConnection, now: Micros) -> Result<()> {
    let rows = sqlx::query(
        "SELECT run FROM sync_workflow_payload_births WHERE kept_at < ? ORDER BY kept_at LIMIT ?",
    )
    .bind(now.saturating_sub(BIRTH))
    .bind(SWEPT_AT_ONCE)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let stale: Vec<_> = rows
        .iter()
        .map(|row| run_id(row, "run"))
        .collect::<Result<_>>()?;
    settle(connection, &stale).await
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    run: RunId,
    place: PiecePlace,
) -> Result<Option<Bytes>> {
    let found: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT bytes FROM sync_workflow_payload_pieces WHERE run = ? AND digest = ? AND number = ?",
    )
    .bind(run.as_uuid())
    .bind(place.digest.to_be_bytes().to_vec())
    .bind(place.number)
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    Ok(found.map(Bytes::from))
}

/// Forgets the pieces of those of the runs that do not exist.
pub(super) async fn settle(connection: &mut SqliteConnection, runs: &[RunId]) -> Result<()> {
    static PIECES: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_payload_pieces
         WHERE NOT EXISTS (SELECT 1 FROM sync_workflow_runs AS born
                           WHERE born.run = sync_workflow_payload_pieces.run)
           AND run IN (",
        "?",
        ")",
    );
    static BIRTHS: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_payload_births WHERE run IN (",
        "?",
        ")",
    );
    for bulk in [&PIECES, &BIRTHS] {
        bulk.execute(connection, runs, |statement, run| {
            statement.bind(run.as_uuid())
        })
        .await?;
    }
    Ok(())
}
