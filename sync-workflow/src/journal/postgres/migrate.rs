//! The schema: embedded migrations, applied in order, each once.
//!
//! Schema and bookkeeping are the engine's own, apart from whatever the application migrates.

use sqlx::{Connection, PgConnection, Row as _};
use tokio::time::timeout;

use super::{
    connection::Session,
    failure::{self, Effect, NoAnswer},
    pooling::Opening,
};
use crate::journal::{Error, Result};

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// Append only: a published migration never changes, and each is safe while processes of the
/// version before it run.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "journal",
        sql: include_str!("../../../../migrations/postgres/0001_journal.sql"),
    },
    Migration {
        version: 2,
        name: "history_view",
        sql: include_str!("../../../../migrations/postgres/0002_history_view.sql"),
    },
    Migration {
        version: 3,
        name: "signals_sent",
        sql: include_str!("../../../../migrations/postgres/0003_signals_sent.sql"),
    },
    Migration {
        version: 4,
        name: "growth",
        sql: include_str!("../../../../migrations/postgres/0004_growth.sql"),
    },
    Migration {
        version: 5,
        name: "versions",
        sql: include_str!("../../../../migrations/postgres/0005_versions.sql"),
    },
    Migration {
        version: 6,
        name: "published",
        sql: include_str!("../../../../migrations/postgres/0006_published.sql"),
    },
    Migration {
        version: 7,
        name: "queues",
        sql: include_str!("../../../../migrations/postgres/0007_queues.sql"),
    },
    Migration {
        version: 8,
        name: "observability",
        sql: include_str!("../../../../migrations/postgres/0008_observability.sql"),
    },
    Migration {
        version: 9,
        name: "operating",
        sql: include_str!("../../../../migrations/postgres/0009_operating.sql"),
    },
    Migration {
        version: 10,
        name: "schedules",
        sql: include_str!("../../../../migrations/postgres/0010_schedules.sql"),
    },
    Migration {
        version: 11,
        name: "builds",
        sql: include_str!("../../../../migrations/postgres/0011_builds.sql"),
    },
    Migration {
        version: 12,
        name: "forks",
        sql: include_str!("../../../../migrations/postgres/0012_forks.sql"),
    },
    Migration {
        version: 13,
        name: "payloads",
        sql: include_str!("../../../../migrations/postgres/0013_payloads.sql"),
    },
    Migration {
        version: 14,
        name: "doubts",
        sql: include_str!("../../../../migrations/postgres/0014_doubts.sql"),
    },
];

const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The lock that lets one process migrate at a time: the ASCII of "syncwflo".
const LOCK: i64 = 0x7379_6e63_7766_6c6f;

/// How many deadlines of a statement all migrations together may take: an index over a large table
/// takes longer than a look-up.
const DEADLINES: u32 = 40;

/// Brings the schema up to date, and returns the connection on which that was done.
pub(super) async fn migrate(session: &Session) -> Result<PgConnection> {
    let mut connection = session.connect().await?;
    let look = timeout(session.deadline(), installed(&mut connection)).await;
    let Ok(found) = look else {
        return Err(Error::Unavailable(NoAnswer(session.deadline()).into()));
    };
    // A process whose user may not create anything can still use a schema that is up to date.
    if found.map_err(refused)? == Some(NEWEST) {
        return Ok(connection);
    }
    let deadline = session.deadline() * DEADLINES;
    match timeout(deadline, apply(&mut connection, session.opening())).await {
        Ok(applied) => applied.map(|()| connection),
        Err(_) => Err(Error::Unavailable(NoAnswer(deadline).into())),
    }
}

async fn apply(connection: &mut PgConnection, opening: &Opening) -> Result<()> {
    let mut transaction = connection
        .begin_with(opening.unit())
        .await
        .map_err(refused)?;
    sqlx::raw_sql("SET LOCAL statement_timeout = 0")
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    let found = prepare(&mut transaction).await.map_err(refused)?;
    if found > NEWEST {
        return Err(Error::NewerSchema {
            found,
            known: NEWEST,
        });
    }
    for migration in MIGRATIONS.iter().filter(|known| known.version > found) {
        apply_one(&mut transaction, migration)
            .await
            .map_err(refused)?;
    }
    transaction
        .commit()
        .await
        .map_err(|error| failure::of_statement(error, Effect::Commit))
}

/// The version of the schema, if there is one. One round trip: every process that starts makes it.
async fn installed(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let look = sqlx::raw_sql("SELECT max(version) FROM sync_workflow.migrations");
    match look.fetch_one(connection).await {
        Ok(row) => row.try_get(0),
        Err(error) if failure::is_missing_table(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates what the bookkeeping needs and returns the newest version that was applied.
async fn prepare(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::raw_sql(
        "CREATE SCHEMA IF NOT EXISTS sync_workflow;
         CREATE TABLE IF NOT EXISTS sync_workflow.migrations (
             version    bigint      PRIMARY KEY,
             name       text        NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now()
         )",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM sync_workflow.migrations")
        .fetch_one(connection)
        .await
}

async fn apply_one(connection: &mut PgConnection, migration: &Migration) -> sqlx::Result<()> {
    sqlx::raw_sql(migration.sql)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO sync_workflow.migrations (version, name) VALUES ($1, $2)")
        .bind(migration.version)
        .bind(migration.name)
        .execute(connection)
        .await?;
    Ok(())
}

fn refused(error: sqlx::Error) -> Error {
    failure::of_statement(error, Effect::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_ascend_without_gaps() {
        for (migration, expected) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, expected);
        }
    }
}
