//! What runs show to whoever asks.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::{
    bulk::Bulk,
    error::failed,
    run,
    value::{Micros, bytes, column, run_id, timestamp},
};
use crate::{
    id::RunId,
    journal::{Publication, Published, Result, RunSelector},
};

/// Writes what runs publish, each for its own chain.
pub(super) async fn publish(
    connection: &mut SqliteConnection,
    published: &[(RunId, &Publication)],
    now: Micros,
) -> Result<()> {
    static PUBLISH: Bulk = Bulk::new(
        "WITH shown (run, name, payload, at) AS (VALUES ",
        "(?,?,?,?)",
        ") INSERT INTO sync_workflow_published (chain, name, revision, payload, published_at)
           SELECT held.chain, shown.name, 1, shown.payload, shown.at
           FROM shown JOIN sync_workflow_runs AS held ON held.run = shown.run
           WHERE true
           ON CONFLICT (chain, name) DO UPDATE SET
               revision = revision + 1, payload = excluded.payload, published_at = excluded.published_at",
    );
    PUBLISH
        .execute(connection, published, |statement, (run, publication)| {
            statement
                .bind(run.as_uuid())
                .bind(Arc::clone(&publication.name))
                .bind(publication.payload.to_vec())
                .bind(now)
        })
        .await
}

/// Those of the runs that a client awaits.
pub(super) async fn watched(
    connection: &mut SqliteConnection,
    runs: &[RunId],
) -> Result<Vec<RunId>> {
    static WATCHED: Bulk = Bulk::new(
        "SELECT run FROM sync_workflow_runs WHERE awaited = 1 AND run IN (",
        "?",
        ")",
    );
    let rows = WATCHED
        .fetch(connection, runs, |statement, run| {
            statement.bind(run.as_uuid())
        })
        .await?;
    rows.iter().map(|row| run_id(row, "run")).collect()
}

/// What the chain of a run shows under a name.
pub(super) async fn published(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
    name: &str,
) -> Result<Option<Published>> {
    let Some(found) = run::select(connection, selector).await? else {
        return Ok(None);
    };
    let row = sqlx::query(
        "SELECT revision, payload, published_at FROM sync_workflow_published
         WHERE chain = ? AND name = ?",
    )
    .bind(found.chain.as_uuid())
    .bind(name)
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    row.map(|row| {
        Ok(Published {
            revision: column::<i64>(&row, "revision")?.cast_unsigned(),
            payload: bytes(&row, "payload")?,
            at: timestamp(column(&row, "published_at")?),
        })
    })
    .transpose()
}
