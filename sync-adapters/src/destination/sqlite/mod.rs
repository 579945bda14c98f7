//! SQLite: connecting, tables, and pages written in few statements.

mod tables;
mod write;

use std::{str::FromStr, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::Error;

pub(super) use self::{
    tables::create,
    write::{write, write_statement},
};

/// The first version that keeps a database in WAL mode whole when two connections write and checkpoint.
const OLDEST: (&str, [u32; 3]) = ("3.51.3", [3, 51, 3]);
/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(30);

pub(super) async fn connect(url: &str) -> Result<SqlitePool, Error> {
    let options = SqliteConnectOptions::from_str(url).map_err(Error::InvalidUrl)?;
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true);
    let place = options.get_filename().display().to_string();
    // A database in memory belongs to its connection, and is gone with it.
    let in_memory = url.contains(":memory:") || url.contains("mode=memory");
    let connections = if in_memory { 1 } else { 4 };
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(u32::from(in_memory))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|error| refusal(place, error))?;
    check_version(&pool).await?;
    Ok(pool)
}

fn refusal(place: String, error: sqlx::Error) -> Error {
    let code = error
        .as_database_error()
        .and_then(|database| database.code());
    match code.as_deref() {
        Some("11" | "26") => Error::NotADatabase {
            place,
            source: error,
        },
        Some("14") => Error::Unreachable {
            place,
            source: error,
        },
        _ => Error::from(error),
    }
}

async fn check_version(pool: &SqlitePool) -> Result<(), Error> {
    let found: String = sqlx::query_scalar("select sqlite_version()")
        .fetch_one(pool)
        .await?;
    let mut parts = found.split('.').map(|part| part.parse().unwrap_or(0));
    let numbers: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    if numbers < OLDEST.1 {
        return Err(Error::OldSqlite {
            found,
            needed: OLDEST.0,
        });
    }
    Ok(())
}
