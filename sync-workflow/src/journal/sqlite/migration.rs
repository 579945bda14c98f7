//! The schema and its versions.

use sqlx::{SqliteConnection, SqlitePool};

use super::error::{commit_failed, failed};
use crate::journal::{Error, Result};

/// The scripts, in the order of their versions, which count from one. Append only.
const SCRIPTS: [&str; 8] = [
    include_str!("../../../../migrations/sqlite/0001_journal.sql"),
    include_str!("../../../../migrations/sqlite/0002_published.sql"),
    include_str!("../../../../migrations/sqlite/0003_queues.sql"),
    include_str!("../../../../migrations/sqlite/0004_trace_context.sql"),
    include_str!("../../../../migrations/sqlite/0005_operating.sql"),
    include_str!("../../../../migrations/sqlite/0006_schedules.sql"),
    include_str!("../../../../migrations/sqlite/0007_builds.sql"),
    include_str!("../../../../migrations/sqlite/0008_payloads.sql"),
];

/// The newest version that this process knows.
pub(super) const KNOWN: i64 = SCRIPTS.len() as i64;

/// Brings the schema up to date. Two processes may do it at once: one waits for the other.
pub(super) async fn migrate(pool: &SqlitePool) -> Result<()> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let found = version(&mut transaction).await?;
    if found > KNOWN {
        return Err(Error::NewerSchema {
            found,
            known: KNOWN,
        });
    }
    if found == KNOWN {
        return Ok(());
    }
    for (version, script) in (1..)
        .zip(SCRIPTS)
        .skip_while(|(version, _)| *version <= found)
    {
        sqlx::raw_sql(script)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query("INSERT INTO sync_workflow_migrations (version, applied_at) VALUES (?, unixepoch() * 1000000)")
            .bind::<i64>(version)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(commit_failed)
}

async fn version(connection: &mut SqliteConnection) -> Result<i64> {
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS sync_workflow_migrations (
            version    INTEGER NOT NULL PRIMARY KEY,
            applied_at INTEGER NOT NULL
        ) STRICT",
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM sync_workflow_migrations")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)
}
