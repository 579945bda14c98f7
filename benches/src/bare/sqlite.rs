//! The bare loop on SQLite: one transaction per group.

use std::str::FromStr;

use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::Row;

const SCHEMA: &str = "
CREATE TABLE bare_journal (
    run_id      BLOB    NOT NULL,
    position    INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    command     INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    fingerprint INTEGER NOT NULL,
    payload     BLOB    NOT NULL,
    recorded_at TEXT    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID, STRICT";

const INSERT: &str = "INSERT INTO bare_journal (run_id, position, kind, command, name, fingerprint, payload) VALUES ";

/// The rows of one INSERT: few enough for the variables of a statement, and always the same number,
/// so that it is prepared once.
const CHUNK: usize = 64;

/// The connection of the writer.
pub(crate) struct Writer {
    connection: SqliteConnection,
    insert_chunk: String,
    insert_one: String,
}

impl Writer {
    pub(super) async fn create(url: &str) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let insert_one = format!("{INSERT}(?, ?, ?, ?, ?, ?, ?)");
        let insert_chunk = format!(
            "{insert_one}{}",
            ", (?, ?, ?, ?, ?, ?, ?)".repeat(CHUNK - 1)
        );
        Ok(Self {
            connection,
            insert_chunk,
            insert_one,
        })
    }

    pub(super) async fn write(&mut self, rows: &[Row]) -> sqlx::Result<()> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for chunk in rows.chunks(CHUNK) {
            if chunk.len() == CHUNK {
                insert(&mut transaction, &self.insert_chunk, chunk).await?;
                continue;
            }
            for row in chunk {
                insert(
                    &mut transaction,
                    &self.insert_one,
                    std::slice::from_ref(row),
                )
                .await?;
            }
        }
        transaction.commit().await
    }

    pub(super) async fn write_one(&mut self, row: &Row) -> sqlx::Result<()> {
        insert(
            &mut self.connection,
            &self.insert_one,
            std::slice::from_ref(row),
        )
        .await
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    statement: &str,
    rows: &[Row],
) -> sqlx::Result<()> {
    // The text consists of constants of this file.
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for row in rows {
        query = query
            .bind(row.run)
            .bind(row.position)
            .bind(row.kind)
            .bind(row.command)
            .bind(row.name)
            .bind(row.fingerprint)
            .bind(&row.payload);
    }
    query.execute(connection).await?;
    Ok(())
}
